// A host reached over libvirt. Each call is one thing asked of the host; what to ask, and whether it is safe, others decide.
import {
  DomainCreateFlags,
  DomainMetadataType,
  DomainDefineFlags,
  DomainUndefineFlags
} from '../libvirt/constants.gen.ts'
import type { HostIdentity } from '../model/host.ts'
import type { ObservedPool, ObservedVolume } from '../model/storage.ts'
import type { ObservedVm, VmMark, VmSpec } from '../model/vm.ts'
import { toHostError, type HostBasics, type HostCalls } from './calls.ts'
import { diskUsers } from './disk-users.ts'
import { HostError } from './error.ts'
import type { Host, HostChange, HostListing, MigrateOptions, UndefineOptions, VmJob, VmXmlOptions } from './host.ts'
import { identify } from './identity.ts'
import { bareMarkElement, MARK_KEY, MARK_NAMESPACE } from './mark.ts'
import { openMigration } from './managed-migration.ts'
import { whyNotHere } from './migration-needs.ts'
import { migrateVm, resumePostCopy, vmJob } from './migration.ts'
import {
  createSnapshot,
  deleteSnapshot,
  dumpSnapshots,
  forgetSnapshots,
  listSnapshots,
  restoreSnapshots,
  revertToSnapshot
} from './snapshots.ts'
import { networksOf, type Networks } from './networks.ts'
import { Storage } from './storage.ts'
import { untilVm } from './until.ts'
import { domainOf, Vms } from './vms.ts'
import { vmDeviceCalls, type VmDeviceCalls } from './vm-devices.ts'
import { editedXml } from './vm-edit.ts'
import { vmSettingsCalls, type VmSettingsCalls } from './vm-settings.ts'
import { markedXml, vmXml } from './vm-xml.ts'

/** From here on libvirt can say what becomes of a TPM's state. */
const TPM_FLAGS_SINCE = 8_009_000

export class LibvirtHost implements Host {
  readonly name: string
  readonly #calls: HostCalls
  readonly #vms: Vms
  readonly #storage: Storage
  readonly #networks: Networks
  readonly #devices: VmDeviceCalls
  readonly #settings: VmSettingsCalls

  constructor(calls: HostCalls) {
    this.name = calls.name
    this.#calls = calls
    this.#vms = new Vms(calls)
    this.#storage = new Storage(calls)
    this.#networks = networksOf(calls)
    this.#devices = vmDeviceCalls(calls)
    this.#settings = vmSettingsCalls(calls)
  }

  identify = (): Promise<HostIdentity> => identify(this.#calls)

  async list(): Promise<HostListing> {
    const [vms, pools, networks] = await Promise.all([
      this.#vms.list(),
      this.#storage.listPools(),
      this.#storage.listNetworks()
    ])
    return { vms, pools, networks }
  }

  onChange = (callback: (change: HostChange) => void): (() => void) => this.#calls.onChange(callback)

  vm = (uuid: string): Promise<ObservedVm | undefined> => this.#vms.look(uuid)
  vmByName = (name: string): Promise<ObservedVm | undefined> => this.#vms.lookByName(name)
  vmXml = (uuid: string, options: VmXmlOptions): Promise<string> => this.#vms.xml(uuid, options)

  async vmXmlFor(spec: VmSpec, mark: VmMark): Promise<string> {
    const { capabilities } = await this.#calls.basics()
    try {
      return vmXml(spec, mark, capabilities)
    } catch (error) {
      throw toHostError(error, this.name, true)
    }
  }

  markXml(xml: string, set: { uuid: string; name: string }, mark: VmMark): string {
    try {
      return markedXml(xml, set, mark)
    } catch (error) {
      throw toHostError(error, this.name, true)
    }
  }

  editedXml: Host['editedXml'] = (edited, current, mark) => {
    try {
      return editedXml(edited, current, mark)
    } catch (error) {
      throw toHostError(error, this.name, true)
    }
  }

  async defineVm(xml: string): Promise<ObservedVm> {
    const { dom } = await this.#calls.write('DOMAIN_DEFINE_XML_FLAGS', { xml, flags: DomainDefineFlags.VALIDATE })
    const vm = await this.vm(dom.uuid)
    if (!vm)
      throw new HostError('unknown_outcome', this.name, `${this.name}: ${dom.name} was defined and is gone again`)
    return vm
  }

  async undefineVm(uuid: string, options: UndefineOptions): Promise<void> {
    const flags = undefineFlags(await this.#calls.basics(), options)
    await this.#calls.write('DOMAIN_UNDEFINE_FLAGS', { dom: domainOf(uuid), flags })
  }

  async startVm(uuid: string, options: { freshBoot: boolean; paused: boolean }): Promise<void> {
    const { capabilities } = await this.#calls.basics()
    let flags = 0
    if (options.paused) flags |= DomainCreateFlags.START_PAUSED
    // Where nothing is saved over a restart there is nothing to boot past.
    if (options.freshBoot && capabilities.domainType !== 'test') flags |= DomainCreateFlags.START_FORCE_BOOT
    await this.#calls.long('DOMAIN_CREATE_WITH_FLAGS', { dom: domainOf(uuid), flags })
  }

  // Without flags the host's libvirt asks the agent when one is connected, and presses the power button otherwise.
  async shutDownVm(uuid: string): Promise<void> {
    await this.#calls.long('DOMAIN_SHUTDOWN_FLAGS', { dom: domainOf(uuid), flags: 0 })
  }

  async powerOffVm(uuid: string): Promise<void> {
    await this.#calls.write('DOMAIN_DESTROY_FLAGS', { dom: domainOf(uuid), flags: 0 })
  }

  async rebootVm(uuid: string): Promise<void> {
    await this.#calls.long('DOMAIN_REBOOT', { dom: domainOf(uuid), flags: 0 })
  }

  async pauseVm(uuid: string): Promise<void> {
    await this.#calls.long('DOMAIN_SUSPEND', { dom: domainOf(uuid) })
  }

  async resumeVm(uuid: string): Promise<void> {
    await this.#calls.long('DOMAIN_RESUME', { dom: domainOf(uuid) })
  }

  snapshots: Host['snapshots'] = (uuid) => listSnapshots(this.#calls, uuid)
  createSnapshot: Host['createSnapshot'] = (uuid, snapshot) => createSnapshot(this.#calls, uuid, snapshot)
  revertToSnapshot: Host['revertToSnapshot'] = (uuid, name) => revertToSnapshot(this.#calls, uuid, name)
  deleteSnapshot: Host['deleteSnapshot'] = (uuid, name, options) => deleteSnapshot(this.#calls, uuid, name, options)
  dumpSnapshots: Host['dumpSnapshots'] = (uuid) => dumpSnapshots(this.#calls, uuid)
  forgetSnapshots: Host['forgetSnapshots'] = (uuid) => forgetSnapshots(this.#calls, uuid)
  restoreSnapshots: Host['restoreSnapshots'] = (uuid, dumped) => restoreSnapshots(this.#calls, uuid, dumped)

  async setAutostart(uuid: string, on: boolean): Promise<void> {
    await this.#calls.write('DOMAIN_SET_AUTOSTART', { dom: domainOf(uuid), autostart: on ? 1 : 0 })
  }

  migrateVm = (uuid: string, options: MigrateOptions): Promise<void> => migrateVm(this.#calls, domainOf(uuid), options)
  resumePostCopy: Host['resumePostCopy'] = (uuid, options) => resumePostCopy(this.#calls, domainOf(uuid), options)
  openMigration: Host['openMigration'] = (options) => openMigration(this.#calls, options)
  whyNotHere: Host['whyNotHere'] = (xml) => whyNotHere(this.#calls, xml)
  vmJob = (uuid: string): Promise<VmJob | undefined> => vmJob(this.#calls, domainOf(uuid))

  async abortVmJob(uuid: string): Promise<void> {
    await this.#calls.write('DOMAIN_ABORT_JOB', { dom: domainOf(uuid) })
  }

  async settleVm(uuid: string, mark: VmMark | null): Promise<void> {
    // Without a mark of ours the one that it has is written again: nothing changes, but the call waits its turn.
    const written = mark ?? (await this.vm(uuid))?.mark ?? null
    await this.#calls.long('DOMAIN_SET_METADATA', {
      dom: domainOf(uuid),
      type: DomainMetadataType.ELEMENT,
      metadata: written && bareMarkElement(written),
      key: written && MARK_KEY,
      uri: MARK_NAMESPACE,
      flags: 0
    })
  }

  untilVm(
    uuid: string,
    holds: (vm: ObservedVm | undefined) => boolean,
    options: { timeoutMs: number; signal?: AbortSignal; pollMs?: number }
  ): Promise<ObservedVm | undefined> {
    const watched = { name: this.name, look: this.vm, onChange: this.onChange }
    return untilVm(watched, uuid, holds, options)
  }

  network: Host['network'] = (name) => this.#networks.network(name)
  defineNetwork: Host['defineNetwork'] = (network) => this.#networks.defineNetwork(network)
  startNetwork: Host['startNetwork'] = (name) => this.#networks.startNetwork(name)
  stopNetwork: Host['stopNetwork'] = (name) => this.#networks.stopNetwork(name)
  undefineNetwork: Host['undefineNetwork'] = (name) => this.#networks.undefineNetwork(name)
  setNetworkAutostart: Host['setNetworkAutostart'] = (name, on) => this.#networks.setNetworkAutostart(name, on)

  diskUsers: Host['diskUsers'] = (mentioned) => diskUsers(this.#calls, mentioned)

  vmDevices: Host['vmDevices'] = (uuid) => this.#devices.vmDevices(uuid)
  addDisk: Host['addDisk'] = (uuid, disk, place) => this.#devices.addDisk(uuid, disk, place)
  removeDisk: Host['removeDisk'] = (uuid, target, place) => this.#devices.removeDisk(uuid, target, place)
  addNic: Host['addNic'] = (uuid, nic, place) => this.#devices.addNic(uuid, nic, place)
  removeNic: Host['removeNic'] = (uuid, mac, place) => this.#devices.removeNic(uuid, mac, place)
  setDiskSource: Host['setDiskSource'] = (...args) => this.#devices.setDiskSource(...args)
  resizeDisk: Host['resizeDisk'] = (uuid, target, bytes) => this.#devices.resizeDisk(uuid, target, bytes)
  copyDisk: Host['copyDisk'] = (uuid, target, to) => this.#devices.copyDisk(uuid, target, to)
  diskCopy: Host['diskCopy'] = (uuid, target) => this.#devices.diskCopy(uuid, target)
  switchToCopy: Host['switchToCopy'] = (uuid, target) => this.#devices.switchToCopy(uuid, target)
  abortCopy: Host['abortCopy'] = (uuid, target) => this.#devices.abortCopy(uuid, target)

  vmSizes: Host['vmSizes'] = (uuid) => this.#settings.vmSizes(uuid)
  setVcpus: Host['setVcpus'] = (...args) => this.#settings.setVcpus(...args)
  setMemory: Host['setMemory'] = (...args) => this.#settings.setMemory(...args)
  renameVm: Host['renameVm'] = (uuid, name) => this.#settings.renameVm(uuid, name)
  resetVm: Host['resetVm'] = (uuid) => this.#settings.resetVm(uuid)
  saveVm: Host['saveVm'] = (uuid) => this.#settings.saveVm(uuid)
  markVm: Host['markVm'] = (uuid, mark) => this.#settings.markVm(uuid, mark)

  pool = (name: string): Promise<ObservedPool | undefined> => this.#storage.pool(name)
  definePool: Host['definePool'] = (spec) => this.#storage.definePool(spec)
  buildPool = (name: string): Promise<void> => this.#storage.buildPool(name)
  startPool = (name: string): Promise<void> => this.#storage.startPool(name)
  stopPool = (name: string): Promise<void> => this.#storage.stopPool(name)
  setPoolAutostart = (name: string, on: boolean): Promise<void> => this.#storage.setPoolAutostart(name, on)
  refreshPool = (name: string): Promise<void> => this.#storage.refreshPool(name)
  undefinePool = (name: string): Promise<void> => this.#storage.undefinePool(name)
  volume = (pool: string, name: string): Promise<ObservedVolume | undefined> => this.#storage.volume(pool, name)
  createVolume: Host['createVolume'] = (pool, spec) => this.#storage.createVolume(pool, spec)
  copyVolume: Host['copyVolume'] = (pool, spec, from) => this.#storage.copyVolume(pool, spec, from)
  resizeVolume: Host['resizeVolume'] = (pool, name, capacityBytes) =>
    this.#storage.resizeVolume(pool, name, capacityBytes)
  uploadVolume: Host['uploadVolume'] = (pool, name, source, options) =>
    this.#storage.uploadVolume(pool, name, source, options)
  downloadVolume: Host['downloadVolume'] = (pool, name, options) => this.#storage.downloadVolume(pool, name, options)
  deleteVolume = (pool: string, name: string): Promise<void> => this.#storage.deleteVolume(pool, name)
}

function undefineFlags({ libVersion, capabilities }: HostBasics, options: UndefineOptions): number {
  const flag = DomainUndefineFlags
  let flags = 0
  if (options.savedImage) flags |= flag.MANAGED_SAVE
  if (options.snapshots) flags |= flag.SNAPSHOTS_METADATA
  // The test driver has neither checkpoints nor firmware, and refuses flags that it does not know.
  if (capabilities.domainType === 'test') return flags
  if (options.snapshots) flags |= flag.CHECKPOINTS_METADATA
  flags |= options.firmwareState ? flag.NVRAM : flag.KEEP_NVRAM
  if (libVersion >= TPM_FLAGS_SINCE) flags |= options.firmwareState ? flag.TPM : flag.KEEP_TPM
  return flags
}

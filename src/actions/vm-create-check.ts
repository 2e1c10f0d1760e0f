// Is a new VM possible? Names, stores, volumes and networks as they will be when the task's turn comes.
import type { FleetState } from '../inventory/fleet-state.ts'
import { memoryText } from '../model/memory-text.ts'
import type { VmFacts } from '../inventory/facts.ts'
import { quote } from '../model/name.ts'
import { impossible, possible, type Verdict } from './action.ts'
import { cloudInitProblem } from './cloud-init.ts'
import { refuseChangeOfImage, refuseImage } from './image-use.ts'
import { refuseHost } from './host-refusal.ts'
import type { VmCreateArgs } from './vm-create-args.ts'
import { readGivenXml } from './vm-create-xml.ts'
import { diskProblem, plannedDisks, plannedStores, type PlannedDisk } from './vm-create-disks.ts'
import { macsOf, refuseMac } from './vm-nic-mac.ts'
import { refuseTooLarge } from './store-room.ts'
import { refuseStore, volumeUsers } from './volume-place.ts'

export function checkCreate(args: VmCreateArgs, state: FleetState): Verdict {
  return (
    refuseImage(args, state) ??
    refuseShape(args) ??
    refuseIdentity(args, state) ??
    (args.host === undefined ? undefined : refuseHost(state, args.host)) ??
    refuseSize(args, state) ??
    refuseCloudInit(args) ??
    refuseDisks(args, state) ??
    refuseNics(args, state) ??
    refuseMacs(args, state) ??
    possible
  )
}

const builtFields = ['image', 'memoryMiB', 'vcpus', 'disks', 'nics', 'firmware', 'graphics', 'cloudInit'] as const

function refuseShape(args: VmCreateArgs): Verdict | undefined {
  if (args.xml === undefined) {
    return args.memoryMiB === undefined
      ? impossible('missing_field', 'a VM needs "memoryMiB", or "xml"', 'give its memory: `--memory 2G`')
      : undefined
  }
  const both = builtFields.find((field) => args[field] !== undefined)
  if (both)
    return impossible(
      'xml_and_fields',
      `"xml" says everything, so that "${both}" would say it twice`,
      'give either, not both'
    )
  if (args.host === undefined) {
    return impossible(
      'xml_needs_host',
      'a VM given as XML needs "host": its paths and devices are those of one host',
      'name the host: `--host`'
    )
  }
  const { problem } = readGivenXml(args.xml)
  return problem === undefined
    ? undefined
    : impossible(
        'bad_xml',
        `"xml" is no VM's definition: ${problem}`,
        'give what `virsh dumpxml --inactive --security-info` prints'
      )
}

function refuseIdentity(args: VmCreateArgs, state: FleetState): Verdict | undefined {
  const uuid = args.uuid?.toLowerCase() ?? ''
  const mine = state.vm(uuid)
  // An earlier attempt of this very task may have made it; whether it did, its mark tells, on the host.
  if (mine && (state.phase === 'queued' || mine.owner !== 'ours')) {
    return impossible(
      'uuid_taken',
      `UUID ${uuid} is that of ${quote(mine.name)} on ${mine.home}`,
      'leave the UUID out, or delete that VM'
    )
  }
  const other = state.vmsNamed(args.name).find((vm) => vm.uuid !== uuid)
  if (!other) return undefined
  return impossible(
    'name_taken',
    `${quote(args.name)} is the name of a VM${other.home ? ` on ${other.home}` : ''} already: names of new VMs are unique in the fleet`,
    'choose another name, or delete that VM first'
  )
}

function refuseSize(args: VmCreateArgs, state: FleetState): Verdict | undefined {
  const host = args.host === undefined ? undefined : state.host(args.host)
  if (!host || host.memoryMiB === 0 || (args.memoryMiB ?? 0) <= host.memoryMiB) return undefined
  return impossible(
    'does_not_fit',
    `${memoryText(args.memoryMiB ?? 0)} of memory is more than ${host.name} has (${memoryText(host.memoryMiB)})`,
    'give it less memory, or use another host'
  )
}

function refuseCloudInit({ cloudInit, disks = [] }: VmCreateArgs): Verdict | undefined {
  if (!cloudInit) return undefined
  const problem = cloudInitProblem(cloudInit)
  if (problem) return impossible('bad_cloud_init', problem.message, problem.next)
  if (cloudInit.store !== undefined || disks.length > 0) return undefined
  return impossible(
    'bad_cloud_init',
    'a VM without disks names no store for its cloud-init disc',
    'give "store" with it'
  )
}

function refuseDisks(args: VmCreateArgs, state: FleetState): Verdict | undefined {
  for (const [index, disk] of (args.disks ?? []).entries()) {
    const problem = diskProblem(disk)
    if (problem) return impossible('bad_disk', `disk ${index}: ${problem.message}`, problem.next)
  }
  for (const store of plannedStores(args)) {
    const refusal = refuseStore(state, store, state.boundHost ?? args.host)
    if (refusal) return refusal
  }
  const disks = plannedDisks(args)
  for (const [index, disk] of disks.entries()) {
    const twice = disks.slice(0, index).some((other) => other.store === disk.store && other.volume === disk.volume)
    if (twice)
      return impossible(
        'volume_twice',
        `volume "${disk.store}/${disk.volume}" would be two disks of one VM`,
        'give the new volumes different names'
      )
    const refusal =
      disk.origin === 'existing' ? refuseExisting(disk, args.uuid?.toLowerCase(), state) : refuseNew(disk, state)
    if (refusal) return refusal
  }
  return undefined
}

/** @param vm its UUID, which may use the volume */
export function refuseExisting(disk: PlannedDisk, vm: string | undefined, state: FleetState): Verdict | undefined {
  const id = `${disk.store}/${disk.volume}`
  if (!state.volume(disk.store, disk.volume)) {
    return impossible(
      'volume_not_found',
      `there is no volume "${id}"`,
      `\`taskomatic pool refresh\`, then see \`taskomatic volume list --store ${disk.store}\``
    )
  }
  const image = disk.readOnly ? undefined : refuseChangeOfImage(state, disk.store, disk.volume)
  if (image) return image
  const [user] = disk.readOnly ? [] : volumeUsers(state, disk.store, disk.volume, vm)
  if (user === undefined) return undefined
  return impossible(
    'volume_in_use',
    `volume "${id}" is a disk of ${user}: two VMs writing to it would destroy it`,
    'copy it (`from=`), or detach it there first'
  )
}

export function refuseNew(disk: PlannedDisk, state: FleetState): Verdict | undefined {
  const id = `${disk.store}/${disk.volume}`
  // When it starts, an earlier attempt may have made it: its marker tells, on the host.
  if (state.phase === 'queued' && state.volume(disk.store, disk.volume)) {
    return impossible(
      'volume_exists',
      `there is a volume "${id}" already`,
      'choose another name (`name=`), use it (`volume=`), or delete it'
    )
  }
  if (!disk.from)
    return refuseTooLarge(state, disk.store, { format: disk.format, capacityBytes: disk.capacityBytes ?? 0 })
  const source = state.volume(disk.from.store, disk.from.volume)
  const from = `${disk.from.store}/${disk.from.volume}`
  if (!source)
    return impossible(
      'volume_not_found',
      `there is no volume "${from}" to copy`,
      `see \`taskomatic volume list --store ${disk.from.store}\``
    )
  if (disk.capacityBytes !== null && disk.capacityBytes < source.capacityBytes) {
    return impossible(
      'too_small',
      `a copy of "${from}" needs ${source.capacityBytes} bytes, not ${disk.capacityBytes}`,
      'leave the size out, or give a larger one'
    )
  }
  const writer = disk.linked ? writerOf(disk.from, source.usedBy, state) : undefined
  if (writer)
    return impossible(
      'volume_in_use',
      `${quote(writer.name)} writes to "${from}": what lies over it would be destroyed`,
      'copy it instead, or lie over an image'
    )
  const running = source.usedBy
    .map((uuid) => state.vm(uuid))
    .find((vm) => vm !== undefined && vm.activeOn !== null && writes(vm.disks, disk.from))
  if (!running) return undefined
  return impossible(
    'volume_in_use',
    `${quote(running.name)} runs and writes to "${from}": a copy would be torn`,
    'stop that VM first'
  )
}

const writerOf = (volume: PlannedDisk['from'], users: readonly string[], state: FleetState): VmFacts | undefined =>
  users.map((uuid) => state.vm(uuid)).find((vm) => vm !== undefined && writes(vm.disks, volume))

const writes = (
  disks: readonly { store: string | null; volume: string | null; readOnly: boolean }[],
  volume: PlannedDisk['from']
): boolean => disks.some((disk) => !disk.readOnly && disk.store === volume?.store && disk.volume === volume?.volume)

function refuseNics(args: VmCreateArgs, state: FleetState): Verdict | undefined {
  const host = state.boundHost ?? args.host
  for (const [index, nic] of (args.nics ?? []).entries()) {
    const refusal = refuseNic(nic, host, state, index)
    if (refusal) return refusal
  }
  return undefined
}

/** @param host undefined: it is not known yet where the VM will be */
export function refuseNic(
  nic: { network?: string; bridge?: string },
  host: string | undefined,
  state: FleetState,
  index?: number
): Verdict | undefined {
  if ((nic.network === undefined) === (nic.bridge === undefined)) {
    const which = index === undefined ? 'the card' : `card ${index}`
    return impossible('bad_nic', `${which} needs a "network" or a "bridge", and not both`, 'name one of them')
  }
  if (nic.network === undefined || host === undefined) return undefined
  const network = state.network(host, nic.network)
  if (!network)
    return impossible(
      'network_not_found',
      `${host} has no network ${quote(nic.network)}`,
      'see `taskomatic network list`'
    )
  if (network.active) return undefined
  return impossible(
    'network_inactive',
    `network ${quote(nic.network)} on ${host} is not active`,
    'start it on the host'
  )
}

function refuseMacs(args: VmCreateArgs, state: FleetState): Verdict | undefined {
  const given = (args.nics ?? []).flatMap(({ mac }) => (mac === undefined ? [] : [mac]))
  const twice = given.find((mac, index) => given.indexOf(mac) !== index)
  if (twice !== undefined)
    return impossible(
      'mac_twice',
      `two cards would have the MAC address ${twice}`,
      'give each card an address of its own'
    )
  return macsOf(args)
    .map((mac) => refuseMac(mac, args.uuid?.toLowerCase(), state))
    .find((verdict) => verdict !== undefined)
}

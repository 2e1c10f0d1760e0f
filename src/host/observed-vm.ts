// What a host's XML and state numbers say of a VM, in our words.
import type { Element } from '@xmldom/xmldom'
import { DomainState } from '../libvirt/constants.gen.ts'
import type { ObservedVm, PowerState, VmDisk, VmNic, VmPin } from '../model/vm.ts'
import { foreignMetadata, readMark } from './mark.ts'
import { attributeOf, bytesOf, childOf, childrenOf, mebibytes, parseXml, textOf } from './xml.ts'

/** What the XML alone says; power, autostart and the like are asked for apart. */
export type VmFromXml = Pick<
  ObservedVm,
  'uuid' | 'name' | 'memoryMiB' | 'maxMemoryMiB' | 'vcpus' | 'disks' | 'nics' | 'mark' | 'foreignMetadata' | 'pins'
>

export function readVmXml(xml: string): VmFromXml {
  const domain = parseXml(xml, 'domain')
  const maxMemory = bytesOf(childOf(domain, 'memory'), 'KiB')
  const devices = childOf(domain, 'devices')
  const pins = readPins(domain, devices)
  return {
    uuid: textOf(domain, 'uuid') ?? '',
    name: textOf(domain, 'name') ?? '',
    memoryMiB: mebibytes(bytesOf(childOf(domain, 'currentMemory'), 'KiB') || maxMemory),
    maxMemoryMiB: mebibytes(maxMemory),
    vcpus: Number(attributeOf(childOf(domain, 'vcpu'), 'current') ?? textOf(domain, 'vcpu') ?? 1),
    disks: childrenOf(devices, 'disk').map(readDisk),
    nics: childrenOf(devices, 'interface').map(readNic),
    mark: readMark(domain),
    foreignMetadata: foreignMetadata(domain),
    ...(pins.length > 0 ? { pins } : {})
  }
}

function readPins(domain: Element, devices: Element | undefined): VmPin[] {
  const variables = textOf(domain, 'os', 'nvram')
  const given = [
    ...childrenOf(devices, 'hostdev').map((device) => `host ${attributeOf(device, 'type') ?? 'device'} device`),
    ...childrenOf(devices, 'interface')
      .filter((nic) => attributeOf(nic, 'type') === 'hostdev')
      .map((nic) => `host network card ${attributeOf(childOf(nic, 'mac'), 'address') ?? ''}`)
  ]
  const emulated = childrenOf(devices, 'tpm').filter(
    (tpm) => attributeOf(childOf(tpm, 'backend'), 'type') === 'emulator'
  )
  return [
    ...given.map((what): VmPin => ({ kind: 'device', what })),
    // Of a running guest the address may be what the host's own configuration made of none.
    ...(attributeOf(domain, 'id') === null ? literalAddresses(devices) : []),
    ...(variables === null ? [] : [{ kind: 'firmware', what: variables } as const]),
    ...(emulated.length > 0 ? [{ kind: 'tpm', what: 'the state of its TPM' } as const] : [])
  ]
}

const anywhere = new Set(['0.0.0.0', '::', '127.0.0.1', '::1', 'localhost'])

/** Addresses of one host: on another the display could not be opened. A network's address is found anew on each host. */
export function literalAddresses(devices: Element | undefined): VmPin[] {
  const addresses = childrenOf(devices, 'graphics').flatMap((graphics) => {
    const listens = childrenOf(graphics, 'listen')
    if (listens.length === 0) return [attributeOf(graphics, 'listen')]
    return listens.map((listen) => (attributeOf(listen, 'type') === 'network' ? null : attributeOf(listen, 'address')))
  })
  return addresses.flatMap((address): VmPin[] =>
    address === null || anywhere.has(address) ? [] : [{ kind: 'display', what: `its display at ${address}` }]
  )
}

function readDisk(disk: Element): VmDisk {
  const type = attributeOf(disk, 'type') ?? 'file'
  const source = sourceOf(type, childOf(disk, 'source'))
  return {
    target: attributeOf(childOf(disk, 'target'), 'dev') ?? '',
    device: deviceOf(attributeOf(disk, 'device')),
    kind: source === null ? 'none' : kindOf(type),
    source,
    format: attributeOf(childOf(disk, 'driver'), 'type'),
    bus: attributeOf(childOf(disk, 'target'), 'bus'),
    readOnly: childOf(disk, 'readonly') !== undefined || attributeOf(disk, 'device') === 'cdrom',
    shareable: childOf(disk, 'shareable') !== undefined
  }
}

const kindOf = (type: string): VmDisk['kind'] =>
  type === 'file' || type === 'network' || type === 'volume' ? type : type === 'dir' ? 'file' : 'block'

function deviceOf(device: string | null): VmDisk['device'] {
  return device === 'cdrom' || device === 'floppy' || device === 'lun' ? device : 'disk'
}

/** What a disk's `<source>` names: a path, a device, `pool/volume`. */
export function sourceOf(type: string, source: Element | undefined): string | null {
  if (type !== 'volume')
    return ['file', 'dev', 'dir', 'name', 'path'].map((name) => attributeOf(source, name)).find(Boolean) ?? null
  const [pool, volume] = [attributeOf(source, 'pool'), attributeOf(source, 'volume')]
  return pool && volume ? `${pool}/${volume}` : null
}

function readNic(nic: Element): VmNic {
  const source = childOf(nic, 'source')
  return {
    mac: attributeOf(childOf(nic, 'mac'), 'address') ?? '',
    kind: attributeOf(nic, 'type') ?? '',
    source: ['network', 'bridge', 'dev', 'path'].map((name) => attributeOf(source, name)).find(Boolean) ?? null,
    model: attributeOf(childOf(nic, 'model'), 'type')
  }
}

const powers: Record<number, PowerState> = {
  // A domain that is being started has no state yet, and a process.
  [DomainState.NOSTATE]: 'running',
  [DomainState.RUNNING]: 'running',
  [DomainState.BLOCKED]: 'running',
  [DomainState.PAUSED]: 'paused',
  [DomainState.SHUTDOWN]: 'stopping',
  [DomainState.SHUTOFF]: 'off',
  [DomainState.CRASHED]: 'crashed',
  [DomainState.PMSUSPENDED]: 'suspended'
}

// In the order of libvirt's numbers: include/libvirt/libvirt-domain.h, virDomain*Reason; virsh's words in lower case.
const words = (text: string): readonly string[] => text.split('|')
const reasons: Record<number, readonly string[]> = {
  [DomainState.RUNNING]: words(
    'unknown|booted|migrated|restored|from snapshot|unpaused|migration canceled|save canceled|event wakeup|crashed|' +
      'post-copy|post-copy failed'
  ),
  [DomainState.PAUSED]: words(
    'unknown|user|migrating|saving|dumping|io error|watchdog|from snapshot|shutting down|creating snapshot|crashed|' +
      'starting up|post-copy|post-copy failed|api error'
  ),
  [DomainState.SHUTDOWN]: words('unknown|user'),
  [DomainState.SHUTOFF]: words('unknown|shutdown|destroyed|crashed|migrated|saved|failed|from snapshot|daemon'),
  [DomainState.CRASHED]: words('unknown|panicked')
}

export function powerOf(state: number, reason: number): { power: PowerState; reason: string } {
  return {
    power: powers[state] ?? 'running',
    reason: reasons[state]?.[reason] ?? (reason === 0 ? 'unknown' : `reason ${reason}`)
  }
}

// A domain's definition: what libvirt's parser makes of the XML that is given, and the facts that the host needs of it.
// Only defaults that libvirt 9.0 with QEMU 7.2 shows in its XML are filled in; live additions are in live-xml.ts.

import { randomUUID } from 'node:crypto'
import { addDeviceDefaults } from './domain-devices.ts'
import { refuse } from './refusal.ts'
import { bytesAt, elements, find, node, parseXml, printXml, putChild, textAt, textOf, type XmlNode } from './xml.ts'

export type DomainDisk = {
  target: string
  device: string
  kind: string
  /** Path or device; `protocol:name` for network disks; null for an empty drive. */
  source: string | null
  /** A volume given by pool and name, translated when the domain starts. */
  volume: { pool: string; name: string } | null
  readOnly: boolean
  shareable: boolean
}

export type DomainDef = {
  readonly name: string
  readonly uuid: string
  /** Inactive XML with secrets, as libvirt prints it. */
  readonly xml: string
  readonly memoryKiB: number
  readonly currentKiB: number
  readonly vcpus: number
  readonly maxVcpus: number
  readonly osType: string
  readonly disks: readonly DomainDisk[]
  readonly networks: readonly string[]
  readonly passthrough: boolean
  readonly nvram: string | null
  readonly tpm: boolean
  readonly agent: boolean
  readonly onPoweroff: string
  readonly onReboot: string
  readonly onCrash: string
}

const order = [
  'name uuid genid title description metadata maxMemory memory currentMemory memoryBacking blkiotune memtune vcpu vcpus',
  'iothreads iothreadids cputune numatune resource sysinfo bootloader os features cpu clock on_poweroff on_reboot on_crash',
  'on_lockfailure pm perf idmap devices seclabel keywrap launchSecurity'
]
  .join(' ')
  .split(' ')

const namePattern = /^[^/\n\0]+$/
const uuidPattern = /^[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}$/i

/** Parses given XML as DOMAIN_DEFINE_XML does. Refuses with libvirt's codes. */
export function defineDomain(text: string, options: { validate: boolean }): DomainDef {
  const tree = parseXml(text, 'domain')
  if (options.validate) validate(tree)
  return definitionOf(complete(tree))
}

/** Reads the facts of a completed tree and prints it. */
function definitionOf(tree: XmlNode): DomainDef {
  const devices = find(tree, 'devices')
  const memory = Number((bytesAt(find(tree, 'memory'), 'KiB') ?? 0n) / 1024n)
  const maxVcpus = Number(textAt(tree, 'vcpu') ?? '1')
  return {
    name: textAt(tree, 'name') ?? '',
    uuid: textAt(tree, 'uuid') ?? '',
    xml: printXml(tree),
    memoryKiB: memory,
    currentKiB: Number((bytesAt(find(tree, 'currentMemory'), 'KiB') ?? BigInt(memory) * 1024n) / 1024n),
    maxVcpus,
    vcpus: Number(find(tree, 'vcpu')?.attrs['current'] ?? maxVcpus),
    osType: textAt(tree, 'os', 'type') ?? 'hvm',
    disks: elements(devices, 'disk').map(readDisk),
    networks: elements(devices, 'interface')
      .map((nic) => find(nic, 'source')?.attrs['network'])
      .filter((name) => name !== undefined),
    passthrough: elements(devices, 'hostdev').length > 0,
    nvram: textAt(tree, 'os', 'nvram'),
    tpm: elements(devices, 'tpm').length > 0,
    agent: elements(devices, 'channel').some((channel) =>
      (find(channel, 'target')?.attrs['name'] ?? '').startsWith('org.qemu.guest_agent')
    ),
    onPoweroff: textAt(tree, 'on_poweroff') ?? 'destroy',
    onReboot: textAt(tree, 'on_reboot') ?? 'restart',
    onCrash: textAt(tree, 'on_crash') ?? 'destroy'
  }
}

/** The same definition after `change` has altered its tree. */
export function editDefinition(def: DomainDef, change: (tree: XmlNode) => void): DomainDef {
  const tree = parseXml(def.xml, 'domain')
  change(tree)
  return definitionOf(tree)
}

/** The same definition after `change` has altered its devices, completed again: a new device gets its address. */
export function recompleted(def: DomainDef, change: (devices: XmlNode) => void): DomainDef {
  return editDefinition(def, (tree) => {
    const devices = find(tree, 'devices') ?? node('devices')
    change(devices)
    addDeviceDefaults(tree, devices)
  })
}

export function readDisk(disk: XmlNode): DomainDisk {
  const source = find(disk, 'source')
  const kind = disk.attrs['type'] ?? 'file'
  const attrs = source?.attrs ?? {}
  const network = attrs['name'] === undefined ? null : `${attrs['protocol'] ?? ''}:${attrs['name']}`
  const device = disk.attrs['device'] ?? 'disk'
  return {
    target: find(disk, 'target')?.attrs['dev'] ?? '',
    device,
    kind,
    source: attrs['file'] ?? attrs['dev'] ?? attrs['dir'] ?? network,
    volume: kind === 'volume' ? { pool: attrs['pool'] ?? '', name: attrs['volume'] ?? '' } : null,
    readOnly: find(disk, 'readonly') !== undefined || device === 'cdrom',
    shareable: find(disk, 'shareable') !== undefined
  }
}

function complete(tree: XmlNode): XmlNode {
  const type = tree.attrs['type']
  if (type === undefined) throw refuse('XML_ERROR', 'DOMAIN', 'missing domain type attribute')
  if (type !== 'qemu' && type !== 'kvm')
    throw refuse('CONFIG_UNSUPPORTED', 'QEMU', `could not find capabilities for domaintype=${type} `)
  tree.attrs = Object.fromEntries(
    Object.entries(tree.attrs).filter(([key]) => key === 'type' || key.startsWith('xmlns'))
  )
  completeIdentity(tree)
  completeMachine(tree)
  completeSizes(tree)
  for (const [name, value] of [
    ['on_poweroff', 'destroy'],
    ['on_reboot', 'restart'],
    ['on_crash', 'destroy']
  ] as const)
    if (textAt(tree, name) === null) putChild(tree, node(name, {}, [value]))
  if (!find(tree, 'clock')) putChild(tree, node('clock', { offset: 'utc' }))
  const devices = find(tree, 'devices') ?? node('devices')
  putChild(tree, devices)
  addDeviceDefaults(tree, devices)
  const rank = (child: XmlNode | string): number => {
    const at = typeof child === 'string' ? -1 : order.indexOf(child.name)
    return at < 0 ? order.length : at
  }
  tree.children.sort((a, b) => rank(a) - rank(b))
  return tree
}

function completeIdentity(tree: XmlNode): void {
  const name = textAt(tree, 'name')
  if (name === null) throw refuse('NO_NAME', 'DOMAIN', 'missing domain name information')
  if (!namePattern.test(name)) throw refuse('XML_ERROR', 'DOMAIN', `name ${name} cannot contain '/'`)
  const given = textAt(tree, 'uuid')
  if (given !== null && !uuidPattern.test(given)) throw refuse('INTERNAL_ERROR', 'DOMAIN', 'malformed uuid element')
  const hex = given?.replaceAll('-', '').toLowerCase()
  const uuid = hex?.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5') ?? randomUUID()
  putChild(tree, node('uuid', {}, [uuid]))
}

function completeSizes(tree: XmlNode): void {
  const memory = bytesAt(find(tree, 'memory'), 'KiB') ?? bytesAt(find(tree, 'currentMemory'), 'KiB')
  if (memory === undefined) throw refuse('XML_ERROR', 'DOMAIN', 'missing memory element')
  if (memory === 0n)
    throw refuse('XML_ERROR', 'DOMAIN', 'Memory size must be specified via <memory> or in the <numa> configuration')
  const current = bytesAt(find(tree, 'currentMemory'), 'KiB') ?? memory
  const kib = (bytes: bigint): string => String((bytes + 1023n) / 1024n)
  putChild(tree, node('memory', { unit: 'KiB' }, [kib(memory)]))
  putChild(tree, node('currentMemory', { unit: 'KiB' }, [kib(current > memory ? memory : current)]))
  const vcpu = find(tree, 'vcpu') ?? node('vcpu', {}, ['1'])
  const count = textOf(vcpu)
  if (!/^\d{1,4}$/.test(count) || count === '0')
    throw refuse('XML_ERROR', 'DOMAIN', `Invalid value for element 'vcpu': '${count}'`)
  if (Number(vcpu.attrs['current'] ?? count) > Number(count))
    throw refuse(
      'INTERNAL_ERROR',
      'DOMAIN',
      `maxvcpus must not be less than current vcpus (${count} < ${vcpu.attrs['current']})`
    )
  const { placement = 'static', ...rest } = vcpu.attrs
  putChild(tree, node('vcpu', { placement, ...rest }, [count]))
}

const machines: Record<string, string> = { pc: 'pc-i440fx-7.2', q35: 'pc-q35-7.2' }

function completeMachine(tree: XmlNode): void {
  const os = find(tree, 'os')
  const type = find(os, 'type')
  if (!os || !type) throw refuse('XML_ERROR', 'DOMAIN', 'an os <type> must be specified')
  const { arch = 'x86_64', machine = 'pc' } = type.attrs
  if (arch !== 'x86_64' && arch !== 'i686')
    throw refuse('CONFIG_UNSUPPORTED', 'DOMAIN', `No emulator found for arch '${arch}'`)
  type.attrs = { arch, machine: machines[machine] ?? machine }
  if (
    !find(os, 'boot') &&
    !find(os, 'kernel') &&
    elements(find(tree, 'devices')).every((device) => !find(device, 'boot'))
  )
    os.children.push(node('boot', { dev: 'hd' }))
  const cache = find(tree, 'features', 'tcg', 'tb-cache')
  const bytes = bytesAt(cache, 'KiB')
  if (cache && bytes !== undefined) {
    cache.attrs = { unit: 'KiB' }
    cache.children = [String(bytes / 1024n)]
  }
  if (!find(tree, 'cpu'))
    tree.children.push(
      node('cpu', { mode: 'custom', match: 'exact', check: 'none' }, [
        node('model', { fallback: 'forbid' }, ['qemu64'])
      ])
    )
}

// libvirt validates against its RELAX NG schema; what is checked here is the outermost level, where typing errors happen.
function validate(tree: XmlNode): void {
  const known = new Set([
    ...order,
    'qemu:commandline',
    'qemu:capabilities',
    'qemu:override',
    'on_poweroff',
    'commandline'
  ])
  for (const child of elements(tree))
    if (!known.has(child.name))
      throw refuse(
        'XML_INVALID_SCHEMA',
        'NONE',
        `Extra element ${child.name} in interleave\nElement domain failed to validate content`
      )
}

/** Without what only the secure XML shows. */
export function withoutSecrets(xml: string): string {
  if (!xml.includes('passwd=')) return xml
  const tree = parseXml(xml)
  for (const graphics of elements(find(tree, 'devices'), 'graphics')) delete graphics.attrs['passwd']
  return printXml(tree)
}

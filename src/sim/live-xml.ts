// The XML of a guest that runs: its definition with what exists only while it runs, and the form that migrates.

import type { DomainDef } from './domain-xml.ts'
import { elements, find, node, parseXml, printXml, putChild, type XmlNode } from './xml.ts'

const aliasNames: Record<string, string> = {
  interface: 'net',
  serial: 'serial',
  console: 'serial',
  channel: 'channel',
  input: 'input',
  hostdev: 'hostdev',
  memballoon: 'balloon',
  rng: 'rng',
  sound: 'sound',
  video: 'video',
  watchdog: 'watchdog',
  tpm: 'tpm'
}

/** What lies below a file as its header says; undefined for the lowest. */
type LayerBelow = (path: string) => { path: string; format: string } | undefined

/** Adds the id, aliases, the host's names of network devices and the security label to a running guest's definition. `agent`: it answers. */
export function liveXml(def: DomainDef, id: number, agent: boolean, layerBelow: LayerBelow): string {
  const tree = parseXml(def.xml, 'domain')
  tree.attrs = { ...tree.attrs, id: String(id) }
  const devices = find(tree, 'devices')
  const counts = new Map<string, number>()
  let index = 0
  for (const device of elements(devices)) {
    if (device.name === 'disk') liveDisk(device, () => ++index, layerBelow)
    if (device.name === 'interface') liveNic(device, id)
    if (device.name === 'channel') liveChannel(device, `domain-${id}-${def.name}`, agent)
    if (device.name === 'graphics') liveGraphics(device, id)
    const alias = aliasOf(device, counts)
    if (alias !== undefined && !find(device, 'alias')) addBefore(device, 'address', node('alias', { name: alias }))
  }
  if (!find(tree, 'seclabel'))
    putChild(
      tree,
      node('seclabel', { type: 'dynamic', model: 'dac', relabel: 'yes' }, [
        node('label', {}, ['+0:+0']),
        node('imagelabel', {}, ['+0:+0'])
      ])
    )
  const cpu = find(tree, 'cpu')
  if (cpu?.attrs['check'] === 'none') {
    cpu.attrs['check'] = 'full'
    for (const name of ['hypervisor', 'lahf_lm'])
      if (find(cpu, 'model')) cpu.children.push(node('feature', { policy: 'require', name }))
  }
  return printXml(tree)
}

function liveDisk(disk: XmlNode, next: () => number, layerBelow: LayerBelow): void {
  const source = find(disk, 'source')
  if (!source) return
  source.attrs['index'] = String(next())
  if (!find(disk, 'backingStore') && disk.attrs['device'] === 'disk')
    addBefore(disk, 'target', layers(source.attrs['file'] ?? source.attrs['dev'] ?? '', next, layerBelow))
}

/** QEMU opens the whole chain, and libvirt shows it; an empty element ends it. */
function layers(path: string, next: () => number, layerBelow: LayerBelow, depth = 0): XmlNode {
  const below = depth < 200 ? layerBelow(path) : undefined
  if (!below) return node('backingStore')
  return node('backingStore', { type: 'file', index: String(next()) }, [
    node('format', { type: below.format }),
    node('source', { file: below.path }),
    layers(below.path, next, layerBelow, depth + 1)
  ])
}

function liveNic(nic: XmlNode, id: number): void {
  if (nic.attrs['type'] !== 'user' && !find(nic, 'target'))
    addBefore(nic, 'model', node('target', { dev: `vnet${id}` }))
}

function liveGraphics(display: XmlNode, id: number): void {
  if (display.attrs['port'] === '-1') display.attrs['port'] = String(5899 + id)
  display.attrs['listen'] ??= '127.0.0.1'
  const listen = find(display, 'listen')
  if (listen) listen.attrs['address'] ??= display.attrs['listen']
}

function liveChannel(channel: XmlNode, folder: string, agent: boolean): void {
  const target = find(channel, 'target')
  if (!target || channel.attrs['type'] !== 'unix') return
  const path = `/var/lib/libvirt/qemu/channel/target/${folder}/${target.attrs['name'] ?? ''}`
  if (!find(channel, 'source')) addBefore(channel, 'target', node('source', { mode: 'bind', path }))
  target.attrs['state'] = agent ? 'connected' : 'disconnected'
}

/** The name under which events and `device_del` know a device; undefined where it has none. */
function aliasOf(device: XmlNode, counts: Map<string, number>): string | undefined {
  const count = (kind: string): number => {
    const value = counts.get(kind) ?? 0
    counts.set(kind, value + 1)
    return value
  }
  if (device.name === 'disk') {
    const { bus = '', dev = '' } = find(device, 'target')?.attrs ?? {}
    const address = find(device, 'address')?.attrs
    if (bus === 'virtio' || !address || address['type'] !== 'drive') return `${bus}-disk${dev.charCodeAt(2) - 97}`
    return bus === 'ide' || bus === 'scsi' || bus === 'sata'
      ? `${bus}${address['controller']}-${address['bus']}-${bus === 'ide' ? '' : '0-'}${address['unit']}`
      : undefined
  }
  if (device.name === 'controller') {
    const { type = '', index = '0', model = '' } = device.attrs
    if (model === 'pci-root') return 'pci.0'
    if (model === 'pcie-root') return 'pcie.0'
    return type === 'usb' && index === '0' ? 'usb' : `${type}${index}`
  }
  if (device.name === 'memballoon' && device.attrs['model'] === 'none') return undefined
  const name = aliasNames[device.name]
  if (name === undefined) return undefined
  return `${name}${device.name === 'console' ? 0 : count(device.name)}`
}

/** Every device that has a name, with it. */
export function aliases(def: DomainDef): { alias: string; device: XmlNode }[] {
  const counts = new Map<string, number>()
  return elements(find(parseXml(def.xml), 'devices')).flatMap((device) => {
    const alias = find(device, 'alias')?.attrs['name'] ?? aliasOf(device, counts)
    return alias === undefined ? [] : [{ alias, device }]
  })
}

function addBefore(device: XmlNode, name: string, child: XmlNode): void {
  const at = device.children.findIndex((other) => typeof other !== 'string' && other.name === name)
  device.children.splice(at < 0 ? device.children.length : at, 0, child)
}

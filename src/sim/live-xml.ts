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

/** Adds the id, aliases, the host's names of network devices and the security label to a running guest's definition. */
export function liveXml(def: DomainDef, id: number): string {
  const tree = parseXml(def.xml, 'domain')
  tree.attrs = { ...tree.attrs, id: String(id) }
  const devices = find(tree, 'devices')
  const counts = new Map<string, number>()
  let index = 0
  for (const device of elements(devices)) {
    if (device.name === 'disk') liveDisk(device, () => ++index)
    if (device.name === 'interface' && !find(device, 'target'))
      addBefore(device, 'model', node('target', { dev: `vnet${id}` }))
    if (device.name === 'graphics' && device.attrs['port'] === '-1') device.attrs['port'] = String(5900 + id)
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

function liveDisk(disk: XmlNode, next: () => number): void {
  const source = find(disk, 'source')
  if (!source) return
  source.attrs['index'] = String(next())
  if (!find(disk, 'backingStore') && disk.attrs['device'] === 'disk') addBefore(disk, 'target', node('backingStore'))
}

/** The name under which events and `device_del` know a device; undefined where it has none. */
export function aliasOf(device: XmlNode, counts: Map<string, number>): string | undefined {
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

function addBefore(device: XmlNode, name: string, child: XmlNode): void {
  const at = device.children.findIndex((other) => typeof other !== 'string' && other.name === name)
  device.children.splice(at < 0 ? device.children.length : at, 0, child)
}

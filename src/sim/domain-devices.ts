// The devices of a definition as QEMU's driver completes them: emulator, addresses, controllers, MAC addresses, defaults.
// Close to libvirt 9.0 on i440fx and q35; PCI slots are given out in libvirt's order of kinds, which is near enough for
// names and counts but not promised slot by slot.

import { randomBytes } from 'node:crypto'
import { refuse } from './refusal.ts'
import { elements, find, node, putChild, textAt, type XmlNode } from './xml.ts'

const kinds = [
  'emulator disk controller lease filesystem interface smartcard serial parallel console channel input tpm graphics sound',
  'audio video hostdev redirdev redirfilter hub watchdog memballoon rng nvram panic shmem memory iommu vsock crypto'
]
  .join(' ')
  .split(' ')

const rank = (device: XmlNode | string): number => (typeof device === 'string' ? -1 : kinds.indexOf(device.name))

export function addDeviceDefaults(tree: XmlNode, devices: XmlNode): void {
  if (!find(devices, 'emulator')) devices.children.push(node('emulator', {}, ['/usr/bin/qemu-system-x86_64']))
  const seen = new Set<string>()
  for (const disk of elements(devices, 'disk')) completeDisk(disk, seen)
  for (const nic of elements(devices, 'interface')) completeNic(nic)
  addControllers(tree, devices)
  addConsole(devices)
  addInputs(devices)
  addDisplay(devices)
  if (!find(devices, 'memballoon')) devices.children.push(node('memballoon', { model: 'virtio' }))
  devices.children.sort((a, b) => rank(a) - rank(b))
  assignAddresses(tree, devices)
}

function completeDisk(disk: XmlNode, seen: Set<string>): void {
  const { type = 'file', device = 'disk', ...rest } = disk.attrs
  disk.attrs = { type, device, ...rest }
  const target = find(disk, 'target')
  const dev = target?.attrs['dev']
  if (!target || dev === undefined) throw refuse('NO_TARGET', 'DOMAIN', `missing target information for device`)
  if (seen.has(dev)) throw refuse('INVALID_ARG', 'DOMAIN', `target '${dev}' duplicated for disk sources`)
  seen.add(dev)
  const bus = target.attrs['bus'] ?? busOf(dev)
  target.attrs = { dev, bus, ...(target.attrs['tray'] ? { tray: target.attrs['tray'] } : {}) }
  const driver = find(disk, 'driver') ?? node('driver')
  const { name = 'qemu', type: format = 'raw', ...more } = driver.attrs
  driver.attrs = { name, type: format, ...more }
  putChild(disk, driver)
  if (device === 'cdrom' && !find(disk, 'readonly')) disk.children.push(node('readonly'))
  const parts = [
    'driver',
    'auth',
    'source',
    'backingStore',
    'mirror',
    'target',
    'iotune',
    'readonly',
    'shareable',
    'transient',
    'serial',
    'wwn',
    'boot',
    'alias',
    'address'
  ]
  const place = (child: XmlNode | string): number => (typeof child === 'string' ? -1 : parts.indexOf(child.name))
  disk.children.sort((a, b) => place(a) - place(b))
}

function busOf(dev: string): string {
  if (dev.startsWith('vd')) return 'virtio'
  if (dev.startsWith('sd')) return 'scsi'
  return dev.startsWith('fd') ? 'fdc' : 'ide'
}

function completeNic(nic: XmlNode): void {
  const mac = find(nic, 'mac')?.attrs['address'] ?? newMac()
  if (!/^([0-9a-f]{2}:){5}[0-9a-f]{2}$/i.test(mac))
    throw refuse('XML_ERROR', 'DOMAIN', `unable to parse mac address '${mac}'`)
  putChild(nic, node('mac', { address: mac.toLowerCase() }))
  if (!find(nic, 'model')) nic.children.push(node('model', { type: 'rtl8139' }))
  const parts = [
    'mac',
    'source',
    'virtualport',
    'target',
    'model',
    'driver',
    'filterref',
    'link',
    'mtu',
    'boot',
    'alias',
    'address'
  ]
  const place = (child: XmlNode | string): number => (typeof child === 'string' ? -1 : parts.indexOf(child.name))
  nic.children.sort((a, b) => place(a) - place(b))
}

function addControllers(tree: XmlNode, devices: XmlNode): void {
  const have = new Set(elements(devices, 'controller').map((controller) => controller.attrs['type']))
  const add = (type: string, attrs: Record<string, string>): void => {
    if (!have.has(type)) devices.children.push(node('controller', { type, index: '0', ...attrs }))
    have.add(type)
  }
  for (const controller of elements(devices, 'controller')) {
    const { type = '', index = '0', ...rest } = controller.attrs
    controller.attrs = { type, index, ...rest }
  }
  const q35 = machineOf(tree).includes('q35')
  add('usb', { model: q35 ? 'qemu-xhci' : 'piix3-uhci' })
  add('pci', { model: q35 ? 'pcie-root' : 'pci-root' })
  const buses = new Set(elements(devices, 'disk').map((disk) => find(disk, 'target')?.attrs['bus']))
  if (buses.has('ide')) add('ide', {})
  if (buses.has('sata') || q35) add('sata', {})
  if (buses.has('scsi')) add('scsi', { model: 'lsilogic' })
  if (buses.has('fdc')) add('fdc', {})
  if (elements(devices, 'channel').length > 0) add('virtio-serial', {})
}

const machineOf = (tree: XmlNode): string => find(tree, 'os', 'type')?.attrs['machine'] ?? ''

// The first serial device appears again as a console, and a console alone gets a serial device.
function addConsole(devices: XmlNode): void {
  let serial = find(devices, 'serial')
  const console = find(devices, 'console')
  if (!serial && console && (find(console, 'target')?.attrs['type'] ?? 'serial') === 'serial') {
    serial = node('serial', console.attrs, elements(console, 'source'))
    devices.children.push(serial)
  }
  if (!serial) return
  elements(devices, 'serial').forEach((device, port) => {
    if (!find(device, 'target', 'model'))
      putChild(device, node('target', { type: 'isa-serial', port }, [node('model', { name: 'isa-serial' })]))
  })
  if (!console) devices.children.push(node('console', serial.attrs, elements(serial, 'source')))
  for (const device of elements(devices, 'console'))
    if (!find(device, 'target')) device.children.push(node('target', { type: 'serial', port: '0' }))
}

function addInputs(devices: XmlNode): void {
  const have = new Set(
    elements(devices, 'input').map((input) => `${input.attrs['type']} ${input.attrs['bus'] ?? 'ps2'}`)
  )
  for (const type of ['mouse', 'keyboard'])
    if (!have.has(`${type} ps2`)) devices.children.push(node('input', { type, bus: 'ps2' }))
}

function addDisplay(devices: XmlNode): void {
  const graphics = elements(devices, 'graphics')
  for (const display of graphics) {
    const { type = 'vnc', port = '-1', autoport = 'yes', ...rest } = display.attrs
    display.attrs = { type, port, autoport, ...rest }
    if (!find(display, 'listen'))
      display.children.push(node('listen', { type: 'address', ...(rest['listen'] ? { address: rest['listen'] } : {}) }))
  }
  if (!find(devices, 'audio')) devices.children.push(node('audio', { id: '1', type: 'none' }))
  if (graphics.length > 0 && !find(devices, 'video'))
    devices.children.push(
      node('video', {}, [node('model', { type: 'cirrus', vram: '16384', heads: '1', primary: 'yes' })])
    )
}

const pciKinds = ['interface', 'sound', 'controller', 'disk', 'hostdev', 'video', 'watchdog', 'memballoon', 'rng']

function assignAddresses(tree: XmlNode, devices: XmlNode): void {
  const q35 = machineOf(tree).includes('q35')
  const used = new Set<number>([0, 1])
  for (const device of elements(devices)) {
    const address = find(device, 'address')
    if (address?.attrs['type'] === 'pci' && address.attrs['bus'] === '0x00') used.add(Number(address.attrs['slot']))
  }
  if (find(devices, 'video')) used.add(2)
  const units = new Map<string, number>()
  elements(devices, 'channel').forEach((channel, index) => {
    if (!find(channel, 'address') && find(channel, 'target')?.attrs['type'] === 'virtio')
      channel.children.push(node('address', { type: 'virtio-serial', controller: '0', bus: '0', port: index + 1 }))
  })
  for (const kind of pciKinds)
    for (const device of elements(devices, kind)) {
      if (find(device, 'address') || textAt(device, 'address') !== null) continue
      const address = addressOf(device, used, units, q35)
      if (address) device.children.push(address)
    }
}

const pciAddress = (slot: number, fn = 0): XmlNode =>
  node('address', {
    type: 'pci',
    domain: '0x0000',
    bus: '0x00',
    slot: `0x${slot.toString(16).padStart(2, '0')}`,
    function: `0x${fn}`
  })

function addressOf(device: XmlNode, used: Set<number>, units: Map<string, number>, q35: boolean): XmlNode | undefined {
  const nextSlot = (): XmlNode => {
    let slot = 2
    while (used.has(slot)) slot++
    used.add(slot)
    return pciAddress(slot)
  }
  if (device.name === 'disk') {
    const bus = find(device, 'target')?.attrs['bus'] ?? ''
    if (bus === 'virtio') return nextSlot()
    if (bus === 'usb') return undefined
    const unit = units.get(bus) ?? 0
    units.set(bus, unit + 1)
    const ide = bus === 'ide'
    return node('address', {
      type: 'drive',
      controller: '0',
      bus: ide ? Math.floor(unit / 2) : 0,
      target: '0',
      unit: ide ? unit % 2 : unit
    })
  }
  if (device.name === 'controller') {
    const { type, model } = device.attrs
    if (model === 'none' || model === 'pci-root' || model === 'pcie-root' || type === 'fdc') return undefined
    if (type === 'usb' && !q35) return pciAddress(1, 2)
    if (type === 'ide') return pciAddress(1, 1)
    if (type === 'sata' && q35) return pciAddress(31, 2)
    return nextSlot()
  }
  if (device.name === 'video') return pciAddress(q35 ? 1 : 2)
  if (device.name === 'memballoon' && device.attrs['model'] === 'none') return undefined
  return nextSlot()
}

const newMac = (): string =>
  ['52', '54', '00', ...[...randomBytes(3)].map((byte) => byte.toString(16).padStart(2, '0'))].join(':')

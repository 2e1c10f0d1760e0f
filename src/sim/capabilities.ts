// What a simulated host says of itself: capabilities and the capabilities of its domains, cut down to what is read of them.

import type { SimHost } from './host.ts'
import { node, printXml, type XmlNode } from './xml.ts'

const machines = [
  ['pc-i440fx-7.2', 'pc', '255'],
  ['pc-q35-7.2', 'q35', '288']
] as const

const emulator = '/usr/bin/qemu-system-x86_64'

const text = (name: string, value: string): XmlNode => node(name, {}, [value])

export function capabilitiesXml(host: SimHost): string {
  const { cpus, memoryMiB } = host.settings
  const cpu = node('cpu', {}, [
    text('arch', 'x86_64'),
    text('model', 'EPYC'),
    text('vendor', 'AMD'),
    node('topology', { sockets: 1, dies: 1, cores: cpus, threads: 1 }),
    node('pages', { unit: 'KiB', size: 4 })
  ])
  const transports = node('uri_transports', {}, [text('uri_transport', 'tcp'), text('uri_transport', 'rdma')])
  const cell = node('cell', { id: 0 }, [node('memory', { unit: 'KiB' }, [String(memoryMiB * 1024)])])
  const hostNode = node('host', {}, [
    text('uuid', host.uuid),
    cpu,
    node('power_management'),
    node('iommu', { support: 'no' }),
    node('migration_features', {}, [node('live'), transports]),
    node('topology', {}, [node('cells', { num: 1 }, [cell])]),
    node('secmodel', {}, [text('model', 'none'), text('doi', '0')])
  ])
  const arch = node('arch', { name: 'x86_64' }, [
    text('wordsize', '64'),
    text('emulator', emulator),
    ...machines.flatMap(([name, alias, maxCpus]) => [
      node('machine', { maxCpus }, [name]),
      node('machine', { canonical: name, maxCpus }, [alias])
    ]),
    node('domain', { type: 'qemu' }),
    node('domain', { type: 'kvm' })
  ])
  const features = node('features', {}, [
    node('acpi', { default: 'on', toggle: 'yes' }),
    node('apic', { default: 'on', toggle: 'no' }),
    node('cpuselection'),
    node('deviceboot'),
    node('disksnapshot', { default: 'on', toggle: 'no' })
  ])
  const guest = node('guest', {}, [text('os_type', 'hvm'), arch, features])
  return `<capabilities>\n\n${printXml(hostNode, 1)}\n${printXml(guest, 1)}\n</capabilities>\n`
}

export function domainCapabilitiesXml(machine: string, domainType: string): string {
  const yes = { supported: 'yes' }
  const values = (name: string, ...list: string[]): XmlNode =>
    node(
      'enum',
      { name },
      list.map((value) => text('value', value))
    )
  return printXml(
    node('domainCapabilities', {}, [
      text('path', emulator),
      text('domain', domainType),
      text('machine', machine),
      text('arch', 'x86_64'),
      node('vcpu', { max: '255' }),
      node('iothreads', yes),
      node('os', yes, [
        values('firmware', 'efi'),
        node('loader', yes, [values('type', 'rom', 'pflash'), values('readonly', 'yes', 'no'), values('secure', 'no')])
      ]),
      node('cpu', {}, [
        node('mode', { name: 'host-passthrough', supported: domainType === 'kvm' ? 'yes' : 'no' }),
        node('mode', { name: 'host-model', supported: 'yes' }, [text('model', 'EPYC')]),
        node('mode', { name: 'custom', supported: 'yes' }, [text('model', 'qemu64')])
      ]),
      node('devices', {}, [
        node('disk', yes, [
          values('diskDevice', 'disk', 'cdrom', 'floppy', 'lun'),
          values('bus', 'ide', 'fdc', 'scsi', 'virtio', 'usb', 'sata')
        ]),
        node('graphics', yes, [values('type', 'vnc')])
      ])
    ])
  )
}

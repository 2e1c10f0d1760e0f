// A VM's definition as a host is given it: made from a spec for what the host can run, or given by a person and marked as ours.
import { dirname } from 'node:path/posix'
import type { HostIdentity } from '../model/host.ts'
import type { VmMark, VmSpec } from '../model/vm.ts'
import { markElement, setMark } from './mark.ts'
import { attributes, childOf, escapeXml, parseXml, printXml } from './xml.ts'

type Disk = VmSpec['disks'][number]

/** Without a limit QEMU's emulator keeps translated code worth several times the guest's memory. */
const TRANSLATED_CODE_MIB = 32

/** @throws XmlError for values that XML cannot hold */
export function vmXml(
  spec: VmSpec,
  mark: VmMark,
  host: Pick<HostIdentity, 'arch' | 'domainType' | 'emulator' | 'machine'>
): string {
  const emulated = host.domainType === 'qemu'
  const virtual = host.domainType === 'kvm' || emulated
  const pc = virtual && (host.arch === 'x86_64' || host.arch === 'i686')
  const lines = [
    `<domain${attributes({ type: host.domainType })}>`,
    `<name>${escapeXml(spec.name)}</name>`,
    `<uuid>${escapeXml(spec.uuid)}</uuid>`,
    `<metadata>${markElement(mark)}</metadata>`,
    `<memory unit="MiB">${spec.memoryMiB}</memory>`,
    `<vcpu>${spec.vcpus}</vcpu>`,
    osXml(spec, host),
    pc ? `<features><acpi/><apic/>${emulated ? translation : ''}</features>` : '',
    host.domainType === 'kvm' ? `<cpu mode="host-model"/>` : '',
    `<clock offset="utc"/>`,
    `<on_poweroff>destroy</on_poweroff><on_reboot>restart</on_reboot><on_crash>destroy</on_crash>`,
    `<devices>`,
    host.emulator === null ? '' : `<emulator>${escapeXml(host.emulator)}</emulator>`,
    ...diskElements(spec.disks),
    ...spec.nics.map(nicXml),
    virtual ? consoleXml : '',
    spec.graphics === 'vnc' ? `<graphics type="vnc" autoport="yes"/><video><model type="vga"/></video>` : '',
    virtual && spec.graphics === 'none' ? `<controller type="usb" model="none"/>` : '',
    `</devices>`,
    `</domain>`
  ]
  return lines.filter((line) => line !== '').join('\n')
}

const translation = `<tcg><tb-cache unit="MiB">${TRANSLATED_CODE_MIB}</tb-cache></tcg>`

// The channel costs nothing without an agent in the guest; with one, a shutdown need not rely on ACPI.
const consoleXml =
  `<serial type="pty"/><console type="pty"/>` +
  `<channel type="unix"><target type="virtio" name="org.qemu.guest_agent.0"/></channel>`

function osXml(spec: VmSpec, host: Pick<HostIdentity, 'arch' | 'machine'>): string {
  const uefi = spec.firmware === 'uefi'
  const first = spec.disks.find((disk) => !disk.readOnly && !disk.path.startsWith('/dev/'))
  // The firmware's variables beside the disk: at libvirt's own place a VM that moves would leave them behind.
  const variables = uefi && first ? `<nvram>${escapeXml(`${dirname(first.path)}/${spec.name}_VARS.fd`)}</nvram>` : ''
  const type = `<type${attributes({ arch: host.arch, machine: host.machine })}>hvm</type>`
  const boot = uefi
    ? ''
    : `<boot dev="hd"/>${spec.disks.some((disk) => disk.device === 'cdrom') ? '<boot dev="cdrom"/>' : ''}`
  return `<os${attributes({ firmware: uefi ? 'efi' : null })}>${type}${variables}${boot}</os>`
}

function diskElements(disks: readonly Disk[]): string[] {
  const used = new Map<string, number>()
  return disks.map((disk) => {
    const prefix = { virtio: 'vd', ide: 'hd' }[disk.bus] ?? 'sd'
    const index = used.get(prefix) ?? 0
    used.set(prefix, index + 1)
    return diskXml(disk, prefix + letters(index))
  })
}

/** 0 → a, 25 → z, 26 → aa. */
function letters(index: number): string {
  const last = String.fromCodePoint(97 + (index % 26))
  return index < 26 ? last : letters(Math.floor(index / 26) - 1) + last
}

/** One disk or drive, as it is defined and as it is plugged in. An empty path is an empty drive. */
export function diskXml(disk: Disk, target: string): string {
  const block = disk.path.startsWith('/dev/')
  const writable = !disk.readOnly && disk.device === 'disk'
  // The host's page cache would make a migration unsafe: the target could read what the source has not written yet.
  const driver = attributes({ name: 'qemu', type: disk.format, cache: writable ? 'none' : null })
  return [
    `<disk${attributes({ type: block ? 'block' : 'file', device: disk.device })}>`,
    `<driver${driver}/>`,
    disk.path === '' ? '' : `<source${attributes(block ? { dev: disk.path } : { file: disk.path })}/>`,
    `<target${attributes({ dev: target, bus: disk.bus })}/>`,
    disk.readOnly ? '<readonly/>' : '',
    disk.shareable ? '<shareable/>' : '',
    `</disk>`
  ].join('')
}

export function nicXml(nic: VmSpec['nics'][number]): string {
  const [type, source] = nic.bridge
    ? ['bridge', { bridge: nic.bridge }]
    : nic.network
      ? ['network', { network: nic.network }]
      : ['user', undefined]
  return [
    `<interface${attributes({ type })}>`,
    `<mac${attributes({ address: nic.mac })}/>`,
    source ? `<source${attributes(source)}/>` : '',
    `<model${attributes({ type: nic.model })}/>`,
    `</interface>`
  ].join('')
}

/**
 * Given XML with our mark, and with the UUID and name that were decided.
 * @throws XmlError for what is not a domain, has a document type, or is too long
 */
export function markedXml(xml: string, set: { uuid: string; name: string }, mark: VmMark): string {
  const domain = parseXml(xml, 'domain', { given: true })
  for (const [name, value] of Object.entries({ uuid: set.uuid, name: set.name })) {
    const document = domain.ownerDocument
    const element = childOf(domain, name) ?? document?.createElement(name)
    if (!element) continue
    element.textContent = value
    if (!element.parentNode) domain.insertBefore(element, domain.firstChild)
  }
  setMark(domain, mark)
  return printXml(domain)
}

// Who a host is and what it can run, from its capabilities.
import { createHash } from 'node:crypto'
import type { HostIdentity } from '../model/host.ts'
import { attributeOf, childOf, childrenOf, parseXml, textOf } from './xml.ts'

export type HostCapabilities = Pick<HostIdentity, 'arch' | 'domainType' | 'emulator' | 'machine'> & {
  /** null for a driver whose capabilities name no machine (libvirt's test driver). */
  uuid: string | null
}

const preferredDomainTypes = ['kvm', 'qemu', 'test']

/** Every connection is told them, and they rarely change. About 6 kB each. */
const mostKept = 2000
const kept = new Map<string, HostCapabilities>()

export function readCapabilities(xml: string): HostCapabilities {
  const known = kept.get(xml)
  if (known) return known
  if (kept.size >= mostKept) kept.clear()
  const read = capabilitiesIn(xml)
  kept.set(xml, read)
  return read
}

function capabilitiesIn(xml: string): HostCapabilities {
  const root = parseXml(xml, 'capabilities')
  const host = childOf(root, 'host')
  const hostArch = textOf(host, 'cpu', 'arch') ?? 'x86_64'
  const guests = childrenOf(root, 'guest')
    .filter((guest) => textOf(guest, 'os_type') === 'hvm')
    .flatMap((guest) => childrenOf(guest, 'arch'))
  const guest = guests.find((arch) => attributeOf(arch, 'name') === hostArch) ?? guests[0]
  const types = childrenOf(guest, 'domain').map((domain) => attributeOf(domain, 'type') ?? '')
  const domainType = preferredDomainTypes.find((type) => types.includes(type)) ?? types[0] ?? 'qemu'
  const domain = childrenOf(guest, 'domain').find((element) => attributeOf(element, 'type') === domainType)
  const machines = [...childrenOf(domain, 'machine'), ...childrenOf(guest, 'machine')].map(
    (machine) => machine.textContent?.trim() ?? ''
  )
  return {
    uuid: textOf(host, 'uuid'),
    arch: attributeOf(guest, 'name') ?? hostArch,
    domainType,
    emulator: textOf(domain, 'emulator') ?? textOf(guest, 'emulator'),
    machine: domainType === 'test' ? null : (['q35', 'pc', 'virt'].find((name) => machines.includes(name)) ?? null)
  }
}

/** For a driver without machines: the same for the same address, so that it is one host. */
export function derivedUuid(address: string): string {
  const hex = createHash('sha256').update(`taskomatic host ${address}`).digest('hex')
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-5${hex.slice(13, 16)}-8${hex.slice(17, 20)}-${hex.slice(20, 32)}`
}

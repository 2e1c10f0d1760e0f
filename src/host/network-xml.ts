// Networks as XML: what is asked for, and what is given by hand.
import { isIPv4 } from 'node:net'
import { attributeOf, attributes, childOf, escapeXml, parseXml, textOf, XmlError } from './xml.ts'
import type { ObservedNetwork } from '../model/storage.ts'

export type NetworkSpec = {
  name: string
  /** `nat` reaches out through the host, `isolated` reaches only the host, `bridge` is a bridge that the host has already. */
  mode: 'nat' | 'isolated' | 'bridge'
  /** The host's bridge; libvirt chooses a name where null. */
  bridge: string | null
  /** The host's address in the network and its prefix, e.g. 192.168.150.1/24; null without an address. */
  address: { ip: string; prefix: number } | null
  dhcp: { from: string; to: string } | null
}

export function networkXml({ name, mode, bridge, address, dhcp }: NetworkSpec): string {
  const forward = mode === 'isolated' ? '' : `<forward${attributes({ mode })}/>`
  const own = mode === 'bridge' ? {} : { stp: 'on', delay: '0' }
  const device = bridge === null && mode === 'bridge' ? '' : `<bridge${attributes({ name: bridge, ...own })}/>`
  const range = dhcp && `<dhcp><range${attributes({ start: dhcp.from, end: dhcp.to })}/></dhcp>`
  const ip = address && `<ip${attributes({ address: address.ip, prefix: address.prefix })}>${range ?? ''}</ip>`
  return `<network><name>${escapeXml(name)}</name>${forward}${device}${ip ?? ''}</network>`
}

/** The name in a definition that was given by hand. @throws XmlError when it is no network, or names none */
export function networkNameIn(xml: string): string {
  const name = textOf(parseXml(xml, 'network'), 'name')
  if (!name) throw new XmlError('the definition of the network has no name')
  return name
}

export const bridgeIn = (xml: string): ObservedNetwork['bridge'] =>
  attributeOf(childOf(parseXml(xml, 'network'), 'bridge'), 'name')

const numberOf = (ip: string): number => ip.split('.').reduce((sum, part) => sum * 256 + Number(part), 0)
const textOfNumber = (value: number): string =>
  [24, 16, 8, 0].map((shift) => Math.floor(value / 2 ** shift) % 256).join('.')

export type Subnet = { address: { ip: string; prefix: number }; first: string; last: string }

/**
 * `192.168.150.0/24` or `192.168.150.1/24`: the host's address is the one that is written, or the first; `first` to `last` are
 * those that guests may have. Undefined when it is no network of 4 to 2^24 addresses.
 */
export function subnetOf(cidr: string): Subnet | undefined {
  const [ip = '', bits = ''] = cidr.split('/')
  const prefix = Number(bits)
  if (!isIPv4(ip) || !/^\d{1,2}$/.test(bits) || prefix < 8 || prefix > 30) return undefined
  const size = 2 ** (32 - prefix)
  const base = Math.floor(numberOf(ip) / size) * size
  const own = numberOf(ip) === base ? base + 1 : numberOf(ip)
  if (own === base + size - 1) return undefined
  const first = own === base + 1 ? base + 2 : base + 1
  const last = own === base + size - 2 ? base + size - 3 : base + size - 2
  return {
    address: { ip: textOfNumber(own), prefix },
    first: textOfNumber(first),
    last: textOfNumber(last)
  }
}

/** Whether `from`–`to` is a range of addresses of the subnet without the host's own. */
export function isRangeOf(subnet: Subnet, { from, to }: { from: string; to: string }): boolean {
  if (!isIPv4(from) || !isIPv4(to)) return false
  const size = 2 ** (32 - subnet.address.prefix)
  const base = Math.floor(numberOf(subnet.address.ip) / size) * size
  const [low, high, own] = [numberOf(from), numberOf(to), numberOf(subnet.address.ip)]
  return low > base && high < base + size - 1 && low <= high && (own < low || own > high)
}

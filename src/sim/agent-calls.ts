// Procedures that the guest's agent answers. The pretended guest has one address on each network device.

import type { Handlers } from './call.ts'
import type { SimDomain } from './domain.ts'
import { requireActive, requireAgent } from './domain-rules.ts'
import { elements, find, parseXml } from './xml.ts'

function addressesOf(domain: SimDomain) {
  return elements(find(parseXml(domain.current.xml), 'devices'), 'interface').map((nic, index) => {
    const hwaddr = find(nic, 'mac')?.attrs['address'] ?? ''
    const [a = 0, b = 0] = hwaddr
      .split(':')
      .slice(-2)
      .map((part) => Number.parseInt(part, 16))
    return { name: `eth${index}`, hwaddr, addrs: [{ type: 0, addr: `192.0.${a}.${b}`, prefix: 16 }] }
  })
}

export const agentCalls: Handlers = {
  DOMAIN_GET_HOSTNAME: ({ dom }, host) => {
    const domain = host.domain(dom)
    requireActive(domain)
    requireAgent(domain)
    return { hostname: domain.name }
  },
  DOMAIN_GET_FSINFO: ({ dom }, host) => {
    const domain = host.domain(dom)
    requireAgent(domain)
    return { info: [{ mountpoint: '/', name: 'vda1', fstype: 'ext4', dev_aliases: ['vda'] }], ret: 1 }
  },
  DOMAIN_GET_TIME: ({ dom }, host) => {
    requireAgent(host.domain(dom))
    return { seconds: BigInt(Math.floor(Date.now() / 1000)), nseconds: 0 }
  },
  DOMAIN_FSFREEZE: ({ dom }, host) => (requireAgent(host.domain(dom)), { filesystems: 1 }),
  DOMAIN_FSTHAW: ({ dom }, host) => (requireAgent(host.domain(dom)), { filesystems: 1 }),
  DOMAIN_FSTRIM: ({ dom }, host) => (requireAgent(host.domain(dom)), {}),
  DOMAIN_SET_USER_PASSWORD: ({ dom }, host) => (requireAgent(host.domain(dom)), {}),
  DOMAIN_INTERFACE_ADDRESSES: ({ dom, source }, host) => {
    const domain = host.domain(dom)
    requireActive(domain)
    // 1 is the agent; leases and ARP know nothing here, as no packets flow.
    if (source !== 1) return { ifaces: [] }
    requireAgent(domain)
    return { ifaces: addressesOf(domain) }
  }
}

// Procedures that only look at domains: lists, look-ups, state, XML, statistics.

import { DomainXMLFlags, ListAllDomainsFlags } from '../libvirt/constants.gen.ts'
import { type Handlers, listed } from './call.ts'
import { pathOf } from './disks.ts'
import type { SimDomain } from './domain.ts'
import { filteredDomains } from './domain-filter.ts'
import { type DomainDef, withoutSecrets } from './domain-xml.ts'
import type { SimHost } from './host.ts'
import { liveXml } from './live-xml.ts'
import { notValid, refuse } from './refusal.ts'
import { cpuNanoseconds } from './statistics.ts'

function xmlOf(host: SimHost, domain: SimDomain, flags: number): string {
  const { SECURE, INACTIVE, MIGRATABLE } = DomainXMLFlags
  const inactive = (flags & (INACTIVE | MIGRATABLE)) !== 0
  const def = inactive ? (domain.persistent ?? domain.current) : domain.current
  const xml = !inactive && domain.live ? keptLiveXml(host, domain, domain.live) : def.xml
  return (flags & SECURE) === 0 ? withoutSecrets(xml) : xml
}

// Asked for again and again while nothing changes; a change makes another definition.
const liveXmls = new WeakMap<DomainDef, { id: number; agent: boolean; xml: string }>()

function keptLiveXml(host: SimHost, { id, guest: { agent } }: SimDomain, def: DomainDef): string {
  const kept = liveXmls.get(def)
  if (kept?.id === id && kept.agent === agent) return kept.xml
  const xml = liveXml(def, id, agent, (path) => host.file(path)?.backing ?? undefined)
  liveXmls.set(def, { id, agent, xml })
  return xml
}

function byPath(
  host: SimHost,
  domain: SimDomain,
  path: string
): { allocation: bigint; capacity: bigint; physical: bigint } {
  const disk = domain.current.disks.find((other) => other.target === path || other.source === path)
  if (!disk) throw refuse('INVALID_ARG', 'QEMU', `invalid path ${path} not assigned to domain`)
  const at = pathOf(host, disk)
  const file = at === null ? undefined : host.file(at)
  if (!file) throw refuse('SYSTEM_ERROR', 'QEMU', `cannot stat file '${at ?? path}': No such file or directory`)
  return { allocation: file.allocationBytes, capacity: file.capacityBytes, physical: file.capacityBytes }
}

export const domainQueries: Handlers = {
  CONNECT_LIST_ALL_DOMAINS: ({ need_results, flags }, host) => {
    const { items, ret } = listed(filteredDomains(host, flags), need_results)
    return { domains: items.map((domain) => domain.ref), ret }
  },
  CONNECT_NUM_OF_DOMAINS: (_, host) => ({ num: filteredDomains(host, ListAllDomainsFlags.ACTIVE).length }),
  DOMAIN_LOOKUP_BY_NAME: ({ name }, host) => {
    const domain = host.domainByName(name)
    if (!domain) throw refuse('NO_DOMAIN', 'QEMU', `no domain with matching name '${name}'`)
    return { dom: domain.ref }
  },
  DOMAIN_LOOKUP_BY_UUID: ({ uuid }, host) => {
    const domain = host.domains.get(uuid)
    if (!domain) throw refuse('NO_DOMAIN', 'QEMU', `no domain with matching uuid '${uuid}'`)
    return { dom: domain.ref }
  },
  DOMAIN_LOOKUP_BY_ID: ({ id }, host) => {
    for (const domain of host.domains.values()) if (domain.id === id && domain.active) return { dom: domain.ref }
    throw refuse('NO_DOMAIN', 'QEMU', `no domain with matching id ${id}`)
  },
  DOMAIN_GET_STATE: ({ dom }, host) => {
    const { state, reason } = host.domain(dom)
    return { state, reason }
  },
  DOMAIN_GET_INFO: ({ dom }, host) => {
    const domain = host.domain(dom)
    return {
      state: domain.state,
      maxMem: BigInt(domain.current.memoryKiB),
      memory: BigInt(domain.current.currentKiB),
      nrVirtCpu: domain.current.vcpus,
      cpuTime: cpuNanoseconds(domain)
    }
  },
  DOMAIN_GET_XML_DESC: ({ dom, flags }, host) => ({ xml: xmlOf(host, host.domain(dom), flags) }),
  DOMAIN_GET_OS_TYPE: ({ dom }, host) => ({ type: host.domain(dom).current.osType }),
  DOMAIN_GET_AUTOSTART: ({ dom }, host) => ({ autostart: host.domain(dom).autostart ? 1 : 0 }),
  DOMAIN_GET_MAX_MEMORY: ({ dom }, host) => ({ memory: BigInt(host.domain(dom).current.memoryKiB) }),
  DOMAIN_GET_MAX_VCPUS: ({ dom }, host) => ({ num: host.domain(dom).current.maxVcpus }),
  DOMAIN_IS_ACTIVE: ({ dom }, host) => ({ active: host.domain(dom).active ? 1 : 0 }),
  DOMAIN_IS_PERSISTENT: ({ dom }, host) => ({ persistent: host.domain(dom).persistent ? 1 : 0 }),
  DOMAIN_IS_UPDATED: ({ dom }, host) => (host.domain(dom), { updated: 0 }),
  DOMAIN_GET_MESSAGES: ({ dom }, host) => (host.domain(dom), { msgs: [] }),
  DOMAIN_GET_SECURITY_LABEL: ({ dom }, host) => (host.domain(dom), { label: '', enforcing: 0 }),
  DOMAIN_GET_CONTROL_INFO: ({ dom }, host) => {
    const domain = host.domain(dom)
    if (!domain.active) throw notValid('domain is not running', 'DOMAIN')
    return { state: 0, details: 0, stateTime: 0n }
  },
  DOMAIN_GET_BLOCK_INFO: ({ dom, path }, host) => byPath(host, host.domain(dom), path),
  DOMAIN_GET_VCPUS: ({ dom, maxinfo, maplen }, host) => {
    const domain = host.domain(dom)
    if (!domain.active) throw notValid('cannot retrieve vcpu information for inactive domain')
    const count = Math.min(maxinfo, domain.current.vcpus)
    const info = Array.from({ length: count }, (_, number) => ({
      number,
      state: 1,
      cpu_time: cpuNanoseconds(domain),
      cpu: 0
    }))
    return { info, cpumaps: new Uint8Array(count * maplen).fill(255) }
  }
}

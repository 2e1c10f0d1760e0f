// Numbers of running guests: made up where nothing runs, but steady, and of the right names and types.

import { BlockStat, DomainMemoryStatTags, TypedParamType } from '../libvirt/constants.gen.ts'
import type { TypedParam } from '../libvirt/wire.gen.ts'
import type { Handlers } from './call.ts'
import { pathOf } from './disks.ts'
import type { SimDomain } from './domain.ts'
import { filteredDomains } from './domain-filter.ts'
import { requireActive } from './domain-rules.ts'
import type { SimHost } from './host.ts'
import { refuse } from './refusal.ts'

/** A guest uses a tenth of a processor while it is there. */
export const cpuNanoseconds = (domain: SimDomain): bigint =>
  domain.active ? BigInt(Math.max(0, Date.now() - domain.startedAt)) * 100_000n : 0n

const int = (field: string, value: number): TypedParam => ({ field, value: { type: TypedParamType.INT, value } })
const uint = (field: string, value: number): TypedParam => ({ field, value: { type: TypedParamType.UINT, value } })
const ullong = (field: string, value: bigint): TypedParam => ({ field, value: { type: TypedParamType.ULLONG, value } })
const string = (field: string, value: string): TypedParam => ({ field, value: { type: TypedParamType.STRING, value } })

const statistics: { bit: number; of: (host: SimHost, domain: SimDomain) => TypedParam[] }[] = [
  { bit: 1, of: (_, domain) => [int('state.state', domain.state), int('state.reason', domain.reason)] },
  {
    bit: 2,
    of: (_, domain) =>
      domain.active
        ? [
            ullong('cpu.time', cpuNanoseconds(domain)),
            ullong('cpu.user', cpuNanoseconds(domain)),
            ullong('cpu.system', 0n)
          ]
        : []
  },
  {
    bit: 4,
    of: (_, { current }) => [
      ullong('balloon.current', BigInt(current.currentKiB)),
      ullong('balloon.maximum', BigInt(current.memoryKiB))
    ]
  },
  { bit: 8, of: (_, { current }) => [uint('vcpu.current', current.vcpus), uint('vcpu.maximum', current.maxVcpus)] },
  { bit: 16, of: (_, domain) => (domain.active ? [uint('net.count', domain.current.networks.length)] : []) },
  { bit: 32, of: blockStatistics }
]

function blockStatistics(host: SimHost, domain: SimDomain): TypedParam[] {
  const params = [uint('block.count', domain.current.disks.length)]
  domain.current.disks.forEach((disk, index) => {
    const path = disk.volume ? null : pathOf(host, disk)
    params.push(string(`block.${index}.name`, disk.target))
    if (path === null) return
    params.push(string(`block.${index}.path`, path))
    const file = host.file(path)
    if (!file) return
    params.push(
      ullong(`block.${index}.allocation`, file.allocationBytes),
      ullong(`block.${index}.capacity`, file.capacityBytes),
      ullong(`block.${index}.physical`, file.capacityBytes)
    )
  })
  return params
}

const noTraffic = {
  rx_bytes: 0n,
  rx_packets: 0n,
  rx_errs: 0n,
  rx_drop: 0n,
  tx_bytes: 0n,
  tx_packets: 0n,
  tx_errs: 0n,
  tx_drop: 0n
}

export const statisticsCalls: Handlers = {
  CONNECT_GET_ALL_DOMAIN_STATS: ({ doms, stats, flags }, host) => {
    const domains = doms.length > 0 ? doms.map((dom) => host.domain(dom)) : filteredDomains(host, flags & 0xff)
    const wanted = statistics.filter(({ bit }) => stats === 0 || (stats & bit) !== 0)
    return {
      retStats: domains.map((domain) => ({ dom: domain.ref, params: wanted.flatMap(({ of }) => of(host, domain)) }))
    }
  },
  DOMAIN_MEMORY_STATS: ({ dom, maxStats }, host) => {
    const domain = host.domain(dom)
    requireActive(domain)
    const { ACTUAL_BALLOON, RSS } = DomainMemoryStatTags
    const stats = [ACTUAL_BALLOON, RSS].map((tag) => ({ tag, val: BigInt(domain.current.currentKiB) }))
    return { stats: stats.slice(0, maxStats) }
  },
  DOMAIN_BLOCK_STATS_FLAGS: ({ dom, path, nparams }, host) => {
    const domain = host.domain(dom)
    requireActive(domain)
    if (path !== '' && !domain.current.disks.some(({ target, source }) => target === path || source === path))
      throw refuse('INVALID_ARG', 'QEMU', `invalid path: ${path}`)
    const { ERRS: _errors, ...known } = BlockStat
    const params = Object.values(known).map((field): TypedParam => ({
      field,
      value: { type: TypedParamType.LLONG, value: 0n }
    }))
    return { params: nparams === 0 ? [] : params, nparams: params.length }
  },
  DOMAIN_INTERFACE_STATS: ({ dom }, host) => {
    requireActive(host.domain(dom))
    return noTraffic
  }
}

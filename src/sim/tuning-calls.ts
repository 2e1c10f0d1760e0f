// Processors and memory of a domain, now or from the next boot on.

import { DomainMemoryModFlags, DomainVcpuFlags } from '../libvirt/constants.gen.ts'
import type { Handlers } from './call.ts'
import { modify } from './device-calls.ts'
import { type DomainDef, editDefinition } from './domain-xml.ts'
import { requireAgent } from './domain-rules.ts'
import { notValid, refuse } from './refusal.ts'
import { find, node, putChild } from './xml.ts'

function withVcpus(def: DomainDef, current: number, max: number): DomainDef {
  return editDefinition(def, (tree) => {
    const { current: _before, ...rest } = find(tree, 'vcpu')?.attrs ?? {}
    putChild(tree, node('vcpu', current === max ? rest : { ...rest, current }, [String(max)]))
  })
}

const kib = (name: string, value: bigint | number) => node(name, { unit: 'KiB' }, [String(value)])

function withVcpuCount(def: DomainDef, count: number, maximum: boolean, what: string): DomainDef {
  if (maximum) return withVcpus(def, Math.min(def.vcpus, count), count)
  if (count > def.maxVcpus)
    throw refuse(
      'INVALID_ARG',
      'QEMU',
      `requested vcpus is greater than max allowable vcpus for the ${what} domain: ${count} > ${def.maxVcpus}`
    )
  return withVcpus(def, count, def.maxVcpus)
}

function withMemory(def: DomainDef, memory: bigint, maximum: boolean): DomainDef {
  if (!maximum && memory > BigInt(def.memoryKiB))
    throw refuse('INVALID_ARG', 'QEMU', 'cannot set memory higher than max memory')
  return editDefinition(def, (tree) => {
    if (maximum) putChild(tree, kib('memory', memory))
    if (!maximum || BigInt(def.currentKiB) > memory) putChild(tree, kib('currentMemory', memory))
  })
}

export const tuningCalls: Handlers = {
  DOMAIN_SET_VCPUS_FLAGS: async ({ dom, nvcpus, flags }, host) => {
    const domain = host.domain(dom)
    const maximum = (flags & DomainVcpuFlags.MAXIMUM) !== 0
    if (nvcpus < 1) throw refuse('INVALID_ARG', 'QEMU', 'invalid vcpu count')
    if (flags & DomainVcpuFlags.GUEST) requireAgent(domain)
    await modify(host, domain, flags & 3, 'DomainSetVcpusFlags', {
      live: (def) => {
        if (maximum) throw refuse('INVALID_ARG', 'QEMU', 'cannot adjust maximum vcpus on running domain')
        return withVcpuCount(def, nvcpus, false, 'live')
      },
      config: (def) => withVcpuCount(def, nvcpus, maximum, 'persistent')
    })
    host.note('resized', domain, { detail: `${nvcpus} vcpus` })
    return {}
  },
  DOMAIN_GET_VCPUS_FLAGS: ({ dom, flags }, host) => {
    const domain = host.domain(dom)
    if (flags & DomainVcpuFlags.LIVE && !domain.live) throw notValid('domain is not running', 'DOMAIN')
    const def = flags & DomainVcpuFlags.CONFIG ? (domain.persistent ?? domain.current) : domain.current
    return { num: flags & DomainVcpuFlags.MAXIMUM ? def.maxVcpus : def.vcpus }
  },
  DOMAIN_SET_MEMORY_FLAGS: async ({ dom, memory, flags }, host) => {
    const domain = host.domain(dom)
    const maximum = (flags & DomainMemoryModFlags.MAXIMUM) !== 0
    await modify(host, domain, flags & 3, 'DomainSetMemoryFlags', {
      live: (def) => {
        if (maximum) throw notValid('cannot resize the maximum memory on an active domain')
        return withMemory(def, memory, false)
      },
      config: (def) => withMemory(def, memory, maximum)
    })
    host.note('resized', domain, { detail: `${memory} KiB` })
    return {}
  }
}

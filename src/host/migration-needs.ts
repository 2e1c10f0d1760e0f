// Would a host run what another one runs now? Asked of the host that would, by the other's own description of the guest, before
// anything moves: CPU, machine type, secrets, bridges. What a host cannot tell counts as no obstacle: it will refuse by itself.
import type { Element } from '@xmldom/xmldom'
import { ErrorCode } from '../libvirt/constants.gen.ts'
import { refusedWith, type HostCalls } from './calls.ts'
import { HostError } from './error.ts'
import { literalAddresses } from './observed-vm.ts'
import { attributeOf, childOf, childrenOf, parseXml, printXml, textOf } from './xml.ts'

export interface MigrationNeeds {
  /** Sentences that say why this host would not run a guest of this (migratable) XML; empty when nothing is known against it. */
  whyNotHere(xml: string): Promise<string[]>
}

/** libvirt: virCPUCompareResult and virConnectCompareCPUFlags, include/libvirt/libvirt-host.h */
const CPU_INCOMPATIBLE = 0
const FAIL_INCOMPATIBLE = 1

export async function whyNotHere(calls: HostCalls, xml: string): Promise<string[]> {
  const domain = parseXml(xml, 'domain')
  const answers = await Promise.all([
    machineProblem(calls, domain),
    cpuProblem(calls, domain),
    secretProblems(calls, domain),
    bridgeProblems(calls, domain)
  ])
  const displays = literalAddresses(childOf(domain, 'devices')).map(
    ({ what }) => `${what} is an address of one host only`
  )
  return [...answers.flat(), ...displays]
}

const kindOf = (domain: Element) => {
  const type = childOf(domain, 'os', 'type')
  return {
    arch: attributeOf(type, 'arch'),
    machine: attributeOf(type, 'machine'),
    virttype: attributeOf(domain, 'type')
  }
}

/** `answer` where the host answered, undefined where it cannot tell; a sentence where it refused. */
async function told<T>(
  ask: Promise<T>,
  ...notTold: number[]
): Promise<{ answer: T | undefined } | { refused: string }> {
  try {
    return { answer: await ask }
  } catch (error) {
    if (refusedWith(error, ErrorCode.NO_SUPPORT, ...notTold)) return { answer: undefined }
    if (error instanceof HostError && error.code === 'refused')
      return { refused: error.libvirt?.message ?? error.message }
    throw error
  }
}

async function machineProblem(calls: HostCalls, domain: Element): Promise<string[]> {
  const asked = calls.read('CONNECT_GET_DOMAIN_CAPABILITIES', { ...kindOf(domain), emulatorbin: null, flags: 0 })
  const found = await told(asked)
  return 'refused' in found ? [`it does not have machine type ${kindOf(domain).machine}: ${found.refused}`] : []
}

async function cpuProblem(calls: HostCalls, domain: Element): Promise<string[]> {
  const cpu = childOf(domain, 'cpu')
  // What the guest sees is the host's own, or made for whatever host it is.
  if (!cpu || childrenOf(cpu, 'model').length === 0) return []
  const asked = calls.read('CONNECT_COMPARE_HYPERVISOR_CPU', {
    ...kindOf(domain),
    emulator: null,
    xmlCPU: printXml(cpu),
    flags: FAIL_INCOMPATIBLE
  })
  const found = await told(asked, ErrorCode.CONFIG_UNSUPPORTED, ErrorCode.ARGUMENT_UNSUPPORTED)
  if ('refused' in found) return [`its CPU lacks what the guest has: ${found.refused}`]
  return found.answer?.result === CPU_INCOMPATIBLE ? [`its CPU lacks what the guest has (${textOf(cpu, 'model')})`] : []
}

async function secretProblems(calls: HostCalls, domain: Element): Promise<string[]> {
  const uuids = new Set<string>()
  for (const disk of childrenOf(childOf(domain, 'devices'), 'disk')) {
    const places = [childOf(disk, 'source'), disk]
    for (const place of places)
      for (const holder of [childOf(place, 'auth'), childOf(place, 'encryption')]) {
        const uuid = attributeOf(childOf(holder, 'secret'), 'uuid')
        if (uuid) uuids.add(uuid)
      }
  }
  const found = await Promise.all(
    [...uuids].map(async (uuid) => ({ uuid, ...(await told(calls.read('SECRET_LOOKUP_BY_UUID', { uuid }))) }))
  )
  return found.flatMap((one) => ('refused' in one ? [`it does not have secret ${one.uuid}`] : []))
}

async function bridgeProblems(calls: HostCalls, domain: Element): Promise<string[]> {
  const bridges = childrenOf(childOf(domain, 'devices'), 'interface')
    .filter((nic) => attributeOf(nic, 'type') === 'bridge')
    .flatMap((nic) => attributeOf(childOf(nic, 'source'), 'bridge') ?? [])
  if (bridges.length === 0) return []
  const found = await told(calls.read('CONNECT_LIST_ALL_INTERFACES', { need_results: 1, flags: 0 }))
  const known = 'answer' in found ? (found.answer?.ifaces ?? []) : []
  // A host that shows no interface at all has nothing to tell them by.
  if (known.length === 0) return []
  const names = new Set(known.map(({ name }) => name))
  return [...new Set(bridges)].filter((name) => !names.has(name)).map((name) => `it has no bridge ${name}`)
}

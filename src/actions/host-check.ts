// Is a host fit for its part? Connects afresh and says what is wrong, what follows from it, and what to do. Changes nothing.
import { Type, type Static } from 'typebox'
import { HostError } from '../host/error.ts'
import type { Host } from '../host/host.ts'
import type { HostFacts } from '../inventory/facts.ts'
import type { HostIdentity } from '../model/host.ts'
import type { ObservedPool } from '../model/storage.ts'
import type { ObservedVm } from '../model/vm.ts'
import { quote } from '../model/name.ts'
import { resource } from '../model/resource.ts'
import { action, complete, failed, possible, type ActionContext, type Outcome, type Probe } from './action.ts'
import { attempt, type Step } from './attempt.ts'
import { ownError } from './error.ts'
import { refuseUnknownHost } from './host-refusal.ts'
import { isIn } from './pool-use.ts'
import { HostRef } from './refs.ts'
import { shared } from './vm-place.ts'

const args = Type.Object(
  {
    host: HostRef,
    peer: Type.Optional({ ...HostRef, description: 'Check as well whether VMs could move between the two' })
  },
  { additionalProperties: false }
)

type Args = Static<typeof args>

type Finding = { level: 'error' | 'warning'; what: string; next: string }

export const hostCheck = action({
  name: 'host.check',
  summary: 'Check a host, or whether VMs could move between two',
  args,
  title: ({ host, peer }) => `Check ${host}${peer ? ` and ${peer}` : ''}`,
  claims: ({ host, peer }) => [shared(resource.host(host)), ...(peer ? [shared(resource.host(peer))] : [])],
  check: ({ host, peer }, state) =>
    refuseUnknownHost(state, host) ?? (peer ? refuseUnknownHost(state, peer) : undefined) ?? possible,
  effect: () => [],
  run: (ctx, given) => attempt(ctx, (step) => check(ctx, given, step), { probe }),
  probe,
  undo: () => ({ impossible: 'looking changes nothing' })
})

type Looked = { facts: HostFacts; identity: HostIdentity; vms: ObservedVm[]; pools: ObservedPool[] }

async function check(ctx: ActionContext, given: Args, step: Step): Promise<Outcome> {
  step(`connect to ${given.host}`)
  const host = await look(ctx, given.host)
  const findings = hostFindings(host)
  if (given.peer !== undefined) {
    step(`connect to ${given.peer}`)
    const peer = await look(ctx, given.peer)
    findings.push(...peerFindings(host, peer))
    for (const one of [host, peer]) {
      step(`connect to ${one.facts.name} as other hosts do`)
      findings.push(...(await peerUriFindings(ctx, one)))
    }
  }
  const { uuid, libvirtVersion, hypervisorVersion, domainType } = host.identity
  const result = { host: given.host, uuid, libvirtVersion, hypervisorVersion, domainType, findings }
  const errors = findings.filter(({ level }) => level === 'error')
  if (errors.length === 0) return complete(result)
  return failed(
    ownError('host_unfit', errors.map(({ what }) => what).join('; '), 'check', errors[0]?.next ?? '', {
      findings: result.findings
    })
  )
}

/** A connection of its own: an old one proves nothing about a certificate, an address or a login. */
async function look(ctx: ActionContext, name: string): Promise<Looked> {
  const facts = ctx.state.host(name)
  if (!facts) throw new Error(`host ${name} was known when its check began`)
  const connection = await ctx.connect({ name, controlUri: facts.controlUri })
  try {
    return { facts, ...(await looked(connection.host)) }
  } finally {
    await connection.close()
  }
}

async function looked(host: Host): Promise<Omit<Looked, 'facts'>> {
  const identity = await host.identify()
  const { vms, pools } = await host.list()
  return { identity, vms, pools }
}

/**
 * Whether its peer URI leads to it, as seen from here. Only another machine that answers there is an error: the hosts may have a way
 * to each other that this server has not.
 */
async function peerUriFindings(ctx: ActionContext, { facts, identity }: Looked): Promise<Finding[]> {
  const { name, peerUri } = facts
  if (peerUri === null || peerUri === facts.controlUri) return []
  try {
    const connection = await ctx.connect({ name, controlUri: peerUri })
    try {
      const there = await connection.host.identify()
      if (there.uuid === identity.uuid) return []
      return [
        {
          level: 'error',
          what: `another machine (${there.uuid}) answers at the peer URI of ${name}: VMs would be migrated to that`,
          next: `correct it: \`taskomatic host add ${name} ${facts.controlUri} --peer-uri …\``
        }
      ]
    } finally {
      await connection.close()
    }
  } catch (error) {
    if (!(error instanceof HostError) || error.code === 'fenced') throw error
    return [
      {
        level: 'warning',
        what: `the peer URI of ${name} (${peerUri}) cannot be reached from here: ${error.message}`,
        next: 'nothing, if the other hosts reach it; try it there: virsh -c URI hostname'
      }
    ]
  }
}

function hostFindings({ facts, identity, vms, pools }: Looked): Finding[] {
  const findings: Finding[] = []
  const { name } = facts
  if (facts.uuid !== null && facts.uuid !== identity.uuid) {
    findings.push({
      level: 'error',
      what: `another machine (${identity.uuid}) answers at the address of ${name} (${facts.uuid})`,
      next: 'correct the address, or remove the host and add the new one'
    })
  }
  if (identity.domainType === 'qemu') {
    findings.push({
      level: 'warning',
      what: `${name} has no KVM: its VMs are emulated, and slow`,
      next: 'switch virtualisation on in its firmware, and load the module kvm'
    })
  }
  for (const pool of pools.filter(({ active }) => !active)) {
    findings.push({
      level: 'warning',
      what: `pool ${quote(pool.name)} on ${name} is not active`,
      next: `\`taskomatic pool start ${pool.name} --host ${name}\``
    })
  }
  // A host that lost power right after a VM was moved away would boot a second copy from what is left.
  for (const vm of vms.filter(({ autostart }) => autostart)) {
    const on = pools.find((pool) => vm.disks.some((disk) => !disk.readOnly && isIn(disk, pool)))
    if (on) {
      findings.push({
        level: 'warning',
        what: `${quote(vm.name)} on ${name} has libvirt's autostart on, and a disk in pool ${quote(on.name)}: where others share that store, a second copy could start after a power loss`,
        next: `virsh autostart --disable ${vm.name}`
      })
    }
  }
  if (facts.peerUri === null) {
    findings.push({
      level: 'warning',
      what: `${name} has no peer URI: no VM can be migrated to it`,
      next: 'add it again with `--peer-uri`'
    })
  }
  return findings
}

function peerFindings(host: Looked, peer: Looked): Finding[] {
  const [a, b] = [host.facts.name, peer.facts.name]
  const findings: Finding[] = []
  if (host.identity.uuid === peer.identity.uuid) {
    findings.push({
      level: 'error',
      what: `${a} and ${b} are one machine, or have one UUID: nothing can move between them`,
      next: 'give one of them a host_uuid of its own in libvirtd.conf'
    })
  }
  if (host.identity.arch !== peer.identity.arch) {
    findings.push({
      level: 'error',
      what: `${a} is ${host.identity.arch} and ${b} is ${peer.identity.arch}: nothing can move between them`,
      next: 'move VMs between hosts of one architecture'
    })
  }
  if (host.identity.libvirtVersion !== peer.identity.libvirtVersion) {
    findings.push({
      level: 'warning',
      what: `${a} has libvirt ${host.identity.libvirtVersion} and ${b} has ${peer.identity.libvirtVersion}: VMs move to the newer one more safely than back`,
      next: 'bring both to the same version'
    })
  }
  for (const { facts } of [host, peer]) {
    if (facts.peerUri === null)
      findings.push({
        level: 'error',
        what: `${facts.name} has no peer URI: nothing can be migrated to it`,
        next: 'add it again with `--peer-uri`'
      })
  }
  // A store that both have, but not at one path: its VMs do not move, although it looks shared.
  for (const pool of host.pools) {
    const other = peer.pools.find((candidate) => candidate.name === pool.name && candidate.type === pool.type)
    if (other && pool.target !== other.target) {
      findings.push({
        level: 'warning',
        what: `pool ${quote(pool.name)} is at ${pool.target ?? 'no path'} on ${a} and at ${other.target ?? 'no path'} on ${b}: VMs on it do not move between them`,
        next: 'give both the same path'
      })
    }
  }
  const same = host.pools.some(
    (pool) =>
      pool.active && peer.pools.some((other) => other.active && pool.target !== null && other.target === pool.target)
  )
  if (!same) {
    findings.push({
      level: 'warning',
      what: `${a} and ${b} have no active pool at the same path: VMs only move with their disks copied`,
      next: 'give both the same store, and declare it: `taskomatic store share`'
    })
  }
  return findings
}

/** A look leaves no trace: it is done again. */
async function probe(): Promise<Probe> {
  return { happened: 'no', evidence: null }
}

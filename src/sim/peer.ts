// Peer-to-peer migration: the source goes through all phases itself, against the host that the URI names.
// The two talk inside this process; a cut link, a lost answer or a dead peer is what the fleet and the faults say.

import { DomainMigrateFlags, DomainPausedReason, DomainRunningReason, DomainState } from '../libvirt/constants.gen.ts'
import type { ProcedureName } from '../libvirt/wire.gen.ts'
import type { SimDomain } from './domain.ts'
import { setWriting } from './disks.ts'
import { completed } from './job-calls.ts'
import type { SimHost } from './host.ts'
import { copyMemory, type CopyEnd } from './memory-copy.ts'
import { begin, confirm, type Cookie, finish, handOver, prepare } from './migration.ts'
import { notValid, Refusal, refuse } from './refusal.ts'

export type MigrationRequest = {
  flags: number
  xml: string | null
  name: string | null
  bandwidthMiBps: number | null
}

/** The peer did not answer: whether it did what it was asked is not known. */
const lost = (): Refusal => new Refusal('INTERNAL_ERROR', 'RPC', 'client socket is closed')

class Peer {
  readonly #source: SimHost
  readonly host: SimHost
  constructor(source: SimHost, host: SimHost) {
    this.#source = source
    this.host = host
  }

  /** One call to the peer, with the faults that are set for it there. */
  async call<T>(name: ProcedureName, subject: string, act: () => T): Promise<T> {
    this.requireLink()
    const fault = this.host.faults.next(name, subject)
    if (this.host.settings.latencyMs > 0) await this.#source.wait(this.host.settings.latencyMs)
    this.requireLink()
    if (fault?.kind === 'delay') await this.#source.wait(fault.ms)
    if (fault?.kind === 'error') throw new Refusal(fault.code, fault.domain, fault.message)
    if (fault?.kind === 'drop_before') throw lost()
    const answer = act()
    if (fault?.kind === 'drop_after' || fault?.kind === 'lose_reply') throw lost()
    this.requireLink()
    return answer
  }

  /** Throws where the peer cannot be reached. */
  requireLink(): void {
    if (!this.host.powered || !this.#source.world.linked(this.#source.name, this.host.name)) throw lost()
  }
}

function connect(host: SimHost, uri: string): Peer {
  const peer = host.world.hostByUri(uri)
  if (!peer) {
    const name = /^[a-z+]+:\/\/(?:[^@/]*@)?([^/:]*)/.exec(uri)?.[1] ?? uri
    throw refuse(
      'SYSTEM_ERROR',
      'RPC',
      `Unable to resolve address '${name}' service '16509': Temporary failure in name resolution`
    )
  }
  if (!peer.powered || !host.world.linked(host.name, peer.name))
    throw refuse('SYSTEM_ERROR', 'RPC', `unable to connect to server at '${peer.name}:16509': No route to host`)
  return new Peer(host, peer)
}

/** Migrates `domain` to the host behind `uri`; the domain's migration job is held by the caller. */
export async function migrateToPeer(
  host: SimHost,
  domain: SimDomain,
  uri: string,
  request: MigrationRequest
): Promise<void> {
  const peer = connect(host, uri)
  const { flags } = request
  if (flags & DomainMigrateFlags.POSTCOPY_RESUME) return resumePostCopy(host, domain, peer)
  const { xml, cookie } = begin(host, domain, flags, request.xml)
  const wasPaused = cookie.paused
  domain.migratingTo = peer.host.name
  try {
    await peer.call('DOMAIN_MIGRATE_PREPARE3_PARAMS', domain.name, () =>
      prepare(peer.host, xml, request.name, flags, cookie)
    )
    if (flags & DomainMigrateFlags.OFFLINE) {
      await peer.call('DOMAIN_MIGRATE_FINISH3_PARAMS', domain.name, () =>
        finish(peer.host, domain.uuid, domain.name, flags, cookie, false)
      )
      confirm(host, domain, flags, false, false)
      return
    }
    await overTheLine(host, domain, peer, request, cookie)
  } catch (error) {
    settleFailure(host, domain, peer, flags, cookie)
    confirm(host, domain, flags, true, wasPaused)
    throw error
  } finally {
    domain.job = null
    domain.migratingTo = null
  }
}

async function overTheLine(
  host: SimHost,
  domain: SimDomain,
  peer: Peer,
  request: MigrationRequest,
  cookie: Cookie
): Promise<void> {
  const { flags } = request
  peer.requireLink()
  const end = await copyMemory(host, domain, {
    bandwidthMiBps: request.bandwidthMiBps,
    autoConverge: (flags & DomainMigrateFlags.AUTO_CONVERGE) !== 0,
    postCopyAllowed: (flags & DomainMigrateFlags.POSTCOPY) !== 0
  })
  if (!cookie.paused || end.postCopy) handOver(host, domain, end.postCopy)
  else handOver(host, domain, false)
  if (end.postCopy) peer.host.postCopy.add(domain.uuid)
  const target = await peer.call('DOMAIN_MIGRATE_FINISH3_PARAMS', domain.name, () =>
    finish(peer.host, domain.uuid, domain.name, flags, cookie, false)
  )
  if (end.postCopy) await pullRest(host, domain, peer, target, end)
  completed(host, domain, domain.job)
  target.finishedJob = domain.finishedJob
  confirm(host, domain, flags, false, cookie.paused)
  host.emitJobCompleted(domain)
}

// Both sides wait for the rest of the memory, which is still here.
async function resumePostCopy(host: SimHost, domain: SimDomain, peer: Peer): Promise<void> {
  const target = peer.host.domains.get(domain.uuid)
  if (domain.reason !== DomainPausedReason.POSTCOPY_FAILED || target?.reason !== DomainPausedReason.POSTCOPY_FAILED)
    throw notValid('post-copy migration of domain is not broken')
  peer.requireLink()
  setWriting(peer.host, target, true)
  target.state = DomainState.RUNNING
  target.reason = DomainRunningReason.POSTCOPY
  domain.reason = DomainPausedReason.POSTCOPY
  await pullRest(host, domain, peer, target, { postCopy: true, remainingMs: host.settings.migrationMs })
  confirm(host, domain, DomainMigrateFlags.UNDEFINE_SOURCE, false, false)
}

// In post-copy the guest runs at the target while its memory is still here: losing either side now loses the guest.
async function pullRest(host: SimHost, domain: SimDomain, peer: Peer, target: SimDomain, end: CopyEnd): Promise<void> {
  await host.wait(end.remainingMs)
  peer.host.postCopy.delete(domain.uuid)
  if (peer.host.powered && host.world.linked(host.name, peer.host.name) && target.live) {
    target.reason = DomainRunningReason.MIGRATED
    return
  }
  domain.reason = DomainPausedReason.POSTCOPY_FAILED
  setWriting(peer.host, target, false)
  target.state = DomainState.PAUSED
  target.reason = DomainPausedReason.POSTCOPY_FAILED
  throw refuse('OPERATION_FAILED', 'QEMU', 'migration out job: post-copy failed')
}

// The target discards what it was waiting for once it notices that nobody sends any more.
function settleFailure(host: SimHost, domain: SimDomain, peer: Peer, flags: number, cookie: Cookie): void {
  if (!peer.host.arriving.has(domain.uuid) || peer.host.arriving.get(domain.uuid)?.from !== host.name) return
  try {
    finish(peer.host, domain.uuid, domain.name, flags, cookie, true)
  } catch {
    // Cancelling always says that it was cancelled.
  }
}

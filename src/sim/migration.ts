// Migration between two simulated hosts, phase by phase as libvirt's version 3 protocol has it:
// begin (source), prepare (target), perform (source), finish (target), confirm (source).
// The phases are the same whether a client calls them one by one or the source goes through them peer-to-peer.

import {
  DomainEventResumedDetailType,
  DomainEventStartedDetailType,
  DomainEventStoppedDetailType,
  DomainEventSuspendedDetailType,
  DomainEventType,
  DomainMigrateFlags,
  DomainPausedReason,
  DomainRunningReason,
  DomainShutoffReason,
  DomainState
} from '../libvirt/constants.gen.ts'
import { closeDisks, openDisks } from './disks.ts'
import { type GuestBehaviour, SimDomain } from './domain.ts'
import { findClash, keepDefinition, requireActive } from './domain-rules.ts'
import { type DomainDef, defineDomain } from './domain-xml.ts'
import type { SimHost } from './host.ts'
import { end, launch, noteStart, pause, run } from './lifecycle.ts'
import { copyMissingDisks } from './migration-disks.ts'
import { notValid, refuse } from './refusal.ts'

const F = DomainMigrateFlags

/** What travels in the cookie from the source to the target. */
export type Cookie = {
  hostUuid: string
  hostName: string
  persistentXml: string | null
  paused: boolean
  /** The guest is the same wherever it runs. */
  guest?: GuestBehaviour
}

export const writeCookie = (cookie: Cookie): Uint8Array => new TextEncoder().encode(JSON.stringify(cookie))

export function readCookie(bytes: Uint8Array): Cookie {
  if (bytes.length === 0) return { hostUuid: '', hostName: '', persistentXml: null, paused: false }
  return JSON.parse(new TextDecoder().decode(bytes)) as Cookie
}

/** May this domain leave? Returns the XML to define at the target. */
export function begin(
  host: SimHost,
  domain: SimDomain,
  flags: number,
  xmlIn: string | null
): { xml: string; cookie: Cookie } {
  if (flags & F.OFFLINE) {
    if (domain.active) throw notValid('offline migration cannot handle non-shared storage')
    if (!(flags & F.PERSIST_DEST)) throw notValid('offline migration must be specified with the persistent flag set')
  } else requireActive(domain)
  if (flags & F.PERSIST_DEST && !domain.persistent) throw notValid('cannot migrate a transient domain persistently')
  if (domain.snapshots.size > 0) throw notValid(`cannot migrate domain with ${domain.snapshots.size} snapshots`)
  if (domain.blockJobs.size > 0) throw notValid('domain has active block job')
  if (domain.current.passthrough) throw notValid("cannot migrate a domain with <hostdev mode='subsystem' type='pci'>")
  const copying = (flags & (F.NON_SHARED_DISK | F.NON_SHARED_INC)) !== 0
  if (domain.active && !copying && !(flags & F.UNSAFE)) requireSharedDisks(host, domain.current)
  const cookie = {
    hostUuid: host.uuid,
    hostName: host.name,
    persistentXml: domain.persistent?.xml ?? null,
    paused: domain.state === DomainState.PAUSED,
    guest: domain.guest
  }
  return { xml: xmlIn ?? domain.current.xml, cookie }
}

function requireSharedDisks(host: SimHost, def: DomainDef): void {
  for (const disk of def.disks) {
    if (disk.readOnly || disk.source === null || disk.kind === 'network') continue
    if (!host.locate(disk.source).store.shared)
      throw refuse('MIGRATE_UNSAFE', 'QEMU', 'Migration without shared storage is unsafe')
  }
}

/** Makes the target ready: the domain is there, paused, waiting for its memory. Returns where to send it. */
export function prepare(host: SimHost, xml: string, name: string | null, flags: number, cookie: Cookie): string {
  if (cookie.hostUuid === host.uuid)
    throw refuse('INTERNAL_ERROR', 'QEMU', `Attempt to migrate guest to the same host ${host.uuid}`)
  let def = defineDomain(xml, { validate: false })
  if (name !== null && name !== def.name)
    def = defineDomain(
      xml.replace(/<name>[^<]*<\/name>/, () => `<name>${name}</name>`),
      { validate: false }
    )
  const known = findClash(host, def, { mustBeInactive: true })
  const domain = known ?? new SimDomain(def.uuid, def.name)
  if (cookie.guest) domain.guest = { ...cookie.guest }
  // Offline migration does not look at disks: it succeeds even where they are missing.
  if (flags & F.OFFLINE) {
    host.arriving.set(def.uuid, { domain, def, known: known !== undefined, from: cookie.hostName })
    return ''
  }
  if (flags & (F.NON_SHARED_DISK | F.NON_SHARED_INC)) copyMissingDisks(host, def)
  launch(host, domain, def, { incoming: true })
  host.addDomain(domain)
  host.arriving.set(def.uuid, { domain, def, known: known !== undefined, from: cookie.hostName })
  noteStart(host, domain, `arriving from ${cookie.hostName}`)
  host.emitLifecycle(domain, DomainEventType.STARTED, DomainEventStartedDetailType.MIGRATED)
  return `tcp:${host.name}:49152`
}

/** The memory has been copied: the source stops and gives its disks up. */
export function handOver(host: SimHost, domain: SimDomain, postCopy: boolean): void {
  if (!domain.live) throw refuse('OPERATION_FAILED', 'QEMU', 'domain is no longer running')
  pause(host, domain, postCopy ? DomainPausedReason.POSTCOPY : DomainPausedReason.MIGRATION)
  closeDisks(host, domain)
  const { MIGRATED, POSTCOPY } = DomainEventSuspendedDetailType
  host.emitLifecycle(domain, DomainEventType.SUSPENDED, postCopy ? POSTCOPY : MIGRATED)
}

/** Ends the arrival at the target: it runs there, or nothing of it is left. */
export function finish(
  host: SimHost,
  uuid: string,
  name: string,
  flags: number,
  cookie: Cookie,
  cancelled: boolean
): SimDomain {
  const arriving = host.arriving.get(uuid)
  host.arriving.delete(uuid)
  if (!arriving) throw refuse('NO_DOMAIN', 'QEMU', `no domain with matching name '${name}'`)
  const { domain, def } = arriving
  if (cancelled) {
    discard(host, domain)
    throw refuse('OPERATION_FAILED', 'QEMU', 'migration was cancelled')
  }
  if (flags & F.OFFLINE) return keepDefinition(host, domain, def)
  if (!domain.live) throw refuse('OPERATION_FAILED', 'QEMU', 'guest unexpectedly quit')
  try {
    openDisks(host, domain, def)
  } catch (error) {
    discard(host, domain)
    throw error
  }
  if (flags & F.PERSIST_DEST)
    keepDefinition(host, domain, cookie.persistentXml ? defineDomain(cookie.persistentXml, { validate: false }) : def)
  // A definition that was there before and is not made to last goes with the guest.
  else if (arriving.known) domain.persistent = null
  const postCopy = (flags & F.POSTCOPY) !== 0 && host.postCopy.has(uuid)
  if (cookie.paused || flags & F.PAUSED) {
    domain.reason = DomainPausedReason.USER
    host.emitLifecycle(domain, DomainEventType.SUSPENDED, DomainEventSuspendedDetailType.PAUSED)
  } else {
    run(host, domain, postCopy ? DomainRunningReason.POSTCOPY : DomainRunningReason.MIGRATED)
    const { MIGRATED, POSTCOPY } = DomainEventResumedDetailType
    host.emitLifecycle(domain, DomainEventType.RESUMED, postCopy ? POSTCOPY : MIGRATED)
  }
  domain.arrivedFrom = arriving.from
  host.note('migrated', domain, { detail: `from ${arriving.from}` })
  return domain
}

/** The host that guests were arriving from is gone: what waits for memory is discarded, what lacks a part of it stops. */
export function loseSource(host: SimHost, from: string): void {
  for (const [uuid, arriving] of host.arriving) {
    if (arriving.from !== from) continue
    host.arriving.delete(uuid)
    discard(host, arriving.domain)
  }
  for (const uuid of host.postCopy) {
    const domain = host.domains.get(uuid)
    if (!domain?.live || domain.arrivedFrom !== from) continue
    host.postCopy.delete(uuid)
    pause(host, domain, DomainPausedReason.POSTCOPY_FAILED)
    host.emitLifecycle(domain, DomainEventType.SUSPENDED, DomainEventSuspendedDetailType.POSTCOPY_FAILED)
  }
}

function discard(host: SimHost, domain: SimDomain): void {
  end(host, domain, DomainShutoffReason.FAILED, DomainEventStoppedDetailType.FAILED)
}

/** Ends the departure at the source: gone, or running on where the target did not take over. */
export function confirm(host: SimHost, domain: SimDomain, flags: number, cancelled: boolean, wasPaused: boolean): void {
  if (!cancelled) {
    if (flags & F.UNDEFINE_SOURCE && domain.persistent) {
      domain.persistent = null
      host.note('undefined', domain)
      if (!domain.active) host.removeDomain(domain)
    }
    end(host, domain, DomainShutoffReason.MIGRATED, DomainEventStoppedDetailType.MIGRATED)
    return
  }
  host.note('migration_failed', domain)
  if (!domain.live || domain.holdsDisks) return
  // Where the target has the disks by now, QEMU's image lock keeps the guest paused; a block disk has no lock.
  try {
    openDisks(host, domain, domain.live)
  } catch {
    return
  }
  if (wasPaused) {
    domain.reason = DomainPausedReason.USER
    return
  }
  run(host, domain, DomainRunningReason.MIGRATION_CANCELED)
  host.emitLifecycle(domain, DomainEventType.RESUMED, DomainEventResumedDetailType.MIGRATED)
}

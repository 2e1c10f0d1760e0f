// Procedures of migration: peer-to-peer, and the phases that a client goes through itself.

import { DomainMigrateFlags, MigrateParam } from '../libvirt/constants.gen.ts'
import type { TypedParam } from '../libvirt/wire.gen.ts'
import type { Handlers } from './call.ts'
import type { SimDomain } from './domain.ts'
import { asJob } from './domain-rules.ts'
import { defineDomain } from './domain-xml.ts'
import type { SimHost } from './host.ts'
import { completed } from './job-calls.ts'
import { copyMemory } from './memory-copy.ts'
import { begin, confirm, finish, handOver, prepare, readCookie, writeCookie } from './migration.ts'
import { type MigrationRequest, migrateToPeer } from './peer.ts'
import { notValid, refuse } from './refusal.ts'

const none = new Uint8Array()

function param(params: readonly TypedParam[], field: string): string | bigint | number | boolean | null {
  return params.find((other) => other.field === field)?.value.value ?? null
}

const stringParam = (params: readonly TypedParam[], field: string): string | null => {
  const value = param(params, field)
  return typeof value === 'string' ? value : null
}

function requestOf(params: readonly TypedParam[], flags: number): MigrationRequest {
  const bandwidth = Number(param(params, MigrateParam.BANDWIDTH) ?? 0)
  return {
    flags,
    xml: stringParam(params, MigrateParam.DEST_XML),
    name: stringParam(params, MigrateParam.DEST_NAME),
    bandwidthMiBps: bandwidth > 0 ? bandwidth : null
  }
}

async function perform(
  host: SimHost,
  domain: SimDomain,
  uri: string | null,
  request: MigrationRequest,
  memoryUri: string | null = null
): Promise<{ cookie_out: Uint8Array }> {
  if (request.flags & DomainMigrateFlags.PEER2PEER) {
    if (uri === null) throw refuse('INVALID_ARG', 'QEMU', 'dconnuri is required for peer-to-peer migration')
    await asJob(host, domain, 'migration', 'DomainMigratePerform3Params', () =>
      migrateToPeer(host, domain, uri, request)
    )
    return { cookie_out: none }
  }
  if (!domain.departure) throw notValid('no migration has begun')
  // The memory goes from host to host, whoever goes through the phases.
  domain.migratingTo = /^tcp:(?:\/\/)?([^:/]+)/.exec(memoryUri ?? '')?.[1] ?? null
  try {
    if (domain.migratingTo !== null && !host.world.linked(host.name, domain.migratingTo))
      throw refuse('OPERATION_FAILED', 'QEMU', `unable to connect to server at '${domain.migratingTo}:49152'`)
    await copyMemory(host, domain, {
      bandwidthMiBps: request.bandwidthMiBps,
      autoConverge: (request.flags & DomainMigrateFlags.AUTO_CONVERGE) !== 0,
      postCopyAllowed: false
    })
  } finally {
    domain.migratingTo = null
  }
  handOver(host, domain, false)
  return { cookie_out: writeCookie(domain.departure.cookie) }
}

/** Holds the domain's migration job from begin to confirm, or until the client is gone. */
async function depart(host: SimHost, domain: SimDomain, params: readonly TypedParam[], flags: number) {
  const begun = Promise.withResolvers<void>()
  const over = Promise.withResolvers<void>()
  asJob(host, domain, 'migration', 'DomainMigrateBegin3Params', () => {
    begun.resolve()
    return over.promise
  }).catch(begun.reject)
  await begun.promise
  try {
    const { xml, cookie } = begin(host, domain, flags, stringParam(params, MigrateParam.DEST_XML))
    domain.departure = { cookie, release: over.resolve }
    return { xml, cookie_out: writeCookie(cookie) }
  } catch (error) {
    over.resolve()
    throw error
  }
}

/** A client that vanishes between the phases leaves the guest running where it is. */
function abandon(host: SimHost, domain: SimDomain): void {
  const departure = domain.departure
  if (!departure) return
  domain.departure = null
  domain.job?.abort?.()
  domain.job = null
  // What was handed over stays paused: nobody knows whether the target runs.
  if (domain.holdsDisks) confirm(host, domain, 0, true, departure.cookie.paused)
  departure.release()
}

export const migrationCalls: Handlers = {
  DOMAIN_MIGRATE_PERFORM3_PARAMS: ({ dom, dconnuri, params, flags }, host) =>
    perform(host, host.domain(dom), dconnuri, requestOf(params, flags), stringParam(params, MigrateParam.URI)),
  DOMAIN_MIGRATE_PERFORM3: ({ dom, dconnuri, xmlin, flags, dname, resource }, host) =>
    perform(host, host.domain(dom), dconnuri, {
      flags: Number(flags),
      xml: xmlin,
      name: dname,
      bandwidthMiBps: resource > 0n ? Number(resource) : null
    }),
  DOMAIN_MIGRATE_BEGIN3_PARAMS: async ({ dom, params, flags }, host, { session }) => {
    const domain = host.domain(dom)
    const begun = await depart(host, domain, params, flags)
    session.onClose(() => abandon(host, domain))
    return begun
  },
  DOMAIN_MIGRATE_PREPARE3_PARAMS: ({ params, cookie_in, flags }, host, { session }) => {
    const xml = stringParam(params, MigrateParam.DEST_XML)
    if (xml === null) throw refuse('INTERNAL_ERROR', 'QEMU', 'no domain XML passed')
    const uri = prepare(host, xml, stringParam(params, MigrateParam.DEST_NAME), flags, readCookie(cookie_in))
    const { uuid, name } = defineDomain(xml, { validate: false })
    // Whoever prepared it is gone before it ran: nobody will ever finish it.
    session.onClose(() => discardArriving(host, uuid, name, flags))
    return { cookie_out: none, uri_out: uri === '' ? null : uri }
  },
  DOMAIN_MIGRATE_FINISH3_PARAMS: ({ params, cookie_in, flags, cancelled }, host) => {
    const xml = stringParam(params, MigrateParam.DEST_XML)
    const name = stringParam(params, MigrateParam.DEST_NAME)
    const uuid = xml === null ? uuidOfArriving(host, name) : defineDomain(xml, { validate: false }).uuid
    const domain = finish(host, uuid, name ?? uuid, flags, readCookie(cookie_in), cancelled !== 0)
    return { dom: domain.ref, cookie_out: none }
  },
  DOMAIN_MIGRATE_CONFIRM3_PARAMS: ({ dom, flags, cancelled }, host) => {
    const domain = host.domain(dom)
    const departure = domain.departure
    domain.departure = null
    if (cancelled === 0) completed(host, domain, domain.job)
    domain.job = null
    confirm(host, domain, flags, cancelled !== 0, departure?.cookie.paused ?? false)
    if (cancelled === 0) host.emitJobCompleted(domain)
    departure?.release()
    return {}
  },
  DOMAIN_MIGRATE_START_POST_COPY: ({ dom }, host) => {
    const { job } = host.domain(dom)
    if (!job) throw notValid('post-copy can only be started while outgoing migration is in progress')
    if (!job.postCopy)
      throw notValid('switching to post-copy requires migration to be started with VIR_MIGRATE_POSTCOPY flag')
    job.postCopy()
    return {}
  },
  DOMAIN_MIGRATE_SET_MAX_DOWNTIME: ({ dom }, host) => (host.domain(dom), {}),
  DOMAIN_MIGRATE_SET_MAX_SPEED: ({ dom }, host) => (host.domain(dom), {}),
  DOMAIN_MIGRATE_GET_MAX_DOWNTIME: ({ dom }, host) => (host.domain(dom), { downtime: 300n }),
  DOMAIN_MIGRATE_GET_MAX_SPEED: ({ dom }, host) => (
    host.domain(dom),
    { bandwidth: BigInt(host.settings.migrationMiBps) }
  )
}

function discardArriving(host: SimHost, uuid: string, name: string, flags: number): void {
  if (!host.arriving.has(uuid)) return
  try {
    finish(host, uuid, name, flags, readCookie(none), true)
  } catch {
    // Cancelling always says that it was cancelled.
  }
}

function uuidOfArriving(host: SimHost, name: string | null): string {
  for (const [uuid, { domain }] of host.arriving) if (domain.name === name) return uuid
  throw refuse('NO_DOMAIN', 'QEMU', `no domain with matching name '${name ?? ''}'`)
}

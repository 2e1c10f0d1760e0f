// One simulated host: what it has and in what state, and whom it tells. Calls come in through session.ts; tests use the
// methods here to do what a guest, a power cut or an administrator would do.

import { createHash } from 'node:crypto'
import { type DomainEventType, DomainShutoffReason, DomainState } from '../libvirt/constants.gen.ts'
import type { EventName, Events } from '../libvirt/wire.gen.ts'
import { closeDisks } from './disks.ts'
import type { SimDomain } from './domain.ts'
import type { DomainDef } from './domain-xml.ts'
import type { Emission } from './events.ts'
import { HostFaults } from './faults.ts'
import { type HostSettings, hostDefaults, type SimHostOptions } from './host-options.ts'
import { finishedStatistics } from './job-calls.ts'
import { JobLock } from './job.ts'
import type { Journal, JournalEntry, JournalKind } from './journal.ts'
import type { SimNetwork } from './network.ts'
import type { SimPool } from './pool.ts'
import { refuse } from './refusal.ts'
import { type SimFile, SimStore } from './store.ts'

/** What a host knows of the world around it. */
export interface Surroundings {
  readonly journal: Journal
  /** The host whose libvirtd a URI names; undefined for one that is not simulated here. */
  hostByUri(uri: string): SimHost | undefined
  /** Whether two hosts reach each other. */
  linked(a: string, b: string): boolean
  /** The store behind a remote pool source; made when first asked for. */
  remoteStore(source: string): SimStore
}

/** A guest on its way in. `known`: the host had a definition of it before. */
export type Arrival = { domain: SimDomain; def: DomainDef; known: boolean; from: string }

export interface EventSink {
  emit(emission: Emission): void
  /** Ends the connection, abruptly where `reset`. */
  drop(reset: boolean): void
  /** Goes silent, as a machine without power does. */
  freeze(): void
}

export class SimHost {
  readonly name: string
  readonly uuid: string
  readonly uri: string
  readonly settings: HostSettings
  readonly world: Surroundings
  readonly domains = new Map<string, SimDomain>()
  readonly pools = new Map<string, SimPool>()
  readonly networks = new Map<string, SimNetwork>()
  /** Domains that wait here for their memory, by UUID. */
  readonly arriving = new Map<string, Arrival>()
  /** Domains that run here while part of their memory is still elsewhere. */
  readonly postCopy = new Set<string>()
  readonly localStore: SimStore
  readonly sessions = new Set<EventSink>()
  readonly faults = new HostFaults()
  /** Names to UUIDs, since most look-ups are by name. */
  readonly #uuidByName = new Map<string, string>()
  readonly #mounts: { prefix: string; store: SimStore; from: string }[] = []
  readonly #timers = new Set<NodeJS.Timeout>()
  #lastId = 0
  bootedAt = Date.now()
  powered = true

  constructor(options: SimHostOptions, world: Surroundings) {
    this.name = options.name
    this.uuid = options.uuid ?? uuidOf(options.name)
    this.settings = { ...hostDefaults, ...options, uuid: this.uuid }
    this.uri = `qemu+unix:///system?socket=${options.socketPath}`
    this.world = world
    this.localStore = new SimStore(this.name, world.journal, { capacityBytes: this.settings.storeBytes })
    this.mount('/', this.localStore)
  }

  // Files

  /** Makes a store, or the directory `from` in it, appear at a path, as a mounted file system does. */
  mount(prefix: string, store: SimStore, from = ''): void {
    this.unmount(prefix)
    this.#mounts.push({ prefix: prefix === '/' ? '' : prefix.replace(/\/+$/, ''), store, from })
    this.#mounts.sort((a, b) => b.prefix.length - a.prefix.length)
  }

  unmount(prefix: string): void {
    const at = this.#mounts.findIndex((mount) => mount.prefix === prefix)
    if (at >= 0 && prefix !== '') this.#mounts.splice(at, 1)
  }

  /** The store that a path leads to, and the path in it. */
  locate(path: string): { store: SimStore; inner: string } {
    for (const { prefix, store, from } of this.#mounts)
      if (path === prefix || path.startsWith(`${prefix}/`))
        return { store, inner: from + path.slice(prefix.length) || '/' }
    return { store: this.localStore, inner: path }
  }

  file(path: string): SimFile | undefined {
    const { store, inner } = this.locate(path)
    return store.files.get(inner)
  }

  // Domains

  domainByName(name: string): SimDomain | undefined {
    const uuid = this.#uuidByName.get(name)
    return uuid === undefined ? undefined : this.domains.get(uuid)
  }

  /** By the reference in a call. Refuses as QEMU's driver does. */
  domain(ref: { uuid: string; name: string }): SimDomain {
    const found = this.domains.get(ref.uuid)
    if (!found) throw refuse('NO_DOMAIN', 'QEMU', `no domain with matching uuid '${ref.uuid}' (${ref.name})`)
    return found
  }

  addDomain(domain: SimDomain): void {
    this.domains.set(domain.uuid, domain)
    this.#uuidByName.set(domain.name, domain.uuid)
  }

  removeDomain(domain: SimDomain): void {
    this.domains.delete(domain.uuid)
    if (this.#uuidByName.get(domain.name) === domain.uuid) this.#uuidByName.delete(domain.name)
  }

  renameDomain(domain: SimDomain, name: string): void {
    this.#uuidByName.delete(domain.name)
    domain.name = name
    this.#uuidByName.set(name, domain.uuid)
  }

  nextDomainId(): number {
    return ++this.#lastId
  }

  /** Memory of all guests that run. */
  get usedMiB(): number {
    let kib = 0
    for (const domain of this.domains.values()) if (domain.live) kib += domain.live.memoryKiB
    return Math.ceil(kib / 1024)
  }

  // Telling

  emit<Name extends EventName>(name: Name, subject: string, message: Omit<Events[Name], 'callbackID'>): void {
    const emission = { name, subject, message } as Emission
    if (this.faults.losesEvent(name)) return
    for (const session of this.sessions) session.emit(emission)
  }

  emitLifecycle(
    domain: SimDomain,
    event: (typeof DomainEventType)[keyof typeof DomainEventType],
    detail: number
  ): void {
    this.emit('DOMAIN_EVENT_CALLBACK_LIFECYCLE', domain.uuid, { dom: domain.ref, event, detail })
  }

  emitJobCompleted(domain: SimDomain): void {
    if (!domain.finishedJob) return
    const params = finishedStatistics(domain.finishedJob)
    this.emit('DOMAIN_EVENT_CALLBACK_JOB_COMPLETED', domain.uuid, { dom: domain.ref, params })
  }

  note(
    kind: JournalKind,
    of: { uuid: string; name: string },
    more: Partial<Pick<JournalEntry, 'detail' | 'overCommitted' | 'twoWriters'>> = {}
  ): JournalEntry {
    return this.world.journal.add({ host: this.name, kind, subject: of.uuid, name: of.name, ...more })
  }

  // Time

  /** A timer that dies with the host's power. */
  after(ms: number, act: () => void): NodeJS.Timeout {
    const timer = setTimeout(() => {
      this.#timers.delete(timer)
      act()
    }, ms)
    this.#timers.add(timer)
    return timer
  }

  cancel(timer: NodeJS.Timeout | null): void {
    if (!timer) return
    clearTimeout(timer)
    this.#timers.delete(timer)
  }

  wait(ms: number): Promise<void> {
    return ms <= 0 ? Promise.resolve() : new Promise((resolve) => void this.after(ms, resolve))
  }

  /** What a machine forgets without power: its guests, its timers, its mounts' locks. Definitions and files stay. */
  losePower(): void {
    this.cancelAll()
    this.note('host_power_off', this)
    for (const domain of this.domains.values()) {
      if (domain.live) {
        closeDisks(this, domain)
        this.note('stopped', domain, { detail: 'power lost' })
      }
      domain.live = null
      domain.id = -1
      domain.state = DomainState.SHUTOFF
      domain.reason = DomainShutoffReason.UNKNOWN
      domain.job = null
      domain.blockJobs.clear()
      domain.departure = null
      domain.shutdownTimer = null
      domain.lock = new JobLock()
      if (!domain.persistent) this.removeDomain(domain)
    }
    this.arriving.clear()
    for (const pool of this.pools.values()) {
      pool.active = false
      if (!pool.persistent) this.pools.delete(pool.name)
    }
    for (const network of this.networks.values()) network.active = false
  }

  cancelAll(): void {
    for (const timer of this.#timers) clearTimeout(timer)
    this.#timers.clear()
  }
}

/** A UUID that a name always gets, so that a fleet looks the same in every run. */
export function uuidOf(name: string): string {
  const hex = createHash('sha256').update(`simulated host ${name}`).digest('hex')
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-4${hex.slice(13, 16)}-8${hex.slice(17, 20)}-${hex.slice(20, 32)}`
}

// Follows one host: lists it when it comes up, looks up what its events name, and lists again now and then to find what events
// missed. Woken by signal and timer; one step at a time, so that what piles up meanwhile is looked up together.
import type { Logger } from 'pino'
import type { Database } from '../db/open.ts'
import type { Host, HostChange } from '../host/host.ts'
import type { LinkState } from '../host/link.ts'
import { beginSight, recordPool, type VmChange } from '../inventory/observe.ts'
import type { Sights } from './sights.ts'
import { setWatchedConnection } from '../inventory/watches.ts'
import { observeHost } from './watch-observer.ts'

export type HostWatcherParts = {
  name: string
  host: Host
  database: Database
  sights: Sights
  /** By whose lease the host is watched: what is said of its connection is refused without. */
  dispatcher: number
  log: Logger
  /** Between two guard lists. */
  guardMs: number
  /** How long an event may take before a change found by the guard list counts as missed. */
  graceMs: number
  onUp: (host: string) => void
  /** A VM may have another definition than before. */
  onDefined: (host: string, uuid: string) => void
  onMissed: (host: string, change: VmChange) => void
}

/** More than this waiting to be looked up: one list is cheaper. */
const MOST_PENDING = 500
const BATCH = 50
const RETRY_MS = 1000
const LAST_RETRY_MS = 30_000

export class HostWatcher {
  readonly host: Host
  readonly #parts: HostWatcherParts
  /** To be looked up, each with the moment of its last event. */
  readonly #vms = new Map<string, number>()
  readonly #pools = new Set<string>()
  /** When a VM's last event came: what the guard list finds different soon after it was not missed. */
  readonly #heardAt = new Map<string, number>()
  /** When a VM was heard to begin to run: a run may be over before it is looked at. */
  readonly #ran = new Map<string, number>()
  #state: LinkState | undefined
  #recorded: LinkState | undefined
  #list: 'no' | 'yes' | 'guard' = 'no'
  #listed = false
  #wake: (() => void) | undefined
  #pausing = false
  #stopped = false
  #running: Promise<void> | undefined
  #endHearing: (() => void) | undefined
  #guardTimer: NodeJS.Timeout | undefined
  readonly #graceTimers = new Set<NodeJS.Timeout>()

  constructor(parts: HostWatcherParts) {
    this.host = parts.host
    this.#parts = parts
  }

  /** May be called twice. */
  start(state: LinkState | undefined): void {
    if (this.#running) return
    this.#endHearing = this.host.onChange((change) => this.#changed(change))
    if (state) this.stateChanged(state)
    this.#running = this.#run()
  }

  /** Resolves when nothing is written any more. May be called twice. */
  async stop(): Promise<void> {
    this.#stopped = true
    this.#endHearing?.()
    clearTimeout(this.#guardTimer)
    for (const timer of this.#graceTimers) clearTimeout(timer)
    this.#wake?.()
    await this.#running
  }

  /** Up, and everything on it was listed since. */
  get isListed(): boolean {
    return this.#listed && !this.#stopped
  }

  /** By whose lease it watches. */
  get dispatcher(): number {
    return this.#parts.dispatcher
  }

  stateChanged(state: LinkState): void {
    this.#state = state
    this.#listed = false
    if (state.state === 'up') this.#list = 'yes'
    this.#wake?.()
  }

  #changed(change: HostChange): void {
    if (change.kind === 'vm' || change.kind === 'job') {
      this.#heardAt.set(change.uuid, performance.now())
      if (change.kind === 'vm' && change.event === 'started') this.#ran.set(change.uuid, performance.now())
      if (change.kind === 'vm' && change.event === 'defined') this.#parts.onDefined(this.#parts.name, change.uuid)
      this.#vms.set(change.uuid, this.#parts.sights.now())
    } else if (change.kind === 'pool') this.#pools.add(change.name)
    else this.#list = 'yes'
    if (this.#vms.size + this.#pools.size > MOST_PENDING) this.#list = 'yes'
    // After a failure it waits, however much is told meanwhile.
    if (!this.#pausing) this.#wake?.()
  }

  async #run(): Promise<void> {
    let retryMs = RETRY_MS
    while (!this.#stopped) {
      try {
        if (await this.#step()) continue
        retryMs = RETRY_MS
        await this.#sleep()
      } catch (error) {
        if (this.#stopped) return
        // A host that is lost says so by its state. Whatever else it was, a list makes good for it.
        this.#parts.log.warn({ err: error, host: this.#parts.name }, 'a host could not be looked at; trying again')
        this.#list = 'yes'
        await this.#sleep(retryMs)
        retryMs = Math.min(retryMs * 2, LAST_RETRY_MS)
      }
    }
  }

  /** Does one thing; false when there is nothing to do. */
  async #step(): Promise<boolean> {
    const state = this.#state
    if (this.#ran.size > 0) await this.#recordRuns()
    if (!state || state.state === 'down') return this.#recordDown(state)
    if (this.#list !== 'no') return this.#listAll(this.#list === 'guard')
    if (this.#vms.size > 0) return this.#lookUpVms()
    if (this.#pools.size > 0) return this.#lookUpPool()
    return false
  }

  async #recordRuns(): Promise<void> {
    const now = performance.now()
    const heard = [...this.#ran]
    await this.#parts.sights.ran(heard.map(([vm, at]) => ({ vm, agoMs: now - at })))
    // One that was heard again meanwhile stays.
    for (const [vm, at] of heard) if (this.#ran.get(vm) === at) this.#ran.delete(vm)
  }

  async #recordDown(state: LinkState | undefined): Promise<boolean> {
    if (state?.state !== 'down' || this.#recorded === state) return false
    clearTimeout(this.#guardTimer)
    this.#vms.clear()
    this.#pools.clear()
    await this.#record('down', state.reason)
    if (this.#recorded?.state !== 'down')
      this.#parts.log.warn({ host: this.#parts.name, reason: state.reason }, 'a host is down')
    this.#recorded = state
    return true
  }

  /** Nobody writes it for another: whoever took the host over meanwhile says how it is. */
  async #record(connection: 'up' | 'down', reason: string | null): Promise<void> {
    const { database, dispatcher, name, log } = this.#parts
    if (await setWatchedConnection(database, dispatcher, name, { connection, reason })) return
    if (!this.#stopped) log.info({ host: name, dispatcher }, 'a host is no longer watched from here')
    this.#stopped = true
  }

  async #listAll(guard: boolean): Promise<boolean> {
    const { name, database } = this.#parts
    const state = this.#state
    const begun = performance.now()
    // Before the list: what changes during it is looked up again.
    this.#list = 'no'
    this.#vms.clear()
    this.#pools.clear()
    const changes = await observeHost(database, name, this.host)
    for (const [uuid, at] of this.#heardAt) if (begun - at > this.#parts.graceMs) this.#heardAt.delete(uuid)
    if (guard) for (const change of changes) this.#suspectMissed(change, begun)
    this.#armGuard()
    if (this.#stopped) return false
    if (this.#recorded !== state && state === this.#state && state?.state === 'up') {
      await this.#record('up', null)
      if (this.#stopped) return false
      this.#recorded = state
      this.#parts.log.info({ host: name, changes: changes.length }, 'a host is up and was listed')
    }
    if (!this.#listed && state === this.#state) {
      this.#listed = true
      this.#parts.onUp(name)
    }
    return true
  }

  // The event of what the list has just seen may still be on its way.
  #suspectMissed(change: VmChange, begun: number): void {
    const { graceMs, log, name, onMissed } = this.#parts
    const timer = setTimeout(() => {
      this.#graceTimers.delete(timer)
      if ((this.#heardAt.get(change.vm) ?? -Infinity) > begun - graceMs) return
      log.error({ host: name, change }, 'events had missed a change that the guard list found')
      onMissed(name, change)
    }, graceMs)
    this.#graceTimers.add(timer)
  }

  async #lookUpVms(): Promise<boolean> {
    const { sights } = this.#parts
    const heard = [...this.#vms].slice(0, BATCH)
    for (const [uuid] of heard) this.#vms.delete(uuid)
    await Promise.all(heard.map(([uuid, since]) => sights.look(this.host, uuid, since)))
    return true
  }

  async #lookUpPool(): Promise<boolean> {
    const { name, database } = this.#parts
    for (const pool of this.#pools) {
      this.#pools.delete(pool)
      const sight = await beginSight(database)
      const seen = await this.host.pool(pool)
      await database.transaction((tx) => recordPool(tx, sight, name, pool, seen))
      break
    }
    return true
  }

  #armGuard(): void {
    clearTimeout(this.#guardTimer)
    // Spread, so that hundreds of hosts are not listed in one instant.
    this.#guardTimer = setTimeout(() => this.relist(), this.#parts.guardMs * (0.8 + Math.random() * 0.4))
    this.#guardTimer.unref()
  }

  /** Lists now and tells what events had missed. */
  relist(): void {
    if (this.#list === 'no') this.#list = 'guard'
    this.#wake?.()
  }

  /** Until woken, or for that long. */
  async #sleep(ms?: number): Promise<void> {
    if (this.#stopped) return
    this.#pausing = ms !== undefined
    await new Promise<void>((resolve) => {
      const timer = ms === undefined ? undefined : setTimeout(resolve, ms)
      this.#wake = () => {
        clearTimeout(timer)
        resolve()
      }
      // What came in before there was anyone to wake.
      if (ms === undefined && this.#hasWork()) this.#wake()
    })
    this.#wake = undefined
    this.#pausing = false
  }

  #hasWork(): boolean {
    if (this.#state?.state !== 'up') return this.#state !== undefined && this.#recorded !== this.#state
    return this.#list !== 'no' || this.#vms.size > 0 || this.#pools.size > 0
  }
}

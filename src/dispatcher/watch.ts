// Keeps the inventory what the hosts say: each host is watched by one of the processes on this database, and whoever does not watch a
// host knows from the inventory whether it is up. Woken by notification and by timer; a round reads how things are and makes them so.
import type { Logger } from 'pino'
import type { Database } from '../db/open.ts'
import type { HostConnections } from '../host/connections.ts'
import { HOSTS_CHANNEL, knownHosts } from '../inventory/hosts.ts'
import { forgetGone, type VmChange } from '../inventory/observe.ts'
import { handOverWatches, shareWatches, WATCH_CHANNEL, type WatchShare } from '../inventory/watches.ts'
import { HostWatcher } from './watch-host.ts'
import { createSights, type Sights } from './sights.ts'
import { startRoomKeeper } from './watch-room.ts'

export type WatchOptions = {
  database: Database
  hosts: HostConnections
  log: Logger
  /** Looks at VMs, shared with whoever acts on them; default: its own. */
  sights?: Sights
  /** The dispatcher by whose lease this process watches; Lease has it. Another one after a lost lease. */
  lease: { readonly id: number }
  /**
   * The host is up, and the inventory has what is on it: what waits for it may go on. `watched`: from here, so that what is to be done
   * once for a host that came up is for this process to do.
   */
  onHostUp: (host: string, watched: boolean) => void
  /** A VM may have another definition than before. */
  onDefined?: (host: string, uuid: string) => void
  /** Between two guard lists of a host. Default 300,000. */
  guardMs?: number
  /** How late an event may be. Default 2,000. */
  graceMs?: number
  /** A change that the guard list found and no event had told. */
  onMissed?: (host: string, change: VmChange) => void
  /** Hear notifications. Default true; without, all is found by the timer. */
  listen?: boolean
  /** Between two rounds that nobody asked for. Default 1,000. */
  roundMs?: number
}

export type Watchers = {
  /** Ends watching and waits for what is being written. The connections stay with whoever made them. May be called twice. */
  stop(): Promise<void>
  /** Others watch from now on, if there are any; else this process goes on. */
  handOver(): Promise<void>
  /** Watches its share of the hosts that the inventory has now. */
  refreshHosts(): Promise<void>
  /** Up, and listed since it came up, here or by whoever watches it. */
  isUp(host: string): boolean
  /** By this process. */
  isWatching(host: string): boolean
  watching(): string[]
  /** Of the processes that watch it is the one that does what belongs to no host. */
  isFirst(): boolean
  /** Lists every host that it watches now. */
  relist(): void
  isRoomFreedSince(atMs: number): boolean
}

const FORGET_EVERY_MS = 3_600_000
const FORGET_AFTER_MS = 86_400_000

/** Connects to every host of the inventory and follows this process's share of them. */
export async function startWatchers(options: WatchOptions): Promise<Watchers> {
  const watchers = new SharedWatchers(options)
  await watchers.start()
  return watchers
}

class SharedWatchers implements Watchers {
  readonly #options: WatchOptions
  readonly #sights: Sights
  readonly #watchers = new Map<string, HostWatcher>()
  /** Watchers that write nothing more and have not quite ended. */
  readonly #ending = new Set<Promise<void>>()
  /** Up by the word of others. */
  #upElsewhere: ReadonlySet<string> = new Set()
  /** Of those, which this process reaches as well: what waits for them may run here. */
  #usable: ReadonlySet<string> = new Set()
  #fleet: string | undefined
  #first = false
  #leaving = false
  #stopped = false
  #round: Promise<void> = Promise.resolve()
  #again: Promise<void> | undefined
  #ends: (() => unknown)[] = []
  #room: Awaited<ReturnType<typeof startRoomKeeper>> | undefined

  constructor(options: WatchOptions) {
    this.#options = options
    this.#sights = options.sights ?? createSights(options.database)
  }

  async start(): Promise<void> {
    const { database, hosts, log, listen = true, roundMs = 1000 } = this.#options
    this.#ends.push(
      hosts.onState((host, state) => {
        this.#watchers.get(host)?.stateChanged(state)
        this.#tellUsable()
      })
    )
    if (listen) {
      for (const channel of [HOSTS_CHANNEL, WATCH_CHANNEL]) {
        const heard = await database.listen(channel, () => void this.refreshHosts().catch(() => {}))
        this.#ends.push(() => heard.stop())
      }
    }
    await this.refreshHosts()
    hosts.start()
    this.#room = await startRoomKeeper({ database, log })
    this.#every(roundMs, () => this.refreshHosts().catch(() => {}))
    this.#every(FORGET_EVERY_MS, () =>
      forgetGone(database, FORGET_AFTER_MS).catch((error: unknown) =>
        log.warn({ err: error }, 'gone VMs stay remembered')
      )
    )
  }

  #every(ms: number, work: () => Promise<unknown>): void {
    const timer = setInterval(() => void work(), ms)
    timer.unref()
    this.#ends.push(() => clearInterval(timer))
  }

  /** One after another; who asks while one waits to begin gets that one. */
  refreshHosts(): Promise<void> {
    if (this.#again) return this.#again
    const next = this.#round.then(() => {
      this.#again = undefined
      return this.#look()
    })
    this.#again = next
    this.#round = next.catch((error: unknown) => {
      if (!this.#stopped) this.#options.log.warn({ err: error }, 'who watches which host could not be read')
    })
    return next
  }

  async #look(): Promise<void> {
    if (this.#stopped || this.#leaving) return
    const { database, hosts, lease } = this.#options
    const dispatcher = lease.id
    const share = await shareWatches(database, dispatcher)
    // Without a lease: as soon as there is another one, everything is shared out anew.
    if (!share || this.#stopped || this.#leaving) return
    this.#first = share.first
    if (share.fleet !== this.#fleet) {
      hosts.setHosts(await knownHosts(database))
      this.#fleet = share.fleet
    }
    await this.#follow(dispatcher, share)
    this.#upElsewhere = new Set(share.upElsewhere)
    this.#tellUsable()
  }

  /** Watches what is to be watched from here, and nothing else. */
  async #follow(dispatcher: number, share: WatchShare): Promise<void> {
    const { database, hosts, log } = this.#options
    const surplus = share.excess > 0 ? share.mine.slice(-share.excess) : []
    const keep = new Set(share.mine.filter((host) => !surplus.includes(host)))
    const known = new Set(hosts.names())
    for (const [name, watcher] of this.#watchers) {
      // A host with another address has another handle.
      const same = known.has(name) && hosts.host(name) === watcher.host && watcher.dispatcher === dispatcher
      if (!same || !keep.has(name)) this.#unwatch(name)
    }
    for (const name of keep) if (known.has(name) && !this.#watchers.has(name)) this.#watch(name, dispatcher)
    if (surplus.length === 0) return
    log.info({ hosts: surplus.length }, 'hosts are handed over to others that watch')
    await handOverWatches(database, dispatcher, { hosts: surplus, leaves: false })
  }

  #watch(name: string, dispatcher: number): void {
    const { database, hosts, log, guardMs = 300_000, graceMs = 2_000, onHostUp, onDefined, onMissed } = this.#options
    const watcher = new HostWatcher({
      name,
      host: hosts.host(name),
      database,
      sights: this.#sights,
      dispatcher,
      log,
      guardMs,
      graceMs,
      onUp: (host) => onHostUp(host, true),
      onDefined: onDefined ?? (() => {}),
      onMissed: onMissed ?? (() => {})
    })
    this.#watchers.set(name, watcher)
    watcher.start(hosts.state(name))
  }

  /** At once: what is still being written is told apart by its sight (inventory/observe.ts), or refused. */
  #unwatch(name: string): void {
    const ended = this.#watchers.get(name)?.stop()
    this.#watchers.delete(name)
    if (!ended) return
    const ending = ended.finally(() => this.#ending.delete(ending))
    this.#ending.add(ending)
  }

  /** Hosts that others watch: up once they say so and this process's own connection is. */
  #tellUsable(): void {
    const { hosts, onHostUp } = this.#options
    const before = this.#usable
    this.#usable = new Set([...this.#upElsewhere].filter((host) => hosts.state(host)?.state === 'up'))
    if (this.#stopped) return
    for (const host of this.#usable) if (!before.has(host)) onHostUp(host, false)
  }

  isUp(host: string): boolean {
    return this.#watchers.get(host)?.isListed ?? this.#usable.has(host)
  }

  isWatching(host: string): boolean {
    return this.#watchers.has(host)
  }

  watching(): string[] {
    return [...this.#watchers.keys()]
  }

  isFirst(): boolean {
    return this.#first
  }

  isRoomFreedSince(atMs: number): boolean {
    return this.#room?.isFreedSince(atMs) ?? false
  }

  relist(): void {
    for (const watcher of this.#watchers.values()) watcher.relist()
  }

  async handOver(): Promise<void> {
    const { database, lease } = this.#options
    this.#leaving = true
    await this.#round
    const others = await handOverWatches(database, lease.id, { hosts: this.watching(), leaves: true })
    if (!others) {
      this.#leaving = false
      return
    }
    this.#upElsewhere = new Set([...this.#upElsewhere, ...this.watching().filter((host) => this.isUp(host))])
    this.#first = false
    for (const name of this.watching()) this.#unwatch(name)
    this.#tellUsable()
  }

  async stop(): Promise<void> {
    if (this.#stopped) return
    this.#stopped = true
    await Promise.all(this.#ends.map((end) => end()))
    await this.#room?.stop()
    await this.#round
    for (const name of this.watching()) this.#unwatch(name)
    await Promise.all(this.#ending)
  }
}

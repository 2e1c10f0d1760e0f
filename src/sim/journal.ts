// What really happened on the simulated hosts, in order: the truth that tests compare the product's beliefs with.
// It is written by effects, never by calls: a refused start leaves nothing here.

export type JournalKind =
  | 'defined'
  | 'undefined'
  | 'started'
  | 'running'
  | 'paused'
  | 'stopped'
  | 'rebooted'
  | 'saved'
  | 'restored'
  | 'migrated'
  | 'migration_failed'
  | 'autostart'
  | 'snapshot'
  | 'device'
  | 'resized'
  | 'volume_created'
  | 'volume_deleted'
  | 'volume_resized'
  | 'volume_written'
  | 'pool_defined'
  | 'pool_built'
  | 'pool_started'
  | 'pool_stopped'
  | 'pool_deleted'
  | 'pool_undefined'
  | 'network_changed'
  | 'host_power_off'
  | 'host_boot'
  | 'daemon_stopped'
  | 'daemon_started'
  | 'fault'

export type JournalEntry = {
  /** Place in the order, from 1. */
  seq: number
  /** Milliseconds since the epoch. */
  at: number
  host: string
  kind: JournalKind
  /** UUID of the VM, pool or network; a volume's path. */
  subject: string
  name: string
  detail?: string
  /** On `started` and on a migration's arrival: the host's guests now need more memory than it has. */
  overCommitted?: true
  /** On `running`: another guest writes to the same disk, named in `detail`. */
  twoWriters?: true
}

type Waiter = { holds: (entry: JournalEntry) => boolean; resolve: (entry: JournalEntry) => void }

/** Keeps the last `limit` entries; the counters count all. */
export class Journal {
  readonly #entries: JournalEntry[] = []
  readonly #limit: number
  readonly #waiters = new Set<Waiter>()
  readonly #hearers = new Set<(entry: JournalEntry) => void>()
  #seq = 0
  overCommitted = 0
  twoWriters = 0

  constructor(limit = 1_000_000) {
    this.#limit = limit
  }

  add(entry: Omit<JournalEntry, 'seq' | 'at'>): JournalEntry {
    const full: JournalEntry = { seq: ++this.#seq, at: Date.now(), ...entry }
    if (full.overCommitted) this.overCommitted++
    if (full.twoWriters) this.twoWriters++
    this.#entries.push(full)
    if (this.#entries.length > this.#limit) this.#entries.splice(0, Math.ceil(this.#limit / 10))
    for (const hear of this.#hearers) hear(full)
    for (const waiter of this.#waiters) {
      if (!waiter.holds(full)) continue
      this.#waiters.delete(waiter)
      waiter.resolve(full)
    }
    return full
  }

  /** Entries in order, as many as are kept. */
  entries(filter: Partial<Pick<JournalEntry, 'host' | 'kind' | 'subject' | 'name'>> = {}): JournalEntry[] {
    const wanted = Object.entries(filter)
    return this.#entries.filter((entry) => wanted.every(([key, value]) => entry[key as keyof JournalEntry] === value))
  }

  /** Tells of every entry from now on; the answer ends it. */
  onEntry(hear: (entry: JournalEntry) => void): () => void {
    this.#hearers.add(hear)
    return () => void this.#hearers.delete(hear)
  }

  /** The next entry for which `holds`; rejects after `timeoutMs`. */
  next(holds: (entry: JournalEntry) => boolean, timeoutMs = 10_000): Promise<JournalEntry> {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#waiters.delete(waiter)
        reject(new Error(`nothing of that kind happened within ${timeoutMs} ms`))
      }, timeoutMs)
      const waiter: Waiter = {
        holds,
        resolve: (entry) => {
          clearTimeout(timer)
          resolve(entry)
        }
      }
      this.#waiters.add(waiter)
    })
  }
}

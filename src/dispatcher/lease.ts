// A dispatcher's right to take tasks and to write to hosts, by the database's clock. It covers what was taken under it alone: after a
// lost lease, what still runs in this process writes nothing, although the process has a new one.
import { AsyncLocalStorage } from 'node:async_hooks'
import { performance } from 'node:perf_hooks'
import type { Sql } from '../db/open.ts'
import { beat, registerDispatcher, unregisterDispatcher } from '../queue/dispatch.ts'

/** Of a lease that nothing else is said of. */
export const defaultLeaseMs = 10_000

export type LeaseParts = {
  /** A connection that nothing else uses: where hundreds of tasks queue for connections, beats must not. */
  beats: Sql
  /** For people: which process this is. */
  name: string
  ms: number
}

export class Lease {
  readonly #beats: Sql
  readonly #name: string
  readonly #hearers = new Set<() => void>()
  readonly #takenUnder = new AsyncLocalStorage<number>()
  /** How long it lives without a beat. */
  readonly ms: number
  #id = 0
  #lastBeat = Number.NEGATIVE_INFINITY

  constructor({ beats, name, ms }: LeaseParts) {
    this.#beats = beats
    this.#name = name
    this.ms = ms
  }

  /** The dispatcher's number; another after each `begin`. */
  get id(): number {
    return this.#id
  }

  async begin(): Promise<void> {
    const at = performance.now()
    this.#id = (await registerDispatcher(this.#beats, { name: this.#name, leaseMs: this.ms })).id
    this.#lastBeat = at
    for (const hear of this.#hearers) hear()
  }

  /** Calls back whenever there is a new one: what was taken under the last is no longer this process's. */
  onBegin(hear: () => void): void {
    this.#hearers.add(hear)
  }

  async beat(): Promise<'alive' | 'lost'> {
    const at = performance.now()
    const answer = await beat(this.#beats, this.#id)
    if (answer === 'alive') this.#lastBeat = at
    return answer
  }

  /** Others take over at once: what is left in this process writes nothing more. */
  async end(): Promise<void> {
    this.#lastBeat = Number.NEGATIVE_INFINITY
    await unregisterDispatcher(this.#beats, this.#id)
  }

  /** Half a lease without a beat, by a clock that nobody sets: whoever takes over must find us quiet. */
  get mayWrite(): boolean {
    return performance.now() - this.#lastBeat < this.ms / 2
  }

  /** The lease under which whoever asks was taken; the present one for what was not taken under any. */
  get takenUnder(): number {
    return this.#takenUnder.getStore() ?? this.#id
  }

  /** Runs what was taken under the lease as it is now. */
  cover<T>(work: () => Promise<T>): Promise<T> {
    return this.#takenUnder.run(this.#id, work)
  }

  /** Why whoever asks may not write to hosts; undefined while he may. */
  whyFenced(): string | undefined {
    const taken = this.#takenUnder.getStore()
    if (taken !== undefined && taken !== this.#id)
      return `dispatcher ${taken}, which had taken the task, has lost its lease`
    if (this.mayWrite) return undefined
    return `the lease of dispatcher ${this.#id} was last renewed ${Math.round(performance.now() - this.#lastBeat)} ms ago`
  }
}

// A dispatcher's calls to the queue, one at a time: reports and takes. An answer may be lost although what was asked for was done; so
// whenever one was, and now and then, what the database says that this dispatcher runs is held against what it runs indeed, which can be
// compared between two calls only.
import type { Logger } from 'pino'
import type { Database } from '../db/open.ts'
import { settle, takeOver, type ClaimedTask, type End } from '../queue/dispatch.ts'
import type { Lease } from './lease.ts'

export type Attempt = { task: number; attempt: number }

export type ExchangeParts = {
  database: Database
  lease: Lease
  log: Logger
  /** What runs here: attempts that have a slot. */
  running: () => readonly Attempt[]
  /** Called for each that is this dispatcher's from now on, before any other call to the queue. */
  take: (task: ClaimedTask) => void
}

export class Exchange {
  readonly #parts: ExchangeParts
  #ends: End[] = []
  /** An answer was lost: there may be tasks of ours of which we never heard. */
  #unsure = false
  #last: Promise<unknown> = Promise.resolve()

  constructor(parts: ExchangeParts) {
    this.#parts = parts
  }

  /** To be recorded by the next call. */
  add(end: End): void {
    this.#ends.push(end)
  }

  get hasEnds(): boolean {
    return this.#ends.length > 0
  }

  get isUnsure(): boolean {
    return this.#unsure
  }

  /**
   * Records what has ended and takes up to `free()` tasks. After an error all of it is recorded by a later call, however much of it
   * was by this one: the queue knows a report that it has already.
   */
  settle(free: () => number): Promise<{ ends: readonly End[]; claimed: number; nextDueMs: number | null }> {
    return this.#alone(async () => {
      const { database, lease, log, take } = this.#parts
      const ends = this.#ends
      this.#ends = []
      try {
        const answer = await settle(database, { dispatcher: lease.id, ends, take: Math.max(0, free()) })
        for (const { task, attempt, outcome } of answer.settled) {
          if (outcome === 'stale') log.warn({ task, attempt }, 'the report of a past attempt was refused')
        }
        for (const task of answer.claimed) take(task)
        if (answer.unsure) this.#unsure = true
        return { ends, claimed: answer.claimed.length, nextDueMs: answer.nextDueMs }
      } catch (error) {
        this.#ends = [...ends, ...this.#ends]
        this.#unsure = true
        throw error
      }
    })
  }

  /**
   * Takes tasks whose dispatcher is gone, and such as this one was given without hearing of it. Each is looked for before anything is
   * done. Returns them.
   */
  takeOver(free: () => number): Promise<ClaimedTask[]> {
    return this.#alone(async () => {
      const { database, lease, running, take } = this.#parts
      const limit = free()
      if (limit <= 0) return []
      this.#unsure = true
      const holding = [...running(), ...this.#ends.map(({ task, attempt }) => ({ task, attempt }))]
      const taken = await takeOver(database, lease.id, limit, holding)
      for (const task of taken) take(task)
      this.#unsure = taken.length === limit
      return taken
    })
  }

  #alone<T>(call: () => Promise<T>): Promise<T> {
    const answer = this.#last.then(call)
    this.#last = answer.catch(() => {})
    return answer
  }
}

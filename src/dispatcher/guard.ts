// What a dispatcher looks at beside all events: tasks that are ready and that nothing had announced, and tasks in progress that nobody
// looks after. On a healthy run it finds nothing; what it finds is told loudly and counted.
import type { Logger } from 'pino'
import type { Database } from '../db/open.ts'
import { forgottenTasks } from '../queue/forgotten.ts'
import { forgetPassing, guardPoll } from '../queue/guard.ts'
import { overdueTasks } from '../queue/overdue.ts'
import { stopFailing } from '../queue/undo.ts'

/** How often what is ready is looked for. */
export const lookForReadyMs = 1000
const forgetEveryMs = 60_000
/** As much as one call forgets; what is left is left to the next time. */
const FULL_SLICE = 10_000
const MOST_SLICES = 100

export type GuardParts = {
  database: Database
  log: Logger
  leaseMs: number
  /** It could take a task now, and is not about to. */
  isIdle: () => boolean
  /** Hears other processes' notifications: what it finds was missed then, and is a fault. */
  isListening: () => boolean
  wake: () => void
}

export class Guard {
  readonly #parts: GuardParts
  #suspects: ReadonlySet<number> = new Set()
  #found = 0
  #forgotten = 0
  #forgotAt = Number.NEGATIVE_INFINITY

  constructor(parts: GuardParts) {
    this.#parts = parts
  }

  /** Tasks that it had to find, since it was made. */
  get found(): number {
    return this.#found
  }

  /** Tasks that nobody looks after, at the last poll. */
  get forgotten(): number {
    return this.#forgotten
  }

  /** Something woke the dispatcher: what was suspected has its event. */
  clearSuspects(): void {
    this.#suspects = new Set()
  }

  /**
   * What is ready beside a free slot, and still so a second later with nothing having woken us, was missed by every event: taken, and
   * told loudly. Without notifications this is how other processes' submissions are found at all.
   */
  async lookForReady(): Promise<void> {
    const { database, log, isIdle, isListening, wake } = this.#parts
    const suspected = this.#suspects
    this.#suspects = new Set()
    if (!isIdle()) return
    const overdue = await overdueTasks(database, lookForReadyMs)
    if (!isIdle() || overdue.length === 0) return
    if (!isListening()) return wake()
    this.#suspects = new Set(overdue)
    const missed = overdue.filter((task) => suspected.has(task))
    if (missed.length === 0) return
    this.#found += missed.length
    log.error({ tasks: missed }, 'guard poll: tasks were ready beside a free slot, and no event had told')
    wake()
  }

  /** Now and then, what is only of passing interest: else it would grow for ever. */
  async #forget(): Promise<void> {
    if (performance.now() - this.#forgotAt < forgetEveryMs) return
    this.#forgotAt = performance.now()
    for (let slice = 0; slice < MOST_SLICES; slice++)
      if ((await forgetPassing(this.#parts.database)) < FULL_SLICE) return
  }

  /** The next slice of the audit, and what the death of a dispatcher may have left undone. */
  async poll(): Promise<void> {
    const { database, log, leaseMs, wake } = this.#parts
    const { found } = await guardPoll(database)
    for (const find of found) log.error({ find }, 'guard poll: a runnable task was missed by every event')
    this.#found += found.length
    if (found.length > 0) wake()
    await this.#forget()
    // Whoever recorded a part's end may have died before it stopped the others.
    await stopFailing(database)
    const forgotten = await forgottenTasks(database, 2 * leaseMs)
    this.#forgotten = forgotten.length
    if (forgotten.length > 0) log.error({ forgotten }, 'tasks are in progress and nobody looks after them')
  }
}

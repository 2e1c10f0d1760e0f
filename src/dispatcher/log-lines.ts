// What running tasks say, written in batches: of hundreds that run at once each says a line now and then, and a round trip for each
// would cost more than the work. Nobody waits for it.
import type { Logger } from 'pino'
import type { Sql } from '../db/open.ts'
import { appendLogs, type NewLine } from '../queue/log.ts'

/** A reader hardly notices; a start says three lines within this. */
const gatherMs = 40
const mostLines = 1000

export class LogLines {
  readonly #sql: Sql
  readonly #log: Logger
  #lines: (NewLine & { saidAt: number })[] = []
  #writing: Promise<void> = Promise.resolve()
  #timer: NodeJS.Timeout | undefined

  constructor(sql: Sql, log: Logger) {
    this.#sql = sql
    this.#log = log
  }

  add(line: NewLine): void {
    this.#lines.push({ ...line, saidAt: performance.now() })
    this.#timer ??= setTimeout(() => void this.flush(), gatherMs)
  }

  /** Resolves when everything that was said before is written, or given up. */
  flush(): Promise<void> {
    clearTimeout(this.#timer)
    this.#timer = undefined
    this.#writing = this.#writeAfter(this.#writing)
    return this.#writing
  }

  async #writeAfter(earlier: Promise<void>): Promise<void> {
    await earlier
    while (this.#lines.length > 0) await this.#write(this.#lines.splice(0, mostLines))
  }

  async #write(lines: readonly (NewLine & { saidAt: number })[]): Promise<void> {
    const now = performance.now()
    const aged = lines.map(({ saidAt, ...line }) => ({ ...line, agoMs: now - saidAt }))
    try {
      await appendLogs(this.#sql, aged)
    } catch (error) {
      if (aged.length === 1) this.#log.warn({ err: error, task: aged[0]?.task }, 'a note on a task was not kept')
      // One that cannot be kept must not take the others with it.
      else for (const line of lines) await this.#write([line])
    }
  }
}

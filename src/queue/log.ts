// What a running task says for people: log lines and progress. Neither touches the rows that the queue works with.

import type { JsonObject } from '../db/json.ts'
import type { Sql } from '../db/open.ts'
import type { Progress } from './task.ts'

export type LogLevel = 'debug' | 'info' | 'warn' | 'error'

export type LogLine = {
  id: number
  task: number
  attempt: number | null
  at: Date
  level: LogLevel
  message: string
  data: JsonObject | null
}

const LONGEST_MESSAGE = 10_000

export type NewLine = {
  task: number
  attempt: number
  level: LogLevel
  message: string
  data?: JsonObject
  /** How long ago it was said; default 0. */
  agoMs?: number
}

/** In the order in which they were said; without what is said for attempts that are over, or whose dispatcher has lost its lease. */
export async function appendLogs(db: Sql, lines: readonly NewLine[]): Promise<void> {
  if (lines.length === 0) return
  const rows = lines.map(({ message, agoMs = 0, ...line }) => ({
    ...line,
    agoMs,
    message: message.slice(0, LONGEST_MESSAGE).replaceAll('\0', '\u{fffd}')
  }))
  await db.query('select queue.append_logs($1::jsonb)', [JSON.stringify(rows)])
}

/** Replaces the last; what a past attempt says does not replace a newer one's. */
export async function setProgress(
  db: Sql,
  report: { task: number; attempt: number; progress: Progress }
): Promise<void> {
  await db.query('select queue.set_progress($1, $2, $3::jsonb)', [
    report.task,
    report.attempt,
    JSON.stringify(report.progress)
  ])
}

/** In order; `after` is the id of the last line seen. */
export async function readLog(db: Sql, request: { task: number; after?: number; limit?: number }): Promise<LogLine[]> {
  return db.query<LogLine>(
    'select id, task, attempt, at, level, message, data from queue.log where task = $1 and id > $2 order by id limit $3',
    [request.task, request.after ?? 0, Math.min(request.limit ?? 1000, 10_000)]
  )
}

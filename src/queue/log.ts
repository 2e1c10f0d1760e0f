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

export async function appendLog(
  db: Sql,
  line: { task: number; attempt: number; level: LogLevel; message: string; data?: JsonObject }
): Promise<void> {
  await db.query('select queue.append_log($1, $2, $3, $4, $5::jsonb)', [
    line.task,
    line.attempt,
    line.level,
    line.message.slice(0, LONGEST_MESSAGE).replaceAll('\0', '\u{fffd}'),
    line.data === undefined ? null : JSON.stringify(line.data)
  ])
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

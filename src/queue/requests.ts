// What people ask of a task: to hold it, let it go, cancel it, bring it back. Who may is decided above.

import { DatabaseError } from '../db/error.ts'
import type { Database, Sql } from '../db/open.ts'
import { doChores } from './chores.ts'
import { raised } from './error.ts'

// Twice in a row another request came between our look and our locks: that is bad luck; five times it is something else.
const MAX_RACES = 5

/**
 * Until released it does not run; it gives up its place in the lines, and so does what needs it. Holding again changes the reason.
 * @throws QueueError task_not_found, already_started, already_ended
 */
export async function hold(db: Database, request: { task: number; reason: string; by: string }): Promise<void> {
  await racing(db, () => raised(db.query('select queue.hold($1, $2, $3)', [request.task, request.reason, request.by])))
  await doChores(db)
}

async function racing<T>(db: Database, request: () => Promise<T>): Promise<T> {
  for (let race = 1; ; race++) {
    try {
      return await request()
    } catch (error) {
      if (!(error instanceof DatabaseError) || error.code !== 'conflict' || race === MAX_RACES) throw error
      await doChores(db)
    }
  }
}

/** It takes a place at the end of the lines. @throws QueueError not_held */
export async function release(db: Database, request: { task: number; by: string }): Promise<void> {
  await raised(db.query('select queue.release($1, $2)', [request.task, request.by]))
  await doChores(db)
}

export type Cancelled =
  /** It had not begun, and has ended. */
  | 'cancelled'
  /** Whoever runs it is asked to stop; its children that had not begun have ended. It may still complete. */
  | 'cancelling'
  /** It had ended before. */
  | 'ended'

/** @throws QueueError task_not_found */
export async function cancel(db: Database, request: { task: number; by: string; reason?: string }): Promise<Cancelled> {
  const answer = await cancelOne(db, request)
  await doChores(db)
  return answer
}

async function cancelOne(db: Database, request: { task: number; by: string; reason?: string }): Promise<Cancelled> {
  const [row] = await raised(
    db.query<{ answer: Cancelled; children: number[] }>('select * from queue.cancel($1, $2, $3)', [
      request.task,
      request.by,
      request.reason ?? null
    ])
  )
  for (const child of row?.children ?? []) await cancelOne(db, { ...request, task: child })
  return row?.answer ?? 'ended'
}

/**
 * Brings a failed or cancelled task back, at the end of the lines; with what failed only because it did, if asked.
 * Returns the tasks that are open again.
 * @throws QueueError task_not_found, not_ended, parent_decides, prerequisite_ended_badly
 */
export async function retry(
  db: Database,
  request: { task: number; by: string; withDependants: boolean }
): Promise<number[]> {
  const [row] = await racing(db, () =>
    raised(
      db.query<{ back: number[] }>('select queue.retry($1, $2, $3) as back', [
        request.task,
        request.by,
        request.withDependants
      ])
    )
  )
  await doChores(db)
  return row?.back ?? []
}

/** Tasks that this dispatcher runs and someone asked to cancel. */
export async function cancelRequests(db: Sql, dispatcher: number): Promise<number[]> {
  const rows = await db.query<{ task: number }>('select task from queue.cancel_requests($1)', [dispatcher])
  return rows.map(({ task }) => task)
}

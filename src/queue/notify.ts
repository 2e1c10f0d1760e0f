// How others hear that the queue has changed: two channels that say "look", and the events to look at.

import type { Sql } from '../db/open.ts'

export const channels = {
  /** A dispatcher has gone and left running tasks. Without payload. */
  left: 'queue_left',
  /** Something became ready, or a running task is asked to stop. Without payload. */
  ready: 'queue_ready',
  /** There are new events. Without payload. */
  event: 'queue_event'
} as const

export type QueueEvent = {
  id: number
  at: Date
  submitted: number[]
  started: number[]
  ended: number[]
  /** Held, released, parked, put aside, expanded, cancelled on request … */
  changed: number[]
}

/**
 * Events after the one named, in order, each transaction's at once. Only such as no transaction under way can still come before:
 * so an event may show up a moment after its notification; read again then.
 */
export async function readEvents(db: Sql, request: { after: number; limit?: number }): Promise<QueueEvent[]> {
  return db.query<QueueEvent>(
    `select id, at, submitted, started, ended, changed from queue.event
     where id > $1 and id < pg_snapshot_xmin(pg_current_snapshot())::text::bigint
     order by id limit $2`,
    [request.after, Math.min(request.limit ?? 1000, 10_000)]
  )
}

/** Where a new reader begins: what it reads of tasks after this call includes everything up to here. */
export async function lastEvent(db: Sql): Promise<number> {
  const [row] = await db.query<{ last: number }>(
    'select pg_snapshot_xmin(pg_current_snapshot())::text::bigint - 1 as last'
  )
  return row?.last ?? 0
}

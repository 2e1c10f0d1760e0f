// Caps of limited keys, such as migrations out of a host. Tasks name the units they need at submission; the queue grants them in
// order of priority and position, on the way into ready.

import type { Sql } from '../db/open.ts'

/**
 * A key has its own cap, else that of its kind, `starts/*` for `starts/h1`, else room for all. null takes the key's own away.
 * Lowering a cap takes nothing from what runs.
 */
export async function setCap(db: Sql, key: string, cap: number | null): Promise<void> {
  await db.query('select queue.set_cap($1, $2)', [key, cap])
}

/** `own`: the cap was set for this very key. `queued`: tasks that wait for units of it. */
export type LimitUse = { key: string; cap: number | null; own: boolean; used: number; queued: number }

export async function readLimits(db: Sql): Promise<LimitUse[]> {
  return db.query<LimitUse>(
    `select coalesce(k.key, c.key) as key, queue.cap_of(coalesce(k.key, c.key)) as cap, c.key is not null as own, coalesce(k.used, 0)::integer as used, coalesce(k.queued, 0)::integer as queued
     from queue.cap c full join (
       select key, sum(units) filter (where granted) as used, count(*) filter (where queued) as queued
       from queue.cost where granted or queued group by key
     ) k on k.key = c.key
     order by 1`
  )
}

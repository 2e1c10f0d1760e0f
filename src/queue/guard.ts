// The guard poll: holds the definition of runnable against what events have made of it. It repairs what it finds; each find is a
// fault of ours, to be logged as an error with everything about it, and counted.

import type { JsonObject } from '../db/json.ts'
import type { Database, Sql } from '../db/open.ts'
import { doChores } from './chores.ts'

export type GuardFind = {
  kind:
    | 'missed' // runnable, and nothing had made it ready
    | 'ready_but_not_runnable'
    | 'miscounted' // a counter of prerequisites, or of what bars it, was wrong
    | 'not_one_place' // open, and not in exactly one of wait, ready, run
    | 'ended_but_open'
    | 'claim_of_ended'
    | 'parked_beside_free_units'
  task: number
  about: JsonObject
}

const GUARD_SLICE = 5_000

/** Looks at the next slice of open tasks, and at what can only be seen as a whole. Call it every few seconds. */
export async function guardPoll(db: Database, options: { size?: number } = {}): Promise<{ found: GuardFind[] }> {
  const found = await db.query<GuardFind>('select * from queue.guard_poll($1)', [options.size ?? GUARD_SLICE])
  await doChores(db)
  return { found }
}

/** One slice from an id on; `next` is null at the end. For walking the whole queue at once. */
async function auditSlice(
  db: Sql,
  options: { from: number; size?: number }
): Promise<{ next: number | null; found: GuardFind[] }> {
  const rows = await db.query<{ next_task: number | null } & (GuardFind | { kind: null })>(
    'select * from queue.audit_slice($1, $2)',
    [options.from, options.size ?? GUARD_SLICE]
  )
  const found = rows.flatMap((row) => (row.kind === null ? [] : [{ kind: row.kind, task: row.task, about: row.about }]))
  return { next: rows[0]?.next_task ?? null, found }
}

/** Walks all open tasks. */
export async function auditAll(db: Sql): Promise<GuardFind[]> {
  const all: GuardFind[] = []
  for (let from: number | null = 0; from !== null;) {
    const { next, found }: { next: number | null; found: GuardFind[] } = await auditSlice(db, { from })
    all.push(...found)
    from = next
  }
  return all
}

/** Forgets events and idempotency keys that are too old to be asked for, up to 10,000 of each. Returns how many. */
export async function forgetPassing(db: Sql): Promise<number> {
  const [row] = await db.query<{ gone: number }>('select queue.prune() as gone')
  return row?.gone ?? 0
}

/** Finds since the database was made, and refused reports of past attempts: for metrics. */
export async function guardCounts(db: Sql): Promise<{ found: number; staleReports: number }> {
  const [row] = await db.query<{ found: number; staleReports: number }>(
    `select (select count(*) from queue.guard_find) as found, (select count(*) from queue.stale_report) as "staleReports"`
  )
  return row ?? { found: 0, staleReports: 0 }
}

// A dispatcher's side of the queue: its lease, and the one round trip in which it reports ends and takes what is ready. What to do
// with a task, and when to call, is the dispatcher's business.

import { DatabaseError } from '../db/error.ts'
import type { Json, JsonObject } from '../db/json.ts'
import type { Database, Sql } from '../db/open.ts'
import { doChores } from './chores.ts'
import { QueueError, raised } from './error.ts'
import type { EndState } from './state.ts'
import type { TaskError } from './task.ts'

export { bind } from './bind.ts'
export { expand } from './expand.ts'

/** @param leaseMs how long it may be silent; beat three times as often. By the database's clock. */
export async function registerDispatcher(db: Sql, options: { name: string; leaseMs: number }): Promise<{ id: number }> {
  const [row] = await db.query<{ id: number }>('select queue.register_dispatcher($1, $2) as id', [
    options.name,
    options.leaseMs
  ])
  if (!row) throw new QueueError('dispatcher_not_found', 'the dispatcher was not registered')
  return row
}

/** `lost`: the lease had run out. It is not given back; register anew, and leave alone what was running. */
export async function beat(db: Sql, dispatcher: number): Promise<'alive' | 'lost'> {
  const [row] = await db.query<{ alive: boolean }>('select queue.beat($1) as alive', [dispatcher])
  return row?.alive ? 'alive' : 'lost'
}

/** Gives the lease up: what still runs is left to whoever takes over. May be called twice. */
export async function unregisterDispatcher(db: Sql, dispatcher: number): Promise<void> {
  await db.query('select queue.unregister_dispatcher($1)', [dispatcher])
}

/** In the transaction of what a task writes elsewhere. @throws QueueError lease_lost: it is no longer the dispatcher's to write */
export async function proveLease(tx: Sql, dispatcher: number): Promise<void> {
  await raised(tx.query('select queue.prove_lease($1)', [dispatcher]))
}

export type End = { task: number; attempt: number } & (
  | { outcome: 'complete'; result: Json }
  | { outcome: 'failed'; error: TaskError }
  | { outcome: 'cancelled'; error: TaskError }
  /** Tried again after a while. Its claims stay. */
  | { outcome: 'retry'; afterMs: number; error: TaskError }
  /** Put aside until unpark(key). Its claims stay. */
  | { outcome: 'park'; reason: string; key: string }
  /** Holds no slot; a later end of the same attempt ends it. At the deadline it is handed out to be probed. */
  | { outcome: 'awaiting'; what: string; deadlineMs: number }
  /** Nobody can tell whether it happened. Its claims stay until a later end or a verdict. */
  | { outcome: 'uncertain'; error: TaskError; evidence: Json }
)

export type ClaimedTask = {
  id: number
  attempt: number
  action: string
  title: string
  args: JsonObject
  plan: number | null
  parent: number | null
  priority: number
  /** bind() must be called before it counts as started. */
  binds: boolean
  /** What an earlier attempt bound. */
  bound: JsonObject | null
  by: string
  /** Set when it expanded and all of them have ended. */
  children: EndedChild[] | null
  previousAttempts: number
  /** Another dispatcher had begun it: probe first. */
  takenOver: boolean
}

export type EndedChild = {
  id: number
  index: number
  action: string
  title: string
  args: JsonObject
  state: EndState
  result: Json
  error: TaskError | null
  /** How it would be undone, as it was written before it ran (undo.ts). */
  undo: JsonObject | null
  /** The task that it undoes, if that is what it is for. */
  undoes: number | null
}

export type Settled = {
  settled: { task: number; attempt: number; outcome: 'recorded' | 'stale' }[]
  claimed: ClaimedTask[]
  /** Until the next scheduled task is due; null when there is none. */
  nextDueMs: number | null
  /** An answer was lost: tasks may have been given to the dispatcher that are not in `claimed` (takeOver finds them). */
  unsure?: boolean
}

export type ClaimedRow = Omit<ClaimedTask, 'id' | 'previousAttempts' | 'takenOver'> & { task: number }

type SettleRow = ClaimedRow & {
  kind: 'claimed' | 'stale' | 'due' | 'chores' | 'lease_lost'
  number: number | null
}

/**
 * Records ends, then takes up to `take` ready tasks, in one transaction and round trip. Given a Database, it also does the chores
 * that the ends gave rise to; inside of a caller's transaction they are left to the next call.
 * A report of an attempt that is no longer the task's is `stale`: refused, counted and logged.
 * @throws QueueError lease_lost: nothing was recorded, all of `ends` are stale.
 */
export async function settle(
  db: Sql | Database,
  request: { dispatcher: number; ends: readonly End[]; take: number }
): Promise<Settled> {
  const { answer, chores } = await settleOnce(db, request)
  if (!chores || !('transaction' in db)) return answer
  try {
    await doChores(db)
    // What they made ready is taken at once, as if they had been part of this call.
    const wanted = request.take - answer.claimed.length
    if (wanted <= 0) return answer
    const more = await settleOnce(db, { dispatcher: request.dispatcher, ends: [], take: wanted })
    // What became due only now wants its place: the next call is worth making at once.
    const nextDueMs = more.chores ? 0 : more.answer.nextDueMs
    return { ...answer, claimed: [...answer.claimed, ...more.answer.claimed], nextDueMs }
  } catch (error) {
    // What was recorded and taken before is; what is left is left to the next call, which is worth making at once.
    if (!(error instanceof DatabaseError)) throw error
    return { ...answer, nextDueMs: 0, unsure: true }
  }
}

async function settleOnce(
  db: Sql,
  { dispatcher, ends, take }: { dispatcher: number; ends: readonly End[]; take: number }
): Promise<{ answer: Settled; chores: boolean }> {
  const rows = await raised(
    db.query<SettleRow>('select * from queue.settle($1, $2::jsonb, $3)', [dispatcher, JSON.stringify(ends), take])
  )
  const stale = new Set<number>()
  const claimed: ClaimedTask[] = []
  let nextDueMs: number | null = null
  let chores = false
  for (const row of rows) {
    if (row.kind === 'claimed') claimed.push(claimedTask(row, false))
    else if (row.kind === 'stale') stale.add(row.task)
    else if (row.kind === 'due') nextDueMs = row.number
    else if (row.kind === 'chores') chores = true
    else throw new QueueError('lease_lost', `the lease of dispatcher ${dispatcher} has run out`)
  }
  const settled = ends.map(({ task, attempt }) => {
    const outcome: 'stale' | 'recorded' = stale.has(task) ? 'stale' : 'recorded'
    return { task, attempt, outcome }
  })
  return { answer: { settled, claimed, nextDueMs }, chores }
}

function claimedTask(row: ClaimedRow, takenOver: boolean): ClaimedTask {
  const { task, attempt, action, title, args, plan, parent, priority, binds, bound, by, children } = row
  return {
    id: task,
    attempt,
    action,
    title,
    args,
    plan,
    parent,
    priority,
    binds,
    bound,
    by,
    children,
    previousAttempts: attempt - 1,
    takenOver
  }
}

/** Wakes what was parked with that key. Returns how many. */
export async function unpark(db: Sql, key: string): Promise<number> {
  const [row] = await db.query<{ woken: number }>('select queue.unpark($1) as woken', [key])
  return row?.woken ?? 0
}

/**
 * Hands out tasks that nobody looks after any more: running ones whose dispatcher has no lease, awaited ones past their deadline.
 * Each is a new attempt, `takenOver`: probe first.
 * @param holding what the caller runs, or has to report: its running tasks that are not among these were given to it in an answer that
 * was lost, and are handed out too. To be told only while no other call of this dispatcher is under way.
 * @throws QueueError lease_lost
 */
export async function takeOver(
  db: Sql,
  dispatcher: number,
  limit = 100,
  holding?: readonly { task: number; attempt: number }[]
): Promise<ClaimedTask[]> {
  const rows = await raised(
    db.query<ClaimedRow>('select * from queue.take_over($1, $2, $3, $4)', [
      dispatcher,
      limit,
      holding?.map(({ task }) => task) ?? null,
      holding?.map(({ attempt }) => attempt) ?? null
    ])
  )
  return rows.map((row) => claimedTask(row, true))
}

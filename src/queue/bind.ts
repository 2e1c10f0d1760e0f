// Late claims: just before it runs, a task's claims become exactly what it really touches. Deciding that is not done here.

import type { JsonObject } from '../db/json.ts'
import type { Sql } from '../db/open.ts'
import { QueueError, raised } from './error.ts'
import type { Claim, Units } from './task.ts'

export type Bound =
  | { outcome: 'started' }
  /** Not free: it waits for these and its attempt is over. Report nothing more of it. */
  | { outcome: 'waiting'; for: number[] }
  /** The same, for want of units: parked until it is granted them. */
  | { outcome: 'limited' }
  /** No longer this attempt's task. */
  | { outcome: 'stale' }

/**
 * The claims of a running task that `binds` become `claims`, its units `limits` (left out: they stay what they are); `bound` is kept
 * with it. Waits only for what has started; what has not is put behind it. May run inside a transaction that decided on the claims, if that has locked no task or resource.
 * @throws QueueError lease_lost, not_binding, circle
 */
export async function bind(
  db: Sql,
  request: {
    dispatcher: number
    task: number
    attempt: number
    claims: readonly Claim[]
    bound: JsonObject | null
    limits?: readonly Units[]
  }
): Promise<Bound> {
  const { dispatcher, task, attempt, claims, bound, limits } = request
  const [row] = await raised(
    db.query<{ answer: 'started' | 'waiting' | 'limited' | 'stale' | 'lease_lost'; waits_for: number[] }>(
      'select * from queue.bind($1, $2, $3, $4, $5, $6::jsonb, $7::jsonb)',
      [
        dispatcher,
        task,
        attempt,
        claims.map(({ resource }) => resource),
        claims.map(({ mode }) => mode === 'exclusive'),
        bound === null ? null : JSON.stringify(bound),
        limits === undefined ? null : JSON.stringify(limits)
      ]
    )
  )
  if (row?.answer === 'started') return { outcome: 'started' }
  if (row?.answer === 'waiting') return { outcome: 'waiting', for: row.waits_for }
  if (row?.answer === 'limited') return { outcome: 'limited' }
  if (row?.answer === 'stale') return { outcome: 'stale' }
  throw new QueueError('lease_lost', `the lease of dispatcher ${dispatcher} has run out`)
}

export type Binding = {
  task: number
  attempt: number
  claims: readonly Claim[]
  bound: JsonObject | null
  limits?: readonly Units[]
  /** How what it does would be undone: kept once, by the first attempt that says it. */
  undo?: JsonObject
}

/**
 * As bind, for many tasks that nothing should keep from starting. Where something does, its answer is `alone`: nothing was done for it, and
 * bind() tells. Names of resources that nobody has claimed yet are made first (ensureResources).
 * @throws QueueError lease_lost
 */
export async function bindMany(
  db: Sql,
  request: { dispatcher: number; bindings: readonly Binding[] }
): Promise<Map<number, 'started' | 'alone'>> {
  const { dispatcher, bindings } = request
  const rows = await raised(
    db.query<{ task: number; answer: 'started' | 'alone' }>('select * from queue.bind_many($1, $2::jsonb)', [
      dispatcher,
      JSON.stringify(bindings)
    ])
  )
  if (rows.length < bindings.length)
    throw new QueueError('lease_lost', `the lease of dispatcher ${dispatcher} has run out`)
  return new Map(rows.map(({ task, answer }) => [task, answer]))
}

/** For an attempt that is about to be parked since there is nothing to bind it to: keeps what was considered with the task. */
export async function noteUnbound(
  db: Sql,
  request: { dispatcher: number; task: number; attempt: number; about: JsonObject }
): Promise<void> {
  const { dispatcher, task, attempt, about } = request
  await db.query('select queue.note_unbound($1, $2, $3, $4::jsonb)', [dispatcher, task, attempt, JSON.stringify(about)])
}

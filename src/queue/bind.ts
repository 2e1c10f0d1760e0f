// Late claims: just before it runs, a task's claims become exactly what it really touches. Deciding that is not done here.

import type { JsonObject } from '../db/json.ts'
import type { Sql } from '../db/open.ts'
import { QueueError, raised } from './error.ts'
import type { Claim } from './task.ts'

export type Bound =
  | { outcome: 'started' }
  /** Not free: it waits for these and its attempt is over. Report nothing more of it. */
  | { outcome: 'waiting'; for: number[] }
  /** No longer this attempt's task. */
  | { outcome: 'stale' }

/**
 * The claims of a running task that `binds` become `claims`; `bound` is kept with it. Waits only for what has started; what has not
 * is put behind it. May run inside a transaction that decided on the claims, if that has locked no task or resource.
 * @throws QueueError lease_lost, not_binding, circle
 */
export async function bind(
  db: Sql,
  request: { dispatcher: number; task: number; attempt: number; claims: readonly Claim[]; bound: JsonObject | null }
): Promise<Bound> {
  const { dispatcher, task, attempt, claims, bound } = request
  const [row] = await raised(
    db.query<{ answer: 'started' | 'waiting' | 'stale' | 'lease_lost'; waits_for: number[] }>(
      'select * from queue.bind($1, $2, $3, $4, $5, $6::jsonb)',
      [
        dispatcher,
        task,
        attempt,
        claims.map(({ resource }) => resource),
        claims.map(({ mode }) => mode === 'exclusive'),
        bound === null ? null : JSON.stringify(bound)
      ]
    )
  )
  if (row?.answer === 'started') return { outcome: 'started' }
  if (row?.answer === 'waiting') return { outcome: 'waiting', for: row.waits_for }
  if (row?.answer === 'stale') return { outcome: 'stale' }
  throw new QueueError('lease_lost', `the lease of dispatcher ${dispatcher} has run out`)
}

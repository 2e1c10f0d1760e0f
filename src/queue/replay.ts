// The answer to a submission that was accepted before under the same idempotency key: looked up before anything is evaluated,
// since what the first one brought about may make a second one impossible.
import type { Sql } from '../db/open.ts'
import { QueueError } from './error.ts'

export type Replay = { plan: number | null; tasks: { id: number; action: string; title: string }[] }

/** @throws QueueError idempotency_mismatch when the key was used for another request */
export async function submittedBefore(
  db: Sql,
  idempotency: { key: string; fingerprint: string }
): Promise<Replay | null> {
  const [earlier] = await db.query<{ fingerprint: string; plan: number | null; tasks: Replay['tasks'] | null }>(
    `select i.fingerprint, i.plan, (
       select jsonb_agg(jsonb_build_object('id', t.id, 'action', t.action, 'title', t.title) order by e.at)
       from unnest(i.tasks) with ordinality as e(task, at) join queue.task t on t.id = e.task) as tasks
     from queue.idempotency i where i.key = $1`,
    [idempotency.key]
  )
  if (!earlier) return null
  if (earlier.fingerprint !== idempotency.fingerprint) {
    throw new QueueError('idempotency_mismatch', `key ${idempotency.key} was used for another submission`)
  }
  return { plan: earlier.plan, tasks: earlier.tasks ?? [] }
}

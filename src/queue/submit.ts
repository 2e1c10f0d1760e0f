// Submitting tasks, in the caller's transaction: the caller locks what the tasks claim, decides on what it then sees, and submits.

import type { JsonObject } from '../db/json.ts'
import type { Sql, Tx } from '../db/open.ts'
import { QueueError, raised } from './error.ts'
import type { Claim, NewTask, Submission } from './task.ts'

export type { Submission } from './task.ts'

const MAX_TASKS_A_SUBMISSION = 100_000
const LONGEST_NAME = 1_000

/** Makes names claimable. In a transaction of its own, before the one that locks them: two that make the same one would else wait. */
export async function ensureResources(db: Sql, names: readonly string[]): Promise<void> {
  const bad = names.find((name) => name.length === 0 || name.length > LONGEST_NAME || name.includes('\0'))
  if (bad !== undefined) {
    throw new QueueError('invalid_submission', `a resource's name has 1 to ${LONGEST_NAME} characters, without NUL`)
  }
  if (names.length > 0) await raised(db.query('select queue.ensure_resources($1)', [names]))
}

/** In one pass by name, shared claims `for key share`, exclusive ones `for update`. Lock everything that will be submitted at once. */
export async function lockResources(tx: Tx, claims: readonly Claim[]): Promise<void> {
  if (claims.length === 0) return
  const names = claims.map(({ resource }) => resource)
  const exclusive = claims.map(({ mode }) => mode === 'exclusive')
  await raised(tx.query('select queue.lock_resources($1, $2)', [names, exclusive]))
}

export type OpenEffect = { task: number; action: string; title: string; subject: string; facts: JsonObject | null }

/** What the open tasks will bring about of these subjects, in the order in which they will. Stable while their claims are locked. */
export async function openEffects(tx: Sql, subjects: readonly string[]): Promise<OpenEffect[]> {
  if (subjects.length === 0) return []
  return tx.query<OpenEffect>('select * from queue.open_effects($1)', [subjects])
}

export type Submitted = { plan: number | null; tasks: number[]; replayed: boolean }

/**
 * Stores the tasks with their claims, effects and prerequisites. Every resource must have been made known by ensureResources.
 * @throws QueueError later_position, task_not_found, prerequisite_ended_badly, idempotency_mismatch, resource_missing, too_many_tasks
 */
export async function submit(tx: Tx, submission: Submission): Promise<Submitted> {
  const { tasks, plan, by, reason, idempotency } = submission
  if (tasks.length === 0 || tasks.length > MAX_TASKS_A_SUBMISSION) {
    throw new QueueError('too_many_tasks', `a submission has 1 to ${MAX_TASKS_A_SUBMISSION} tasks, not ${tasks.length}`)
  }
  const [row] = await raised(
    tx.query<Submitted>('select * from queue.submit($1::jsonb, $2::jsonb, $3, $4, $5, $6)', [
      JSON.stringify(tasks.map(taskRow)),
      plan === undefined ? null : JSON.stringify(plan),
      by,
      reason ?? null,
      idempotency?.key ?? null,
      idempotency?.fingerprint ?? null
    ])
  )
  if (!row) throw new QueueError('invalid_submission', 'nothing was stored')
  return row
}

/** As queue.submit and queue.expand read it; what is left out there is left out here. */
export function taskRow(task: NewTask): object {
  const { action, title, args, claims, effects, after, priority, notBefore, hold, binds, limits, undo } = task
  if (priority !== undefined && !(Number.isInteger(priority) && Math.abs(priority) <= 100)) {
    throw new QueueError('invalid_submission', `priority is a whole number from -100 to 100, not ${priority}`)
  }
  return {
    action,
    title,
    args,
    claims: claims.map(({ resource, mode }) => ({ resource, mode })),
    effects,
    binds,
    ...(priority === undefined ? {} : { priority }),
    ...(after === undefined || after.length === 0
      ? {}
      : {
          after: after.map(({ task: ref, needs }) =>
            typeof ref === 'number' ? { task: ref, needs } : { element: ref.index, needs }
          )
        }),
    ...(notBefore === undefined ? {} : { notBefore: new Date(notBefore).toISOString() }),
    ...(hold === undefined ? {} : { hold: { reason: hold.reason } }),
    ...(limits === undefined || limits.length === 0 ? {} : { limits }),
    ...(undo === undefined ? {} : { undo })
  }
}

// Rewriting tasks that have not begun, when what they name no longer takes them: another host, say. They keep their places; how, is in
// sql/0141_queue_rewrite.sql. Whether a task is possible so, is decided by the caller, in the same transaction.

import type { JsonObject } from '../db/json.ts'
import type { Sql, Tx } from '../db/open.ts'
import { QueueError, raised } from './error.ts'
import type { Claim, Effect, Units } from './task.ts'

export type Rewrite = {
  task: number
  /** As it was when the caller looked: a task that was tried since is left alone. */
  attempts: number
  title: string
  args: JsonObject
  claims: readonly Claim[]
  effects: readonly Effect[]
  limits?: readonly Units[]
  /** For its log: who rewrote it, and why. */
  message: string
  data?: JsonObject
}

export type Rewritten =
  | 'rewritten'
  /** It runs, has parts, was asked to stop, or was tried since it was looked at. */
  | 'begun'
  | 'ended'
  /** With these claims it would wait for itself. */
  | 'circle'

/**
 * To be called first, by who decides on rewrites in the same transaction: until it ends nothing is bound or expanded, and nothing that
 * claims one of these is submitted. The resources must be known.
 */
export async function lockForRewriting(tx: Tx, resources: readonly string[]): Promise<void> {
  await raised(tx.query('select queue.lock_for_rewriting($1)', [resources]))
}

/** Holds one of them instead, in that transaction. False when it has begun or ended. */
export async function holdInstead(tx: Tx, request: { task: number; reason: string; by: string }): Promise<boolean> {
  await tx.query('savepoint holding')
  try {
    await raised(tx.query('select queue.hold($1, $2, $3)', [request.task, request.reason, request.by]))
    return true
  } catch (error) {
    if (!(error instanceof QueueError) || !['already_started', 'already_ended'].includes(error.code)) throw error
    await tx.query('rollback to savepoint holding')
    return false
  }
}

/**
 * Each answer in order of `rewrites`. The resources of new claims must have been made known by ensureResources. In a transaction that
 * has locked no task before, and no resource but by lockForRewriting. @throws QueueError resource_missing, too_many_tasks
 */
export async function rewrite(
  tx: Tx,
  request: { rewrites: readonly Rewrite[]; by: string }
): Promise<{ task: number; answer: Rewritten }[]> {
  const { rewrites, by } = request
  if (rewrites.length === 0) return []
  const rows = await raised(
    tx.query<{ task: number; answer: Rewritten }>('select * from queue.rewrite($1::jsonb, $2)', [
      JSON.stringify(rewrites.map((one) => ({ ...one, limits: one.limits ?? [], data: one.data ?? null }))),
      by
    ])
  )
  const answers = new Map(rows.map(({ task, answer }) => [task, answer]))
  return rewrites.map(({ task }) => ({ task, answer: answers.get(task) ?? 'ended' }))
}

export type Unstarted = {
  task: number
  attempts: number
  action: string
  title: string
  args: JsonObject
  /** Its position: of a part the path of ids, of a root its number alone, which is null while it has no place. */
  path: (number | null)[]
  /** Tasks that it needs explicitly. */
  after: number[]
  heldAs: string | null
}

/** Open tasks that nobody runs and that claim one of the resources, in the order of their positions. At most 10,000. */
export async function unstartedTasks(sql: Sql, resources: readonly string[]): Promise<Unstarted[]> {
  return sql.query<Unstarted>(
    `select t.id as task, w.attempts, t.action, t.title, t.args, coalesce(t.path, array[w.position]) as path, h.reason as "heldAs",
       (select coalesce(array_agg(p.prerequisite), '{}') from queue.prerequisite p where p.task = t.id and not p.derived) as after
     from (
       select distinct c.task from queue.claim c join queue.resource r on r.id = c.resource
       where r.name = any ($1::text[] collate "C")
     ) c
     join lateral (
       select task, attempts, position from queue.wait where task = c.task
       union all select task, attempts, position from queue.ready where task = c.task
     ) w on true
     join queue.task t on t.id = c.task
     left join queue.held h on h.task = c.task
     where not exists (select from queue.family f where f.parent = c.task)
     order by coalesce(t.path, array[w.position]) nulls last, t.id
     limit 10000`,
    [resources]
  )
}

/** The positions of open tasks; null for one that has none yet. What has ended is not among them. */
export async function positionsOf(sql: Sql, tasks: readonly number[]): Promise<Map<number, number[] | null>> {
  if (tasks.length === 0) return new Map()
  const rows = await sql.query<{ task: number; path: (number | null)[] }>(
    `select p.task, coalesce(t.path, array[p.position]) as path from queue.place p join queue.task t on t.id = p.task
     where p.task = any ($1::bigint[])`,
    [tasks]
  )
  return new Map(rows.map(({ task, path }) => [task, path.every((at) => at !== null) ? path.map(Number) : null]))
}

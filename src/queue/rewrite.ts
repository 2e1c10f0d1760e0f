// Rewriting tasks that have not begun, when what they name no longer takes them: another host, say. They keep their places; how, is in
// sql/0141_queue_rewrite.sql. Whether a task is possible so, is decided by the caller, in the same transaction.

import type { JsonObject } from '../db/json.ts'
import type { Sql, Tx } from '../db/open.ts'
import { raised } from './error.ts'
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
 * Each answer in order of `rewrites`. The resources of new claims must have been made known by ensureResources. In a transaction that
 * has locked no task and no resource before. @throws QueueError resource_missing, too_many_tasks
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
  /** How to restore the order of positions: of a child the path, of a root its position alone; null while it has none. */
  position: number | null
  /** Tasks that it needs explicitly. */
  after: number[]
  heldAs: string | null
}

/**
 * Open tasks that nobody runs and that claim one of the resources, or of the given actions with one of these arguments, in the order
 * of their positions. At most 10,000.
 */
export async function unstartedTasks(
  sql: Sql,
  request: { resources: readonly string[]; args: readonly { action: string; args: JsonObject }[] }
): Promise<Unstarted[]> {
  return sql.query<Unstarted>(
    `select t.id as task, w.attempts, t.action, t.title, t.args, w.position, h.reason as "heldAs",
       (select coalesce(array_agg(p.prerequisite), '{}') from queue.prerequisite p where p.task = t.id and not p.derived) as after
     from (
       select task, attempts, position from queue.wait union all select task, attempts, position from queue.ready
     ) w
     join queue.task t on t.id = w.task
     left join queue.held h on h.task = w.task
     where (
         w.task in (
           select c.task from queue.claim c join queue.resource r on r.id = c.resource
           where r.name = any ($1::text[] collate "C"))
         or exists (
           select from jsonb_to_recordset($2::jsonb) as a (action text, args jsonb)
           where t.action = a.action and t.args @> a.args))
       and not exists (select from queue.family f where f.parent = w.task)
     order by coalesce(t.path, array[w.position]) nulls last, t.id
     limit 10000`,
    [request.resources, JSON.stringify(request.args)]
  )
}

// Tasks that are under way on a resource: about to be bound, running, or begun and waiting for something that only people or hosts end.

import type { JsonObject } from '../db/json.ts'
import type { Sql } from '../db/open.ts'

/** Claimed, and not bound yet: nobody can tell what they will claim. */
export async function notYetBound(sql: Sql): Promise<{ task: number; attempt: number }[]> {
  return sql.query(`select task, attempt from queue.run where not started and phase = 'running' order by task`)
}

export type UnderWay = { task: number; action: string; title: string; args: JsonObject }

/** Of `attempts`, those that are still not bound; and all that run on the resource. Without `but` and its parts. */
export async function runningOn(
  sql: Sql,
  request: { resource: string; attempts: readonly { task: number; attempt: number }[]; but: number }
): Promise<{ unbound: number[]; running: UnderWay[] }> {
  const unbound = await sql.query<{ task: number }>(
    `select r.task from queue.run r
     join jsonb_to_recordset($1::jsonb) as a (task bigint, attempt integer) on a.task = r.task and a.attempt = r.attempt
     where not r.started and r.phase = 'running' and r.task <> $2`,
    [JSON.stringify(request.attempts), request.but]
  )
  const running = await sql.query<UnderWay>(
    `select t.id as task, t.action, t.title, t.args
     from queue.claim c
     join queue.resource r on r.id = c.resource and r.name = $1 collate "C"
     join queue.run q on q.task = c.task and q.phase = 'running'
     join queue.task t on t.id = c.task
     where t.id <> $2 and t.parent is distinct from $2
     order by t.id`,
    [request.resource, request.but]
  )
  return { unbound: unbound.map(({ task }) => task), running }
}

/** Begun, holding the resource, and going on only when somebody or something else does: parked, held, tried again later, uncertain. */
export async function stalledOn(
  sql: Sql,
  resources: readonly string[]
): Promise<{ resource: string; task: number; title: string; why: string }[]> {
  return sql.query(
    `select r.name as resource, t.id as task, t.title,
       coalesce(h.reason, p.reason, case when q.task is not null then 'nobody can tell whether it happened' end, 'it waits') as why
     from queue.resource r
     join queue.claim c on c.resource = r.id and c.exclusive
     join queue.task t on t.id = c.task
     left join queue.wait w on w.task = c.task and w.started
     left join queue.run q on q.task = c.task and q.phase = 'uncertain'
     left join queue.held h on h.task = c.task
     left join queue.parked p on p.task = c.task
     where r.name = any ($1::text[] collate "C") and (w.task is not null or q.task is not null)
       and not exists (select from queue.family f where f.parent = c.task)`,
    [resources]
  )
}

/** Of `tasks`, those that have not begun and stand behind `task`: what it does comes before what they do. */
export async function standBehind(sql: Sql, task: number, tasks: readonly number[]): Promise<Set<number>> {
  if (tasks.length === 0) return new Set()
  const rows = await sql.query<{ task: number }>(
    `select p.task from queue.place p join queue.task t on t.id = p.task
     where p.task = any ($2::bigint[]) and p.place <> 'run' and not p.started
       and coalesce(t.path, array[p.position]) > (
         select coalesce(o.path, array[q.position]) from queue.place q join queue.task o on o.id = q.task where q.task = $1)`,
    [task, tasks]
  )
  return new Set(rows.map(({ task: id }) => id))
}

/** Whether it has expanded. */
export async function hasParts(sql: Sql, task: number): Promise<boolean> {
  const [row] = await sql.query<{ has: boolean }>(`select exists (select from queue.family where parent = $1) as has`, [
    task
  ])
  return row?.has ?? false
}

/** Who asked to cancel it, if anybody did. */
export async function askedToCancel(
  sql: Sql,
  task: number
): Promise<{ by: string; reason: string | null } | undefined> {
  const [row] = await sql.query<{ by: string; reason: string | null }>(
    `select asked_by as by, reason from queue.cancel_request where task = $1`,
    [task]
  )
  return row
}

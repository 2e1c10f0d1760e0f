// Why a task is where it is, in one answer: what it waits for, at the root of each wait; which claims are in its way and who holds
// them; limits, holds, times, reasons; and what ends it. Words for people are made elsewhere.

import type { Sql } from '../db/open.ts'
import { QueueError } from './error.ts'
import type { TaskState } from './state.ts'
import type { ClaimMode, Needs } from './task.ts'

export type TaskBrief = { id: number; action: string; title: string; state: TaskState; since: Date | null }

export type Why = {
  task: TaskBrief
  /** Prerequisites that have not ended as needed. */
  prerequisites: {
    task: TaskBrief
    needs: Needs
    /** From conflicting claims; else asked for, or needed for what it brings about. */
    derived: boolean
    /** Where that chain of waiting ends, at most three: what runs, is held, is due later, or parked. Empty: it is itself the root. */
    roots: TaskBrief[]
  }[]
  /** Claims of open tasks before it that conflict with its own. */
  claims: { resource: string; mode: ClaimMode; heldAs: ClaimMode; task: TaskBrief; started: boolean }[]
  limits: { key: string; units: number; cap: number | null; used: number; usedBy: TaskBrief[] }[]
  held: { reason: string; by: string; since: Date } | null
  due: Date | null
  parked: { key: string; reason: string; since: Date } | null
  /** In progress and without a slot: what it awaits, until when. */
  awaiting: { what: string; deadline: Date | null; openChildren: TaskBrief[] } | null
  cancelRequested: { by: string; reason: string | null; at: Date } | null
  /** It needs a task that has no place in the lines, and takes one after that. */
  behindUnplaced: boolean
}

const MOST = 50

const BRIEF = `jsonb_build_object('id', t.id, 'action', t.action, 'title', t.title, 'state', coalesce(t.outcome, o.state),
  'since', coalesce(t.ended_at, o.started_at))`

type Row = Omit<Why, 'prerequisites' | 'claims' | 'limits' | 'awaiting'> & {
  awaiting: { what: string; deadline: Date | null } | null
}

/** @throws QueueError task_not_found */
export async function why(db: Sql, id: number): Promise<Why> {
  const [head] = await db.query<Row>(
    `select ${BRIEF} as task,
       (select jsonb_build_object('reason', h.reason, 'by', h.held_by, 'since', h.since) from queue.held h where h.task = t.id) as held,
       (select s.due from queue.scheduled s where s.task = t.id) as due,
       (select jsonb_build_object('key', p.key, 'reason', p.reason, 'since', p.since) from queue.parked p where p.task = t.id) as parked,
       (select jsonb_build_object('what', coalesce(r.awaiting, r.phase::text), 'deadline', r.deadline) from queue.run r
         where r.task = t.id and r.phase <> 'running') as awaiting,
       (select jsonb_build_object('by', c.asked_by, 'reason', c.reason, 'at', c.at) from queue.cancel_request c where c.task = t.id)
         as "cancelRequested",
       exists (select from queue.wait w where w.task = t.id and w.behind > 0) as "behindUnplaced"
     from queue.task t left join queue.open_state o on o.task = t.id and t.outcome is null
     where t.id = $1`,
    [id]
  )
  if (!head) throw new QueueError('task_not_found', `task ${id} not found`, { tasks: [id] })
  const [prerequisites, claims, limits, openChildren] = [
    await unmetPrerequisites(db, id),
    await conflictingClaims(db, id),
    await lackingLimits(db, id),
    head.awaiting ? await childrenOf(db, id) : []
  ]
  return revive({
    ...head,
    prerequisites,
    claims,
    limits,
    awaiting: head.awaiting ? { ...head.awaiting, openChildren } : null
  })
}

async function unmetPrerequisites(db: Sql, id: number): Promise<Why['prerequisites']> {
  return db.query(
    `select ${BRIEF} as task, p.needs, p.derived, coalesce((
         with recursive chain as (
           select p.prerequisite as id, 0 as depth
           union
           select n.id, c.depth + 1 from chain c cross join lateral (
             select q.prerequisite as id from queue.prerequisite q join queue.task b on b.id = q.prerequisite and b.outcome is null
               where q.task = c.id
             union all
             select k.id from queue.task k where k.parent = c.id and k.outcome is null
           ) n where c.depth < 100
         ), found as (
           select distinct c.id from (select * from chain limit 5000) c
           where c.id <> p.prerequisite
             and not exists (select from queue.prerequisite q join queue.task b on b.id = q.prerequisite and b.outcome is null where q.task = c.id)
             and not exists (select from queue.task k where k.parent = c.id and k.outcome is null)
           order by c.id limit 3
         )
         select jsonb_agg(f.brief) from (
           select ${BRIEF} as brief from found join queue.task t on t.id = found.id
           left join queue.open_state o on o.task = t.id and t.outcome is null) f
       ), '[]') as roots
     from queue.prerequisite p
     join queue.task t on t.id = p.prerequisite
     left join queue.open_state o on o.task = t.id and t.outcome is null
     where p.task = $1 and (t.outcome is null or (p.needs = 'complete' and t.outcome <> 'complete'))
       and exists (select from queue.task mine where mine.id = $1 and mine.outcome is null)
     order by p.prerequisite limit ${MOST}`,
    [id]
  )
}

async function conflictingClaims(db: Sql, id: number): Promise<Why['claims']> {
  return db.query(
    `select r.name as resource, case when m.exclusive then 'exclusive' else 'shared' end as mode,
       case when k.exclusive then 'exclusive' else 'shared' end as "heldAs", ${BRIEF} as task, place.started
     from queue.claim m
     join queue.resource r on r.id = m.resource
     join queue.claim k on k.resource = m.resource and k.task <> m.task and (k.exclusive or m.exclusive) and k.position is not null
     join queue.task t on t.id = k.task
     join queue.place place on place.task = k.task
     left join queue.open_state o on o.task = t.id
     where m.task = $1 and exists (select from queue.wait w where w.task = $1)
       and (place.started or exists (select from queue.prerequisite p where p.task = $1 and p.prerequisite = k.task)
         or m.position is null or k.position < m.position)
       and k.task not in (with recursive up as (
         select parent from queue.task where id = $1
         union all select a.parent from up join queue.task a on a.id = up.parent) select parent from up where parent is not null)
     order by place.started desc, k.position, k.task limit ${MOST}`,
    [id]
  )
}

async function lackingLimits(db: Sql, id: number): Promise<Why['limits']> {
  return db.query(
    `select c.key, c.units, queue.cap_of(c.key) as cap,
       coalesce((select sum(g.units) from queue.cost g where g.key = c.key and g.granted), 0)::integer as used,
       coalesce((select jsonb_agg(u.brief) from (
         select ${BRIEF} as brief from queue.cost g join queue.task t on t.id = g.task
         left join queue.open_state o on o.task = t.id and t.outcome is null
         where g.key = c.key and g.granted order by g.task limit ${MOST}) u), '[]') as "usedBy"
     from queue.cost c
     where c.task = $1 and c.queued order by c.key`,
    [id]
  )
}

async function childrenOf(db: Sql, id: number): Promise<TaskBrief[]> {
  const rows = await db.query<{ brief: TaskBrief }>(
    `select ${BRIEF} as brief from queue.task t left join queue.open_state o on o.task = t.id
     where t.parent = $1 and t.outcome is null order by t.id limit ${MOST}`,
    [id]
  )
  return rows.map(({ brief }) => brief)
}

// Times inside of jsonb arrive as text.
const TIMES: ReadonlySet<string> = new Set(['since', 'deadline', 'at', 'due'])

function revive<T>(value: T): T {
  if (Array.isArray(value)) return value.map(revive) as T
  if (value === null || typeof value !== 'object' || value instanceof Date) return value
  return Object.fromEntries(
    Object.entries(value).map(([key, item]) => [
      key,
      TIMES.has(key) && typeof item === 'string' ? new Date(item) : revive(item)
    ])
  ) as T
}

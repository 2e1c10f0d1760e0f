// Reading tasks: one, many, by what they touch. Never locks anything; why a task is where it is, is asked of why.ts.

import type { Sql } from '../db/open.ts'
import { PHASES } from './state.ts'
import type { TaskState, UndoState } from './state.ts'
import type { Json, JsonObject, OnFailure, Task, TaskError } from './task.ts'

export type TaskSummary = {
  id: number
  action: string
  title: string
  state: TaskState
  plan: number | null
  parent: number | null
  priority: number
  by: string
  createdAt: Date
  startedAt: Date | null
  endedAt: Date | null
  attempts: number
  error: TaskError | null
  undoState: UndoState
  /** In a few words, where the queue has them: why it stands still (held, parked, not due, awaiting), or had nothing to do. */
  note: string | null
}

// The state's own table only: of several reasons the first is shown.
const NOTE = `case coalesce(t.outcome, o.state)
    when 'held' then (select h.reason from queue.held h where h.task = t.id)
    when 'parked' then (select k.reason from queue.parked k where k.task = t.id)
    when 'scheduled' then (select 'not before ' || to_char(s.due at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')
      from queue.scheduled s where s.task = t.id)
    when 'awaiting' then (select r.awaiting from queue.run r where r.task = t.id)
    when 'complete' then 'nothing to do: ' || (t.result ->> 'nothingToDo')
    when 'uncertain' then (select r.error ->> 'message' from queue.run r where r.task = t.id)
  end`
const SUMMARY = `t.id, t.action, t.title, coalesce(t.outcome, o.state) as state, t.plan, t.parent, t.priority, t.created_by as by,
  t.created_at as "createdAt", coalesce(o.started_at, t.started_at) as "startedAt", t.ended_at as "endedAt",
  coalesce(o.attempts, t.attempts) as attempts, t.error, t.undo_state as "undoState", ${NOTE} as note`

/** null: there is no such task. */
export async function getTask(db: Sql, id: number): Promise<Task | null> {
  const [task] = await db.query<Task>(
    `select t.id, t.action, t.title, t.args, coalesce(t.outcome, o.state) as state, t.undo_state as "undoState", t.plan, t.parent,
       t.priority, t.binds, b.bound, coalesce(b.claims, t.claims) as claims, t.effects, coalesce(t.limits, '[]') as limits,
       t.created_by as by, t.reason, t.created_at as "createdAt", t.not_before as "notBefore",
       coalesce(o.attempts, t.attempts) as attempts, coalesce(o.started_at, t.started_at) as "startedAt", t.ended_at as "endedAt",
       t.result, coalesce(t.error, r.error) as error, coalesce(r.evidence, v.evidence) as evidence, p.progress,
       case when c.task is not null then jsonb_build_object('by', c.asked_by, 'reason', c.reason, 'at', c.at) end as "cancelRequested"
     from queue.task t
     left join queue.open_state o on o.task = t.id
     left join queue.run r on r.task = t.id
     left join queue.bound b on b.task = t.id
     left join queue.verdict v on v.task = t.id
     left join queue.progress p on p.task = t.id
     left join queue.cancel_request c on c.task = t.id
     where t.id = $1`,
    [id]
  )
  if (!task) return null
  if (task.cancelRequested) task.cancelRequested.at = new Date(task.cancelRequested.at)
  return task
}

export type TaskFilter = {
  ids?: readonly number[]
  states?: readonly TaskState[]
  actions?: readonly string[]
  /** Claimed by it, as submitted or as bound. */
  resource?: string
  plan?: number
  parent?: number
  /** Part of the title, whatever the case. */
  text?: string
}

const LONGEST_PAGE = 1_000

/**
 * Newest first. `after` is the `next` of the page before; `next` is null on the last page. Default limit 100, at most 1,000.
 * One statement whatever the filter; with a pool of its own and a statement_timeout it cannot hold the queue up.
 */
export async function listTasks(
  db: Sql,
  request: TaskFilter & { after?: number; limit?: number } = {}
): Promise<{ tasks: TaskSummary[]; next: number | null }> {
  const limit = Math.max(1, Math.min(request.limit ?? 100, LONGEST_PAGE))
  const { text, values } = pageStatement(request, limit)
  const tasks = await db.query<TaskSummary>(text, values)
  const page = tasks.slice(0, limit)
  return { tasks: page, next: tasks.length > limit ? (page.at(-1)?.id ?? null) : null }
}

function pageStatement(request: TaskFilter & { after?: number }, limit: number): { text: string; values: unknown[] } {
  const values: unknown[] = []
  const where: string[] = []
  const add = (value: unknown) => `$${values.push(value)}`
  const { ids, states, actions, resource, plan, parent, text, after } = request
  if (after !== undefined) where.push(`t.id < ${add(after)}`)
  if (ids !== undefined) where.push(`t.id = any (${add(ids)})`)
  if (actions !== undefined) where.push(`t.action = any (${add(actions)})`)
  if (plan !== undefined) where.push(`t.plan = ${add(plan)}`)
  if (parent !== undefined) where.push(`t.parent = ${add(parent)}`)
  if (text !== undefined) where.push(`t.title ilike '%' || ${add(text.replaceAll(/[\\%_]/g, String.raw`\$&`))} || '%'`)
  if (resource !== undefined) {
    const claim = add(JSON.stringify([{ resource }]))
    where.push(`(t.claims @> ${claim}::jsonb
      or exists (select from queue.bound b where b.task = t.id and b.claims @> ${claim}::jsonb))`)
  }
  const open = states === undefined ? undefined : openOnly(states)
  let from = 'queue.task t left join queue.open_state o on o.task = t.id and t.outcome is null'
  if (open) {
    // However many have ended, only the open ones are walked through.
    from = 'queue.open_state o join queue.task t on t.id = o.task'
    where.push(`o.state = any (${add(states)}::queue.state[])`)
  } else if (states !== undefined) {
    where.push(`coalesce(t.outcome, o.state) = any (${add(states)}::queue.state[])`)
  }
  const condition = where.length === 0 ? '' : `where ${where.join(' and ')}`
  return {
    text: `select ${SUMMARY} from ${from} ${condition} order by ${open ? 'o.task' : 't.id'} desc limit ${limit + 1}`,
    values
  }
}

const openOnly = (states: readonly TaskState[]): boolean =>
  states.every((state) => !(PHASES.ended as readonly TaskState[]).includes(state))

/** Unfinished tasks of certain actions that claim one of the resources, oldest first. */
export async function openTasksOn(
  db: Sql,
  request: { resources: readonly string[]; actions?: readonly string[] }
): Promise<TaskSummary[]> {
  return db.query<TaskSummary>(
    `select ${SUMMARY} from queue.task t join queue.open_state o on o.task = t.id
     where t.id in (
       select c.task from queue.claim c join queue.resource r on r.id = c.resource where r.name = any ($1::text[] collate "C"))
       and ($2::text[] is null or t.action = any ($2))
     order by t.id`,
    [request.resources, request.actions ?? null]
  )
}

/** Whether an open task of this action has this value as that argument. */
export async function openTaskWith(
  db: Sql,
  { action, key, value }: { action: string; key: string; value: string }
): Promise<boolean> {
  const rows = await db.query(
    `select from queue.task t join queue.open_state o on o.task = t.id
     where t.action = $1 and t.args ->> $2 = $3
     limit 1`,
    [action, key, value]
  )
  return rows.length > 0
}

export type LineEnd = {
  resource: string
  /** The last exclusive claim in the line, and who shares since: what a new task would wait for. */
  exclusive: number | null
  sharers: number[]
  /** Claims beside the line, of children and such as were bound late: each conflicting one is waited for. */
  own: { task: number; exclusive: boolean }[]
  /** Sharers that are not listed. */
  more: number
}

/** Where a new claim would join each resource's line. Names that nobody claims are left out. Locks nothing. */
export async function lineEnds(
  db: Sql,
  { resources, listed }: { resources: readonly string[]; listed: number }
): Promise<LineEnd[]> {
  if (resources.length === 0) return []
  return db.query<LineEnd>(
    `select r.name as resource, x.task as exclusive, coalesce(s.listed, '{}') as sharers, coalesce(o.own, '[]') as own,
       greatest(coalesce(s.number, 0) - $2, 0) as more
     from queue.resource r
     left join lateral (
       select c.task, c.position from queue.claim c
       where c.resource = r.id and c.exclusive and not c.own and c.position is not null order by c.position desc limit 1) x on true
     left join lateral (
       select (array_agg(c.task order by c.position))[:$2] as listed, count(*) as number from queue.claim c
       where c.resource = r.id and not c.exclusive and not c.own and c.position > coalesce(x.position, 0)) s on true
     left join lateral (
       select jsonb_agg(jsonb_build_object('task', c.task, 'exclusive', c.exclusive)) as own
       from (select * from queue.claim c where c.resource = r.id and c.own limit $2) c) o on true
     where r.name = any ($1::text[] collate "C") and (x.task is not null or s.number > 0 or o.own is not null)`,
    [resources, listed]
  )
}

/** Those that have no place in the queue yet: held, not due, or after one that is. */
export async function unplaced(db: Sql, tasks: readonly number[]): Promise<Set<number>> {
  const rows = await db.query<{ task: number }>(
    'select task from queue.wait where task = any ($1) and position is null',
    [tasks]
  )
  return new Set(rows.map(({ task }) => task))
}

/** How many open tasks there are in each state. */
export async function countOpen(db: Sql): Promise<{ [state in TaskState]?: number }> {
  const rows = await db.query<{ state: TaskState; count: number }>(
    'select state, count(*) as count from queue.open_state group by state'
  )
  return Object.fromEntries(rows.map(({ state, count }) => [state, count]))
}

export type Plan = {
  id: number
  name: string | null
  onFailure: OnFailure
  by: string
  reason: string | null
  createdAt: Date
  /** As submitted; children of complex ones come on top. */
  size: number
  counts: { [state in TaskState]?: number }
  /** Of its tasks that were to be undone, what became of that. */
  undone: { [state in Exclude<UndoState, 'none'>]?: number }
}

/** null: there is no such plan. Its tasks are listed by listTasks({ plan }). */
export async function planOf(db: Sql, id: number): Promise<Plan | null> {
  const [plan] = await db.query<Plan>(
    `select p.id, p.name, p.on_failure as "onFailure", p.created_by as by, p.reason, p.created_at as "createdAt", p.tasks as size,
       (select coalesce(jsonb_object_agg(c.state, c.n), '{}') from (
          select coalesce(t.outcome, o.state) as state, count(*) as n
          from queue.task t left join queue.open_state o on o.task = t.id and t.outcome is null
          where t.plan = p.id group by 1) c) as counts,
       (select coalesce(jsonb_object_agg(c.undo_state, c.n), '{}') from (
          select undo_state, count(*) as n from queue.task where plan = p.id and undo_state <> 'none' group by 1) c) as undone
     from queue.plan p where p.id = $1`,
    [id]
  )
  return plan ?? null
}

export type Attempt = {
  attempt: number
  dispatcher: number | null
  startedAt: Date
  endedAt: Date | null
  /** null: the last one, whose outcome is the task's state. */
  outcome: string | null
  error: TaskError | null
}

/** All that were begun, in order, the one under way or the last among them. */
export async function attempts(db: Sql, task: number): Promise<Attempt[]> {
  return db.query<Attempt>(
    `select attempt, dispatcher, started_at as "startedAt", ended_at as "endedAt", outcome, error from queue.attempt where task = $1
     union all
     select attempt, dispatcher, started_at, null, null, error from queue.run where task = $1
     union all
     select attempts, null, started_at, ended_at, outcome::text, error from queue.task
       where id = $1 and outcome is not null and started_at is not null
     order by attempt`,
    [task]
  )
}

export type Edge = { task: number; prerequisite: number; needs: 'complete' | 'ended'; derived: boolean }

/** Edges into and out of these tasks, those to what has ended among them. */
export async function edgesOf(db: Sql, tasks: readonly number[]): Promise<Edge[]> {
  return db.query<Edge>(
    `select task, prerequisite, needs, derived from queue.prerequisite where task = any ($1)
     union select task, prerequisite, needs, derived from queue.prerequisite where prerequisite = any ($1)
     order by 1, 2 limit 10000`,
    [tasks]
  )
}

export type HistoryLine = { at: Date; what: string; data: Json }

/** What happened to a task, in order of time: submitted, attempts, its log, its end. */
export async function history(db: Sql, task: number): Promise<HistoryLine[]> {
  const rows = await db.query<{ at: Date; what: string; data: JsonObject | null }>(
    `select created_at as at, 'submitted' as what, jsonb_build_object('by', created_by, 'reason', reason) as data
       from queue.task where id = $1
     union all select started_at, 'attempt ' || attempt || ' started', null from queue.attempt where task = $1
     union all select ended_at, 'attempt ' || attempt || ': ' || outcome, error from queue.attempt where task = $1
     union all select started_at, 'attempt ' || attempt || ' started', null from queue.run where task = $1
     union all select at, message, data from queue.log where task = $1
     union all select started_at, 'attempt ' || attempts || ' started', null from queue.task
       where id = $1 and outcome is not null and started_at is not null
     union all select ended_at, outcome::text, error from queue.task where id = $1 and outcome is not null
     order by at limit 10000`,
    [task]
  )
  return rows.filter(({ at }) => at !== null)
}

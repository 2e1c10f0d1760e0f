// How what a task does would be undone, written before it is done, and what became of it. What a step means is the submitting layer's.
import type { Json, JsonObject } from '../db/json.ts'
import type { Database, Sql } from '../db/open.ts'
import { doChores } from './chores.ts'
import { QueueError, raised } from './error.ts'
import type { EndState, UndoState } from './state.ts'
import type { TaskError } from './task.ts'

/** Kept once, by the first attempt that says it; false when it was kept before, or the attempt is no longer the task's. */
export async function keepUndo(
  db: Sql,
  request: { task: number; attempt: number; step: JsonObject }
): Promise<boolean> {
  const { task, attempt, step } = request
  const [row] = await db.query<{ kept: boolean }>('select queue.keep_undo($1, $2, $3) as kept', [task, attempt, step])
  return row?.kept ?? false
}

/** What became of the undoing of tasks that have ended, by the word of a running one. @throws QueueError stale_attempt: it is not any more */
export async function setUndoStates(
  db: Sql,
  by: { task: number; attempt: number },
  states: readonly { task: number; state: UndoState }[]
): Promise<void> {
  await raised(
    db.query('select queue.set_undo_states($1, $2, $3, $4)', [
      by.task,
      by.attempt,
      states.map(({ task }) => task),
      states.map(({ state }) => state)
    ])
  )
}

/**
 * Of plans that roll back, cancels the parts that have not begun once another has ended badly. Any dispatcher may do so, any number of
 * times. Returns how many parts it ended.
 */
export async function stopFailing(db: Database): Promise<number> {
  const [row] = await db.query<{ ended: number }>('select queue.stop_failing() as ended')
  await doChores(db)
  return row?.ended ?? 0
}

/** What the running task promised will not come about: nobody is accepted on the strength of it any more. */
export async function dropEffects(db: Sql, { task, attempt }: { task: number; attempt: number }): Promise<void> {
  await db.query('select queue.drop_effects($1, $2)', [task, attempt])
}

export type PlanPart = {
  id: number
  title: string
  state: EndState | 'open'
  undoState: UndoState
  step: JsonObject | null
  result: Json
  error: TaskError | null
}

/** The tasks that a plan was asked for, oldest first: without what they expanded into, and what undid them. */
export async function partsOfPlan(db: Sql, plan: number): Promise<PlanPart[]> {
  const [known] = await db.query('select from queue.plan where id = $1', [plan])
  if (!known) throw new QueueError('plan_not_found', `there is no plan ${plan}`)
  return db.query<PlanPart>(
    `select t.id, t.title, coalesce(t.outcome::text, 'open') as state, t.undo_state as "undoState", u.step, t.result, t.error
     from queue.task t join queue.plan p on p.id = t.plan left join queue.undo_step u on u.task = t.id
     left join queue.task holder on holder.id = t.parent and p.on_failure = 'rollback' and holder.parent is null
     where t.plan = $1 and t.undo is null
       and case p.on_failure when 'rollback' then holder.id is not null else t.parent is null end
     order by t.id`,
    [plan]
  )
}

// How what a task does would be undone, written before it is done, and what became of it. What a step means is the submitting layer's.
import type { JsonObject } from '../db/json.ts'
import type { Database, Sql } from '../db/open.ts'
import { doChores } from './chores.ts'
import type { UndoState } from './state.ts'

/** Kept once, by the first attempt that says it; false when it was kept before, or the attempt is no longer the task's. */
export async function keepUndo(
  db: Sql,
  request: { task: number; attempt: number; step: JsonObject }
): Promise<boolean> {
  const { task, attempt, step } = request
  const [row] = await db.query<{ kept: boolean }>('select queue.keep_undo($1, $2, $3) as kept', [task, attempt, step])
  return row?.kept ?? false
}

/** What became of the undoing of tasks that have ended. */
export async function setUndoStates(db: Sql, states: readonly { task: number; state: UndoState }[]): Promise<void> {
  await db.query('select queue.set_undo_states($1, $2)', [
    states.map(({ task }) => task),
    states.map(({ state }) => state)
  ])
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

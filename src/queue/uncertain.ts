// Tasks of which nobody could tell whether they happened: listed so that they can be looked for again. Any dispatcher may end one
// by its attempt (dispatch.ts); two that do so are told apart there.
import type { JsonObject } from '../db/json.ts'
import type { Sql } from '../db/open.ts'
import type { ClaimedTask } from './dispatch.ts'
import type { TaskError } from './task.ts'

/** `error`: what is told of it. */
export type UncertainTask = ClaimedTask & { error: TaskError | null }

type UncertainRow = Omit<UncertainTask, 'children' | 'previousAttempts' | 'takenOver'> & { bound: JsonObject | null }

/** Names of the resources that the task holds. */
export async function boundClaims(db: Sql, task: number): Promise<string[]> {
  const rows = await db.query<{ name: string }>(
    'select r.name from queue.claim c join queue.resource r on r.id = c.resource where c.task = $1 order by r.name',
    [task]
  )
  return rows.map(({ name }) => name)
}

/** Oldest first, at most `limit`. */
export async function uncertainTasks(db: Sql, limit = 100): Promise<UncertainTask[]> {
  const rows = await db.query<UncertainRow>(
    `select t.id, r.attempt, t.action, t.title, t.args, t.plan, t.parent, t.priority, t.binds, b.bound, t.created_by as by, r.error
     from queue.run r join queue.task t on t.id = r.task left join queue.bound b on b.task = r.task
     where r.phase = 'uncertain'
     order by r.task limit $1`,
    [limit]
  )
  return rows.map((row) => ({ ...row, children: null, previousAttempts: row.attempt - 1, takenOver: true }))
}

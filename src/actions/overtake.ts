// Making way: a request that is to happen now first cancels the unfinished tasks that it overtakes, and says which.
import type { Database } from '../db/open.ts'
import { openTasksOn } from '../queue/read.ts'
import { cancel } from '../queue/requests.ts'
import type { Evaluated } from './evaluate.ts'

/** Each is cancelled in a transaction of its own: ending an unstarted task locks what it claims. */
export async function overtake(
  database: Database,
  tasks: readonly Evaluated[],
  request: { by: string; reason?: string }
): Promise<{ id: number; title: string }[]> {
  const cancelled: { id: number; title: string }[] = []
  for (const task of tasks) {
    const actions = task.action.overtakes?.(task.args) ?? []
    if (actions.length === 0) continue
    const resources = task.claims.filter((claim) => claim.mode === 'exclusive').map((claim) => claim.resource)
    for (const open of await openTasksOn(database, { resources, actions })) {
      const reason = `overtaken by: ${task.title}${request.reason === undefined ? '' : ` (${request.reason})`}`
      const answer = await cancel(database, { task: open.id, by: request.by, reason })
      if (answer !== 'ended') cancelled.push({ id: open.id, title: open.title })
    }
  }
  return cancelled
}

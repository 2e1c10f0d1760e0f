// The queue's tasks in the API's words. Instants become text; what waits is said in why-view.ts.
import { registry } from '../actions/registry.ts'
import { shownArgs } from '../actions/secrets.ts'
import type { TaskSummary, TaskView } from '../api/task.ts'
import type { Database } from '../db/open.ts'
import { edgesOf, getTask, listTasks, type TaskSummary as QueueSummary } from '../queue/read.ts'
import { QueueError } from '../queue/error.ts'
import type { Task } from '../queue/task.ts'
import { why } from '../queue/why.ts'

const instant = (date: Date | null): string | null => date?.toISOString() ?? null

export const summaryOf = (task: QueueSummary | Task, note?: string): TaskSummary => ({
  id: task.id,
  action: task.action,
  title: task.title,
  state: task.state,
  note: note ?? ('note' in task ? task.note : null) ?? task.error?.message ?? null,
  priority: task.priority,
  plan: task.plan,
  parent: task.parent,
  by: task.by,
  submittedAt: task.createdAt.toISOString(),
  startedAt: instant(task.startedAt),
  endedAt: instant(task.endedAt),
  undo: task.undoState
})

/** @throws QueueError task_not_found */
export async function taskOf(database: Database, id: number): Promise<Task> {
  const task = await getTask(database, id)
  if (!task) throw new QueueError('task_not_found', `there is no task ${id}`, { tasks: [id] })
  return task
}

/** @throws QueueError task_not_found */
export async function viewOf(database: Database, task: Task): Promise<TaskView> {
  const edges = (await edgesOf(database, [task.id])).filter((edge) => edge.task === task.id)
  const before = await summariesOf(
    database,
    edges.map((edge) => edge.prerequisite)
  )
  const children = await listTasks(database, { parent: task.id, limit: 1000 })
  return {
    ...summaryOf(task, await noteOf(database, task)),
    reason: task.reason,
    args: shownArgs(registry.get(task.action), task.args),
    notBefore: instant(task.notBefore),
    attempt: task.attempts,
    bound: task.bound,
    progress: task.progress,
    result: task.result,
    evidence: task.evidence,
    error: task.error,
    cancelRequested: task.cancelRequested && { ...task.cancelRequested, at: task.cancelRequested.at.toISOString() },
    after: edges.flatMap(({ prerequisite, needs }) => {
      const found = before.get(prerequisite)
      return found ? [{ id: prerequisite, title: found.title, state: found.state, needs }] : []
    }),
    claims: task.claims,
    children: children.tasks.map(({ id, title, state }) => ({ id, title, state })).toReversed()
  }
}

/** Why it stands still, in a few words, where the queue has them. */
async function noteOf(database: Database, task: Task): Promise<string | undefined> {
  if (task.state === 'complete') return nothingToDoOf(task)
  if (!['held', 'parked', 'scheduled', 'awaiting', 'uncertain'].includes(task.state)) return undefined
  const { held, parked, due, awaiting } = await why(database, task.id)
  return held?.reason ?? parked?.reason ?? (due ? `not before ${due.toISOString()}` : awaiting?.what)
}

function nothingToDoOf({ result }: Task): string | undefined {
  if (result === null || typeof result !== 'object' || Array.isArray(result)) return undefined
  const said = result['nothingToDo']
  return typeof said === 'string' ? `nothing to do: ${said}` : undefined
}

async function summariesOf(database: Database, ids: readonly number[]): Promise<Map<number, QueueSummary>> {
  if (ids.length === 0) return new Map()
  const { tasks } = await listTasks(database, { ids, limit: 1000 })
  return new Map(tasks.map((task) => [task.id, task]))
}

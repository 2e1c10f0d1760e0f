// Submitting in the model.
import { addWaits, joinLines } from './lines.ts'
import { queueForUnits } from './limits.ts'
import { bars, isUnplaced, Refused, strongest, unmet, type Edge, type Sketch, type State, type Task } from './state.ts'

export type Submission = { tasks: readonly Sketch[]; plan: boolean; key?: { key: string; fingerprint: string } }
export type Submitted = { tasks: number[]; plan: number | null; replayed: boolean }

export function submit(state: State, { tasks: sketches, plan, key }: Submission): Submitted {
  const earlier = key && state.keys.get(key.key)
  if (earlier && earlier.fingerprint !== key.fingerprint) throw new Refused('idempotency_mismatch')
  if (earlier) return { tasks: earlier.tasks, plan: earlier.plan, replayed: true }

  const planId = plan ? state.draw() : null
  const ids = sketches.map(() => state.draw())
  const first = ids[0] ?? 0
  for (const [at, { after }] of sketches.entries()) {
    for (const { task, element } of after) {
      if (task === undefined && (element === undefined || element < 0 || element >= at))
        throw new Refused('later_position')
      if (task !== undefined && task >= first) throw new Refused('task_not_found')
    }
  }
  for (const { after } of sketches) {
    for (const { task: id, needs } of after) {
      if (id === undefined) continue
      const { outcome } = state.get(id)
      if (needs === 'complete' && outcome !== null && outcome !== 'complete')
        throw new Refused('prerequisite_ended_badly')
    }
  }

  const tasks = sketches.map((sketch, at) => state.add(ids[at] ?? 0, sketch, null))
  const asked = (task: Task) => [...askedEdges(state, task, tasks)]
  // Who is not due or held, and who needs one that has no position, gets none itself until then.
  const placed = new Set<Task>()
  for (const task of tasks) {
    if (bars(task) === 0 && asked(task).every(([one]) => !isUnplaced(one) || placed.has(one))) placed.add(task)
    if (placed.has(task)) task.position = task.id
  }
  for (const task of tasks) {
    for (const [resource, exclusive] of strongest(task.sketch.claims))
      state.claim(task, resource, { exclusive, own: false, position: task.position })
    for (const [prerequisite, edge] of asked(task)) state.wait(task, prerequisite, edge)
  }
  addWaits(state, joinLines(state, placed))
  const free = tasks.filter((task) => placed.has(task) && unmet(task) === 0)
  for (const task of free) if (task.costs.size === 0) task.place = 'ready'
  const limited = free.filter(({ costs }) => costs.size > 0)
  if (limited.length > 0) queueForUnits(state, limited)
  if (key) state.keys.set(key.key, { ...key, tasks: ids, plan: planId })
  return { tasks: ids, plan: planId, replayed: false }
}

/** Of two edges to one task the stronger counts. */
function askedEdges(state: State, task: Task, submitted: readonly Task[]): Map<Task, Edge> {
  const edges = new Map<Task, Edge>()
  for (const { task: id, element, needs } of task.sketch.after) {
    const prerequisite = id === undefined ? submitted[element ?? -1] : state.tasks.get(id)
    if (!prerequisite) continue
    const complete = needs === 'complete' || edges.get(prerequisite)?.needs === 'complete'
    edges.set(prerequisite, { needs: complete ? 'complete' : 'ended', derived: false })
  }
  return edges
}

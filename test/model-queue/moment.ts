// The model at one moment, as test/queue/wait-graph.ts reads the tables, so that one judge serves both.
import type { OpenTask } from '../queue/wait-graph.ts'
import { capOf } from './limits.ts'
import { bars, isDoomed, unmet, type State, type Task } from './state.ts'

export function momentOf(state: State): { tasks: OpenTask[]; caps: { [key: string]: number } } {
  const tasks = [...state.open]
  const caps: { [key: string]: number } = {}
  // The judge knows no kinds of keys.
  for (const { costs } of tasks) for (const key of costs.keys()) caps[key] = capOf(state, key)
  return { tasks: tasks.map(openTask), caps }
}

function openTask(task: Task): OpenTask {
  const waits = task.place === 'wait'
  return {
    id: task.id,
    parent: task.parent?.id ?? null,
    ended: task.outcome !== null,
    places: task.place ? [task.place] : [],
    started: task.started,
    position: task.position,
    rank: 0 - task.sketch.priority,
    unmet: waits ? unmet(task) : 0,
    barred: waits ? bars(task) : 0,
    doomed: waits && isDoomed(task),
    bound: task.bound,
    phase: task.run?.phase ?? null,
    held: task.held,
    due: task.due === null,
    parked: task.parked,
    claims: [...task.claims].map(([resource, { exclusive }]) => ({ resource, exclusive })),
    costs: [...task.costs].map(([key, { units, granted, queued }]) => ({ key, units, granted, queued })),
    after: [...task.after].map(([{ id, outcome }, { needs }]) => ({ task: id, needs, outcome }))
  }
}

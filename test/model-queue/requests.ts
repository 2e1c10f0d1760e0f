// What people ask of a task, in the model: to hold it, let it go, cancel it, bring it back.
import { endUncertain, endUnstarted } from './ends.ts'
import { addWaits, closeLines } from './lines.ts'
import { giveBack, makeReady, makeWait } from './limits.ts'
import { Refused, strongest, type State, type Task } from './state.ts'

/** A held task gives up its place, and so does what needs it; a part of a complex one, or one that was tried, keeps it. */
export function hold(state: State, id: number): void {
  const task = state.get(id)
  if (task.outcome !== null) throw new Refused('already_ended')
  if (task.place === 'run') throw new Refused('already_started')
  const needing = needingOf(task)
  const keepsPlace = task.attempts > 0 || task.position === null || [...needing].some(({ parent }) => parent !== null)
  const leaving = keepsPlace ? new Set([task]) : needing
  const waits = keepsPlace ? [] : closeLines(state, leaving)
  const affected = new Set([
    ...leaving,
    ...[...leaving].flatMap(({ dependants }) => [...dependants]),
    ...waits.map(([one]) => one)
  ])
  makeWait(state, [task])
  task.held = true
  if (keepsPlace) return
  for (const one of leaving) {
    for (const [prerequisite, { derived }] of one.after) if (derived) state.unwait(one, prerequisite)
    for (const other of one.dependants) if (other.after.get(one)?.derived) state.unwait(other, one)
  }
  addWaits(state, waits)
  for (const one of leaving) {
    one.position = null
    for (const claim of one.claims.values()) Object.assign(claim, { position: null, own: false })
  }
  makeReady(state, affected)
  giveBack(state, [...leaving])
}

/** It, and what of the open ones needs one of them explicitly. */
function needingOf(task: Task): Set<Task> {
  const needing = new Set([task])
  for (const one of needing) {
    for (const other of one.dependants) if (other.outcome === null && !other.after.get(one)?.derived) needing.add(other)
  }
  return needing
}

export function release(state: State, id: number): void {
  const task = state.tasks.get(id)
  if (!task?.held) throw new Refused('not_held')
  task.held = false
  makeReady(state, [task])
}

export type Cancelled = 'cancelled' | 'cancelling' | 'ended'

/** What runs is asked to stop, and its open children are cancelled. */
export function cancel(state: State, id: number): Cancelled {
  const task = state.get(id)
  if (task.outcome !== null) return 'ended'
  if (endUnstarted(state, [task], 'cancelled', 'cancelled').length > 0) return 'cancelled'
  task.asked = true
  for (const child of task.children.filter(({ outcome }) => outcome === null)) cancel(state, child.id)
  return 'cancelling'
}

/** Brings it back, at the end of the lines; with those that failed only since it did, if asked. */
export function retry(state: State, id: number, withDependants: boolean): number[] {
  const task = state.get(id)
  const back = new Set([task])
  for (const one of withDependants ? back : []) {
    for (const other of one.dependants) {
      const failed = other.outcome === 'failed' && other.code === 'prerequisite_failed'
      if (failed && other.after.get(one)?.needs === 'complete') back.add(other)
    }
  }
  if (task.outcome !== 'failed' && task.outcome !== 'cancelled') throw new Refused('not_ended')
  if ([...back].some(({ parent }) => parent !== null)) throw new Refused('parent_decides')
  for (const one of back) {
    for (const [prerequisite, { needs, derived }] of one.after) {
      const badly = prerequisite.outcome !== null && prerequisite.outcome !== 'complete'
      if (!derived && needs === 'complete' && badly && !back.has(prerequisite))
        throw new Refused('prerequisite_ended_badly')
    }
  }
  for (const one of back) {
    for (const other of one.dependants) {
      // What it doomed has not been ended yet: the caller asks again.
      if (other.place === 'wait' && other.after.get(one)?.needs === 'complete') throw new Refused('conflict')
    }
  }
  for (const one of back) for (const other of one.dependants) if (other.outcome === null) state.unwait(other, one)
  for (const one of back) {
    Object.assign(one, { outcome: null, code: null, place: 'wait', position: null, started: false })
    state.open.add(one)
    for (const [resource, exclusive] of strongest(one.sketch.claims))
      state.claim(one, resource, { exclusive, own: false, position: null })
    for (const [prerequisite, { derived }] of one.after) if (derived) state.unwait(one, prerequisite)
  }
  return [...back].map((one) => one.id).toSorted((a, b) => a - b)
}

/** Wakes what was parked with that key. */
export function unpark(state: State, key: string): number {
  const woken = [...state.open].filter(({ parked }) => parked === key)
  for (const task of woken) task.parked = null
  makeReady(state, woken)
  return woken.length
}

export function giveVerdict(state: State, id: number, happened: boolean): void {
  const task = state.get(id)
  if (task.outcome !== null) throw new Refused('already_ended')
  if (task.run?.phase !== 'uncertain') throw new Refused('not_uncertain')
  endUncertain(state, task, happened)
}

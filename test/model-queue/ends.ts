// What follows from ends in the model: ends of attempts, of tasks that had not begun, and the places that newcomers take.
import { addWaits, closeLines, joinLines } from './lines.ts'
import { giveBack, makeReady } from './limits.ts'
import { bars, isBehindUnplaced, isDoomed, isUnplaced, type Outcome, type State, type Task } from './state.ts'

export type End = { task: number; attempt: number } & (
  | { outcome: Outcome }
  | { outcome: 'retry'; afterMs: number }
  | { outcome: 'park'; key: string }
  | { outcome: 'awaiting'; deadlineMs: number }
  | { outcome: 'uncertain' }
)

/** Of ends of attempts: dependants, parents, units, in this order. The tasks have ended already. */
function afterEnds(state: State, ended: readonly Task[]): void {
  const dependants = dependantsOf(ended)
  childrenEnded(state, ended)
  if (!state.broken.has('ends-not-passed-on')) makeReady(state, dependants)
  giveBack(state, ended)
}

const dependantsOf = (tasks: readonly Task[]): Set<Task> => new Set(tasks.flatMap(({ dependants }) => [...dependants]))

function childrenEnded(state: State, ended: readonly Task[]): void {
  const parents = new Set(ended.flatMap(({ parent }) => parent ?? []))
  resume(
    state,
    [...parents].filter(({ children }) => children.every(({ outcome }) => outcome !== null))
  )
}

/** A parent whose children have ended is ready again. */
export function resume(state: State, parents: readonly Task[]): void {
  const back = parents.filter(({ run }) => run?.phase === 'awaiting' && run.dispatcher === null)
  for (const task of back) leaveRun(task, true, 'expanded')
  makeReady(state, back)
}

/** Back among the waiting; `how` its attempt is remembered. */
export function leaveRun(task: Task, started: boolean, how: 'retry' | 'parked' | 'waiting' | 'expanded'): void {
  if (task.run) task.past.set(task.run.attempt, how)
  task.attempts = task.run?.attempt ?? task.attempts
  Object.assign(task, { place: 'wait', started, run: null })
}

/** Whether what is said of this attempt counts. */
function isCurrent(state: State, end: End, dispatcher: number): boolean {
  const run = state.tasks.get(end.task)?.run
  if (!run) return false
  if (state.broken.has('attempts-unchecked')) return true
  return (
    run.attempt === end.attempt && run.dispatcher !== null && (run.dispatcher === dispatcher || run.phase !== 'running')
  )
}

/** It has been recorded before: its sender has not heard so. */
function isKnown(state: State, { task: id, attempt, outcome }: End): boolean {
  const task = state.tasks.get(id)
  if (!task) return false
  const again = outcome === 'retry' || outcome === 'park'
  if (task.attempts === attempt && (task.outcome === outcome || (task.outcome === 'cancelled' && again))) return true
  return again && (task.past.get(attempt) ?? 'lost') !== 'lost'
}

/** Records what is current; returns what is refused as late. */
export function record(state: State, dispatcher: number, ends: readonly End[]): End[] {
  const current = ends.filter((end) => isCurrent(state, end, dispatcher))
  const known = new Set(ends.filter((end) => !current.includes(end) && isKnown(state, end)))
  const final: Task[] = []
  const others: { task: Task; end: End }[] = []
  for (const end of current) {
    const task = state.get(end.task)
    // What someone asked to cancel is not tried again.
    const stops = (end.outcome === 'retry' || end.outcome === 'park') && task.asked
    const outcome = stops ? 'cancelled' : end.outcome
    if (outcome === 'complete' || outcome === 'failed' || outcome === 'cancelled') {
      task.attempts = end.attempt
      state.end(task, outcome, outcome === 'complete' ? null : 'said')
      final.push(task)
    } else others.push({ task, end })
  }
  if (final.length > 0) afterEnds(state, final)
  const back = others.filter(({ end }) => end.outcome === 'retry' || end.outcome === 'park')
  for (const { task, end } of back) {
    leaveRun(task, task.started, end.outcome === 'park' ? 'parked' : 'retry')
    if (end.outcome === 'retry') task.due = state.now + Math.max(end.afterMs, 0)
    if (end.outcome === 'park') task.parked = end.key
  }
  giveBack(
    state,
    back.map(({ task }) => task)
  )
  for (const { task, end } of others) {
    if (!task.run || (end.outcome !== 'awaiting' && end.outcome !== 'uncertain')) continue
    task.run.phase = end.outcome
    task.run.deadline = end.outcome === 'awaiting' ? state.now + end.deadlineMs : null
  }
  return ends.filter((end) => !current.includes(end) && !known.has(end))
}

/** An operator's word ends what nobody can tell. */
export function endUncertain(state: State, task: Task, happened: boolean): void {
  task.attempts = task.run?.attempt ?? task.attempts
  state.end(task, happened ? 'complete' : 'failed', happened ? null : 'verdict_did_not')
  afterEnds(state, [task])
}

/** Returns those that had not begun and have ended now. A parent that is ready again has yet to hear of its children. */
export function endUnstarted(state: State, tasks: readonly Task[], outcome: Outcome, code: string): Task[] {
  const waits = closeLines(state, new Set(tasks))
  const affected = new Set([...dependantsOf(tasks), ...waits.map(([task]) => task)])
  const ended = tasks.filter(
    ({ place, started, expanded }) => (place === 'wait' || place === 'ready') && !(started && expanded)
  )
  if (ended.length === 0) return []
  for (const task of ended) state.end(task, outcome, code)
  addWaits(state, waits)
  childrenEnded(state, ended)
  giveBack(state, ended)
  makeReady(state, affected)
  return ended
}

const byId = (a: Task, b: Task): number => a.id - b.id

/** Ends what a prerequisite doomed, or what was asked to stop while it went back to waiting. Returns how many. */
export function endDoomed(state: State, limit: number): number {
  const waiting = [...state.open].filter(({ place }) => place === 'wait').toSorted(byId)
  const stopping = waiting.filter(({ stopsItself }) => stopsItself).slice(0, limit)
  if (stopping.length > 0) return endUnstarted(state, stopping, 'cancelled', 'cancelled').length
  return endUnstarted(state, waiting.filter(isDoomed).slice(0, limit), 'failed', 'prerequisite_failed').length
}

export const isPlaceable = (task: Task): boolean => isUnplaced(task) && bars(task) === 0 && !isBehindUnplaced(task)

/** Places at the end of the lines for those that had none. Returns how many. */
export function placeWaiting(state: State, limit: number): number {
  const newcomers = [...state.open].filter(isPlaceable).toSorted(byId).slice(0, limit)
  for (const task of newcomers) {
    task.position = state.draw()
    for (const claim of task.claims.values()) claim.position = task.position
    for (const cost of task.costs.values()) cost.position = task.position
  }
  addWaits(state, joinLines(state, new Set(newcomers)))
  makeReady(state, newcomers)
  return newcomers.length
}

// A dispatcher's side in the model: its lease, ends and claims in one step, late claims, and what it takes over.
import { leaveRun, record, isPlaceable, type End } from './ends.ts'
import { exchange, giveBack, makeReady, makeWait } from './limits.ts'
import {
  ancestors,
  conflicting,
  isDoomed,
  reachedFrom,
  Refused,
  strongest,
  type Claims,
  type Limits,
  type Outcome,
  type State,
  type Task
} from './state.ts'

export type Claimed = {
  task: number
  attempt: number
  binds: boolean
  /** Another dispatcher had begun it. */
  takenOver: boolean
  /** How its children ended; null when it has none, or has not come back from them. */
  children: (Outcome | null)[] | null
}

export type Settled = {
  stale: { task: number; attempt: number }[]
  claimed: Claimed[]
  dueMs: number | null
  chores: boolean
  promoted: number
}

export function holdsLease(state: State, dispatcher: number): boolean {
  if (state.broken.has('leases-unchecked')) return true
  return (state.dispatchers.get(dispatcher)?.expires ?? -Infinity) > state.now
}

/** A lease that has run out is not revived. */
export function beat(state: State, dispatcher: number): boolean {
  const lease = state.dispatchers.get(dispatcher)
  if (!lease || lease.expires <= state.now) return false
  lease.expires = state.now + lease.leaseMs
  return true
}

export function settle(state: State, request: { dispatcher: number; ends: readonly End[]; take: number }): Settled {
  const { dispatcher, ends, take } = request
  if (!holdsLease(state, dispatcher)) {
    state.stale += ends.length
    throw new Refused('lease_lost')
  }
  const refused = ends.length > 0 ? record(state, dispatcher, ends) : []
  state.stale += refused.length
  const promoted = promoteDue(state)
  const taken = [...state.open]
    .filter(({ place }) => place === 'ready')
    .toSorted(byTurn)
    .slice(0, take)
  for (const task of taken) hand(task, dispatcher)
  const due = Math.min(...[...state.open].map((task) => task.due ?? Infinity))
  return {
    stale: refused.map(({ task, attempt }) => ({ task, attempt })),
    claimed: taken.map(claimed),
    dueMs: due === Infinity ? null : Math.max(due - state.now, 0),
    chores: [...state.open].some((task) => (task.place === 'wait' && isDoomed(task)) || isPlaceable(task)),
    promoted
  }
}

const byTurn = (a: Task, b: Task): number =>
  b.sketch.priority - a.sketch.priority || (a.position ?? 0) - (b.position ?? 0) || a.id - b.id

function hand(task: Task, dispatcher: number): void {
  task.place = 'run'
  task.started ||= !task.sketch.binds
  task.run = { attempt: task.attempts + 1, dispatcher, phase: 'running', deadline: null, takenOver: false }
}

function claimed(task: Task): Claimed {
  const attempt = task.run?.attempt ?? 0
  const comesBack = task.started && attempt > 1 && task.children.length > 0
  const { takenOver } = task.run ?? { takenOver: false }
  return { task: task.id, attempt, binds: task.sketch.binds, takenOver, children: comesBack ? outcomes(task) : null }
}

const outcomes = (task: Task): (Outcome | null)[] => task.children.map(({ outcome }) => outcome)

function promoteDue(state: State): number {
  const promoted = [...state.open].filter(({ due }) => due !== null && due <= state.now)
  for (const task of promoted) task.due = null
  makeReady(state, promoted)
  return promoted.length
}

/**
 * Running tasks whose dispatcher has no lease, awaited ones past their deadline, and what this dispatcher runs by the queue's account but
 * not by its own (`holding`): each a new attempt.
 */
export function takeOver(
  state: State,
  request: { dispatcher: number; limit: number; holding: readonly { task: number; attempt: number }[] | null }
): Claimed[] {
  const { dispatcher, limit, holding } = request
  if (!holdsLease(state, dispatcher)) throw new Refused('lease_lost')
  for (const [id, { expires }] of state.dispatchers) {
    if (expires < state.now && id !== dispatcher) state.dispatchers.delete(id)
  }
  const holds = (task: number, attempt: number) => holding?.some((one) => one.task === task && one.attempt === attempt)
  const isOrphan = ({ id, run }: Task): boolean => {
    if (run?.phase === 'awaiting') return run.deadline !== null && run.deadline < state.now
    if (run?.phase !== 'running') return false
    if (run.dispatcher !== dispatcher)
      return state.broken.has('taken-over-alive') || !state.dispatchers.has(run.dispatcher ?? -1)
    return holding !== null && !holds(id, run.attempt) && !state.broken.has('unheard-forgotten')
  }
  const taken = [...state.open]
    .filter(isOrphan)
    .toSorted((a, b) => a.id - b.id)
    .slice(0, limit)
  for (const task of taken) {
    const before = task.run?.attempt ?? 0
    task.past.set(before, 'lost')
    task.run = { attempt: before + 1, dispatcher, phase: 'running', deadline: null, takenOver: true }
  }
  return taken
    .toSorted((a, b) => (a.position ?? 0) - (b.position ?? 0) || a.id - b.id)
    .map((task) => ({ ...claimed(task), children: task.expanded ? outcomes(task) : null }))
}

/** The attempt that this dispatcher runs; undefined: what it says is late, and counted. */
export function runningAttempt(
  state: State,
  request: { dispatcher: number; task: number; attempt: number }
): Task | undefined {
  const task = state.tasks.get(request.task)
  const run = task?.run
  if (run?.attempt === request.attempt && run.dispatcher === request.dispatcher && run.phase === 'running') return task
  state.stale += 1
  return undefined
}

export type Bound = 'started' | 'waiting' | 'limited' | 'stale'

/** Late claims: only what has started is waited for, what has not is put behind. */
export function bind(
  state: State,
  request: { dispatcher: number; task: number; attempt: number; claims: Claims; limits: Limits | null }
): { answer: Bound; waitsFor: number[] } {
  if (!holdsLease(state, request.dispatcher)) throw new Refused('lease_lost')
  const modes = strongest(request.claims)
  const task = runningAttempt(state, request)
  if (!task) return { answer: 'stale', waitsFor: [] }
  if (!task.sketch.binds) throw new Refused('not_binding')
  const others = [...conflicting(state, modes, ancestors(task))]
  const blockers = others.filter(({ started }) => started)
  if (blockers.some(({ expanded, children }) => expanded && children.some(({ outcome }) => outcome === null))) {
    if (reachedFrom(blockers).has(task)) throw new Refused('circle')
  }

  for (const resource of task.claims.keys()) if (!modes.has(resource)) state.unclaim(task, resource)
  for (const [resource, exclusive] of modes) {
    const had = task.claims.get(resource)
    if (had) Object.assign(had, { exclusive, own: had.own || had.exclusive !== exclusive })
    else state.claim(task, resource, { exclusive, own: true, position: task.position })
  }
  task.bound = true
  makeWait(state, others)
  const unstarted = others.filter(({ place, started }) => place === 'wait' && !started)
  const lacksUnits = () => request.limits !== null && !exchange(state, task, request.limits)
  if (blockers.length === 0 && !lacksUnits()) {
    task.started = true
    for (const other of unstarted) state.wait(other, task)
    makeReady(state, others)
    return { answer: 'started', waitsFor: [] }
  }
  leaveRun(task, false, blockers.length === 0 ? 'parked' : 'waiting')
  task.stopsItself = task.asked
  giveBack(state, [task])
  for (const blocker of blockers) state.wait(task, blocker)
  makeReady(state, blockers.length === 0 ? [task, ...others] : others)
  return {
    answer: blockers.length === 0 ? 'limited' : 'waiting',
    waitsFor: blockers.map(({ id }) => id).toSorted((a, b) => a - b)
  }
}

// A model of the queue's core: what sql/0002 to 0011 keep in tables, here as plain values in one process, with a clock that only
// moves when told to. It is written from the rules (docs/architecture.md), not from the SQL, and shares no code with it; that both do
// the same is shown by test/faults/scheduler-conformance.test.ts. What is counted there is computed here.

export type Needs = 'complete' | 'ended'
export type Outcome = 'complete' | 'failed' | 'cancelled'
export type Claims = readonly { resource: string; exclusive: boolean }[]
export type Limits = readonly { key: string; units: number }[]

/** As submitted. `after` names stored tasks, or earlier elements of the same submission. */
export type Sketch = {
  claims: Claims
  after: readonly { task?: number; element?: number; needs: Needs }[]
  priority: number
  binds: boolean
  held: boolean
  /** When it is due, by the queue's clock. */
  notBefore: number | null
  limits: Limits
}

export type Edge = { needs: Needs; derived: boolean }
export type Claim = { exclusive: boolean; own: boolean; position: number | null }
export type Cost = { units: number; granted: boolean; queued: boolean; position: number | null }
export type Run = {
  attempt: number
  dispatcher: number | null
  phase: 'running' | 'awaiting' | 'uncertain'
  deadline: number | null
  /** Another dispatcher had begun it. */
  takenOver: boolean
}

export type Task = {
  readonly id: number
  readonly parent: Task | null
  /** Of a child: its outermost ancestor's position, then an id a level. */
  readonly path: readonly number[] | null
  readonly sketch: Sketch
  readonly children: Task[]
  expanded: boolean
  outcome: Outcome | null
  /** Why it ended badly. */
  code: string | null
  attempts: number
  place: 'wait' | 'ready' | 'run' | null
  position: number | null
  started: boolean
  bound: boolean
  /** Asked to stop while it went back to waiting. */
  stopsItself: boolean
  asked: boolean
  held: boolean
  due: number | null
  parked: string | null
  run: Run | null
  /** Attempts that did not end it. */
  readonly past: Map<number, 'retry' | 'parked' | 'waiting' | 'expanded' | 'lost'>
  readonly claims: Map<string, Claim>
  readonly costs: Map<string, Cost>
  readonly after: Map<Task, Edge>
  /** Who has an edge to it. */
  readonly dependants: Set<Task>
}

/** Ways in which a test breaks the model on purpose, to see that the invariants notice. */
export type Broken =
  | 'sharers-overlooked' // an exclusive claim does not wait for those who share
  | 'lines-not-closed' // who leaves a line from its middle takes the order along
  | 'prerequisites-ignored' // what waits for its prerequisites is made ready
  | 'ends-not-passed-on' // what waited for an end is not looked at
  | 'circles-unchecked' // an expansion orders by position alone
  | 'caps-ignored'
  | 'granted-while-moved' // of those that are moved back one is granted what another gives back
  | 'units-kept' // units given back wake nobody
  | 'attempts-unchecked' // whoever reports is believed
  | 'leases-unchecked' // a dispatcher without a lease is heard
  | 'taken-over-alive' // tasks of living dispatchers are taken over
  | 'unprobed' // what is taken over is done again without a look
  | 'unfenced' // a dispatcher writes to hosts on an old lease
  | 'unheard-forgotten' // a claim whose reply was lost is not handed out again

export class Refused extends Error {
  readonly code: string
  constructor(code: string) {
    super(code)
    this.code = code
  }
}

export class State {
  now = 0
  readonly broken: ReadonlySet<Broken>
  readonly tasks = new Map<number, Task>()
  readonly open = new Set<Task>()
  /** Of each resource, who claims it. */
  readonly claimants = new Map<string, Set<Task>>()
  /** Who has units of limits; what has ended still has them until it gives them back. */
  readonly holders = new Set<Task>()
  readonly caps = new Map<string, number>()
  readonly dispatchers = new Map<number, { leaseMs: number; expires: number }>()
  readonly keys = new Map<string, { fingerprint: string; tasks: number[]; plan: number | null }>()
  stale = 0
  #position = 0
  #dispatcher = 0

  constructor(broken: readonly Broken[] = []) {
    this.broken = new Set(broken)
  }

  /** Ids of tasks and plans, and positions, are of one sequence; what is drawn is not given back. */
  draw(): number {
    return ++this.#position
  }

  register(leaseMs: number): number {
    this.dispatchers.set(++this.#dispatcher, { leaseMs, expires: this.now + leaseMs })
    return this.#dispatcher
  }

  add(id: number, sketch: Sketch, under: { parent: Task; path: readonly number[] } | null): Task {
    const task: Task = {
      id,
      parent: under?.parent ?? null,
      path: under?.path ?? null,
      sketch,
      children: [],
      expanded: false,
      outcome: null,
      code: null,
      attempts: 0,
      place: 'wait',
      position: null,
      started: false,
      bound: false,
      stopsItself: false,
      asked: false,
      held: sketch.held,
      due: sketch.notBefore !== null && sketch.notBefore > this.now ? sketch.notBefore : null,
      parked: null,
      run: null,
      past: new Map(),
      claims: new Map(),
      costs: new Map(),
      after: new Map(),
      dependants: new Set()
    }
    for (const { key, units } of sketch.limits) {
      const had = task.costs.get(key)?.units ?? 0
      task.costs.set(key, { units: had + units, granted: false, queued: false, position: null })
    }
    under?.parent.children.push(task)
    this.tasks.set(id, task)
    this.open.add(task)
    return task
  }

  get(id: number): Task {
    const task = this.tasks.get(id)
    if (!task) throw new Refused('task_not_found')
    return task
  }

  claim(task: Task, resource: string, claim: Claim): void {
    task.claims.set(resource, claim)
    const claimants = this.claimants.get(resource) ?? new Set()
    claimants.add(task)
    this.claimants.set(resource, claimants)
  }

  unclaim(task: Task, resource: string): void {
    task.claims.delete(resource)
    this.claimants.get(resource)?.delete(task)
  }

  /** An edge that is there already stays as it is. */
  wait(task: Task, prerequisite: Task, edge: Edge = { needs: 'ended', derived: true }): void {
    if (task.after.has(prerequisite)) return
    task.after.set(prerequisite, edge)
    prerequisite.dependants.add(task)
  }

  unwait(task: Task, prerequisite: Task): void {
    task.after.delete(prerequisite)
    prerequisite.dependants.delete(task)
  }

  /** It ends: its claims vanish. What follows is for the caller. */
  end(task: Task, outcome: Outcome, code: string | null): void {
    Object.assign(task, { outcome, code, place: null, run: null, held: false, due: null, parked: null, asked: false })
    task.stopsItself = false
    this.open.delete(task)
    for (const resource of task.claims.keys()) this.unclaim(task, resource)
  }
}

// What the tables count, and what follows from them.

const isUnmet = (prerequisite: Task, needs: Needs): boolean =>
  prerequisite.outcome === null || (needs === 'complete' && prerequisite.outcome !== 'complete')

export function unmet(task: Task): number {
  let count = 0
  for (const [prerequisite, { needs }] of task.after) if (isUnmet(prerequisite, needs)) count += 1
  return count
}

/** One that it needs has ended badly. */
export function isDoomed(task: Task): boolean {
  if (task.stopsItself) return true
  for (const [{ outcome }, { needs }] of task.after) {
    if (needs === 'complete' && outcome !== null && outcome !== 'complete') return true
  }
  return false
}

export const bars = (task: Task): number => Number(task.held) + Number(task.due !== null) + Number(task.parked !== null)

export const isUnplaced = (task: Task): boolean => task.place === 'wait' && task.position === null

export const isBehindUnplaced = (task: Task): boolean => [...task.after.keys()].some(isUnplaced)

/** What these wait for, directly and through others; a parent waits for its children. They themselves are among it. */
export function reachedFrom(tasks: Iterable<Task>): Set<Task> {
  const reached = new Set(tasks)
  // A set's iterator also sees what is added while it goes.
  for (const task of reached) {
    for (const prerequisite of task.after.keys()) if (prerequisite.outcome === null) reached.add(prerequisite)
    for (const child of task.children) if (child.outcome === null) reached.add(child)
  }
  return reached
}

export function ancestors(task: Task): Set<Task> {
  const above = new Set<Task>()
  for (let at: Task | null = task; at; at = at.parent) above.add(at)
  return above
}

export const pathOf = (task: Task): readonly number[] | null =>
  task.path ?? (task.position === null ? null : [task.position])

/** By the first number in which they differ; who is above comes before who is below. */
export function isBefore(a: readonly number[], b: readonly number[]): boolean {
  for (const [at, number] of a.entries()) {
    const other = b[at]
    if (other === undefined) return false
    if (number !== other) return number < other
  }
  return a.length < b.length
}

/** Of two claims on one resource the stronger counts. */
export function strongest(claims: Claims): Map<string, boolean> {
  const modes = new Map<string, boolean>()
  for (const { resource, exclusive } of claims) modes.set(resource, exclusive || (modes.get(resource) ?? false))
  return modes
}

/** Open tasks with a place that claim one of these in a conflicting mode, but for `above`. */
export function conflicting(state: State, modes: ReadonlyMap<string, boolean>, above: ReadonlySet<Task>): Set<Task> {
  const found = new Set<Task>()
  for (const [resource, exclusive] of modes) {
    for (const other of state.claimants.get(resource) ?? []) {
      const claim = other.claims.get(resource)
      if (claim && claim.position !== null && (claim.exclusive || exclusive) && !above.has(other)) found.add(other)
    }
  }
  return found
}

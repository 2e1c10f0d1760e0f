// The way into ready in the model, and units of limits, which are granted on that way: in order of priority and position; on a key
// nobody overtakes who lacks it, who lacks another key is passed by.
import { bars, isDoomed, unmet, type Cost, type Limits, type State, type Task } from './state.ts'

const waits = (task: Task): boolean => task.place === 'wait' && task.position !== null && !isDoomed(task)

const isFree = (state: State, task: Task): boolean => state.broken.has('prerequisites-ignored') || unmet(task) === 0

/** Those that nothing holds back any more; what is limited queues for its units. */
export function makeReady(state: State, tasks: Iterable<Task>): void {
  const all = [...new Set(tasks)]
  const scarce: Task[] = []
  for (const task of all) {
    if (!waits(task) || !isFree(state, task)) continue
    if (task.costs.size === 0 && bars(task) === 0) task.place = 'ready'
    if (task.costs.size > 0 && bars(task) === Number(task.parked === 'limit')) scarce.push(task)
  }
  if (!all.some((task) => costs(task).some(({ granted }) => !granted))) return
  if (scarce.length > 0) queueForUnits(state, scarce)
  // Who queues, but must wait for something else after all, keeps those behind it from nothing.
  grant(state, new Set(all.flatMap((task) => [...task.costs].flatMap(([key, { queued }]) => (queued ? [key] : [])))))
}

/** The reverse, for what must wait again. None of them is granted what another gives back. */
export function makeWait(state: State, tasks: Iterable<Task>): Task[] {
  const all = [...tasks]
  const moved = all.filter(({ place }) => place === 'ready')
  for (const task of moved) task.place = 'wait'
  const resurrects = state.broken.has('granted-while-moved')
  giveBack(state, resurrects ? moved : all.filter(({ place }) => place === 'wait'))
  return moved
}

const costs = (task: Task): Cost[] => [...task.costs.values()]

export function queueForUnits(state: State, tasks: readonly Task[]): void {
  for (const task of tasks) {
    for (const cost of task.costs.values()) Object.assign(cost, { queued: true, position: task.position })
    task.parked ??= 'limit'
  }
  grant(state, new Set(tasks.flatMap((task) => [...task.costs.keys()])))
}

export function giveBack(state: State, tasks: readonly Task[]): void {
  const keys = new Set<string>()
  for (const task of tasks) {
    state.holders.delete(task)
    for (const [key, cost] of task.costs) {
      if (!cost.granted && !cost.queued) continue
      Object.assign(cost, { granted: false, queued: false })
      keys.add(key)
    }
  }
  if (keys.size === 0) return
  for (const task of tasks) if (task.parked === 'limit') task.parked = null
  if (!state.broken.has('units-kept')) grant(state, keys)
}

/** Its own cap, else that of its kind, `starts/*` for `starts/h1`, else none. */
export const capOf = (state: State, key: string): number =>
  state.caps.get(key) ?? state.caps.get(`${key.split('/')[0]}/*`) ?? Infinity

function room(state: State, key: string): number {
  if (state.broken.has('caps-ignored')) return Infinity
  let left = capOf(state, key)
  for (const task of state.holders) {
    const cost = task.costs.get(key)
    if (cost?.granted) left -= cost.units
  }
  return left
}

const nulls = (position: number | null): number => position ?? Infinity

function grant(state: State, freed: ReadonlySet<string>): void {
  if (freed.size === 0) return
  const queued = [...state.open].filter((task) => costs(task).some((cost) => cost.queued))
  const queuesFor = (task: Task, key: string) => task.costs.get(key)?.queued ?? false
  const keys = [...freed].filter((key) => room(state, key) > 0 && queued.some((task) => queuesFor(task, key)))
  const candidates = queued
    .filter((task) => keys.some((key) => queuesFor(task, key)))
    .toSorted((a, b) => b.sketch.priority - a.sketch.priority || nulls(queuedAt(a)) - nulls(queuedAt(b)) || a.id - b.id)
  const full = new Set<string>()
  for (const task of candidates) {
    if (keys.every((key) => full.has(key))) return
    if (keys.every((key) => full.has(key) || !queuesFor(task, key))) continue
    if (!waits(task) || !isFree(state, task) || bars(task) !== 1) continue
    const needs = [...task.costs]
    // More than there ever is keeps nobody from what is left.
    if (needs.some(([key, { units }]) => units > capOf(state, key))) continue
    const lacking = needs.filter(([key, { units }]) => full.has(key) || units > room(state, key))
    for (const [key] of lacking) full.add(key)
    if (lacking.length > 0) continue
    for (const cost of costs(task)) Object.assign(cost, { granted: true, queued: false })
    Object.assign(task, { place: 'ready', parked: null })
    state.holders.add(task)
  }
}

function queuedAt(task: Task): number | null {
  for (const { queued, position } of task.costs.values()) if (queued) return position
  return null
}

/** A running task's units become exactly these; whether it has them all. It overtakes nobody who queues. */
export function exchange(state: State, task: Task, limits: Limits): boolean {
  const needs = new Map<string, number>()
  for (const { key, units } of limits) needs.set(key, (needs.get(key) ?? 0) + units)
  const has = (key: string, units: number) => task.costs.get(key)?.granted && task.costs.get(key)?.units === units
  if (needs.size === task.costs.size && [...needs].every(([key, units]) => has(key, units))) return true
  const freed = new Set<string>()
  for (const [key, { units }] of task.costs) if (needs.get(key) !== units) freed.add(key)
  for (const key of freed) task.costs.delete(key)
  for (const [key, units] of needs) {
    if (!task.costs.has(key)) task.costs.set(key, { units, granted: false, queued: false, position: task.position })
  }
  const others = (key: string) => [...state.open].some(({ costs: all }) => all.get(key)?.queued)
  const hasAll = [...task.costs].every(
    ([key, { units, granted }]) => granted || (units <= room(state, key) && !others(key))
  )
  if (hasAll) for (const cost of task.costs.values()) cost.granted = true
  state.holders.add(task)
  grant(state, freed)
  return hasAll
}

export function setCap(state: State, key: string, cap: number | null): void {
  if (cap === null) state.caps.delete(key)
  else state.caps.set(key, cap)
  if (!key.endsWith('/*')) return grant(state, new Set([key]))
  const kind = key.slice(0, -1)
  const queued = [...state.open].flatMap((task) => [...task.costs].flatMap(([of, cost]) => (cost.queued ? [of] : [])))
  grant(state, new Set(queued.filter((of) => of.startsWith(kind))))
}

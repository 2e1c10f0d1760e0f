// A running task gets children, in the model. Of two conflicting tasks the later position waits for the earlier, except that nobody
// is put before one that has started; what would close a circle is turned round, or refused.
import { holdsLease, runningAttempt } from './dispatch.ts'
import { resume } from './ends.ts'
import { giveBack, makeReady, makeWait } from './limits.ts'
import {
  ancestors,
  conflicting,
  isBefore,
  pathOf,
  reachedFrom,
  Refused,
  strongest,
  type Edge,
  type Sketch,
  type State,
  type Task
} from './state.ts'

export type Expanded = { children: number[]; refused: { index: number; code: string }[] } | 'stale'

type Siblings = { parent: Task; all: readonly Task[]; refused: Set<Task>; moved: Set<Task> }

export function expand(
  state: State,
  request: { dispatcher: number; task: number; attempt: number; children: readonly Sketch[] }
): Expanded {
  if (!holdsLease(state, request.dispatcher)) throw new Refused('lease_lost')
  const parent = runningAttempt(state, request)
  if (!parent) return 'stale'
  if (parent.asked && !parent.expanded) throw new Refused('asked_to_stop')

  const above = ancestors(parent)
  const others = new Set(request.children.flatMap(({ claims }) => [...conflicting(state, strongest(claims), above)]))
  const back = makeWait(state, others)
  const started = new Set([...others].filter((other) => other.place === 'run' || other.started))
  const path = pathOf(parent) ?? []
  const ids = request.children.map(() => state.draw())
  const all = request.children.map((sketch, at) => {
    const child = state.add(ids[at] ?? 0, sketch, { parent, path: [...path, ids[at] ?? 0] })
    child.position = path[0] ?? null
    for (const [resource, exclusive] of strongest(sketch.claims))
      state.claim(child, resource, { exclusive, own: true, position: child.position })
    return child
  })

  const siblings: Siblings = { parent, all, refused: new Set(), moved: new Set() }
  const codes = new Map<Task, string>()
  for (const child of all) {
    const code = order(state, siblings, child, { others, started })
    if (code === undefined) continue
    siblings.refused.add(child)
    codes.set(child, code)
  }
  for (const [child, code] of codes) {
    state.end(child, 'failed', code)
    child.costs.clear()
  }

  parent.past.set(request.attempt, 'expanded')
  parent.run = { attempt: request.attempt, dispatcher: null, phase: 'awaiting', deadline: null, takenOver: false }
  Object.assign(parent, { expanded: true, started: true })
  giveBack(state, [parent])
  makeReady(state, [...all, ...siblings.moved, ...back, ...others])
  if (siblings.refused.size === all.length) resume(state, [parent])
  return { children: ids, refused: [...codes].map(([child, code]) => ({ index: all.indexOf(child), code })) }
}

/** Gives the child its edges, or says why it cannot have them. */
function order(
  state: State,
  { parent, all, refused, moved }: Siblings,
  child: Task,
  { others, started }: { others: ReadonlySet<Task>; started: ReadonlySet<Task> }
): string | undefined {
  const asked = new Map<Task, Edge>()
  const bad = ask(state, all, child, asked)
  const mine = conflictsOf(child, [...others, ...all.slice(0, all.indexOf(child))])
  const forced = [...asked.keys(), ...mine.filter((other) => started.has(other))]
  const free = mine.filter((other) => !started.has(other) && !refused.has(other))
  if (bad !== undefined) return bad
  const reach = reachedFrom(forced)
  const unchecked = state.broken.has('circles-unchecked')
  if (reach.has(parent) && !unchecked) return 'circle'

  const path = child.path ?? []
  const isEarlier = (other: Task) => all.includes(other) || isBefore(pathOf(other) ?? [], path)
  const turned = (other: Task) => !unchecked && reachedFrom([other]).has(parent)
  const earlier = free.filter((other) => isEarlier(other) && !turned(other))
  const first = free.filter((other) => isEarlier(other) && turned(other))
  const later = free.filter((other) => !isEarlier(other))
  for (const one of reachedFrom(earlier)) reach.add(one)
  // What it reaches through others it waits for itself: these may be cancelled or held.
  const reached = later.filter((other) => reach.has(other) && !unchecked)
  const behind = [...later.filter((other) => !reached.includes(other)), ...first]

  for (const [prerequisite, edge] of asked) state.wait(child, prerequisite, edge)
  for (const prerequisite of [...forced, ...earlier, ...reached]) state.wait(child, prerequisite)
  for (const other of behind) {
    state.wait(other, child)
    moved.add(other)
  }
  return undefined
}

function conflictsOf(child: Task, others: readonly Task[]): Task[] {
  return [...new Set(others)].filter((other) =>
    [...child.claims].some(([resource, { exclusive }]) => {
      const theirs = other.claims.get(resource)
      return theirs !== undefined && theirs.position !== null && (theirs.exclusive || exclusive)
    })
  )
}

/** Collects the edges that it asks for; what is wrong with one of them, if anything is. */
function ask(state: State, all: readonly Task[], child: Task, asked: Map<Task, Edge>): string | undefined {
  for (const { task: id, element, needs } of child.sketch.after) {
    const index = element ?? -1
    if (id === undefined && (index < 0 || index >= all.indexOf(child))) return 'later_position'
    const prerequisite = id === undefined ? all[index] : state.tasks.get(id)
    if (!prerequisite) return 'task_not_found'
    const { outcome } = prerequisite
    if (needs === 'complete' && outcome !== null && outcome !== 'complete') return 'prerequisite_ended_badly'
    const path = pathOf(prerequisite)
    if (outcome === null && !all.includes(prerequisite) && (!path || isBefore(child.path ?? [], path)))
      return 'later_position'
    const complete = needs === 'complete' || asked.get(prerequisite)?.needs === 'complete'
    asked.set(prerequisite, { needs: complete ? 'complete' : 'ended', derived: false })
  }
  return undefined
}

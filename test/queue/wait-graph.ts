// Judges one moment of the queue from its tables alone: who waits for whom, whether all of it can still end, whether what conflicts
// is together or unordered, and whether what the queue keeps ready, parked and counted is what follows from the tables. No view
// and no function of the queue is used, and no module of src/queue: only the names of columns.
import type { Sql } from '../../src/db/open.ts'

export type OpenTask = {
  id: number
  parent: number | null
  ended: boolean
  places: ('wait' | 'ready' | 'run')[]
  started: boolean
  position: number | null
  rank: number
  unmet: number
  barred: number
  doomed: boolean
  /** It has bound late claims, or has tried to. */
  bound: boolean
  /** Of a run: running, awaiting, uncertain. */
  phase: string | null
  held: boolean
  due: boolean
  parked: string | null
  claims: { resource: string; exclusive: boolean }[]
  costs: { key: string; units: number; granted: boolean; queued: boolean }[]
  after: { task: number; needs: 'complete' | 'ended'; outcome: string | null }[]
}

type Moment = { tasks: OpenTask[]; caps: { [key: string]: number } }

export async function readMoment(db: Sql): Promise<Moment> {
  const [row] = await db.query<Moment>(
    `with place as (
       select task, 'wait' as place, started, position, -priority as rank, unmet, barred, doomed_by is not null as doomed,
         null::text as phase from queue.wait
       union all select task, 'ready', started, position, rank, 0, 0, false, null from queue.ready
       union all select task, 'run', started, position, -priority, 0, 0, false, phase::text from queue.run
     ), named as (
       select c.task, jsonb_agg(jsonb_build_object('resource', r.name, 'exclusive', c.exclusive)) as claims
       from queue.claim c join queue.resource r on r.id = c.resource group by c.task
     ), priced as (
       select task, jsonb_agg(jsonb_build_object('key', key, 'units', units, 'granted', granted, 'queued', queued)) as costs
       from queue.cost where task in (select task from place) group by task
     ), edges as (
       select p.task, jsonb_agg(jsonb_build_object('task', p.prerequisite, 'needs', p.needs, 'outcome', b.outcome)) as after
       from queue.prerequisite p join queue.task b on b.id = p.prerequisite where p.task in (select task from place) group by p.task
     )
     select coalesce(jsonb_agg(jsonb_build_object(
       'id', l.task, 'parent', t.parent, 'ended', t.outcome is not null, 'places', l.places, 'started', l.started,
       'position', l.position, 'rank', l.rank, 'unmet', l.unmet, 'barred', l.barred, 'doomed', l.doomed, 'phase', l.phase,
       'held', h.task is not null, 'due', s.task is null, 'parked', k.key, 'bound', b.task is not null,
       'claims', coalesce(n.claims, '[]'), 'costs', coalesce(c.costs, '[]'), 'after', coalesce(e.after, '[]')) order by l.task), '[]') as tasks,
       (select coalesce(jsonb_object_agg(key, cap), '{}') from queue.cap) as caps
     from (
       select task, array_agg(place) as places, bool_or(started) as started, max(position) as position, max(rank) as rank,
         max(unmet) as unmet, max(barred) as barred, bool_or(doomed) as doomed, max(phase) as phase
       from place group by task) l
     left join queue.task t on t.id = l.task
     left join queue.held h on h.task = l.task
     left join queue.bound b on b.task = l.task
     left join queue.scheduled s on s.task = l.task
     left join queue.parked k on k.task = l.task
     left join named n on n.task = l.task
     left join priced c on c.task = l.task
     left join edges e on e.task = l.task`
  )
  return row ?? { tasks: [], caps: {} }
}

/** Everything that is wrong at this moment, in sentences. */
export function judgeMoment(moment: Moment): string[] {
  const graph = new Graph(moment.tasks)
  return [
    ...misplaced(moment),
    ...overlapping(graph),
    ...unordered(graph),
    ...circles(graph),
    ...standingStill(graph, moment),
    ...overdrawn(moment),
    ...forgotten(moment)
  ]
}

const isAskedAgain = (task: OpenTask): boolean => inHand(task) || (task.bound && !task.started)
const inHand = (task: OpenTask): boolean => task.places[0] === 'run' && !task.started

const conflict = (a: OpenTask, b: OpenTask): string | undefined =>
  a.claims.find((one) =>
    b.claims.some((other) => other.resource === one.resource && (other.exclusive || one.exclusive))
  )?.resource

class Graph {
  readonly tasks: readonly OpenTask[]
  readonly byId: ReadonlyMap<number, OpenTask>
  /** Along prerequisites that are not met, and from a parent to its open children. */
  readonly waits: ReadonlyMap<number, number[]>
  readonly conflicts: readonly [OpenTask, OpenTask, string][]
  readonly #touching: Map<string, OpenTask[]>
  readonly #reached = new Map<number, Set<number>>()

  constructor(tasks: readonly OpenTask[]) {
    this.tasks = tasks
    this.byId = new Map(tasks.map((task) => [task.id, task]))
    const waits = new Map(
      tasks.map((task) => [task.id, task.after.flatMap((edge) => (edge.outcome === null ? [edge.task] : []))])
    )
    for (const { id, parent } of tasks) if (parent !== null) waits.get(parent)?.push(id)
    this.waits = waits
    this.#touching = new Map()
    for (const task of tasks) {
      for (const { resource } of task.claims) {
        const touching = this.#touching.get(resource)
        if (touching) touching.push(task)
        else this.#touching.set(resource, [task])
      }
    }
    this.conflicts = this.#conflicting()
  }

  /** Pairs that may not be together: conflicting claims, and neither is the other's ancestor. */
  #conflicting(): [OpenTask, OpenTask, string][] {
    const pairs: [OpenTask, OpenTask, string][] = []
    const told = new Set<string>()
    for (const [resource, touching] of this.#touching) {
      for (const [at, a] of touching.entries()) {
        for (const b of touching.slice(at + 1)) {
          const pair = `${a.id} ${b.id}`
          if (told.has(pair) || conflict(a, b) === undefined) continue
          told.add(pair)
          if (!this.under(a, b.id) && !this.under(b, a.id)) pairs.push([a, b, resource])
        }
      }
    }
    return pairs
  }

  under(task: OpenTask, ancestor: number): boolean {
    for (let at: OpenTask | undefined = task; at; at = at.parent === null ? undefined : this.byId.get(at.parent)) {
      if (at.parent === ancestor) return true
    }
    return false
  }

  reaches(from: number, to: number): boolean {
    let reached = this.#reached.get(from)
    if (!reached) {
      reached = new Set()
      const stack = [from]
      for (let at = stack.pop(); at !== undefined; at = stack.pop()) {
        for (const next of this.waits.get(at) ?? []) {
          if (reached.has(next)) continue
          reached.add(next)
          stack.push(next)
        }
      }
      this.#reached.set(from, reached)
    }
    return reached.has(to)
  }
}

function misplaced({ tasks }: Moment): string[] {
  return tasks.flatMap((task) => {
    const found: string[] = []
    if (task.ended) found.push(`task ${task.id} has ended and is in ${task.places.join(', ')}`)
    if (task.places.length !== 1) found.push(`task ${task.id} is in ${task.places.join(' and ')}`)
    const unmet = task.after.filter(
      ({ needs, outcome }) => outcome === null || (needs === 'complete' && outcome !== 'complete')
    )
    if (task.places[0] !== 'run' && unmet.length !== task.unmet) {
      found.push(`task ${task.id} counts ${task.unmet} prerequisites as unmet, not ${unmet.length}`)
    }
    if (task.places[0] === 'run' && unmet.length > 0) {
      found.push(`task ${task.id} runs before ${unmet.map(({ task: before }) => before).join(', ')}`)
    }
    return found
  })
}

function overlapping(graph: Graph): string[] {
  const found: string[] = []
  for (const [a, b, resource] of graph.conflicts) {
    if (a.started && b.started) found.push(`tasks ${a.id} and ${b.id} are on ${resource} together`)
  }
  return found
}

/** Of two that conflict and have places one waits for the other, directly or through others: else both could start. */
function unordered(graph: Graph): string[] {
  const found: string[] = []
  for (const [a, b, resource] of graph.conflicts) {
    if (a.position === null || b.position === null || (a.started && b.started)) continue
    // Who is not bound yet, or was and found it taken, is asked again before it counts as started, and then waits for who has.
    if (isAskedAgain(a) || isAskedAgain(b)) continue
    if (!graph.reaches(a.id, b.id) && !graph.reaches(b.id, a.id)) {
      found.push(`tasks ${a.id} and ${b.id} both claim ${resource}, and neither waits for the other`)
    }
  }
  return found
}

function circles(graph: Graph): string[] {
  const done = new Set<number>()
  const path: number[] = []
  const visit = (id: number): number[] | undefined => {
    if (done.has(id)) return undefined
    const at = path.indexOf(id)
    if (at >= 0) return path.slice(at)
    path.push(id)
    for (const next of graph.waits.get(id) ?? []) {
      const circle = visit(next)
      if (circle) return circle
    }
    path.pop()
    done.add(id)
    return undefined
  }
  for (const { id } of graph.tasks) {
    const circle = visit(id)
    if (circle) return [`tasks ${circle.join(', ')} wait for each other in a circle`]
  }
  return []
}

/**
 * Ends in thought whatever can end, until nothing more can: what runs, and what waits for nothing that is left, touches nothing that a
 * started one holds, and has room under its limits. What is held, parked or not due comes back some day. Ends only free things,
 * so that their order does not matter, and what is left would stand still for good.
 */
function standingStill(graph: Graph, { caps }: Moment): string[] {
  const left = new Map(graph.byId)
  const blockers = new Map<number, number[]>()
  for (const [a, b] of graph.conflicts) {
    if (a.started === b.started) continue
    const [waiting, started] = a.started ? [b, a] : [a, b]
    // Who is in hand already decides for itself where it goes (late claims).
    if (!inHand(waiting)) blockers.set(waiting.id, [...(blockers.get(waiting.id) ?? []), started.id])
  }
  const used = usedUnits(graph.tasks)
  const room = (key: string) => (caps[key] ?? Infinity) - (used.get(key) ?? 0)
  const canEnd = (task: OpenTask): boolean =>
    (graph.waits.get(task.id) ?? []).every((id) => !left.has(id)) &&
    (blockers.get(task.id) ?? []).every((id) => !left.has(id)) &&
    task.costs.every(({ key, units, granted }) => granted || units > (caps[key] ?? Infinity) || units <= room(key))
  for (let before = -1; before !== left.size;) {
    before = left.size
    for (const task of left.values()) {
      if (!canEnd(task)) continue
      left.delete(task.id)
      for (const { key, units, granted } of task.costs) if (granted) used.set(key, (used.get(key) ?? 0) - units)
    }
  }
  return left.size === 0 ? [] : [`tasks ${[...left.keys()].join(', ')} stand still for good`]
}

function usedUnits(tasks: readonly OpenTask[]): Map<string, number> {
  const used = new Map<string, number>()
  for (const { costs } of tasks) {
    for (const { key, units, granted } of costs) if (granted) used.set(key, (used.get(key) ?? 0) + units)
  }
  return used
}

function overdrawn({ tasks, caps }: Moment): string[] {
  return [...usedUnits(tasks)].flatMap(([key, units]) =>
    units > (caps[key] ?? Infinity) ? [`${units} units of ${key} are in use, of ${caps[key]}`] : []
  )
}

/** What nothing holds back any more is ready; of those that queue for units the first lacks some. */
function forgotten({ tasks, caps }: Moment): string[] {
  const found: string[] = []
  const queued: OpenTask[] = []
  for (const task of tasks) {
    if (task.places[0] !== 'wait' || task.unmet > 0 || task.doomed || task.held || !task.due) continue
    if (task.position === null) found.push(`task ${task.id} waits for nothing, and has no place`)
    else if (task.parked === null) found.push(`task ${task.id} waits for nothing, and is not ready`)
    else if (task.parked === 'limit') queued.push(task)
  }
  const used = usedUnits(tasks)
  const [first] = queued
    .filter(({ costs }) => costs.every(({ key, units }) => units <= (caps[key] ?? Infinity)))
    .toSorted((a, b) => a.rank - b.rank || (a.position ?? 0) - (b.position ?? 0) || a.id - b.id)
  if (first && first.costs.every(({ key, units }) => (used.get(key) ?? 0) + units <= (caps[key] ?? Infinity))) {
    found.push(`task ${first.id} is parked beside free units`)
  }
  return found
}

/** The tasks in whose words something is wrong, a line each, for whoever looks into it. */
export function linesOf({ tasks }: Moment, wrong: readonly string[]): string[] {
  const named = new Set(wrong.flatMap((line) => [...line.matchAll(/\b\d+\b/g)].map(([id]) => Number(id))))
  return tasks
    .filter(({ id }) => named.has(id))
    .map((task) => {
      const claims = task.claims.map(({ resource, exclusive }) => `${exclusive ? '' : '~'}${resource}`)
      const costs = task.costs.map(({ key, units, granted }) => `${units} ${key}${granted ? ' granted' : ''}`)
      const open = task.after.filter(({ outcome }) => outcome === null).map(({ task: before }) => before)
      const marks = [
        task.started && 'started',
        task.phase,
        task.held && 'held',
        !task.due && 'not due',
        task.parked,
        task.bound && 'bound',
        task.doomed && 'doomed'
      ]
      return `${task.id} (of ${task.parent ?? 'nobody'}, position ${task.position}) ${[...task.places, ...marks.filter(Boolean)].join(' ')} after ${open.join(',') || 'nothing'}; ${[...claims, ...costs].join(', ')}`
    })
}

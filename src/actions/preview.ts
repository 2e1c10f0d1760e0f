// What a submission would become: its tasks, and for each what it would wait for and why. Locks nothing and stores nothing; what
// it says is what `submit` would do now. The rule of the lines (queue.md: the last exclusive, or who shares since) is told again
// here in memory, since the queue knows only tasks that are stored; test/actions/preview.test.ts holds both against each other.
import type { JsonObject } from '../db/json.ts'
import type { Database } from '../db/open.ts'
import { lineEnds, listTasks, openTasksOn, unplaced, type LineEnd } from '../queue/read.ts'
import type { TaskState } from '../queue/state.ts'
import type { Claim, Needs, TaskRef } from '../queue/task.ts'
import type { Evaluated } from './evaluate.ts'
import { explicitRefs, type SubmissionRequest } from './submission.ts'

/** asked: `after`. needs: possible only thanks to it. claim: both touch the resource, and it comes first. */
type Because = { kind: 'asked' } | { kind: 'needs' } | { kind: 'claim'; resource: string }

type PreviewedEdge = { task: TaskRef; title: string; needs: Needs; because: Because[] }

type PreviewedTask = {
  index: number
  key: string | null
  action: string
  title: string
  irreversible: boolean
  /** Said when there will be nothing to do. */
  nothingToDo: string | null
  claims: Claim[]
  after: PreviewedEdge[]
  /** Further stored tasks that it would wait for: at most 100 a resource are listed. */
  afterMore: number
  /** It takes its place in the queue, and waits for whoever claims the same, only then: `held: …`, `not before …`. */
  later: string | null
  /** What it would expand into, as the action tells it: of `host.clear` each VM with where it goes, or why it stays. */
  preflight: JsonObject[] | null
}

export type Preview = {
  tasks: PreviewedTask[]
  /** Stored tasks that `after` names. */
  waitsFor: { id: number; action: string; title: string; state: TaskState }[]
  /** Unfinished tasks that `now` would cancel. */
  overtakes: { id: number; title: string }[]
}

/** Of one resource so many stored tasks are listed. */
const LISTED = 100
/** Stored tasks that are named with their titles. */
const NAMED = 1_000

export async function previewOf(
  database: Database,
  tasks: readonly Evaluated[],
  request: SubmissionRequest
): Promise<Preview> {
  const resources = [...new Set(tasks.flatMap((task) => task.claims.map((claim) => claim.resource)))]
  const lines = new Lines(await lineEnds(database, { resources, listed: LISTED }))
  const laters: (string | null)[] = []
  const outlined: { edges: Edges; more: number; later: string | null }[] = []
  const explicit = tasks.map((_, index) => explicitRefs(request, index))
  const late = await unplaced(database, idsOf(explicit.flat()))
  for (const [index, task] of tasks.entries()) {
    const edges = new Edges()
    for (const ref of explicit[index] ?? []) edges.add(ref, { kind: 'asked' })
    for (const ref of task.thanksTo) edges.add(ref, { kind: 'needs' })
    const later = placedLater(request, index, [...(explicit[index] ?? []), ...task.thanksTo], laters, late)
    laters.push(later)
    // Who is not placed yet waits for nobody's claim, and nobody waits for its.
    let more = 0
    if (later === null) for (const claim of task.claims) more += lines.join({ index }, claim, edges)
    outlined.push({ edges, more, later })
  }
  const stored = outlined.flatMap(({ edges }) => edges.refs().filter((ref) => typeof ref === 'number'))
  const summaries = await namesOf(database, stored)
  const preflights: (JsonObject[] | null)[] = []
  for (const { action, args } of tasks) preflights.push((await action.preflight?.(database, args)) ?? null)
  const titleOf = (ref: TaskRef) => (typeof ref === 'number' ? summaries.get(ref) : tasks[ref.index])?.title ?? ''
  return {
    tasks: tasks.map((task, index) => ({
      index,
      key: request.tasks[index]?.key ?? null,
      action: task.action.name,
      title: task.title,
      irreversible: task.action.irreversible ?? false,
      nothingToDo: task.verdict.verdict === 'nothing_to_do' ? task.verdict.why : null,
      claims: task.claims,
      after: (outlined[index]?.edges.list() ?? []).map((edge) => ({ ...edge, title: titleOf(edge.task) })),
      afterMore: outlined[index]?.more ?? 0,
      later: outlined[index]?.later ?? null,
      preflight: preflights[index] ?? null
    })),
    waitsFor: [...summaries.values()].map(({ id, action, title, state }) => ({ id, action, title, state })),
    overtakes: await overtaken(database, tasks)
  }
}

const idsOf = (refs: readonly TaskRef[]): number[] => [...new Set(refs.filter((ref) => typeof ref === 'number'))]

async function namesOf(database: Database, refs: readonly TaskRef[]) {
  const ids = idsOf(refs).slice(0, NAMED)
  const found = ids.length === 0 ? [] : (await listTasks(database, { ids, limit: NAMED })).tasks
  return new Map(found.map((task) => [task.id, task]))
}

/** Held, not due, or after something that is: in words, or null. */
function placedLater(
  request: SubmissionRequest,
  index: number,
  after: readonly TaskRef[],
  laters: readonly (string | null)[],
  late: ReadonlySet<number>
): string | null {
  const asked = request.tasks[index]
  if (asked?.hold) return `held: ${asked.hold.reason}`
  if (asked?.notBefore !== undefined && new Date(asked.notBefore).getTime() > Date.now()) {
    return `not before ${asked.notBefore}`
  }
  for (const ref of after) {
    const isLate = typeof ref === 'number' ? late.has(ref) : laters[ref.index] !== null
    if (isLate) return `after ${typeof ref === 'number' ? `task ${ref}` : ref.index + 1}, which does`
  }
  return null
}

async function overtaken(database: Database, tasks: readonly Evaluated[]): Promise<Preview['overtakes']> {
  const found = new Map<number, string>()
  for (const task of tasks) {
    const actions = task.action.overtakes?.(task.args) ?? []
    if (actions.length === 0) continue
    const resources = task.claims.filter(({ mode }) => mode === 'exclusive').map(({ resource }) => resource)
    for (const { id, title } of await openTasksOn(database, { resources, actions })) found.set(id, title)
  }
  return [...found].map(([id, title]) => ({ id, title }))
}

/** A task's prerequisites, each once, with everything that makes it one. */
class Edges {
  readonly #found = new Map<string, { task: TaskRef; because: Because[] }>()

  add(task: TaskRef, why: Because): void {
    const key = typeof task === 'number' ? String(task) : `#${task.index}`
    const edge = this.#found.get(key) ?? { task, because: [] }
    this.#found.set(key, edge)
    edge.because.push(why)
  }

  refs(): TaskRef[] {
    return [...this.#found.values()].map(({ task }) => task)
  }

  list(): Omit<PreviewedEdge, 'title'>[] {
    return [...this.#found.values()].map(({ task, because }) => ({
      task,
      because,
      needs: because.some(({ kind }) => kind !== 'claim') ? 'complete' : 'ended'
    }))
  }
}

type Tail = { exclusive: TaskRef | null; sharers: TaskRef[]; own: LineEnd['own']; more: number }

/** Each resource's line, as the new tasks join it one after another. */
class Lines {
  readonly #tails: Map<string, Tail>

  constructor(ends: readonly LineEnd[]) {
    this.#tails = new Map(
      ends.map(({ resource, exclusive, sharers, own, more }) => [
        resource,
        { exclusive, sharers: [...sharers], own, more }
      ])
    )
  }

  /** Adds whom the claim waits for; answers how many more stored tasks there are. */
  join(task: TaskRef, { resource, mode }: Claim, edges: Edges): number {
    const tail = this.#tails.get(resource) ?? { exclusive: null, sharers: [], own: [], more: 0 }
    this.#tails.set(resource, tail)
    const why = { kind: 'claim', resource } as const
    for (const other of tail.own) if (other.exclusive || mode === 'exclusive') edges.add(other.task, why)
    if (mode === 'shared') {
      if (tail.exclusive !== null) edges.add(tail.exclusive, why)
      tail.sharers.push(task)
      return 0
    }
    const before = tail.sharers.length > 0 || tail.exclusive === null ? tail.sharers : [tail.exclusive]
    for (const ref of before) edges.add(ref, why)
    const { more } = tail
    Object.assign(tail, { exclusive: task, sharers: [], more: 0 })
    return more
  }
}

// Lines of claims in the model: who waits for whom on one resource. Only the nearest conflicting claim is waited for.
import type { State, Task } from './state.ts'

type Place = { task: Task; position: number; exclusive: boolean }
export type WaitsFor = readonly [task: Task, prerequisite: Task]

/** Those who stand in line at a resource, in order; children and late claims do not. */
function lineAt(state: State, resource: string, without: ReadonlySet<Task>): Place[] {
  const line: Place[] = []
  for (const task of state.claimants.get(resource) ?? []) {
    const claim = task.claims.get(resource)
    if (!claim || claim.own || claim.position === null || without.has(task)) continue
    line.push({ task, position: claim.position, exclusive: claim.exclusive })
  }
  return line.toSorted((a, b) => a.position - b.position)
}

/** Along the line: whoever is in `fresh` waits, or is waited for by who is fresh behind it. */
function waitsAlong(state: State, line: readonly Place[], fresh: ReadonlySet<Task>): WaitsFor[] {
  const waits: WaitsFor[] = []
  let last: Task | undefined
  let sharers: Task[] = []
  for (const { task, exclusive } of line) {
    if (!exclusive) {
      if (last && fresh.has(task)) waits.push([task, last])
      sharers.push(task)
      continue
    }
    if (fresh.has(task)) {
      if (sharers.length > 0 && !state.broken.has('sharers-overlooked'))
        waits.push(...sharers.map((sharer) => [task, sharer] as const))
      else if (last) waits.push([task, last])
    }
    last = task
    sharers = []
  }
  return waits
}

const none: ReadonlySet<Task> = new Set()

/** These have just taken the last places of their lines. What is not in a line is waited for pair by pair. */
export function joinLines(state: State, fresh: ReadonlySet<Task>): WaitsFor[] {
  const waits: WaitsFor[] = []
  const resources = new Set([...fresh].flatMap((task) => [...task.claims.keys()]))
  for (const resource of resources) {
    waits.push(...waitsAlong(state, lineAt(state, resource, none), fresh))
    for (const other of state.claimants.get(resource) ?? []) {
      const theirs = other.claims.get(resource)
      if (!theirs?.own) continue
      for (const task of fresh) {
        const ours = task.claims.get(resource)
        if (ours && task !== other && (ours.exclusive || theirs.exclusive)) waits.push([task, other])
      }
    }
  }
  return waits
}

/**
 * These leave their lines: who waited for what was before them only through them waits for it itself. Every edge of each line as it
 * will be, as far as a gap reaches: from who left to the next exclusive behind.
 */
export function closeLines(state: State, leaving: ReadonlySet<Task>): WaitsFor[] {
  if (state.broken.has('lines-not-closed')) return []
  const waits: WaitsFor[] = []
  const resources = new Set([...leaving].flatMap((task) => [...task.claims.keys()]))
  for (const resource of resources) {
    const line = lineAt(state, resource, leaving)
    let first = Infinity
    let end = -Infinity
    for (const task of leaving) {
      const claim = task.claims.get(resource)
      if (!claim || claim.own || claim.position === null) continue
      const { position } = claim
      const next = line.find((place) => place.exclusive && place.position > position)
      const previous = line.findLast((place) => place.exclusive && place.position < position)
      const followers = claim.exclusive
        ? line.filter((place) => place.position > position && place.position <= (next?.position ?? Infinity))
        : // Behind a sharer: the next exclusive, unless another sharer keeps the order.
          next &&
            !line.some(
              (place) =>
                !place.exclusive && place.position > (previous?.position ?? 0) && place.position < next.position
            )
          ? [next]
          : []
      for (const place of followers) {
        first = Math.min(first, place.position)
        end = Math.max(end, place.position)
      }
    }
    const affected = line.filter(({ position }) => position >= first && position <= end).map(({ task }) => task)
    if (affected.length > 0)
      waits.push(
        ...waitsAlong(
          state,
          line.filter(({ position }) => position <= end),
          new Set(affected)
        )
      )
  }
  return waits
}

/** Edges to what is still open. */
export function addWaits(state: State, waits: readonly WaitsFor[]): void {
  for (const [task, prerequisite] of waits) if (prerequisite.outcome === null) state.wait(task, prerequisite)
}

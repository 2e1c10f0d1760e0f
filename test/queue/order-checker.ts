// Judges a run of the queue from what was recorded of it: what the workers wrote down of each attempt, with the claims that were
// asked for, and the tables of tasks and prerequisites at the end. It shares nothing with the queue but the names of those
// columns: no view, no function, no module of src/queue, and no time that the queue wrote.

import type { Sql } from '../../src/db/open.ts'

export type Held = { resource: string; mode: 'shared' | 'exclusive' }

/**
 * One attempt by the clock of the workers: begun after the queue had handed the task out (or bound it), ended before the queue was
 * told. So the task held its claims for longer than this, and two attempts that overlap here did overlap.
 */
export type Stint = {
  task: number
  began: number
  /** null: it never came to its end. */
  ended: number | null
  /** again: put off, its claims stay. expanded: its children run, its claims stay. */
  outcome: 'complete' | 'failed' | 'cancelled' | 'again' | 'expanded' | null
  claims: readonly Held[]
}

export type Edge = { task: number; prerequisite: number; needs: 'complete' | 'ended'; derived: boolean }

export type Run = {
  stints: readonly Stint[]
  /** As asked for by clients. */
  asked: readonly Edge[]
  /** Retried by hand: such a task has more than one life. */
  broughtBack: ReadonlySet<number>
  tasks: readonly { id: number; parent: number | null; outcome: string | null }[]
  /** As stored at the end. */
  edges: readonly Edge[]
}

export type Verdict = { overlaps: string[]; early: string[]; left: number[]; lives: number; tasks: number }

/** From its first attempt to its end a task holds its claims; a retry by hand begins another life. */
type Life = {
  task: number
  start: number
  end: number
  outcome: Stint['outcome']
  claims: readonly Held[]
  stints: Stint[]
}

export async function readTables(db: Sql): Promise<Pick<Run, 'tasks' | 'edges'>> {
  return {
    tasks: await db.query('select id, parent, outcome::text as outcome from queue.task'),
    edges: await db.query('select task, prerequisite, needs::text as needs, derived from queue.prerequisite')
  }
}

export function judge(run: Run): Verdict {
  const lives = livesOf(run)
  return {
    overlaps: overlaps(lives, new Map(run.tasks.map(({ id, parent }) => [id, parent]))),
    early: [...startedEarly(run, lives), ...resumedEarly(run, lives)],
    left: run.tasks.filter(({ outcome }) => outcome === null).map(({ id }) => id),
    lives: [...lives.values()].flat().length,
    tasks: run.tasks.length
  }
}

function livesOf({ stints, broughtBack, tasks }: Run): Map<number, Life[]> {
  const lives = new Map<number, Life[]>()
  for (const stint of stints.toSorted((a, b) => a.began - b.began)) {
    const mine = lives.get(stint.task) ?? []
    const last = mine.at(-1)
    // Of one that was brought back nobody knows whether it was cancelled while it was put off, or while its children ran.
    const goesOn = (last?.outcome === 'expanded' || last?.outcome === 'again') && !broughtBack.has(stint.task)
    const end = stint.ended ?? Infinity
    if (last && goesOn) {
      Object.assign(last, { end, outcome: stint.outcome })
      last.stints.push(stint)
    } else {
      const { task, began, outcome, claims } = stint
      mine.push({ task, start: began, end, outcome, claims, stints: [stint] })
    }
    lives.set(stint.task, mine)
  }
  // A parent that was cancelled before it went on held its claims until its last child had ended. Children come before their
  // parents here, as they have larger ids.
  for (const { id, parent } of tasks.toSorted((a, b) => b.id - a.id)) {
    const above = parent === null ? undefined : lives.get(parent)?.at(-1)
    if (above?.outcome === 'expanded') above.end = Math.max(above.end, ...(lives.get(id) ?? []).map(({ end }) => end))
  }
  return lives
}

function overlaps(lives: ReadonlyMap<number, Life[]>, parents: ReadonlyMap<number, number | null>): string[] {
  const under = (task: number, ancestor: number): boolean => {
    const above = parents.get(task) ?? null
    return above !== null && (above === ancestor || under(above, ancestor))
  }
  const holders = new Map<string, { life: Life; exclusive: boolean }[]>()
  for (const life of [...lives.values()].flat()) {
    for (const resource of new Set(life.claims.map((claim) => claim.resource))) {
      const exclusive = life.claims.some((claim) => claim.resource === resource && claim.mode === 'exclusive')
      holders.set(resource, [...(holders.get(resource) ?? []), { life, exclusive }])
    }
  }
  const found: string[] = []
  for (const [resource, all] of holders) {
    for (const [index, a] of all.entries()) {
      for (const b of all.slice(index + 1)) {
        const [one, two] = [a.life, b.life]
        if (!(a.exclusive || b.exclusive) || one.task === two.task) continue
        if (under(one.task, two.task) || under(two.task, one.task)) continue
        if (one.start < two.end && two.start < one.end) {
          found.push(`tasks ${one.task} and ${two.task} were on ${resource} together`)
        }
      }
    }
  }
  return found
}

function startedEarly({ asked, edges, broughtBack, tasks }: Run, lives: ReadonlyMap<number, Life[]>): string[] {
  const outcomes = new Map(tasks.map(({ id, outcome }) => [id, outcome]))
  const found: string[] = []
  for (const { task, prerequisite, needs, derived } of [...asked, ...edges]) {
    const before = lives.get(prerequisite) ?? []
    // A derived edge that is there at the end is one of the last life, and that may have ended without a start: a binding that is
    // refused leaves no stint. What such an edge keeps apart is seen as an overlap all the same.
    for (const { start } of derived && broughtBack.has(task) ? [] : (lives.get(task) ?? [])) {
      const under = before.some((life) => life.start < start && start < life.end)
      const later = !broughtBack.has(prerequisite) && before.some((life) => start < life.end)
      const well = before.some((life) => life.end <= start && life.outcome === 'complete')
      const open = before.length === 0 && (outcomes.get(prerequisite) ?? null) === null
      if (under || later || open || (needs === 'complete' && !well)) {
        found.push(`task ${task} started before ${prerequisite} was ${needs}`)
      }
    }
  }
  return found
}

/** A parent goes on when the last of its children has ended. */
function resumedEarly({ tasks }: Run, lives: ReadonlyMap<number, Life[]>): string[] {
  const found: string[] = []
  for (const { id, parent } of tasks) {
    if (parent === null) continue
    for (const { stints } of lives.get(parent) ?? []) {
      const expansion = stints.findIndex(({ outcome }) => outcome === 'expanded')
      const resumed = stints[expansion + 1]
      if (expansion < 0 || !resumed) continue
      if ((lives.get(id) ?? []).some(({ end }) => end > resumed.began)) {
        found.push(`task ${parent} went on before its child ${id} had ended`)
      }
    }
  }
  return found
}

/** One look at who waits for whom, a parent for its children among them, in one snapshot; a circle if there is one. */
export async function findCircle(db: Sql): Promise<number[] | null> {
  return circleIn(
    await db.query(
      `select p.task as waits, p.prerequisite as for from queue.prerequisite p
         join queue.task t on t.id = p.task and t.outcome is null
         join queue.task q on q.id = p.prerequisite and q.outcome is null
       union all
       select c.parent, c.id from queue.task c where c.parent is not null and c.outcome is null`
    )
  )
}

export function circleIn(edges: readonly { waits: number; for: number }[]): number[] | null {
  const next = Map.groupBy(edges, ({ waits }) => waits)
  const done = new Set<number>()
  const path: number[] = []
  const visit = (node: number): number[] | null => {
    if (done.has(node)) return null
    const at = path.indexOf(node)
    if (at >= 0) return path.slice(at)
    path.push(node)
    for (const edge of next.get(node) ?? []) {
      const circle = visit(edge.for)
      if (circle) return circle
    }
    path.pop()
    done.add(node)
    return null
  }
  for (const node of next.keys()) {
    const circle = visit(node)
    if (circle) return circle
  }
  return null
}

// Judges a run of the queue from what the queue recorded of it: claims, times of attempts and ends, edges that were asked for,
// parents. order-checker.ts judges from what the workers saw. It shares nothing with the queue but the names of these columns: no view, no function, no module of src/queue.

import type { Sql } from '../../src/db/open.ts'

export { findCircle } from './order-checker.ts'

type Row = {
  id: number
  parent: number | null
  outcome: string | null
  claims: { resource: string; mode: string }[]
  started: Date | null
  ended: Date | null
  attempts: { started: string; ended: string; outcome: string }[] | null
  retried: string[] | null
  rewritten: string | null
}

/** The message with which a test rewrites: attempts before it had claims that are not kept, and are not judged. */
export const rewritten = 'rewritten by a test'

type Life = { task: number; start: number; end: number; outcome: string | null; claims: Row['claims'] }

export type Verdict = {
  overlaps: string[]
  startedBeforePrerequisite: string[]
  left: number[]
  lives: number
  tasks: number
}

export type AskedEdge = { task: number; prerequisite: number; needs: 'complete' | 'ended' }

export async function judge(db: Sql, asked: readonly AskedEdge[]): Promise<Verdict> {
  // Microseconds matter: milliseconds of pg's Date would round an end behind the start that followed it.
  const rows = await db.query<Row>(
    `select t.id, t.parent, t.outcome::text, coalesce(b.claims, t.claims) as claims, null as started, null as ended,
       (select jsonb_agg(jsonb_build_object('started', extract(epoch from a.started_at) * 1000, 'ended', extract(epoch from a.ended_at) * 1000,
         'outcome', a.outcome) order by a.started_at) from (
           select started_at, ended_at, outcome from queue.attempt a where a.task = t.id and outcome not in ('waiting')
           union all select t.started_at, t.ended_at, t.outcome::text where t.started_at is not null) a) as attempts,
       (select jsonb_agg(extract(epoch from l.at) * 1000 order by l.at) from queue.log l where l.task = t.id and l.message like 'retried by %') as retried,
       (select extract(epoch from max(l.at)) * 1000 from queue.log l where l.task = t.id and l.message = $1) as rewritten
     from queue.task t left join queue.bound b on b.task = t.id`,
    [rewritten]
  )
  const lives = rows.flatMap(livesOf)
  const parents = new Map(rows.map(({ id, parent }) => [id, parent]))
  return {
    overlaps: overlaps(lives, (a, b) => related(parents, a, b)),
    startedBeforePrerequisite: early(lives, asked),
    left: rows.filter(({ outcome }) => outcome === null).map(({ id }) => id),
    lives: lives.length,
    tasks: rows.length
  }
}

/** From its first start to its end a task holds its claims; a retry by hand begins another life. */
function livesOf(row: Row): Life[] {
  const starts = [Number(row.rewritten ?? -Infinity), ...(row.retried ?? []).map(Number)]
  return starts.flatMap((from, index) => {
    const until = starts[index + 1] ?? Infinity
    const attempts = (row.attempts ?? []).filter(({ started }) => Number(started) >= from && Number(started) < until)
    const first = attempts[0]
    const last = attempts.at(-1)
    if (!first || !last) return []
    return [
      { task: row.id, start: Number(first.started), end: Number(last.ended), outcome: last.outcome, claims: row.claims }
    ]
  })
}

function related(parents: ReadonlyMap<number, number | null>, a: number, b: number): boolean {
  const above = (from: number, wanted: number) => {
    for (let at: number | null | undefined = from; at !== null && at !== undefined; at = parents.get(at)) {
      if (at === wanted) return true
    }
    return false
  }
  return above(a, b) || above(b, a)
}

function overlaps(lives: readonly Life[], mayShare: (a: number, b: number) => boolean): string[] {
  const byResource = new Map<string, (Life & { exclusive: boolean })[]>()
  for (const life of lives) {
    const strongest = new Map<string, boolean>()
    for (const { resource, mode } of life.claims) {
      strongest.set(resource, (strongest.get(resource) ?? false) || mode === 'exclusive')
    }
    for (const [resource, exclusive] of strongest) {
      byResource.set(resource, [...(byResource.get(resource) ?? []), { ...life, exclusive }])
    }
  }
  const found: string[] = []
  for (const [resource, holders] of byResource) {
    for (const [index, a] of holders.entries()) {
      for (const b of holders.slice(index + 1)) {
        if (!(a.exclusive || b.exclusive) || a.task === b.task || mayShare(a.task, b.task)) continue
        if (a.start < b.end && b.start < a.end) found.push(`tasks ${a.task} and ${b.task} were on ${resource} together`)
      }
    }
  }
  return found
}

function early(lives: readonly Life[], asked: readonly AskedEdge[]): string[] {
  const byTask = new Map<number, Life[]>()
  for (const life of lives) byTask.set(life.task, [...(byTask.get(life.task) ?? []), life])
  const found: string[] = []
  for (const { task, prerequisite, needs } of asked) {
    for (const life of byTask.get(task) ?? []) {
      const before = (byTask.get(prerequisite) ?? []).filter(({ end }) => end <= life.start)
      // What was cancelled before it ran has no life, and is an end all the same.
      const ended = before.length > 0 || !byTask.has(prerequisite)
      if (needs === 'ended' ? !ended : !before.some(({ outcome }) => outcome === 'complete')) {
        found.push(`task ${task} started before ${prerequisite} was ${needs}`)
      }
    }
  }
  return found
}

// What the queue's tables tell of a run, and whether it can be true: nothing lost, nothing begun before what it had to wait for, each
// result recorded once, nothing together that claims one thing. Reads tables by SQL of its own; shares nothing with src.

/** Whoever can run a statement. */
export type Reader = { query<R>(text: string, values?: readonly unknown[]): Promise<R[]> }

export type Attempt = { attempt: number; startedAt: number; endedAt: number; outcome: string }
export type HistoryTask = {
  id: number
  action: string
  args: Record<string, unknown>
  claims: { resource: string; mode: 'shared' | 'exclusive' }[]
  parent: number | null
  /** null: it has not ended. */
  outcome: 'complete' | 'failed' | 'cancelled' | null
  result: unknown
  error: { code?: string } | null
  /** Attempts that began, the last included. */
  attempts: number
  startedAt: number | null
  endedAt: number | null
  /** Attempts that did not end the task, in order. */
  earlier: Attempt[]
  /** Nobody can tell whether it happened. */
  uncertain: boolean
  hasEvidence: boolean
}
export type Edge = { task: number; prerequisite: number; needs: 'complete' | 'ended'; derived: boolean }
export type History = {
  tasks: Map<number, HistoryTask>
  edges: Edge[]
  /** How often the tables say that a task ended. */
  ends: Map<number, number>
}

// Times are milliseconds with their fractions: a Date would hide what is less than one apart.
const ms = (column: string, name: string): string => `(extract(epoch from ${column}) * 1000)::float8 as "${name}"`

export async function readHistory(db: Reader): Promise<History> {
  const rows = await db.query<Omit<HistoryTask, 'earlier'>>(`
    select t.id, t.action, t.args, t.parent, t.outcome::text as outcome, t.result, t.error,
      greatest(t.attempts, coalesce(r.attempt, 0)) as attempts, ${ms('t.started_at', 'startedAt')}, ${ms('t.ended_at', 'endedAt')},
      coalesce((select b.claims from queue.bound b where b.task = t.id), t.claims) as claims,
      coalesce(r.phase = 'uncertain', false) as uncertain,
      coalesce(r.evidence is not null and r.evidence <> 'null'::jsonb or r.error is not null, false) as "hasEvidence"
    from queue.task t left join queue.run r on r.task = t.id order by t.id`)
  const attempts = await db.query<Attempt & { task: number }>(
    `select task, attempt, ${ms('started_at', 'startedAt')}, ${ms('ended_at', 'endedAt')}, outcome
     from queue.attempt order by task, attempt`
  )
  const ends = await db.query<{ task: number; times: number }>(
    'select task, count(*)::int as times from queue.event, unnest(ended) as task group by task'
  )
  const tasks = new Map<number, HistoryTask>()
  for (const row of rows) tasks.set(row.id, { ...row, earlier: [] })
  for (const { task, ...attempt } of attempts) tasks.get(task)?.earlier.push(attempt)
  return {
    tasks,
    edges: await db.query<Edge>('select task, prerequisite, needs::text as needs, derived from queue.prerequisite'),
    ends: new Map(ends.map(({ task, times }) => [task, times]))
  }
}

export type HistoryFindings = {
  /** Neither ended nor uncertain with evidence, or not there at all. */
  lost: string[]
  early: string[]
  /** Recorded more than once, or not at all. */
  results: string[]
  /** Two tasks that held the same thing at the same time. */
  together: string[]
}

/** @param submitted what clients were told is stored */
export function judgeHistory(history: History, submitted: readonly number[]): HistoryFindings {
  return {
    lost: lostOf(history, submitted),
    early: history.edges.flatMap((edge) => earlyOf(history, edge)),
    results: [...history.tasks.values()].flatMap((task) => {
      const times = history.ends.get(task.id) ?? 0
      // What was brought back by hand ends more than once, rightly.
      const lives = 1 + task.earlier.filter(({ outcome }) => outcome === 'failed' || outcome === 'cancelled').length
      const wanted = task.outcome === null ? lives - 1 : lives
      return times === wanted ? [] : [`task ${task.id} (${task.action}) ended ${times} times, not ${wanted}`]
    }),
    together: togetherOf(history)
  }
}

function lostOf({ tasks }: History, submitted: readonly number[]): string[] {
  return submitted.flatMap((id) => {
    const task = tasks.get(id)
    if (!task) return [`task ${id} was acknowledged and is not there`]
    if (task.outcome !== null || (task.uncertain && task.hasEvidence)) return []
    return [`task ${id} (${task.action}) ${task.uncertain ? 'is uncertain without evidence' : 'has not ended'}`]
  })
}

function earlyOf({ tasks }: History, { task: id, prerequisite, needs, derived }: Edge): string[] {
  const [task, before] = [tasks.get(id), tasks.get(prerequisite)]
  if (!task || !before) return [`task ${id} waits for ${prerequisite}, and one of them is not there`]
  const began = beganAt(task, derived)
  if (began === null) return []
  if (before.endedAt === null) return [`task ${id} began although task ${prerequisite} has not ended`]
  if (began < before.endedAt)
    return [`task ${id} began ${before.endedAt - began} ms before task ${prerequisite} had ended`]
  if (needs === 'complete' && before.outcome !== 'complete')
    return [`task ${id} began although task ${prerequisite} was ${before.outcome}`]
  return []
}

/** When it began with what it claims in the end: an attempt that was put back to waiting got the edge for it only then. */
function beganAt(task: HistoryTask, afterWaiting: boolean): number | null {
  const attempts = task.earlier.map(({ startedAt, outcome }) => ({ startedAt, outcome }))
  if (task.startedAt !== null) attempts.push({ startedAt: task.startedAt, outcome: 'last' })
  const from = afterWaiting ? attempts.findLastIndex(({ outcome }) => notBegun.has(outcome)) + 1 : 0
  return attempts[from]?.startedAt ?? null
}

const notBegun = new Set(['waiting', 'parked'])

function togetherOf({ tasks }: History): string[] {
  const held = new Map<string, { task: HistoryTask; from: number; to: number; exclusive: boolean }[]>()
  for (const task of tasks.values()) {
    const from = beganAt(task, true)
    if (from === null) continue
    const to = task.endedAt ?? Infinity
    for (const { resource, mode } of task.claims) {
      const holders = held.get(resource) ?? []
      if (holders.length === 0) held.set(resource, holders)
      holders.push({ task, from, to, exclusive: mode === 'exclusive' })
    }
  }
  const found: string[] = []
  for (const [resource, holders] of held) {
    holders.sort((a, b) => a.from - b.from)
    for (const [at, one] of holders.entries())
      for (let next = at + 1; next < holders.length; next++) {
        const other = holders[next]
        if (!other || other.from >= one.to) break
        if (!(one.exclusive || other.exclusive) || related(tasks, one.task, other.task)) continue
        found.push(`tasks ${one.task.id} and ${other.task.id} held ${resource} at the same time`)
      }
  }
  return found
}

/** One is the other's ancestor. */
function related(tasks: ReadonlyMap<number, HistoryTask>, a: HistoryTask, b: HistoryTask): boolean {
  const above = (low: HistoryTask, high: HistoryTask): boolean => {
    for (let at: HistoryTask | undefined = low; at; at = at.parent === null ? undefined : tasks.get(at.parent))
      if (at === high) return true
    return false
  }
  return above(a, b) || above(b, a)
}

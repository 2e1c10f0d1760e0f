// A random crowd of submitters and workers on few resources; a checker that shares no code with the queue looks at what happened.
// TASKOMATIC_SEED repeats what the clients of one run asked for; how their turns fall is up to the machine.
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { openDatabase } from '../../src/db/open.ts'
import { auditAll, guardCounts } from '../../src/queue/guard.ts'
import { freshDatabase } from '../support/postgres.ts'
import type { FreshDatabase } from '../support/postgres.ts'
import { whileAltered } from './altered.ts'
import { circleIn, findCircle, judge, readTables } from './order-checker.ts'
import type { Run, Stint, Verdict } from './order-checker.ts'
import { RandomFleet } from './random-fleet.ts'
import { emptied } from './support.ts'

const given = process.env['TASKOMATIC_SEED']
/** Crowds by fresh seeds, beside one that is always the same; `npm run prove -- order-crowd` has 60. */
const crowds = Number(process.env['TASKOMATIC_CROWDS'] ?? 1)
const first = Date.now() % 1_000_000
// On the oldest PostgreSQL the fresh seed is enough.
const always = process.env['TASKOMATIC_TEST_PG'] === '15' ? [] : [1]
const seeds =
  given === undefined ? [...always, ...Array.from({ length: crowds }, (_, at) => first + at)] : [Number(given)]

let fresh: FreshDatabase
beforeAll(async () => {
  fresh = await freshDatabase()
})
afterAll(() => fresh.drop())

type Seen = Verdict & { errors: unknown[]; circle: number[] | null; deadlocks: number | undefined }

async function runCrowd(seed: number, more: { operations: number; deadlineMs: number }): Promise<Seen> {
  await emptied(fresh)
  const db = openDatabase({ url: fresh.serverUrl, poolSize: 12, applicationName: 'crowd' })
  const errors: unknown[] = []
  const onError = (error: unknown) => errors.push(error)
  const crowd = { db, seed, submitters: 8, things: 20, dispatchers: 3, slots: 12, longestMs: 5, onError, ...more }
  const fleet = new RandomFleet(crowd)
  const over = new AbortController()
  const watching = watchForCircles(over.signal)
  await fleet.run()
  over.abort()
  const { circle, looks } = await watching
  await db.stop()
  const { asked, stints, broughtBack } = fleet
  const verdict = judge({ asked, stints, broughtBack, ...(await readTables(fresh.database)) })
  console.log(
    `seed ${seed}: ${verdict.tasks} tasks, ${verdict.lives} lives, ${broughtBack.size} brought back, ${fleet.refusedChildren} children ` +
      `and ${fleet.refusedBindings} bindings refused, ${fleet.conflicts} submissions asked for again, ${looks} looks at who waits for whom`
  )
  return { ...verdict, errors, circle, deadlocks: await countDeadlocks() }
}

/** A circle stands until something from outside breaks it, so that a look now and then sees it. */
async function watchForCircles(over: AbortSignal): Promise<{ circle: number[] | null; looks: number }> {
  let circle: number[] | null = null
  let looks = 0
  for (; circle === null && !over.aborted; looks++) {
    circle = await findCircle(fresh.database)
    await sleep(200, undefined, { signal: over }).catch(() => undefined)
  }
  return { circle, looks }
}

/** Counted when a session ends at the latest. */
async function countDeadlocks(): Promise<number | undefined> {
  for (;;) {
    const [row] = await fresh.database.query<{ sessions: number; deadlocks: number }>(
      `select (select count(*) from pg_stat_activity where datname = current_database() and application_name = 'crowd') as sessions,
         deadlocks from pg_stat_database where datname = current_database()`
    )
    if (row?.sessions === 0) return row.deadlocks
  }
}

describe('500 random operations by 8 clients on 20 resources and shared ones', () => {
  test.each(seeds)(
    'no overlap, no early start, no circle, no deadlock and no task left, with seed %i',
    { timeout: 120_000 },
    async (seed) => {
      const { overlaps, early, left, errors, circle, deadlocks } = await runCrowd(seed, {
        operations: 500,
        deadlineMs: 100_000
      })
      const seen = { overlaps, early, left, errors, circle, deadlocks }
      expect(seen).toEqual({ overlaps: [], early: [], left: [], errors: [], circle: null, deadlocks: 0 })
      expect(await auditAll(fresh.database)).toEqual([])
      expect(await guardCounts(fresh.database)).toEqual({ found: 0, staleReports: 0 })
    }
  )
})

describe('the checker is not blind', () => {
  test('with the edges from who shares to who is exclusive left out of the lines, it sees them together', async () => {
    const owner = openDatabase({ url: fresh.ownerUrl, poolSize: 1 })
    const left = ['where not exclusive and next_exclusive is not null', 'where false'] as const
    const { overlaps } = await whileAltered(owner, [['line_edges', ...left]], () =>
      runCrowd(seeds[0]!, { operations: 120, deadlineMs: 20_000 })
    )
    await owner.stop()
    console.log(`${overlaps.length} overlaps without these edges`)
    expect(overlaps.length).toBeGreaterThan(0)
  })

  const onVm = (mode: 'shared' | 'exclusive') => [{ resource: 'vm/1', mode }]
  const stint = (task: number, began: number, ended: number | null, more: Partial<Stint> = {}): Stint => ({
    task,
    began,
    ended,
    outcome: 'complete',
    claims: onVm('exclusive'),
    ...more
  })
  const judged = (stints: readonly Stint[], more: Partial<Run> = {}) => {
    const tasks = [...new Set(stints.map(({ task }) => task))].map((id) => ({ id, parent: null, outcome: 'complete' }))
    const { overlaps, early, left } = judge({ stints, tasks, asked: [], edges: [], broughtBack: new Set(), ...more })
    return [overlaps.length, early.length, left.length]
  }
  const clean = [0, 0, 0]
  const family = [
    { id: 1, parent: null, outcome: 'complete' },
    { id: 2, parent: 1, outcome: 'complete' }
  ]
  const edge = { task: 2, prerequisite: 1, needs: 'complete' as const, derived: false }

  test('it sees two on one resource, but not two that share it, nor one after the other', () => {
    expect(judged([stint(1, 0, 5), stint(2, 4, 9)])).toEqual([1, 0, 0])
    expect(judged([stint(1, 0, 5), stint(2, 4, 9, { claims: onVm('shared') })])).toEqual([1, 0, 0])
    const shared = { claims: onVm('shared') }
    expect(judged([stint(1, 0, 5, shared), stint(2, 4, 9, shared)])).toEqual(clean)
    expect(judged([stint(1, 0, 5), stint(2, 5, 9)])).toEqual(clean)
  })

  test('what is put off keeps its claims between its attempts, and what never reported its end keeps them for good', () => {
    const twice = [stint(1, 0, 1, { outcome: 'again' }), stint(1, 8, 9)]
    expect(judged([...twice, stint(2, 4, 5)])).toEqual([1, 0, 0])
    expect(judged([...twice, stint(2, 4, 5)], { broughtBack: new Set([1]) })).toEqual(clean)
    expect(judged([stint(1, 0, null, { outcome: null }), stint(2, 4, 5)])).toEqual([1, 0, 0])
  })

  test('a child may touch what its parent holds, but the parent does not go on before it has ended', () => {
    const parent = (resumed: number) => [stint(1, 0, 1, { outcome: 'expanded' }), stint(1, resumed, 9)]
    expect(judged([...parent(6), stint(2, 2, 5)], { tasks: family })).toEqual(clean)
    expect(judged([...parent(4), stint(2, 2, 5)], { tasks: family })).toEqual([0, 1, 0])
    const cancelled = [stint(1, 0, 1, { outcome: 'expanded' }), stint(2, 2, 5, { claims: [] }), stint(3, 4, 6)]
    expect(judged(cancelled, { tasks: [...family, { id: 3, parent: null, outcome: 'complete' }] })).toEqual([1, 0, 0])
  })

  test('it sees a start before the prerequisite was over, or although it failed, and what is left', () => {
    const apart = { claims: [] }
    expect(judged([stint(1, 0, 5, apart), stint(2, 5, 9, apart)], { asked: [edge] })).toEqual(clean)
    expect(judged([stint(1, 0, 5, apart), stint(2, 4, 9, apart)], { asked: [edge] })).toEqual([0, 1, 0])
    expect(judged([stint(1, 6, 7, apart), stint(2, 4, 5, apart)], { edges: [edge] })).toEqual([0, 1, 0])
    const failed = stint(1, 0, 3, { ...apart, outcome: 'failed' })
    expect(judged([failed, stint(2, 4, 5, apart)], { edges: [edge] })).toEqual([0, 1, 0])
    expect(judged([failed, stint(2, 4, 5, apart)], { edges: [{ ...edge, needs: 'ended' }] })).toEqual(clean)
    expect(judged([], { tasks: [{ id: 1, parent: null, outcome: null }] })).toEqual([0, 0, 1])
  })

  test('it sees a circle, and none where two ways lead to one task', () => {
    const waits = (...pairs: [number, number][]) => circleIn(pairs.map(([from, to]) => ({ waits: from, for: to })))
    expect(waits([1, 2], [1, 3], [2, 4], [3, 4])).toBeNull()
    expect(waits([1, 2], [2, 3], [3, 4], [4, 2])).toEqual([2, 3, 4])
  })
})

// A random crowd of submitters and workers on few resources; a checker that shares no code with the queue looks at what happened.
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { auditAll, guardCounts } from '../../src/queue/guard.ts'
import { freshDatabase } from '../support/postgres.ts'
import type { FreshDatabase } from '../support/postgres.ts'
import { findCircle, judge } from './checker.ts'
import { RandomFleet } from './random-fleet.ts'
import { emptied } from './support.ts'

const seed = Number(process.env['TASKOMATIC_SEED'] ?? Date.now() % 1_000_000)

let fresh: FreshDatabase
beforeAll(async () => {
  fresh = await freshDatabase({ poolSize: 14 })
})
afterAll(() => fresh.drop())

async function runCrowd(more: { complex: boolean; requests: boolean; operations: number }) {
  await emptied(fresh)
  const errors: unknown[] = []
  const fleet = new RandomFleet({
    db: fresh.database,
    seed,
    submitters: 8,
    things: 20,
    dispatchers: 2,
    slots: 24,
    longestMs: 4,
    deadlineMs: 100_000,
    onError: (error) => errors.push(error),
    ...more
  })
  let circle: number[] | null = null
  let looks = 0
  const over = new AbortController()
  const watching = (async () => {
    while (!over.signal.aborted) {
      circle ??= await findCircle(fresh.database)
      looks += 1
      await sleep(40)
    }
  })()
  await fleet.run()
  over.abort()
  await watching
  const [stat] = await fresh.database.query<{ deadlocks: number }>(
    'select deadlocks from pg_stat_database where datname = current_database()'
  )
  const verdict = await judge(fresh.database, fleet.asked)
  console.log(
    `seed ${seed}: ${verdict.tasks} tasks, ${verdict.lives} lives, ${fleet.refusedChildren} children refused, ${looks} looks at the wait graph`
  )
  if (errors.length > 0) console.log(errors.slice(0, 3))
  const left = verdict.left.slice(0, 20)
  expect({ ...verdict, left, errors: errors.length, circle, deadlocks: stat?.deadlocks }).toMatchObject({
    overlaps: [],
    startedBeforePrerequisite: [],
    left: [],
    errors: 0,
    circle: null,
    deadlocks: 0
  })
  expect(await auditAll(fresh.database)).toEqual([])
  expect((await guardCounts(fresh.database)).found).toBe(0)
}

test(
  '500 random submissions by 8 clients: no overlap, no early start, no circle, no deadlock, none left',
  { timeout: 120_000 },
  () => runCrowd({ complex: true, requests: false, operations: 500 })
)

test('the same with tasks that are cancelled, held, released, scheduled and brought back', { timeout: 120_000 }, () =>
  runCrowd({ complex: true, requests: true, operations: 200 })
)

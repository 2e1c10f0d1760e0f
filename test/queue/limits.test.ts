// Limits: units of keys beside claims, granted on the way into ready, given back by whatever leaves it.

import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest'
import type { End } from '../../src/queue/dispatch.ts'
import { auditAll, guardPoll } from '../../src/queue/guard.ts'
import { readLimits, setCap } from '../../src/queue/limits.ts'
import { cancel } from '../../src/queue/requests.ts'
import { why } from '../../src/queue/why.ts'
import { freshDatabase } from '../support/postgres.ts'
import type { FreshDatabase } from '../support/postgres.ts'
import { Dice } from './dice.ts'
import { emptied, failure, ids, stateOf, statesOf, submitAll, submitOne } from './support.ts'
import type { TaskSketch, Worker } from './support.ts'

let fresh: FreshDatabase
let worker: Worker
beforeAll(async () => {
  fresh = await freshDatabase()
})
afterAll(() => fresh.drop())
beforeEach(async () => {
  worker = await emptied(fresh)
})
afterEach(async () => {
  expect(await auditAll(fresh.database)).toEqual([])
  expect((await guardPoll(fresh.database)).found).toEqual([])
})

const out = (units = 1) => ({ key: 'migrations-out/h1', units })

test('what exceeds a cap is parked, says so, and is woken by the end that frees units, larger priority first', async () => {
  await setCap(fresh.database, 'migrations-out/h1', 2)
  const { tasks } = await submitAll(fresh.database, [
    { limits: [out()] },
    { limits: [out()] },
    { limits: [out()] },
    { limits: [out()], priority: 1 }
  ])
  // Granted in order of priority and position when they were submitted.
  expect(await statesOf(fresh.database, tasks)).toEqual(['ready', 'parked', 'parked', 'ready'])
  expect(await why(fresh.database, tasks[1]!)).toMatchObject({
    parked: { key: 'limit', reason: 'waiting for 1 of migrations-out/h1' },
    limits: [{ key: 'migrations-out/h1', units: 1, cap: 2, used: 2, usedBy: [{ id: tasks[0] }, { id: tasks[3] }] }]
  })
  const [first] = await worker.take()
  await worker.complete(first!)
  expect(await statesOf(fresh.database, tasks.slice(1, 3))).toEqual(['ready', 'parked'])
  await cancel(fresh.database, { task: tasks[1]!, by: 'me' })
  expect(await stateOf(fresh.database, tasks[2]!)).toBe('ready')
})

test('a task needs all of its units at once, and keeps none while it lacks one', async () => {
  await setCap(fresh.database, 'a', 1)
  await setCap(fresh.database, 'b', 1)
  const { tasks } = await submitAll(fresh.database, [
    { limits: [{ key: 'a', units: 1 }] },
    {
      limits: [
        { key: 'a', units: 1 },
        { key: 'b', units: 1 }
      ]
    },
    { limits: [{ key: 'b', units: 1 }] }
  ])
  expect(await statesOf(fresh.database, tasks)).toEqual(['ready', 'parked', 'ready'])
  expect(await readLimits(fresh.database)).toEqual([
    { key: 'a', cap: 1, own: true, used: 1, queued: 1 },
    { key: 'b', cap: 1, own: true, used: 1, queued: 1 }
  ])
  expect(await worker.drain()).toEqual([tasks[0], tasks[2], tasks[1]])
})

test('units are given back by a retry, and a parent holds none while its children run', async () => {
  await setCap(fresh.database, 'a', 1)
  const limits = [{ key: 'a', units: 1 }]
  const { tasks } = await submitAll(fresh.database, [{ limits }, { limits }])
  const [one] = await worker.take()
  await worker.settle([{ task: one!.id, attempt: 1, outcome: 'retry', afterMs: 60_000, error: failure }])
  expect(await statesOf(fresh.database, tasks)).toEqual(['scheduled', 'ready'])
  await worker.take()
  await cancel(fresh.database, { task: tasks[0]!, by: 'me' })
  const child = await submitOne(fresh.database, { limits })
  expect(await stateOf(fresh.database, child)).toBe('parked')
  await worker.complete({ id: tasks[1]!, attempt: 1 })
  expect(ids(await worker.take())).toEqual([child])
})

test('a cap that is raised wakes who fits now; without a cap there is room for all', async () => {
  await setCap(fresh.database, 'a', 0)
  const { tasks } = await submitAll(fresh.database, [
    { limits: [{ key: 'a', units: 3 }] },
    { limits: [{ key: 'a', units: 1 }] }
  ])
  expect(await statesOf(fresh.database, tasks)).toEqual(['parked', 'parked'])
  await setCap(fresh.database, 'a', 3)
  expect(await statesOf(fresh.database, tasks)).toEqual(['ready', 'parked'])
  await setCap(fresh.database, 'a', null)
  expect(await statesOf(fresh.database, tasks)).toEqual(['ready', 'ready'])
})

test('a random crowd never exceeds a cap and leaves nobody parked beside free units', async () => {
  const dice = new Dice(Number(process.env['TASKOMATIC_SEED'] ?? 7))
  const caps = [2, 3, 1, 4]
  for (const [index, cap] of caps.entries()) await setCap(fresh.database, `k${index}`, cap)
  const sketches = Array.from({ length: 120 }, (): TaskSketch => {
    const keys = new Set(Array.from({ length: dice.below(3) }, () => dice.below(caps.length)))
    return {
      claims: dice.chance(0.5) ? [`r${dice.below(10)}`] : [],
      limits: [...keys].map((key) => ({ key: `k${key}`, units: 1 + dice.below(caps[key]!) })),
      priority: dice.below(3)
    }
  })
  for (let from = 0; from < sketches.length; from += 10)
    await submitAll(fresh.database, sketches.slice(from, from + 10))
  let ended = 0
  let ends: End[] = []
  for (;;) {
    const { claimed } = await worker.settle(ends, 1 + dice.below(4))
    const used = await fresh.database.query<{ key: string; used: number; cap: number }>(
      'select c.key, sum(c.units)::integer as used, k.cap from queue.cost c join queue.cap k on k.key = c.key where c.granted group by c.key, k.cap'
    )
    for (const { used: now, cap } of used) expect(now).toBeLessThanOrEqual(cap)
    expect((await guardPoll(fresh.database)).found).toEqual([])
    ended += ends.length
    if (claimed.length === 0) break
    ends = claimed.map(({ id, attempt }) =>
      dice.chance(0.1) && attempt === 1
        ? { task: id, attempt, outcome: 'retry', afterMs: 0, error: failure }
        : { task: id, attempt, outcome: 'complete', result: null }
    )
  }
  expect(await fresh.database.query('select count(*) as open from queue.task where outcome is null')).toEqual([
    { open: 0 }
  ])
  expect(ended).toBeGreaterThanOrEqual(120)
})

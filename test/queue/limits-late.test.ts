// Units that are known only when a task is bound: granted then, or waited for, in the order in which others wait.
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { bind, expand } from '../../src/queue/dispatch.ts'
import type { ClaimedTask, End } from '../../src/queue/dispatch.ts'
import { auditAll, guardPoll } from '../../src/queue/guard.ts'
import { readLimits, setCap } from '../../src/queue/limits.ts'
import { cancel } from '../../src/queue/requests.ts'
import type { Units } from '../../src/queue/task.ts'
import { why } from '../../src/queue/why.ts'
import { freshDatabase } from '../support/postgres.ts'
import type { FreshDatabase } from '../support/postgres.ts'
import { Dice } from './dice.ts'
import { claim, emptied, failure, ids, stateOf, statesOf, submitAll, submitOne, task as newTask } from './support.ts'
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

const one = (...keys: string[]): Units[] => keys.map((key) => ({ key, units: 1 }))

const binding = (of: ClaimedTask, limits: Units[], claims: string[] = []) =>
  bind(fresh.database, {
    dispatcher: worker.id,
    task: of.id,
    attempt: of.attempt,
    claims: claims.map(claim),
    bound: { on: limits.map(({ key }) => key) },
    limits
  })

const started = { outcome: 'started' }

test('units that binding adds are granted, or waited for; the end of their holder wakes who waits', async () => {
  await setCap(fresh.database, 'starts/h1', 1)
  await submitAll(fresh.database, [{ binds: true }, { binds: true }, { binds: true }])
  const [first, second, third] = await worker.take()
  expect(await binding(first!, one('starts/h1'))).toEqual(started)
  expect(await binding(second!, one('starts/h1'))).toEqual({ outcome: 'limited' })
  expect(await binding(third!, one('starts/h2'))).toEqual(started)
  expect(await stateOf(fresh.database, second!.id)).toBe('parked')
  expect(await why(fresh.database, second!.id)).toMatchObject({
    limits: [{ key: 'starts/h1', units: 1, cap: 1, used: 1, usedBy: [{ id: first!.id }] }]
  })
  await worker.complete(first!)
  const [again] = await worker.take()
  expect(again).toMatchObject({ id: second!.id, attempt: 2, bound: { on: ['starts/h1'] } })
  expect(await binding(again!, one('starts/h1'))).toEqual(started)
})

test('what was granted at submission and is not needed after all goes to who waits for it', async () => {
  await setCap(fresh.database, 'starts/h1', 1)
  const { tasks } = await submitAll(fresh.database, [
    { binds: true, limits: one('starts/h1') },
    { binds: true, limits: one('starts/h1') }
  ])
  const [first] = await worker.take()
  expect(await binding(first!, one('starts/h2'))).toEqual(started)
  expect(ids(await worker.take())).toEqual([tasks[1]])
  expect(await readLimits(fresh.database)).toMatchObject([
    { key: 'starts/h1', used: 1, queued: 0 },
    { key: 'starts/h2', cap: null, used: 1 }
  ])
})

test('the same answer as at submission changes nothing, and null leaves the units alone', async () => {
  await setCap(fresh.database, 'a', 1)
  await submitOne(fresh.database, { binds: true, limits: one('a') })
  const [taken] = await worker.take()
  expect(await binding(taken!, one('a'))).toEqual(started)
  expect(await readLimits(fresh.database)).toMatchObject([{ key: 'a', used: 1, queued: 0 }])
})

test('nobody is overtaken by a task that binds late', async () => {
  await setCap(fresh.database, 'a', 1)
  await submitOne(fresh.database, { limits: one('a') })
  await submitOne(fresh.database, { binds: true, priority: -1 })
  const [holder, late] = await worker.take()
  const queued = await submitOne(fresh.database, { limits: one('a') })
  expect(await binding(late!, one('a'))).toEqual({ outcome: 'limited' })
  await worker.complete(holder!)
  expect(await statesOf(fresh.database, [queued, late!.id])).toEqual(['ready', 'parked'])
  await cancel(fresh.database, { task: queued, by: 'me' })
  expect(await stateOf(fresh.database, late!.id)).toBe('ready')
})

test('one that lacks units has not started: another takes the resource first, and it waits for that', async () => {
  await setCap(fresh.database, 'a', 1)
  await submitAll(fresh.database, [{ limits: one('a') }, { binds: true }])
  const [holder, late] = await worker.take()
  expect(await binding(late!, one('a'), ['vm/1'])).toEqual({ outcome: 'limited' })
  const after = await submitOne(fresh.database, { claims: ['vm/1'] })
  expect(await stateOf(fresh.database, after)).toBe('waiting')
  await worker.complete(holder!)
  const [again] = await worker.take()
  expect(await binding(again!, one('a'), ['vm/1'])).toEqual(started)
  await worker.complete(again!)
  expect(ids(await worker.take())).toEqual([after])
})

test('a key without a cap of its own has that of its kind', async () => {
  await setCap(fresh.database, 'starts/*', 1)
  await setCap(fresh.database, 'starts/h2', 2)
  const { tasks } = await submitAll(fresh.database, [
    { limits: one('starts/h1') },
    { limits: one('starts/h1') },
    { limits: one('starts/h2') },
    { limits: one('starts/h2') }
  ])
  expect(await statesOf(fresh.database, tasks)).toEqual(['ready', 'parked', 'ready', 'ready'])
  await setCap(fresh.database, 'starts/*', 2)
  expect(await stateOf(fresh.database, tasks[1]!)).toBe('ready')
  await setCap(fresh.database, 'starts/h1', 1)
  const more = await submitOne(fresh.database, { limits: one('starts/h1') })
  expect(await stateOf(fresh.database, more)).toBe('parked')
  await setCap(fresh.database, 'starts/*', null)
  await setCap(fresh.database, 'starts/h1', null)
  expect(await stateOf(fresh.database, more)).toBe('ready')
})

test('a random crowd that binds late never exceeds a cap, and nobody is left parked beside free units', async () => {
  const dice = new Dice(Number(process.env['TASKOMATIC_SEED'] ?? 11))
  const caps = [2, 3, 1, 4]
  for (const [index, cap] of caps.entries()) await setCap(fresh.database, `k${index}`, cap)
  const someUnits = (): Units[] =>
    [...new Set(Array.from({ length: dice.below(3) }, () => dice.below(caps.length)))].map((key) => ({
      key: `k${key}`,
      units: 1 + dice.below(Math.min(2, caps[key]!))
    }))
  const wanted = new Map<number, Units[]>()
  for (let batch = 0; batch < 10; batch++) {
    const sketches = Array.from({ length: 10 }, (): TaskSketch => ({
      limits: someUnits(),
      binds: true,
      priority: dice.below(3)
    }))
    for (const id of (await submitAll(fresh.database, sketches)).tasks) wanted.set(id, someUnits())
  }
  let ended = 0
  let running: ClaimedTask[] = []
  for (;;) {
    const ends = running
      .filter(() => dice.chance(0.6))
      .map(({ id, attempt }): End =>
        dice.chance(0.1)
          ? { task: id, attempt, outcome: 'retry', afterMs: 0, error: failure }
          : { task: id, attempt, outcome: 'complete', result: null }
      )
    const over = new Set(ends.map(({ task }) => task))
    running = running.filter(({ id }) => !over.has(id))
    ended += ends.filter(({ outcome }) => outcome === 'complete').length
    const { claimed } = await worker.settle(ends, 1 + dice.below(5))
    for (const task of claimed) {
      if ((await binding(task, wanted.get(task.id)!)).outcome === 'started') running.push(task)
    }
    const used = await readLimits(fresh.database)
    for (const { key, used: now, cap } of used) expect(now, key).toBeLessThanOrEqual(cap ?? Infinity)
    expect((await guardPoll(fresh.database)).found).toEqual([])
    if (claimed.length === 0 && running.length === 0) break
  }
  expect(ended).toBe(100)
})

// Who is moved back for a child, or for late claims, gives back its units; who queues for them may be about to be moved back as well.
describe('units that one of several gives back who must wait are not granted to another of them', () => {
  const crowd = async (more: TaskSketch) => {
    await setCap(fresh.database, 'starts', 2)
    const { tasks } = await submitAll(fresh.database, [
      { priority: 1, ...more },
      { claims: ['vm/1'], limits: one('starts') },
      { claims: ['vm/2'], limits: [{ key: 'starts', units: 2 }] }
    ])
    const [first] = await worker.take(1)
    expect(await statesOf(fresh.database, tasks)).toEqual(['running', 'ready', 'parked'])
    return { tasks, first: first! }
  }

  test('when a child is put before both', async () => {
    const { tasks, first } = await crowd({})
    const children = [newTask({ claims: ['vm/1', 'vm/2'] })]
    await expand(fresh.database, { dispatcher: worker.id, task: first.id, attempt: first.attempt, children })
    expect(await statesOf(fresh.database, tasks)).toEqual(['awaiting', 'waiting', 'waiting'])
  })

  test('when late claims are put before both', async () => {
    const { tasks, first } = await crowd({ binds: true })
    expect(await binding(first, [], ['vm/1', 'vm/2'])).toEqual(started)
    expect(await statesOf(fresh.database, tasks)).toEqual(['running', 'waiting', 'waiting'])
  })
})

// Attempts that do not end their task, leases, holding, cancelling and bringing back.
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { openDatabase } from '../../src/db/open.ts'
import { freshDatabase } from '../support/postgres.ts'
import type { FreshDatabase } from '../support/postgres.ts'
import { beat, takeOver, unpark, unregisterDispatcher } from '../../src/queue/dispatch.ts'
import { auditAll, guardCounts } from '../../src/queue/guard.ts'
import { attempts, getTask, history } from '../../src/queue/read.ts'
import { cancel, cancelRequests, hold, release, retry } from '../../src/queue/requests.ts'
import { emptied, failure, ids, stateOf, statesOf, submitAll, submitOne, Worker } from './support.ts'

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
})

/** Puts the database's clock ahead for the queue. */
async function later(ms: number): Promise<void> {
  const owner = openDatabase({ url: fresh.ownerUrl, poolSize: 1 })
  await owner.query(`insert into queue.clock values (make_interval(secs => $1 / 1000.0))`, [ms])
  await owner.stop()
}

describe('attempts', () => {
  test('a retried task is scheduled, keeps its claims, and runs again as its second attempt', async () => {
    const { tasks } = await submitAll(fresh.database, [{ claims: ['r'] }, { claims: ['r'] }])
    const [one] = await worker.take()
    const { nextDueMs } = await worker.settle([
      { task: one!.id, attempt: 1, outcome: 'retry', afterMs: 5000, error: failure }
    ])
    expect(nextDueMs).toBeGreaterThan(4000)
    expect(nextDueMs).toBeLessThanOrEqual(5000)
    expect(await statesOf(fresh.database, tasks)).toEqual(['scheduled', 'waiting'])
    expect(await worker.take()).toEqual([])
    await later(5001)
    const [two] = await worker.take()
    expect(two).toMatchObject({ id: one!.id, attempt: 2, previousAttempts: 1 })
    await worker.complete(two!)
    expect(await attempts(fresh.database, one!.id)).toMatchObject([
      { attempt: 1, outcome: 'retry', error: failure },
      { attempt: 2, outcome: 'complete' }
    ])
    expect((await history(fresh.database, one!.id)).map(({ what }) => what)).toEqual([
      'submitted',
      'attempt 1 started',
      'attempt 1: retry',
      'attempt 2 started',
      'complete'
    ])
  })

  test('a report of a past attempt is refused, counted and logged', async () => {
    const id = await submitOne(fresh.database)
    const [one] = await worker.take()
    await worker.settle([{ task: id, attempt: 1, outcome: 'retry', afterMs: 0, error: failure }])
    const [two] = await worker.take()
    const { settled } = await worker.complete(one!)
    expect(settled).toEqual([{ task: id, attempt: 1, outcome: 'stale' }])
    expect(await stateOf(fresh.database, id)).toBe('running')
    expect(await guardCounts(fresh.database)).toEqual({ found: 0, staleReports: 1 })
    await worker.complete(two!)
    expect((await worker.fail(two!)).settled[0]?.outcome).toBe('stale')
    expect((await history(fresh.database, id)).filter(({ what }) => what.includes('refused'))).toHaveLength(2)
  })

  test('another dispatcher cannot report for a task that is not its own', async () => {
    const id = await submitOne(fresh.database)
    const [taken] = await worker.take()
    const other = await Worker.start(fresh.database)
    expect((await other.complete(taken!)).settled[0]?.outcome).toBe('stale')
    expect(await stateOf(fresh.database, id)).toBe('running')
  })

  test('a parked task is woken by its key', async () => {
    const id = await submitOne(fresh.database)
    const [one] = await worker.take()
    await worker.settle([{ task: id, attempt: 1, outcome: 'park', reason: 'host h1 is down', key: 'host/h1' }])
    expect(await stateOf(fresh.database, id)).toBe('parked')
    expect(await unpark(fresh.database, 'host/h2')).toBe(0)
    expect(await unpark(fresh.database, 'host/h1')).toBe(1)
    expect(await worker.take()).toMatchObject([{ id: one!.id, attempt: 2 }])
  })

  test('an awaiting task is ended by a later report of the same attempt, from whoever hears it', async () => {
    const id = await submitOne(fresh.database, { claims: ['r'] })
    await worker.take()
    await worker.settle([{ task: id, attempt: 1, outcome: 'awaiting', what: 'a message', deadlineMs: 1000 }])
    expect(await stateOf(fresh.database, id)).toBe('awaiting')
    const other = await Worker.start(fresh.database)
    expect((await other.complete({ id, attempt: 1 })).settled[0]?.outcome).toBe('recorded')
    expect(await stateOf(fresh.database, id)).toBe('complete')
  })

  test('an uncertain task keeps its claims, shows its evidence, and is ended by a verdict', async () => {
    const { tasks } = await submitAll(fresh.database, [{ claims: ['r'] }, { claims: ['r'] }])
    await worker.take()
    await worker.settle([
      { task: tasks[0]!, attempt: 1, outcome: 'uncertain', error: failure, evidence: { seen: 'nothing' } }
    ])
    expect(await statesOf(fresh.database, tasks)).toEqual(['uncertain', 'waiting'])
    await worker.complete({ id: tasks[0]!, attempt: 1 })
    expect(await statesOf(fresh.database, tasks)).toEqual(['complete', 'ready'])
  })

  test('a failed task keeps its error whole', async () => {
    const id = await submitOne(fresh.database)
    const [one] = await worker.take()
    const error = {
      code: 'x',
      message: 'm',
      step: 's',
      next: 'n',
      details: { domain: 1 },
      causes: [{ message: 'deeper' }]
    }
    await worker.settle([{ task: id, attempt: one!.attempt, outcome: 'failed', error }])
    expect(await getTask(fresh.database, id)).toMatchObject({ state: 'failed', error, result: null, attempts: 1 })
  })
})

describe('leases', () => {
  test('a dispatcher whose lease has run out can write nothing, and cannot come back', async () => {
    const id = await submitOne(fresh.database)
    const short = await Worker.start(fresh.database, 1000)
    const [taken] = await short.take()
    expect(await beat(fresh.database, short.id)).toBe('alive')
    await later(2000)
    expect(await beat(fresh.database, short.id)).toBe('lost')
    await expect(short.complete(taken!)).rejects.toMatchObject({ code: 'lease_lost' })
    expect(await stateOf(fresh.database, id)).toBe('running')
    expect((await guardCounts(fresh.database)).staleReports).toBe(1)
  })

  test('what it ran is taken over as a new attempt, and its own report is stale', async () => {
    const id = await submitOne(fresh.database)
    const first = await Worker.start(fresh.database)
    const [taken] = await first.take()
    await unregisterDispatcher(fresh.database, first.id)
    expect(await takeOver(fresh.database, worker.id)).toMatchObject([{ id, attempt: 2, takenOver: true }])
    expect(await takeOver(fresh.database, worker.id)).toEqual([])
    await expect(first.complete(taken!)).rejects.toMatchObject({ code: 'lease_lost' })
    await worker.complete({ id, attempt: 2 })
    expect(await attempts(fresh.database, id)).toMatchObject([
      { outcome: 'lost', dispatcher: first.id },
      { outcome: 'complete' }
    ])
  })

  test('an awaited task past its deadline is handed out to be probed', async () => {
    const id = await submitOne(fresh.database)
    await worker.take()
    await worker.settle([{ task: id, attempt: 1, outcome: 'awaiting', what: 'a message', deadlineMs: 1000 }])
    expect(await takeOver(fresh.database, worker.id)).toEqual([])
    await later(1500)
    expect(await takeOver(fresh.database, worker.id)).toMatchObject([{ id, attempt: 2, takenOver: true }])
    await worker.complete({ id, attempt: 2 })
  })
})

describe('not before', () => {
  test('a scheduled task takes its place when it is due, behind who came meanwhile', async () => {
    const late = await submitOne(fresh.database, { claims: ['r'], notBefore: new Date(Date.now() + 60_000) })
    const behind = await submitOne(fresh.database, { after: [{ task: late, needs: 'complete' }], claims: ['s'] })
    const other = await submitOne(fresh.database, { claims: ['r', 's'] })
    expect(await statesOf(fresh.database, [late, behind, other])).toEqual(['scheduled', 'waiting', 'ready'])
    const [running] = await worker.take()
    await later(61_000)
    expect(await worker.take()).toEqual([])
    expect(await statesOf(fresh.database, [late, behind, other])).toEqual(['waiting', 'waiting', 'running'])
    await worker.complete(running!)
    expect(await worker.drain()).toEqual([late, behind])
  })
})

describe('holding', () => {
  test('a held task gives up its place, others go on, and released it stands at the end', async () => {
    const { tasks } = await submitAll(fresh.database, [{ claims: ['r'] }, { claims: ['r'] }, { claims: ['r'] }])
    const [a, b, c] = tasks as [number, number, number]
    await hold(fresh.database, { task: b, reason: 'not now', by: 'me' })
    expect(await statesOf(fresh.database, tasks)).toEqual(['ready', 'held', 'waiting'])
    await worker.complete(...(await worker.take()))
    expect(await stateOf(fresh.database, c)).toBe('ready')
    await release(fresh.database, { task: b, by: 'me' })
    expect(await statesOf(fresh.database, [b, c])).toEqual(['waiting', 'ready'])
    expect(await worker.drain()).toEqual([c, b])
    expect(await stateOf(fresh.database, a)).toBe('complete')
  })

  test('what needs a held task gives up its place as well', async () => {
    const { tasks } = await submitAll(fresh.database, [
      { claims: ['r'] },
      { claims: ['s'], after: [{ task: { index: 0 }, needs: 'complete' }] }
    ])
    await hold(fresh.database, { task: tasks[0]!, reason: 'not now', by: 'me' })
    const other = await submitOne(fresh.database, { claims: ['r', 's'] })
    expect(await stateOf(fresh.database, other)).toBe('ready')
    await release(fresh.database, { task: tasks[0]!, by: 'me' })
    expect(await worker.drain()).toEqual([other, ...tasks])
  })

  test('a task may be submitted held; one that runs or is not held is refused', async () => {
    const held = await submitOne(fresh.database, { hold: { reason: 'wait for me' } })
    expect(await stateOf(fresh.database, held)).toBe('held')
    const running = await submitOne(fresh.database)
    await worker.take()
    await expect(hold(fresh.database, { task: running, reason: 'x', by: 'me' })).rejects.toMatchObject({
      code: 'already_started'
    })
    await expect(release(fresh.database, { task: running, by: 'me' })).rejects.toMatchObject({ code: 'not_held' })
    await expect(hold(fresh.database, { task: 99, reason: 'x', by: 'me' })).rejects.toMatchObject({
      code: 'task_not_found'
    })
  })
})

describe('cancelling', () => {
  test('a running task is asked, and what it answers counts', async () => {
    const id = await submitOne(fresh.database)
    const [taken] = await worker.take()
    expect(await cancel(fresh.database, { task: id, by: 'me', reason: 'enough' })).toBe('cancelling')
    expect(await stateOf(fresh.database, id)).toBe('cancelling')
    expect(await cancelRequests(fresh.database, worker.id)).toEqual([id])
    await worker.complete(taken!)
    expect(await stateOf(fresh.database, id)).toBe('complete')
    expect(await cancel(fresh.database, { task: id, by: 'me' })).toBe('ended')
  })

  test('a task that is asked to stop is not tried again', async () => {
    const id = await submitOne(fresh.database)
    await worker.take()
    await cancel(fresh.database, { task: id, by: 'me' })
    await worker.settle([{ task: id, attempt: 1, outcome: 'retry', afterMs: 0, error: failure }])
    expect(await stateOf(fresh.database, id)).toBe('cancelled')
  })
})

describe('bringing back', () => {
  test('a failed task is brought back with what failed since it did, at the end of the line', async () => {
    const { tasks } = await submitAll(fresh.database, [
      { claims: ['r'] },
      { claims: ['s'], after: [{ task: { index: 0 }, needs: 'complete' }] }
    ])
    await worker.fail(...(await worker.take()))
    const other = await submitOne(fresh.database, { claims: ['r'] })
    expect(await statesOf(fresh.database, tasks)).toEqual(['failed', 'failed'])
    expect(await retry(fresh.database, { task: tasks[0]!, by: 'me', withDependants: true })).toEqual(tasks)
    expect(await statesOf(fresh.database, [...tasks, other])).toEqual(['waiting', 'waiting', 'ready'])
    expect(await worker.drain()).toEqual([other, ...tasks])
    expect(await attempts(fresh.database, tasks[0]!)).toMatchObject([
      { attempt: 1, outcome: 'failed' },
      { attempt: 2, outcome: 'complete' }
    ])
  })

  test('what has not ended badly is refused', async () => {
    const id = await submitOne(fresh.database)
    await expect(retry(fresh.database, { task: id, by: 'me', withDependants: false })).rejects.toMatchObject({
      code: 'not_ended'
    })
    expect(ids(await worker.take())).toEqual([id])
  })
})

// Why a task is where it is: every reason is told, with who or what is behind it.
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest'
import { setCap } from '../../src/queue/limits.ts'
import { hold } from '../../src/queue/requests.ts'
import { getTask } from '../../src/queue/read.ts'
import { why } from '../../src/queue/why.ts'
import { freshDatabase } from '../support/postgres.ts'
import type { FreshDatabase } from '../support/postgres.ts'
import { emptied, submitAll, submitOne } from './support.ts'
import type { Worker } from './support.ts'

let fresh: FreshDatabase
let worker: Worker
beforeAll(async () => {
  fresh = await freshDatabase()
})
afterAll(() => fresh.drop())
beforeEach(async () => {
  worker = await emptied(fresh)
})

test('of a waiting task: each unmet prerequisite with title, state and need, and where its chain ends', async () => {
  const { tasks } = await submitAll(fresh.database, [
    { title: 'Create web1', claims: ['vm/1'] },
    { title: 'Start web1', claims: ['vm/1'] },
    { title: 'Prepare', claims: [] },
    {
      title: 'Move web1',
      claims: ['vm/1'],
      after: [
        { task: { index: 0 }, needs: 'complete' },
        { task: { index: 2 }, needs: 'complete' }
      ]
    }
  ])
  const [create, start, prepare, move] = tasks as [number, number, number, number]
  await worker.take(1)
  const before = await why(fresh.database, move)
  expect(before.task).toMatchObject({ id: move, title: 'Move web1', state: 'waiting' })
  expect(before.prerequisites).toMatchObject([
    { task: { id: create, title: 'Create web1', state: 'running' }, needs: 'complete', derived: false, roots: [] },
    {
      task: { id: start, title: 'Start web1', state: 'waiting' },
      needs: 'ended',
      derived: true,
      roots: [{ id: create, state: 'running' }]
    },
    { task: { id: prepare, title: 'Prepare', state: 'ready' }, needs: 'complete', derived: false, roots: [] }
  ])
  await worker.complete({ id: create, attempt: 1 })
  expect((await why(fresh.database, move)).prerequisites.map(({ task }) => task.id)).toEqual([start, prepare])
})

test('each claim in its way, who holds it and since when, the started first', async () => {
  const { tasks } = await submitAll(fresh.database, [
    { title: 'Reads h1', claims: ['~host/1'] },
    { title: 'Takes pool', claims: ['pool/1'] },
    { title: 'Takes both', claims: ['host/1', '~pool/1', 'free'] },
    { title: 'Comes later', claims: ['host/1', 'pool/1'] }
  ])
  const [reader, taker, both] = tasks as [number, number, number]
  await worker.take(1)
  const { claims } = await why(fresh.database, both)
  const since = (await getTask(fresh.database, reader))?.startedAt
  expect(since).toBeInstanceOf(Date)
  expect(claims).toMatchObject([
    { resource: 'host/1', mode: 'exclusive', heldAs: 'shared', started: true, task: { id: reader, since } },
    { resource: 'pool/1', mode: 'shared', heldAs: 'exclusive', started: false, task: { id: taker, since: null } }
  ])
  expect(claims).toHaveLength(2)
})

test('of a held task: the reason, who and since when', async () => {
  const id = await submitOne(fresh.database)
  await hold(fresh.database, { task: id, reason: 'maintenance', by: 'ann' })
  const answer = await why(fresh.database, id)
  expect(answer.task.state).toBe('held')
  expect(answer.held).toEqual({ reason: 'maintenance', by: 'ann', since: expect.any(Date) as Date })
})

test('of a scheduled task: when it is due', async () => {
  const notBefore = new Date(Date.now() + 3_600_000)
  const id = await submitOne(fresh.database, { notBefore })
  expect(await why(fresh.database, id)).toMatchObject({ task: { state: 'scheduled' }, due: notBefore, held: null })
})

test('of several reasons all are told, and the first in precedence is the state', async () => {
  const first = await submitOne(fresh.database, { title: 'First' })
  const notBefore = new Date(Date.now() + 3_600_000)
  const id = await submitOne(fresh.database, {
    notBefore,
    hold: { reason: 'not yet' },
    after: [{ task: first, needs: 'complete' }]
  })
  expect(await why(fresh.database, id)).toMatchObject({
    task: { state: 'held' },
    held: { reason: 'not yet' },
    due: notBefore,
    prerequisites: [{ task: { id: first, title: 'First' } }]
  })
})

test('of a task parked for a limit: the key, the cap, what is used and by whom', async () => {
  await setCap(fresh.database, 'out/h1', 2)
  const limited = { title: 'Migrate', limits: [{ key: 'out/h1', units: 1 }] }
  const { tasks } = await submitAll(fresh.database, [limited, limited, limited])
  await worker.take(1)
  const answer = await why(fresh.database, tasks[2]!)
  expect(answer).toMatchObject({
    task: { state: 'parked' },
    parked: { key: 'limit', reason: 'waiting for 1 of out/h1' },
    limits: [
      {
        key: 'out/h1',
        units: 1,
        cap: 2,
        used: 2,
        usedBy: [
          { id: tasks[0], state: 'running' },
          { id: tasks[1], state: 'ready' }
        ]
      }
    ]
  })
})

test('of a task parked for a host: which, and why', async () => {
  const id = await submitOne(fresh.database)
  await worker.take()
  await worker.settle([{ task: id, attempt: 1, outcome: 'park', reason: 'host h1 is down', key: 'host/h1' }])
  expect(await why(fresh.database, id)).toMatchObject({
    task: { state: 'parked' },
    parked: { key: 'host/h1', reason: 'host h1 is down' },
    limits: []
  })
})

test('of a task that failed by a prerequisite: the root of the chain, not its neighbour', async () => {
  const { tasks } = await submitAll(fresh.database, [
    { title: 'Create web1' },
    { title: 'Start web1', after: [{ task: { index: 0 }, needs: 'complete' }] },
    { title: 'Move web1', after: [{ task: { index: 1 }, needs: 'complete' }] }
  ])
  await worker.fail(...(await worker.take()))
  expect(await getTask(fresh.database, tasks[2]!)).toMatchObject({
    state: 'failed',
    error: {
      code: 'prerequisite_failed',
      message: `it needs task ${tasks[0]} (Create web1), which failed: it broke`,
      details: { root: tasks[0], prerequisite: tasks[1] }
    }
  })
  expect((await why(fresh.database, tasks[2]!)).prerequisites).toEqual([])
})

test('a task that is not there is refused', async () => {
  await expect(why(fresh.database, 99)).rejects.toMatchObject({ code: 'task_not_found' })
})

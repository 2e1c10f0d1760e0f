// What a task waits for, found from claims and explicit prerequisites; properties over random crowds are order-property.test.ts.
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { freshDatabase } from '../support/postgres.ts'
import type { FreshDatabase } from '../support/postgres.ts'
import { auditAll } from '../../src/queue/guard.ts'
import { edgesOf } from '../../src/queue/read.ts'
import { cancel } from '../../src/queue/requests.ts'
import { openEffects } from '../../src/queue/submit.ts'
import { emptied, ids, stateOf, statesOf, submitAll, submitOne } from './support.ts'
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
afterEach(async () => {
  expect(await auditAll(fresh.database)).toEqual([])
})

const pairs = async (tasks: number[]) =>
  (await edgesOf(fresh.database, tasks)).map(({ task, prerequisite }) => [
    tasks.indexOf(task),
    tasks.indexOf(prerequisite)
  ])

describe('claims', () => {
  test('an exclusive claim waits for the one before, and runs after it', async () => {
    const first = await submitOne(fresh.database, { claims: ['vm/1'] })
    const second = await submitOne(fresh.database, { claims: ['vm/1'] })
    expect(await statesOf(fresh.database, [first, second])).toEqual(['ready', 'waiting'])
    const [taken] = await worker.take()
    expect(taken).toMatchObject({ id: first, attempt: 1, takenOver: false, previousAttempts: 0, children: null })
    expect(await worker.take()).toEqual([])
    await worker.complete(taken!)
    expect(ids(await worker.take())).toEqual([second])
    expect(await statesOf(fresh.database, [first, second])).toEqual(['complete', 'running'])
  })

  test('shared claims run together; an exclusive one waits for all of them, and only its neighbours get edges', async () => {
    const { tasks } = await submitAll(fresh.database, [
      { claims: ['h'] },
      { claims: ['~h'] },
      { claims: ['~h'] },
      { claims: ['h'] },
      { claims: ['~h'] },
      { claims: ['h'] },
      { claims: ['h'] }
    ])
    expect(await pairs(tasks)).toEqual([
      [1, 0],
      [2, 0],
      [3, 1],
      [3, 2],
      [4, 3],
      [5, 4],
      [6, 5]
    ])
    expect(await worker.drain()).toEqual(tasks)
  })

  test('the same edges come from tasks submitted one by one', async () => {
    const tasks: number[] = []
    for (const text of ['h', '~h', '~h', 'h', '~h', 'h', 'h']) {
      tasks.push(await submitOne(fresh.database, { claims: [text] }))
    }
    expect(await pairs(tasks)).toEqual([
      [1, 0],
      [2, 0],
      [3, 1],
      [3, 2],
      [4, 3],
      [5, 4],
      [6, 5]
    ])
  })

  test('of two claims of one task on one resource the stronger holds', async () => {
    const first = await submitOne(fresh.database, { claims: ['~h', 'h'] })
    const second = await submitOne(fresh.database, { claims: ['~h'] })
    expect(await statesOf(fresh.database, [first, second])).toEqual(['ready', 'waiting'])
  })

  test('a task that is cancelled in the middle hands its prerequisites on', async () => {
    const { tasks } = await submitAll(fresh.database, [{ claims: ['r'] }, { claims: ['r'] }, { claims: ['r'] }])
    const [running] = await worker.take()
    expect(await cancel(fresh.database, { task: tasks[1]!, by: 'me', reason: 'no' })).toBe('cancelled')
    expect(await statesOf(fresh.database, tasks)).toEqual(['running', 'cancelled', 'waiting'])
    await worker.complete(running!)
    expect(await stateOf(fresh.database, tasks[2]!)).toBe('ready')
  })

  test('a cancelled sharer between two exclusive ones leaves the line closed', async () => {
    const { tasks } = await submitAll(fresh.database, [
      { claims: ['r'] },
      { claims: ['~r'] },
      { claims: ['r'] },
      { claims: ['~r'] }
    ])
    await cancel(fresh.database, { task: tasks[1]!, by: 'me' })
    expect(await pairs(tasks)).toContainEqual([2, 0])
    await cancel(fresh.database, { task: tasks[2]!, by: 'me' })
    expect(await pairs(tasks)).toContainEqual([3, 0])
    expect(await statesOf(fresh.database, tasks)).toEqual(['ready', 'cancelled', 'cancelled', 'waiting'])
  })
})

describe('explicit prerequisites', () => {
  test('a task runs after its last prerequisite', async () => {
    const { tasks } = await submitAll(
      fresh.database,
      [
        {},
        {},
        {
          after: [
            { task: { index: 0 }, needs: 'complete' },
            { task: { index: 1 }, needs: 'ended' }
          ]
        }
      ],
      { plan: { name: 'p', onFailure: 'stop' } }
    )
    const [a, b] = await worker.take()
    await worker.complete(a!)
    expect(await stateOf(fresh.database, tasks[2]!)).toBe('waiting')
    await worker.fail(b!)
    expect(await stateOf(fresh.database, tasks[2]!)).toBe('ready')
  })

  test('when a needed one fails, the chain behind it fails, naming the root', async () => {
    const { tasks } = await submitAll(fresh.database, [
      { title: 'Create web1' },
      { after: [{ task: { index: 0 }, needs: 'complete' }] },
      { after: [{ task: { index: 1 }, needs: 'complete' }] },
      { after: [{ task: { index: 1 }, needs: 'ended' }] }
    ])
    const [first] = await worker.take()
    await worker.fail(first!)
    expect(await statesOf(fresh.database, tasks)).toEqual(['failed', 'failed', 'failed', 'ready'])
    const [row] = await fresh.database.query<{ error: object }>('select error from queue.task where id = $1', [
      tasks[2]
    ])
    expect(row?.error).toMatchObject({
      code: 'prerequisite_failed',
      details: { root: tasks[0], prerequisite: tasks[1] }
    })
  })

  test('only earlier elements and stored tasks may be named, and what has ended badly is refused', async () => {
    const codeOf = (promise: Promise<unknown>) =>
      promise.then(
        () => 'none',
        (error: { code?: string }) => error.code
      )
    expect(await codeOf(submitAll(fresh.database, [{ after: [{ task: { index: 0 }, needs: 'ended' }] }]))).toBe(
      'later_position'
    )
    expect(await codeOf(submitAll(fresh.database, [{ after: [{ task: 4711, needs: 'ended' }] }]))).toBe(
      'task_not_found'
    )
    const failed = await submitOne(fresh.database)
    await worker.fail(...(await worker.take()))
    expect(await codeOf(submitAll(fresh.database, [{ after: [{ task: failed, needs: 'complete' }] }]))).toBe(
      'prerequisite_ended_badly'
    )
    const after = await submitOne(fresh.database, { after: [{ task: failed, needs: 'ended' }] })
    expect(await stateOf(fresh.database, after)).toBe('ready')
    expect(await fresh.database.query('select count(*) from queue.task')).toEqual([{ count: 2 }])
  })
})

describe('priority', () => {
  test('goes first among the ready, and otherwise the older', async () => {
    const { tasks } = await submitAll(fresh.database, [{}, { priority: 5 }, {}, { priority: -5 }, { priority: 5 }])
    const order = [1, 4, 0, 2, 3].map((index) => tasks[index])
    const taken: number[] = []
    for (let i = 0; i < 5; i++) taken.push(...ids(await worker.take(1)))
    expect(taken).toEqual(order)
  })
})

describe('effects', () => {
  test('of open tasks are told in the order of their positions, and vanish with the end', async () => {
    const first = await submitOne(fresh.database, {
      claims: ['vm/1'],
      effects: [{ subject: 'vm/1', facts: { on: true } }]
    })
    const second = await submitOne(fresh.database, {
      title: 'Delete',
      claims: ['vm/1'],
      effects: [
        { subject: 'vm/2', facts: {} },
        { subject: 'vm/1', facts: null }
      ]
    })
    expect(await openEffects(fresh.database, ['vm/1'])).toEqual([
      { task: first, action: 'thing.do', title: 'Do a thing', subject: 'vm/1', facts: { on: true } },
      { task: second, action: 'thing.do', title: 'Delete', subject: 'vm/1', facts: null }
    ])
    await worker.complete(...(await worker.take()))
    expect(await openEffects(fresh.database, ['vm/1'])).toHaveLength(1)
  })
})

describe('idempotency', () => {
  test('the same key again answers what was answered first; another request under it is refused', async () => {
    const idempotency = { key: 'k', fingerprint: 'f' }
    const first = await submitAll(fresh.database, [{}, {}], { idempotency, plan: { onFailure: 'continue' } })
    const second = await submitAll(fresh.database, [{}, {}], { idempotency, plan: { onFailure: 'continue' } })
    expect(second).toEqual({ ...first, replayed: true })
    await expect(
      submitAll(fresh.database, [{}], { idempotency: { key: 'k', fingerprint: 'g' } })
    ).rejects.toMatchObject({
      code: 'idempotency_mismatch'
    })
  })

  test('of two at once one is stored', async () => {
    const idempotency = { key: 'k', fingerprint: 'f' }
    const both = await Promise.all(
      [1, 2, 3].map(() => submitAll(fresh.database, [{ claims: ['~a', 'b'] }], { idempotency }))
    )
    expect(new Set(both.map(({ tasks }) => tasks[0])).size).toBe(1)
    expect(both.filter(({ replayed }) => !replayed)).toHaveLength(1)
  })
})

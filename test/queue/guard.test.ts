// The guard poll: finds, repairs, logs and counts what events missed, and finds nothing where they missed nothing. What each of
// its rules means is in sql/0010_queue_guard.sql; faults are planted with the owner's rights.
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { openDatabase } from '../../src/db/open.ts'
import { bind, expand } from '../../src/queue/dispatch.ts'
import { auditAll, guardCounts, guardPoll } from '../../src/queue/guard.ts'
import type { GuardFind } from '../../src/queue/guard.ts'
import { setCap } from '../../src/queue/limits.ts'
import { readLog } from '../../src/queue/log.ts'
import { cancel } from '../../src/queue/requests.ts'
import { freshDatabase } from '../support/postgres.ts'
import type { FreshDatabase } from '../support/postgres.ts'
import { claim, emptied, failure, ids, stateOf, statesOf, submitAll, submitOne, task, Worker } from './support.ts'

let fresh: FreshDatabase
let worker: Worker
beforeAll(async () => {
  fresh = await freshDatabase()
})
afterAll(() => fresh.drop())
beforeEach(async () => {
  worker = await emptied(fresh)
  await plant('update queue.audit set next_task = 0')
})

/** As only the owner can: behind the queue's back. */
async function plant(...statements: string[]): Promise<void> {
  const owner = openDatabase({ url: fresh.ownerUrl, poolSize: 1 })
  for (const statement of statements) await owner.query(statement)
  await owner.stop()
}

const backToWait = (id: number, counters: string) => [
  `delete from queue.ready where task = ${id}`,
  `insert into queue.wait (task, unmet, barred, priority, position) values (${id}, ${counters}, 0, ${id})`
]

const pollForKinds = async (): Promise<[GuardFind['kind'], number][]> => {
  const { found } = await guardPoll(fresh.database)
  return found.map(({ kind, task: id }) => [kind, id])
}

/** The poll finds exactly this, puts it right, counts it and says so as an error in the task's log. */
async function expectFound(kind: GuardFind['kind'], id: number): Promise<void> {
  const before = (await guardCounts(fresh.database)).found
  expect(await pollForKinds()).toEqual([[kind, id]])
  expect((await guardCounts(fresh.database)).found).toBe(before + 1)
  const lines = await readLog(fresh.database, { task: id })
  expect(lines.filter(({ level }) => level === 'error').map(({ message }) => message)).toEqual([
    `the guard poll found it: ${kind}`
  ])
  expect(await pollForKinds()).toEqual([])
  expect(await auditAll(fresh.database)).toEqual([])
}

describe('what events missed', () => {
  test('a runnable task that nothing made ready is found and runs', async () => {
    const id = await submitOne(fresh.database)
    await plant(...backToWait(id, '0, 0'))
    expect(await worker.take()).toEqual([])
    await expectFound('missed', id)
    expect(ids(await worker.take())).toEqual([id])
  })

  test.each([
    ['of prerequisites', '1, 0', 'missed'],
    ['of what bars it', '0, 1', 'miscounted']
  ] as const)('a counter %s that is too high is found and put right', async (_, counters, kind) => {
    const id = await submitOne(fresh.database)
    await plant(...backToWait(id, counters))
    await expectFound(kind, id)
    expect(ids(await worker.take())).toEqual([id])
  })

  test('a counter that is too low is found before the task can start too early', async () => {
    const { tasks } = await submitAll(fresh.database, [{ claims: ['r'] }, { claims: ['r'] }, { claims: ['r'] }])
    await plant(`update queue.wait set unmet = 0 where task = ${tasks[1]}`)
    await expectFound('miscounted', tasks[1]!)
    expect(await worker.drain()).toEqual(tasks)
  })

  test('a ready task whose prerequisite has not ended is told', async () => {
    const { tasks } = await submitAll(fresh.database, [{ claims: ['r'] }, { claims: ['r'] }])
    await plant(
      `delete from queue.wait where task = ${tasks[1]}`,
      `insert into queue.ready (task, rank, position, attempts, started, since) values (${tasks[1]}, 0, ${tasks[1]}, 0, false, now())`
    )
    expect(await pollForKinds()).toEqual([['ready_but_not_runnable', tasks[1]]])
  })

  test('an open task without a place is not seen as open, and one that ended with a place is told', async () => {
    const id = await submitOne(fresh.database)
    await plant(`update queue.task set outcome = 'complete', ended_at = now() where id = ${id}`)
    expect(await pollForKinds()).toEqual([['ended_but_open', id]])
  })

  test('a task in two places is told', async () => {
    const id = await submitOne(fresh.database)
    await plant(`insert into queue.wait (task, unmet, priority, position) values (${id}, 0, 0, ${id})`)
    expect((await pollForKinds()).map(([kind]) => kind)).toContain('not_one_place')
  })

  test('claims of what has ended are found and vanish', async () => {
    const id = await submitOne(fresh.database, { claims: ['r'] })
    await worker.drain()
    await plant(`insert into queue.claim select ${id}, id, ${id}, true from queue.resource where name = 'r'`)
    await expectFound('claim_of_ended', id)
  })

  test('a parent whose children have all ended is found and goes on', async () => {
    const id = await submitOne(fresh.database)
    const [parent] = await worker.take()
    await expand(fresh.database, { dispatcher: worker.id, task: id, attempt: parent!.attempt, children: [task()] })
    await plant('update queue.family set open = 2')
    const [child] = await worker.take()
    await worker.complete(child!)
    expect(await worker.take()).toEqual([])
    await expectFound('missed', id)
    expect(await worker.take()).toMatchObject([{ id, attempt: 2, children: [{ state: 'complete' }] }])
  })

  test('a slice begins where the one before ended, until all have been seen', async () => {
    const { tasks } = await submitAll(fresh.database, [{}, {}, {}, {}, {}])
    await plant(...backToWait(tasks[4]!, '0, 0'))
    const looks: number[] = []
    for (let look = 0; look < 3; look++) {
      looks.push((await guardPoll(fresh.database, { size: 2 })).found.length)
    }
    expect(looks).toEqual([0, 0, 1])
  })
})

describe('parked with nothing left that wakes it', () => {
  const limited = { limits: [{ key: 'k', units: 1 }] }

  test.each([
    ['queued for units that are free', 'update queue.cost set granted = false where granted'],
    ['forgotten among those that queue', 'update queue.cost set granted = false, queued = false']
  ])('a task %s is found and runs', async (_, fault) => {
    await setCap(fresh.database, 'k', 1)
    const { tasks } = await submitAll(fresh.database, [limited, limited])
    expect(ids(await worker.take())).toEqual([tasks[0]])
    expect(await pollForKinds()).toEqual([])
    await plant(fault)
    await expectFound('parked_beside_free_units', tasks[1]!)
    expect(ids(await worker.take())).toEqual([tasks[1]])
  })

  test('one that stands behind another that needs more than there is left was not forgotten', async () => {
    await setCap(fresh.database, 'k', 3)
    const { tasks } = await submitAll(
      fresh.database,
      [2, 2, 1].map((units) => ({ limits: [{ key: 'k', units }] }))
    )
    expect(await statesOf(fresh.database, tasks)).toEqual(['ready', 'parked', 'parked'])
    expect(await pollForKinds()).toEqual([])
    expect(await worker.drain()).toEqual(tasks)
  })
})

describe('a healthy queue', () => {
  test('in every state a task may be in, nothing is found', async () => {
    await setCap(fresh.database, 'k', 1)
    await submitAll(fresh.database, [
      { claims: ['r'] },
      { claims: ['r'] },
      { hold: { reason: 'x' } },
      { notBefore: new Date(Date.now() + 60_000) },
      { limits: [{ key: 'k', units: 1 }] },
      { limits: [{ key: 'k', units: 1 }] },
      {},
      {}
    ])
    const claimed = await worker.take()
    const [one, , two, three] = claimed
    await worker.settle([
      { task: one!.id, attempt: 1, outcome: 'uncertain', error: failure, evidence: null },
      { task: two!.id, attempt: 1, outcome: 'awaiting', what: 'a message', deadlineMs: 60_000 },
      { task: three!.id, attempt: 1, outcome: 'park', reason: 'host h1 is down', key: 'host/h1' }
    ])
    await submitOne(fresh.database)
    expect(await pollForKinds()).toEqual([])
  })

  test('what was asked to stop while it waits for its late claims is not runnable, and ends', async () => {
    const first = await submitOne(fresh.database, { claims: ['r'] })
    const binds = await submitOne(fresh.database, { binds: true })
    const [one, two] = await worker.take()
    await cancel(fresh.database, { task: binds, by: 'me' })
    await bind(fresh.database, { dispatcher: worker.id, task: two!.id, attempt: 1, claims: [claim('r')], bound: null })
    await fresh.database.query('select * from queue.settle($1, $2::jsonb, 0)', [
      worker.id,
      JSON.stringify([{ task: first, attempt: one!.attempt, outcome: 'complete', result: null }])
    ])
    expect(await pollForKinds()).toEqual([])
    expect(await stateOf(fresh.database, binds)).toBe('cancelled')
  })

  test('what has started and is ready to be tried again stays ready when a late claim waits for it', async () => {
    const [again] = (await submitAll(fresh.database, [{ claims: ['r'] }, { binds: true }])).tasks
    const [, two] = await worker.take()
    await worker.settle([{ task: again!, attempt: 1, outcome: 'retry', afterMs: 0, error: failure }])
    await worker.settle([], 0)
    expect(await stateOf(fresh.database, again!)).toBe('ready')
    const answer = await bind(fresh.database, {
      dispatcher: worker.id,
      task: two!.id,
      attempt: 1,
      claims: [claim('r')],
      bound: null
    })
    expect(answer).toEqual({ outcome: 'waiting', for: [again] })
    expect(await pollForKinds()).toEqual([])
    expect(await worker.drain()).toEqual([again, two!.id])
  })

  test('while four dispatchers end tasks and others submit and cancel, nothing is found', async () => {
    await setCap(fresh.database, 'k', 2)
    const names = ['a', '~b', 'b', '~c', 'c', 'd']
    const submitter = async (seed: number) => {
      for (let round = 0; round < 12; round++) {
        const { tasks } = await submitAll(
          fresh.database,
          Array.from({ length: 10 }, (_, index) => ({
            claims: [names[(seed + index * 5 + round) % names.length]!],
            limits: index % 5 === 0 ? [{ key: 'k', units: 1 }] : []
          }))
        )
        await cancel(fresh.database, { task: tasks[round % 10]!, by: 'me' })
      }
    }
    const submitting = new AbortController()
    const completer = async () => {
      const mine = await Worker.start(fresh.database)
      for (
        let claimed = await mine.take(5);
        !submitting.signal.aborted || claimed.length > 0;
        claimed = await mine.take(5)
      ) {
        await mine.complete(...claimed)
      }
    }
    const finds: unknown[] = []
    const guard = async () => {
      while (!submitting.signal.aborted) finds.push(...(await guardPoll(fresh.database, { size: 50 })).found)
    }
    const rest = Promise.all([guard(), ...Array.from({ length: 4 }, completer)])
    await Promise.all([submitter(0), submitter(3)]).finally(() => submitting.abort())
    await rest
    await worker.drain()
    expect(finds).toEqual([])
    expect(await fresh.database.query('select task from queue.place')).toEqual([])
    expect(await guardCounts(fresh.database)).toEqual({ found: 0, staleReports: 0 })
  })
})

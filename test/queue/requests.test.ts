// What is asked of tasks while limits are short: caps hold, free units are used, whatever is cancelled, held or brought back.
// Attempts, and requests without limits, are attempts.test.ts.
import fc from 'fast-check'
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest'
import { expand, unpark } from '../../src/queue/dispatch.ts'
import type { ClaimedTask } from '../../src/queue/dispatch.ts'
import { auditAll, guardCounts, guardPoll } from '../../src/queue/guard.ts'
import { readLimits, setCap } from '../../src/queue/limits.ts'
import { cancel, hold, release, retry } from '../../src/queue/requests.ts'
import { freshDatabase } from '../support/postgres.ts'
import type { FreshDatabase } from '../support/postgres.ts'
import { emptied, failure, ids, stateOf, statesOf, submitAll, submitOne, task, Worker } from './support.ts'

let fresh: FreshDatabase
let worker: Worker
beforeAll(async () => {
  fresh = await freshDatabase()
})
afterAll(() => fresh.drop())
beforeEach(async () => {
  worker = await emptied(fresh)
})

const needing = (units: number, key = 'k') => ({ limits: [{ key, units }] })

test('a parent holds no units while it awaits its children, and asks again when they have ended', async () => {
  await setCap(fresh.database, 'k', 1)
  const parent = await submitOne(fresh.database, needing(1))
  const other = await submitOne(fresh.database, needing(1))
  await worker.take()
  await expand(fresh.database, { dispatcher: worker.id, task: parent, attempt: 1, children: [task(needing(1))] })
  expect(await statesOf(fresh.database, [parent, other])).toEqual(['awaiting', 'ready'])
  expect(await readLimits(fresh.database)).toMatchObject([{ key: 'k', cap: 1, used: 1, queued: 1 }])
  const [first] = await worker.take()
  expect(first?.id).toBe(other)
  await worker.complete(first!)
  const [child] = await worker.take()
  const late = await submitOne(fresh.database, needing(1))
  await worker.complete(child!)
  expect(await statesOf(fresh.database, [parent, late])).toEqual(['ready', 'parked'])
  expect(await worker.drain()).toEqual([parent, late])
})

test('a running task that is parked or tried again gives its units back and takes new ones', async () => {
  await setCap(fresh.database, 'k', 1)
  const { tasks } = await submitAll(fresh.database, [needing(1), needing(1)])
  await worker.take()
  await worker.settle([{ task: tasks[0]!, attempt: 1, outcome: 'park', reason: 'host h1 is down', key: 'host/h1' }])
  expect(await statesOf(fresh.database, tasks)).toEqual(['parked', 'ready'])
  await unpark(fresh.database, 'host/h1')
  expect(await statesOf(fresh.database, tasks)).toEqual(['parked', 'ready'])
  expect(await worker.drain()).toEqual([tasks[1], tasks[0]])
})

test('held while it queues for units it lets others pass, and released it queues again', async () => {
  await setCap(fresh.database, 'k', 1)
  const { tasks } = await submitAll(fresh.database, [needing(1), needing(1), needing(1)])
  const [running] = await worker.take()
  await hold(fresh.database, { task: tasks[1]!, reason: 'x', by: 'me' })
  await worker.complete(running!)
  expect(await statesOf(fresh.database, tasks.slice(1))).toEqual(['held', 'ready'])
  await release(fresh.database, { task: tasks[1]!, by: 'me' })
  expect(await worker.drain()).toEqual([tasks[2], tasks[1]])
})

test('a cap of none keeps everything parked; raised, it wakes as many as it has room for', async () => {
  await setCap(fresh.database, 'k', 0)
  const { tasks } = await submitAll(fresh.database, [needing(1), needing(1), needing(1)])
  expect(await statesOf(fresh.database, tasks)).toEqual(['parked', 'parked', 'parked'])
  await setCap(fresh.database, 'k', 2)
  expect(await statesOf(fresh.database, tasks)).toEqual(['ready', 'ready', 'parked'])
  await setCap(fresh.database, 'k', null)
  expect(await statesOf(fresh.database, tasks)).toEqual(['ready', 'ready', 'ready'])
})

test('a task that needs more than there ever is keeps nobody from what there is', async () => {
  await setCap(fresh.database, 'k', 2)
  const { tasks } = await submitAll(fresh.database, [needing(3), needing(1)])
  expect(await statesOf(fresh.database, tasks)).toEqual(['parked', 'ready'])
  await setCap(fresh.database, 'k', 4)
  expect(await statesOf(fresh.database, tasks)).toEqual(['ready', 'ready'])
})

test('a task that needs two keys takes both or none, and keeps nobody from the other', async () => {
  await setCap(fresh.database, 'a', 1)
  await setCap(fresh.database, 'b', 1)
  const both = { limits: [...needing(1, 'a').limits, ...needing(1, 'b').limits] }
  const { tasks } = await submitAll(fresh.database, [needing(1, 'a'), both, needing(1, 'b')])
  expect(await statesOf(fresh.database, tasks)).toEqual(['ready', 'parked', 'ready'])
  await worker.complete(...(await worker.take()))
  expect(await stateOf(fresh.database, tasks[1]!)).toBe('ready')
  expect((await readLimits(fresh.database)).map(({ used }) => used)).toEqual([1, 1])
})

type Step =
  | 'submit'
  | 'take'
  | 'complete'
  | 'fail'
  | 'retry-attempt'
  | 'cancel'
  | 'hold'
  | 'release'
  | 'bring-back'
  | 'cap'
const STEPS: readonly Step[] = [
  ...(['submit', 'submit', 'take', 'take', 'complete', 'complete'] as const),
  ...(['fail', 'retry-attempt', 'cancel', 'hold', 'release', 'bring-back', 'cap'] as const)
]

/** One random step; what it asks for may be impossible now, which the queue says. */
async function take(step: Step, n: number, known: number[], running: ClaimedTask[]): Promise<void> {
  const db = fresh.database
  const some = known[n % Math.max(1, known.length)] ?? 0
  const refused = (error: unknown) => {
    if ((error as Error).name !== 'QueueError') throw error
  }
  if (step === 'submit') {
    const limits = [...needing(1 + (n % 3), 'a').limits, ...(n % 2 ? needing(1, 'b').limits : [])]
    known.push(await submitOne(db, { limits, claims: n % 5 === 0 ? ['r'] : [] }))
  } else if (step === 'take') running.push(...(await worker.take(1 + (n % 2))))
  else if (step === 'cap') await setCap(db, n % 2 ? 'a' : 'b', n % 5)
  else if (step === 'cancel') await cancel(db, { task: some, by: 'me' }).catch(refused)
  else if (step === 'hold') await hold(db, { task: some, reason: 'x', by: 'me' }).catch(refused)
  else if (step === 'release') await release(db, { task: some, by: 'me' }).catch(refused)
  else if (step === 'bring-back') await retry(db, { task: some, by: 'me', withDependants: true }).catch(refused)
  else {
    const [one] = running.splice(n % Math.max(1, running.length), 1)
    if (!one) return
    if (step === 'complete') await worker.complete(one)
    else if (step === 'fail') await worker.fail(one)
    else await worker.settle([{ task: one.id, attempt: one.attempt, outcome: 'retry', afterMs: 0, error: failure }])
  }
}

test(
  'whatever is asked in whatever order, caps hold and nothing is parked beside free units',
  { timeout: 60_000 },
  async () => {
    const one = fc.tuple(fc.constantFrom(...STEPS), fc.nat(1000))
    await fc.assert(
      fc.asyncProperty(fc.array(one, { minLength: 15, maxLength: 30 }), async (steps) => {
        worker = await emptied(fresh)
        await setCap(fresh.database, 'a', 3)
        await setCap(fresh.database, 'b', 1)
        const known: number[] = []
        const running: ClaimedTask[] = []
        let lowered = false
        for (const [step, n] of steps) {
          lowered ||= step === 'cap'
          await take(step, n, known, running)
          // A lowered cap takes nothing from what has its units.
          if (!lowered) {
            for (const { used, cap } of await readLimits(fresh.database)) expect(used).toBeLessThanOrEqual(cap ?? 0)
          }
        }
        expect((await guardPoll(fresh.database)).found).toEqual([])
        expect(await auditAll(fresh.database)).toEqual([])
        await setCap(fresh.database, 'a', null)
        await setCap(fresh.database, 'b', null)
        await worker.complete(...running)
        await worker.drain()
        const left = await fresh.database.query('select task from queue.open_state where state <> $1', ['held'])
        expect(left).toEqual([])
      }),
      { numRuns: 8, endOnFailure: true }
    )
  }
)

test(
  'clients that end, cancel and submit at once neither stand still nor leave units unused',
  { timeout: 60_000 },
  async () => {
    await setCap(fresh.database, 'k', 2)
    const { tasks } = await submitAll(
      fresh.database,
      Array.from({ length: 200 }, () => needing(1))
    )
    const canceller = async (part: number) => {
      for (const id of tasks.filter((_, index) => index % 3 === part))
        await cancel(fresh.database, { task: id, by: 'me' })
    }
    const completer = async () => {
      const mine = await Worker.start(fresh.database)
      for (let round = 0; round < 60; round++) await mine.complete(...(await mine.take(1)))
    }
    await Promise.all([canceller(0), canceller(1), completer(), completer(), completer()])
    await worker.drain()
    expect(await fresh.database.query('select task from queue.place')).toEqual([])
    expect(await guardCounts(fresh.database)).toEqual({ found: 0, staleReports: 0 })
    expect(ids(await worker.take())).toEqual([])
  }
)

// What was done although its answer was lost: a report that is sent again, tasks that were given to a dispatcher unheard, and what an
// attempt still writes once it is no longer the task's.
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest'
import { cancel } from '../../src/queue/requests.ts'
import { settle, takeOver, type End } from '../../src/queue/dispatch.ts'
import { guardCounts } from '../../src/queue/guard.ts'
import { appendLogs, readLog, setProgress } from '../../src/queue/log.ts'
import { history } from '../../src/queue/read.ts'
import { dropEffects, keepUndo, setUndoStates } from '../../src/queue/undo.ts'
import { freshDatabase, type FreshDatabase } from '../support/postgres.ts'
import { emptied, failure, ids, stateOf, statesOf, submitAll, submitOne, Worker } from './support.ts'

let fresh: FreshDatabase
let worker: Worker
beforeAll(async () => {
  fresh = await freshDatabase()
})
beforeEach(async () => {
  worker = await emptied(fresh)
})
afterAll(() => fresh.drop())

const ends: { [Outcome in End['outcome']]: Omit<Extract<End, { outcome: Outcome }>, 'task' | 'attempt'> } = {
  complete: { outcome: 'complete', result: 1 },
  failed: { outcome: 'failed', error: failure },
  cancelled: { outcome: 'cancelled', error: failure },
  retry: { outcome: 'retry', afterMs: 60_000, error: failure },
  park: { outcome: 'park', reason: 'host h1 is down', key: 'host/h1' },
  awaiting: { outcome: 'awaiting', what: 'a message', deadlineMs: 60_000 },
  uncertain: { outcome: 'uncertain', error: failure, evidence: null }
}
const outcomes = Object.keys(ends) as End['outcome'][]

test('any report may be sent twice: it is recorded once, and refused neither time', async () => {
  const { tasks } = await submitAll(
    fresh.database,
    outcomes.map(() => ({}))
  )
  expect(ids(await worker.take()).toSorted((a, b) => a - b)).toEqual(tasks)
  const reports = outcomes.map((outcome, at) => ({ task: tasks[at] ?? 0, attempt: 1, ...ends[outcome] }))
  await worker.settle(reports)
  const after = await statesOf(fresh.database, tasks)
  const told = await Promise.all(tasks.map((id) => history(fresh.database, id)))
  const again = await worker.settle(reports)
  expect(again.settled.map(({ outcome }) => outcome)).toEqual(outcomes.map(() => 'recorded'))
  expect(await statesOf(fresh.database, tasks)).toEqual(after)
  expect(await Promise.all(tasks.map((id) => history(fresh.database, id)))).toEqual(told)
  expect((await guardCounts(fresh.database)).staleReports).toBe(0)
})

test('what was asked to be cancelled and reported as to be tried again was cancelled: saying so twice is no other', async () => {
  const id = await submitOne(fresh.database)
  await worker.take()
  await cancel(fresh.database, { task: id, by: 'op' })
  const report: End = { task: id, attempt: 1, ...ends.retry }
  for (let time = 0; time < 2; time++)
    expect((await worker.settle([report])).settled).toEqual([{ task: id, attempt: 1, outcome: 'recorded' }])
  expect(await stateOf(fresh.database, id)).toBe('cancelled')
})

test('another word of the same attempt is refused, and so is the same word of a past one', async () => {
  const [a, b] = (await submitAll(fresh.database, [{}, {}])).tasks
  await worker.take()
  await worker.settle([{ task: a!, attempt: 1, ...ends.complete }])
  expect((await worker.fail({ id: a!, attempt: 1 })).settled[0]?.outcome).toBe('stale')
  // The second was taken over, and is complete by the one who took it.
  expect(await takeOver(fresh.database, worker.id, 10, [])).toMatchObject([{ id: b, attempt: 2, takenOver: true }])
  await worker.complete({ id: b!, attempt: 2 })
  expect((await worker.complete({ id: b!, attempt: 1 })).settled[0]?.outcome).toBe('stale')
  expect((await guardCounts(fresh.database)).staleReports).toBe(2)
})

test('a task that a dispatcher was given unheard is handed out again, as another attempt; what it holds is not', async () => {
  const { tasks } = await submitAll(fresh.database, [{}, {}, {}])
  const other = await Worker.start(fresh.database)
  const [theirs] = await other.take(1)
  const [held] = await worker.take(1)
  await settle(fresh.database, { dispatcher: worker.id, ends: [], take: 1 }) // its answer is lost
  // Nobody who does not say what he holds is given anything.
  expect(await takeOver(fresh.database, worker.id)).toEqual([])
  const holding = [{ task: held!.id, attempt: 1 }]
  const found = await takeOver(fresh.database, worker.id, 10, holding)
  const lost = tasks.find((id) => id !== theirs!.id && id !== held!.id)
  expect(found).toMatchObject([{ id: lost, attempt: 2, takenOver: true, previousAttempts: 1 }])
  const now = [...holding, { task: lost!, attempt: 2 }]
  expect(await takeOver(fresh.database, worker.id, 10, now)).toEqual([])
})

test('an attempt that is over, or whose dispatcher has lost its lease, writes nothing', async () => {
  const id = await submitOne(fresh.database, { effects: [{ subject: 'vm/1', facts: null }] })
  await worker.take()
  const say = async (attempt: number, word: string) => {
    await appendLogs(fresh.database, [{ task: id, attempt, level: 'info', message: word }])
    await setProgress(fresh.database, { task: id, attempt, progress: { done: 1, total: 2, unit: 'bytes' } })
    return keepUndo(fresh.database, { task: id, attempt, step: { nothing: word } })
  }
  const said = async () => (await readLog(fresh.database, { task: id })).map(({ message }) => message)
  const rows = (table: string) => fresh.database.query(`select from queue.${table} where task = $1`, [id])
  const next = await Worker.start(fresh.database)
  await fresh.database.query('select queue.unregister_dispatcher($1)', [worker.id])
  // Without a lease, though nobody has taken it over.
  expect(await say(1, 'late')).toBe(false)
  expect(await takeOver(fresh.database, next.id)).toMatchObject([{ id, attempt: 2 }])
  // Of a past attempt.
  expect(await say(1, 'later')).toBe(false)
  await dropEffects(fresh.database, { task: id, attempt: 1 })
  await expect(setUndoStates(fresh.database, { task: id, attempt: 1 }, [])).rejects.toMatchObject({
    code: 'stale_attempt'
  })
  expect(await said()).toEqual([])
  expect(await rows('progress')).toEqual([])
  expect(await rows('effect')).toHaveLength(1)
  expect(await say(2, 'now')).toBe(true)
  expect(await said()).toEqual(['now'])
  expect(await rows('progress')).toHaveLength(1)
})

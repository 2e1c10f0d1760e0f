// What an operator says of a task of which nobody can tell whether it happened.
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest'
import { auditAll } from '../../src/queue/guard.ts'
import { getTask } from '../../src/queue/read.ts'
import { retry } from '../../src/queue/requests.ts'
import { giveVerdict } from '../../src/queue/verdict.ts'
import { freshDatabase } from '../support/postgres.ts'
import type { FreshDatabase } from '../support/postgres.ts'
import { emptied, statesOf, submitAll, submitOne, type Worker } from './support.ts'

let fresh: FreshDatabase
let worker: Worker
beforeAll(async () => {
  fresh = await freshDatabase()
})
afterAll(() => fresh.drop())
beforeEach(async () => {
  worker = await emptied(fresh)
})

const one = { claims: ['vm/1'] }
const verdict = (task: number, happened: boolean) =>
  giveVerdict(fresh.database, { task, happened, by: 'anna', reason: 'looked at the host' })

/** Two tasks on one thing, the first uncertain. */
async function uncertainAndNext(): Promise<number[]> {
  const { tasks } = await submitAll(fresh.database, [one, one])
  await worker.take()
  const error = { code: 'lost', message: 'no answer' }
  await worker.settle([{ task: tasks[0]!, attempt: 1, outcome: 'uncertain', error, evidence: { host: 'silent' } }])
  expect(await statesOf(fresh.database, tasks)).toEqual(['uncertain', 'waiting'])
  return tasks
}

test('it happened: the task is complete, what waited goes on, and who said so is kept with the evidence', async () => {
  const tasks = await uncertainAndNext()
  await verdict(tasks[0]!, true)
  expect(await statesOf(fresh.database, tasks)).toEqual(['complete', 'ready'])
  expect((await getTask(fresh.database, tasks[0]!))?.result).toMatchObject({ verdict: 'happened', by: 'anna' })
  const kept = await fresh.database.query('select task, happened, given_by, reason, evidence from queue.verdict')
  expect(kept).toEqual([
    { task: tasks[0], happened: true, given_by: 'anna', reason: 'looked at the host', evidence: { host: 'silent' } }
  ])
  expect(await auditAll(fresh.database)).toEqual([])
})

test('it did not: the task has failed, says by whose word, and can be tried again', async () => {
  const [task, next] = await uncertainAndNext()
  await verdict(task!, false)
  expect(await statesOf(fresh.database, [task!, next!])).toEqual(['failed', 'ready'])
  expect((await getTask(fresh.database, task!))?.error).toMatchObject({
    code: 'verdict_did_not',
    message: 'anna said that it did not happen: looked at the host'
  })
  await retry(fresh.database, { task: task!, by: 'anna', withDependants: false })
  expect(await worker.drain()).toEqual([next, task])
})

test('what the lost attempt reports after the verdict is refused', async () => {
  const [task] = await uncertainAndNext()
  await verdict(task!, false)
  const answer = await worker.settle([{ task: task!, attempt: 1, outcome: 'complete', result: 'late' }])
  expect(answer.settled).toEqual([{ task, attempt: 1, outcome: 'stale' }])
  expect(await statesOf(fresh.database, [task!])).toEqual(['failed'])
})

test('only an uncertain task takes one', async () => {
  const ready = await submitOne(fresh.database, one)
  await expect(verdict(ready, true)).rejects.toMatchObject({ code: 'not_uncertain' })
  await worker.drain()
  await expect(verdict(ready, true)).rejects.toMatchObject({ code: 'already_ended' })
  await expect(verdict(999_999, true)).rejects.toMatchObject({ code: 'task_not_found' })
})

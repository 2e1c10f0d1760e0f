// Tasks in progress that nobody looks after: seen by whoever watches the queue, and by nobody on a healthy run.
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest'
import { openDatabase } from '../../src/db/open.ts'
import { registerDispatcher, settle } from '../../src/queue/dispatch.ts'
import { forgottenTasks } from '../../src/queue/forgotten.ts'
import { freshDatabase } from '../support/postgres.ts'
import type { FreshDatabase } from '../support/postgres.ts'
import { emptied, submitOne, type Worker } from './support.ts'

let fresh: FreshDatabase
let worker: Worker
beforeAll(async () => {
  fresh = await freshDatabase()
})
afterAll(() => fresh.drop())
beforeEach(async () => {
  worker = await emptied(fresh)
})

/** Moves the ends of all leases, and the deadlines, back. */
async function later(ms: number): Promise<void> {
  const owner = openDatabase({ url: fresh.ownerUrl, poolSize: 1 })
  await owner.query(`update queue.dispatcher set expires_at = expires_at - make_interval(secs => $1 / 1000.0)`, [ms])
  await owner.query(`update queue.run set deadline = deadline - make_interval(secs => $1 / 1000.0)`, [ms])
  await owner.stop()
}

test('a task is forgotten once its dispatcher has had no lease for longer than the grace', async () => {
  const task = await submitOne(fresh.database)
  const { id } = await registerDispatcher(fresh.database, { name: 'dies', leaseMs: 1000 })
  await settle(fresh.database, { dispatcher: id, ends: [], take: 1 })
  expect(await forgottenTasks(fresh.database, 5000)).toEqual([])
  await later(3000)
  expect(await forgottenTasks(fresh.database, 5000)).toEqual([])
  await later(5000)
  expect(await forgottenTasks(fresh.database, 5000)).toMatchObject([{ task, why: 'lease_over' }])
})

test('so is one that awaits a message, its deadline long past; one whose dispatcher lives is not', async () => {
  const task = await submitOne(fresh.database)
  const [taken] = await worker.take()
  expect(await forgottenTasks(fresh.database, 5000)).toEqual([])
  await worker.settle([{ task, attempt: taken!.attempt, outcome: 'awaiting', what: 'a message', deadlineMs: 1000 }])
  expect(await forgottenTasks(fresh.database, 5000)).toEqual([])
  await later(10_000)
  expect(await forgottenTasks(fresh.database, 5000)).toMatchObject([{ task, why: 'deadline_over' }])
})

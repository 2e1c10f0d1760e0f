// Several tasks leave one line at once, at different places: each gap closes on what stands next to it, not on what stands next to
// another gap. Seen to fail: while the gaps were closed as if nothing stood between them, two conflicting tasks ran together.
import { afterAll, beforeAll, expect, test } from 'vitest'
import { auditAll } from '../../src/queue/guard.ts'
import { freshDatabase } from '../support/postgres.ts'
import type { FreshDatabase } from '../support/postgres.ts'
import { emptied, ids, statesOf, submitAll, type Worker } from './support.ts'

let fresh: FreshDatabase
let worker: Worker
beforeAll(async () => {
  fresh = await freshDatabase()
  worker = await emptied(fresh)
})
afterAll(() => fresh.drop())

test('two tasks that one failure ends leave two gaps, and whoever stood behind the second still waits for what is before it', async () => {
  const needed = [{ task: { index: 0 }, needs: 'complete' as const }]
  const { tasks } = await submitAll(fresh.database, [
    { claims: ['other'] },
    { claims: ['vm/1'] },
    { claims: ['vm/1'], after: needed },
    { claims: ['vm/1'] },
    { claims: ['vm/1'] },
    { claims: ['vm/1'], after: needed },
    { claims: ['~vm/1'] },
    { claims: ['vm/1'] }
  ])
  const [root, first, , third, fourth, , sharer, last] = tasks
  const begun = await worker.take()
  expect(ids(begun)).toEqual([root, first])
  await worker.fail(begun[0]!)
  expect(await statesOf(fresh.database, tasks)).toEqual([
    'failed',
    'running',
    'failed',
    'waiting',
    'waiting',
    'failed',
    'waiting',
    'waiting'
  ])
  await worker.complete(begun[1]!)
  for (const next of [third, fourth, sharer, last]) {
    const taken = await worker.take()
    expect(ids(taken)).toEqual([next])
    await worker.complete(taken[0]!)
  }
  expect(await auditAll(fresh.database)).toEqual([])
})

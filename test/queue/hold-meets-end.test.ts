// A task is held in the very moment in which what it waited for ends: the hold takes the edge away that the end has just seen.
// Seen to fail: while the end counted its edges before it had the waiting row, the count went below zero and the end was refused.
import { afterAll, beforeAll, expect, test } from 'vitest'
import pg from 'pg'
import { auditAll } from '../../src/queue/guard.ts'
import { release } from '../../src/queue/requests.ts'
import { freshDatabase } from '../support/postgres.ts'
import type { FreshDatabase } from '../support/postgres.ts'
import { emptied, stateOf, submitOne, type Worker } from './support.ts'

let fresh: FreshDatabase
let holder: pg.Client
let watcher: pg.Client
let worker: Worker
beforeAll(async () => {
  fresh = await freshDatabase()
  holder = new pg.Client({ connectionString: fresh.serverUrl })
  watcher = new pg.Client({ connectionString: fresh.ownerUrl })
  await Promise.all([holder.connect(), watcher.connect()])
  worker = await emptied(fresh)
})
afterAll(async () => {
  await Promise.all([holder.end(), watcher.end()])
  await fresh.drop()
})

/** Somebody waits for a lock of the holder's. */
async function untilSomebodyWaits(): Promise<void> {
  const { rows } = await holder.query('select pg_backend_pid() as pid')
  const { pid } = rows[0] as { pid: number }
  for (;;) {
    const waiting = await watcher.query('select from pg_stat_activity where $1 = any (pg_blocking_pids(pid))', [pid])
    if (waiting.rowCount !== 0) return
  }
}

test('the end goes through, and the held task keeps nothing of what it waited for', async () => {
  await submitOne(fresh.database, { claims: ['vm/1'] })
  const [first] = await worker.take()
  const second = await submitOne(fresh.database, { claims: ['vm/1'] })

  await holder.query('begin')
  await holder.query('select queue.hold($1, $2, $3)', [second, 'not now', 'tester'])
  const ending = worker.complete(first!)
  await untilSomebodyWaits()
  await holder.query('commit')
  expect((await ending).settled).toMatchObject([{ outcome: 'recorded' }])

  expect(await stateOf(fresh.database, second)).toBe('held')
  expect(await auditAll(fresh.database)).toEqual([])
  await release(fresh.database, { task: second, by: 'tester' })
  expect(await worker.drain()).toEqual([second])
})

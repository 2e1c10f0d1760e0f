// Notifications are a courtesy: switched off for the database, what one process submits is taken and ended by another that looks,
// and nothing is left for the guard poll. The same with a whole engine is in test/dispatcher.
import { afterAll, beforeAll, expect, inject, test } from 'vitest'
import { openDatabase } from '../../src/db/open.ts'
import type { Database } from '../../src/db/open.ts'
import { guardCounts, guardPoll } from '../../src/queue/guard.ts'
import { channels } from '../../src/queue/notify.ts'
import { cancel, cancelRequests, hold, release } from '../../src/queue/requests.ts'
import { freshDatabase } from '../support/postgres.ts'
import type { FreshDatabase } from '../support/postgres.ts'
import { ids, stateOf, statesOf, submitAll, submitOne, Worker } from './support.ts'

let fresh: FreshDatabase
let one: Database
let two: Database
beforeAll(async () => {
  fresh = await freshDatabase()
  const admin = openDatabase({ url: inject('postgres').adminUrl, poolSize: 1 })
  await admin.query(`alter database ${fresh.name} set taskomatic.notify = 'off'`)
  await admin.stop()
  // Opened after the change: it holds for new sessions.
  one = openDatabase({ url: fresh.serverUrl, poolSize: 4 })
  two = openDatabase({ url: fresh.serverUrl, poolSize: 4 })
})
afterAll(async () => {
  await one.stop()
  await two.stop()
  await fresh.drop()
})

test('tasks submitted through one process are taken by another, chains, holds and cancels among them', async () => {
  const heard: string[] = []
  const listening = await Promise.all(
    Object.values(channels).map((channel) => one.listen(channel, ({ kind }) => heard.push(kind)))
  )
  const before = heard.length
  const elsewhere = await Worker.start(two)
  const { tasks } = await submitAll(one, [{ claims: ['r'] }, { claims: ['r'] }, { claims: ['~r'] }, { claims: ['~r'] }])
  const [first] = await elsewhere.take()
  expect(first?.id).toBe(tasks[0])
  await hold(one, { task: tasks[1]!, reason: 'x', by: 'me' })
  await elsewhere.complete(first!)
  const sharers = await elsewhere.take()
  expect(ids(sharers)).toEqual(tasks.slice(2))
  await release(one, { task: tasks[1]!, by: 'me' })
  expect(await cancel(one, { task: tasks[2]!, by: 'me' })).toBe('cancelling')
  expect(await cancelRequests(two, elsewhere.id)).toEqual([tasks[2]])
  await elsewhere.complete(...sharers)
  expect(await elsewhere.drain()).toEqual([tasks[1]])
  expect(await statesOf(one, tasks)).toEqual(tasks.map(() => 'complete'))

  // With one notification of our own behind them, whatever came before would have been heard.
  const arrived = Promise.withResolvers<void>()
  const last = await one.listen('last', ({ kind }) => kind === 'message' && arrived.resolve())
  await one.query(`select pg_notify('last', '')`)
  await arrived.promise
  expect(heard.slice(before)).toEqual([])
  for (const each of [...listening, last]) await each.stop()
})

test('what two processes end at once leaves nothing for the guard poll', async () => {
  const workers = [await Worker.start(one), await Worker.start(two)]
  const { tasks } = await submitAll(
    one,
    Array.from({ length: 60 }, (_, index) => ({ claims: [`vm/${index % 7}`, `~host/${index % 3}`] }))
  )
  const last = await submitOne(two, { claims: ['host/0', 'host/1', 'host/2'] })
  while ((await stateOf(one, last)) !== 'complete') {
    await Promise.all(workers.map(async (worker) => worker.complete(...(await worker.take(3)))))
  }
  expect(new Set(await statesOf(two, tasks))).toEqual(new Set(['complete']))
  expect((await guardPoll(two)).found).toEqual([])
  expect((await guardCounts(one)).found).toBe(0)
})

// A dispatcher whose database does what it is asked and whose answers are lost: nothing stays behind, and nothing is done twice.
import pino from 'pino'
import { Type } from 'typebox'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { action, complete } from '../../src/actions/action.ts'
import { createSubmitter } from '../../src/actions/submit.ts'
import { DatabaseError } from '../../src/db/error.ts'
import { openDatabase, type Database } from '../../src/db/open.ts'
import { startEngine, type Engine } from '../../src/dispatcher/engine.ts'
import { guardCounts } from '../../src/queue/guard.ts'
import { untilEnded } from '../faults/until-ended.ts'
import { freshDatabase, type FreshDatabase } from '../support/postgres.ts'

const runs = new Map<string, number>()
const work = action({
  name: 'test.work',
  summary: '',
  args: Type.Object({ name: Type.String() }, { additionalProperties: false }),
  title: ({ name }) => name,
  claims: ({ name }) => [{ resource: `test/${name}`, mode: 'exclusive' }],
  check: () => ({ verdict: 'possible' }),
  effect: () => [],
  run(_, { name }) {
    runs.set(name, (runs.get(name) ?? 0) + 1)
    return Promise.resolve(complete())
  },
  probe: (_, { name }) =>
    Promise.resolve(
      runs.has(name) ? { happened: 'yes', evidence: null, result: null } : { happened: 'no', evidence: null }
    )
})

let fresh: FreshDatabase
let engine: Engine | undefined
beforeEach(async () => {
  runs.clear()
  fresh = await freshDatabase()
})
afterEach(async () => {
  await engine?.stop()
  engine = undefined
  await fresh.drop()
})

const registry = new Map([[work.name, work]])
const start = (database: Database, more: { beats?: Database; leaseMs?: number; listen?: boolean } = {}) =>
  startEngine({
    database,
    registry,
    log: pino({ level: 'silent' }),
    definitionKey: Buffer.alloc(32, 7),
    guardPollMs: 0,
    ...more
  })

/** Every so manieth call of that function is done, and its answer is lost. */
function losing(database: Database, functionName: string, every: number): Database & { lost: number } {
  let calls = 0
  const wrapped = {
    ...database,
    lost: 0,
    async query<R>(text: string, values?: readonly unknown[]): Promise<R[]> {
      const rows = await database.query<R>(text, values)
      if (!text.includes(functionName) || ++calls % every !== 0) return rows
      wrapped.lost++
      throw new DatabaseError('outcome_unknown', 'the answer was lost')
    }
  }
  return wrapped
}

for (const lostFunction of ['queue.settle(', 'queue.take_over(']) {
  test(`tasks given, and ends recorded, in answers of ${lostFunction} …) that are lost go on at once, each run once`, async () => {
    const database = losing(fresh.database, lostFunction, 2)
    engine = await start(database, { leaseMs: 1000 })
    const submitter = createSubmitter({ database: fresh.database, registry })
    const ids: number[] = []
    // And on, until an answer was lost: some calls are made by the clock.
    while (ids.length < 20 || database.lost === 0) {
      const task = { action: 'test.work', args: { name: `w${ids.length}` } }
      const answer = await submitter.submit({ tasks: [task], by: 'test' })
      ids.push(answer.tasks[0]?.id ?? 0)
      engine.dispatcher.wake()
    }
    const ended = await untilEnded(fresh.database, ids, { timeoutMs: 20_000 })
    expect(ended.map(({ state }) => state)).toEqual(ids.map(() => 'complete'))
    expect([...runs.values()]).toEqual(ids.map(() => 1))
    expect(database.lost).toBeGreaterThan(0)
    expect((await guardCounts(fresh.database)).staleReports).toBe(0)
    expect(await fresh.database.query('select from queue.run')).toEqual([])
  })
}

test('a pool whose connections are all taken does not keep the lease from being renewed', async () => {
  const small = openDatabase({ url: fresh.serverUrl, poolSize: 2 })
  const beats = openDatabase({ url: fresh.serverUrl, poolSize: 1, answerTimeoutMs: 1000 })
  engine = await start(small, { beats, leaseMs: 700, listen: false })
  const lease = () => fresh.database.query('select id from queue.dispatcher where expires_at > clock_timestamp()')
  const before = await lease()
  expect(before).toHaveLength(1)
  // Three times as long as the lease, in every connection that there is.
  await Promise.all([1, 2].map(() => small.query('select pg_sleep(2.1)')))
  expect(engine.dispatcher.whyFenced()).toBeUndefined()
  expect(await lease()).toEqual(before)
  await engine.stop()
  await Promise.all([small.stop(), beats.stop()])
})

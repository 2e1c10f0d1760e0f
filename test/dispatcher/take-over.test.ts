// What becomes of tasks whose dispatcher is gone, and of those of which nobody could tell whether they happened.
import { Type } from 'typebox'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { action, complete, uncertain, type Outcome, type Probe } from '../../src/actions/action.ts'
import { openDatabase } from '../../src/db/open.ts'
import { registerDispatcher, settle } from '../../src/queue/dispatch.ts'
import { ensureResources, lockResources, submit } from '../../src/queue/submit.ts'
import { startTestEngine, type TestEngine } from '../support/engine.ts'

const runs: string[] = []
let answer: (name: string) => Probe = () => ({ happened: 'no', evidence: null })
let outcome: (name: string) => Outcome = () => complete()

const work = action({
  name: 'test.work',
  summary: '',
  args: Type.Object({ name: Type.String() }, { additionalProperties: false }),
  title: ({ name }) => name,
  claims: ({ name }) => [{ resource: `test/${name}`, mode: 'exclusive' }],
  check: () => ({ verdict: 'possible' }),
  effect: () => [],
  run(_, { name }) {
    runs.push(name)
    return Promise.resolve(outcome(name))
  },
  probe: (_, { name }) => Promise.resolve(answer(name))
})

let engine: TestEngine
beforeAll(async () => {
  engine = await startTestEngine({ actions: [work], engine: { leaseMs: 900 } })
})
afterAll(async () => {
  await engine.stop()
})

/** Another dispatcher begins the task in the transaction that stores it, so that ours cannot be first, and is never heard of again. */
async function begunElsewhere(name: string): Promise<{ id: number; gone: number }> {
  const other = await registerDispatcher(engine.database, { name: 'gone', leaseMs: 2000 })
  const claims = [{ resource: `test/${name}`, mode: 'exclusive' as const }]
  await ensureResources(engine.database, [`test/${name}`])
  return engine.database.transaction(async (tx) => {
    await lockResources(tx, claims)
    const task = { action: 'test.work', title: name, args: { name }, claims, effects: [], binds: false }
    const { tasks } = await submit(tx, { tasks: [task], by: 'test' })
    const { claimed } = await settle(tx, { dispatcher: other.id, ends: [], take: 1 })
    expect(claimed.map(({ id }) => id)).toEqual(tasks)
    return { id: tasks[0] ?? 0, gone: other.id }
  })
}

test('a task whose dispatcher is gone is looked for, and complete without a second run if it happened', async () => {
  answer = () => ({ happened: 'yes', evidence: 'seen', result: 'found done' })
  const { id } = await begunElsewhere('happened')
  expect(await engine.until(id)).toMatchObject({ state: 'complete', result: 'found done' })
  expect(runs).not.toContain('happened')
})

test('a task of which nobody can tell is uncertain, keeps its claims, and ends once it can be told', async () => {
  outcome = () => uncertain({ code: 'lost', message: 'no answer' }, 'nothing seen')
  answer = () => ({ happened: 'unknown', evidence: null, why: 'the host is silent' })
  const id = await engine.submit('test.work', { name: 'foggy' })
  await engine.until(id, (task) => task.state === 'uncertain')
  const next = await engine.submit('test.work', { name: 'foggy' })
  await engine.engine.dispatcher.hostUp('h1')
  expect((await engine.until(id, () => true)).state).toBe('uncertain')
  expect((await engine.until(next, () => true)).state).toBe('waiting')
  outcome = () => complete()
  answer = () => ({ happened: 'yes', evidence: 'seen at last', result: 'late' })
  await engine.engine.dispatcher.hostUp('h1')
  expect(await engine.until(id)).toMatchObject({ state: 'complete', result: 'late' })
  expect((await engine.until(next)).state).toBe('complete')
})

test('a dispatcher that stands still in the middle of a transaction keeps nobody from taking its tasks over', async () => {
  answer = () => ({ happened: 'yes', evidence: 'seen', result: 'found done' })
  const { id, gone } = await begunElsewhere('locked')
  const { promise: taken, resolve } = Promise.withResolvers<void>()
  const still = openDatabase({ url: engine.serverUrl, poolSize: 1, idleInTransactionMs: 500 })
  // Its lease is locked, as each of its steps does, and then nothing is asked any more.
  const step = still.transaction(async (tx) => {
    await tx.query('select queue.prove_lease($1)', [gone])
    await taken
  })
  const refused = expect(step).rejects.toMatchObject({ code: expect.stringMatching(/unavailable|outcome_unknown/) })
  expect(await engine.until(id)).toMatchObject({ state: 'complete', result: 'found done' })
  resolve()
  await refused
  await still.stop()
})

// Each statement that submitting, claiming, expanding, ending, taking over and cancelling make is lost once before PostgreSQL has it,
// and once after it was done, with the answer: enumerated, not left to chance. Each time the work ends as it should, the queue's
// audit finds nothing, and in the end the independent judge finds nothing either.
import { Type } from 'typebox'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { action, complete } from '../../src/actions/action.ts'
import { registry } from '../../src/actions/registry.ts'
import { createSubmitter } from '../../src/actions/submit.ts'
import { DatabaseError } from '../../src/db/error.ts'
import { openDatabase, type Database } from '../../src/db/open.ts'
import { registerDispatcher, settle } from '../../src/queue/dispatch.ts'
import { QueueError } from '../../src/queue/error.ts'
import { auditAll } from '../../src/queue/guard.ts'
import { cancel } from '../../src/queue/requests.ts'
import { ensureResources, lockResources, submit } from '../../src/queue/submit.ts'
import { startTestEngine, type TestEngine } from '../support/engine.ts'
import { DatabaseProxy, type StatementFault } from './database-proxy.ts'
import { judge, nothingFound } from './history-checker.ts'
import { truthOf } from './truth.ts'

const name = Type.Object({ name: Type.String() }, { additionalProperties: false })
const base = {
  summary: '',
  args: name,
  title: ({ name: given }: { name: string }) => given,
  claims: ({ name: given }: { name: string }) => [{ resource: `test/${given}`, mode: 'exclusive' as const }],
  check: () => ({ verdict: 'possible' as const }),
  effect: () => [],
  probe: () => Promise.resolve({ happened: 'no' as const, evidence: null })
}
/** Goes on until it is told to stop. */
const endless = action({
  ...base,
  name: 'test.endless',
  run: (ctx) =>
    new Promise((resolve) => {
      const stop = () => resolve({ outcome: 'cancelled', error: { code: 'cancelled', message: 'told to stop' } })
      if (ctx.signal.aborted) stop()
      else ctx.signal.addEventListener('abort', stop, { once: true })
    })
})
const quick = action({ ...base, name: 'test.quick', run: () => Promise.resolve(complete()) })
const actions = [endless, quick]

let proxy: DatabaseProxy
let engine: TestEngine
let client: Database
const acknowledged: number[] = []
beforeAll(async () => {
  const through = async (url: string) => {
    proxy = await DatabaseProxy.start(url)
    client = openDatabase({ url: proxy.url, poolSize: 3 })
    return proxy.url
  }
  engine = await startTestEngine({ hosts: 2, actions, engine: { leaseMs: 900, guardPollMs: 500 }, through })
})
afterAll(async () => {
  await engine.stop()
  await client.stop()
  await proxy.stop()
})

/** As a client does that hears nothing, or that there is no database: it asks again. */
async function insisting<T>(ask: () => Promise<T>): Promise<T> {
  for (let tries = 1; ; tries++) {
    try {
      return await ask()
    } catch (error) {
      const passes = error instanceof DatabaseError && ['unavailable', 'outcome_unknown'].includes(error.code)
      if (!passes || tries === 5) throw error
    }
  }
}

const lifeOf = (vm: string) => [
  { action: 'vm.create', args: { name: vm, memoryMiB: 64, vcpus: 1, host: 'h1' } },
  { action: 'vm.start', args: { vm } },
  { action: 'vm.stop', args: { vm } },
  { action: 'vm.delete', args: { vm } }
]

/** Begun by a dispatcher that is gone at once. */
async function orphan(of: string): Promise<number> {
  const { database } = engine
  const other = await registerDispatcher(database, { name: 'gone', leaseMs: 1000 })
  const claims = [{ resource: `test/${of}`, mode: 'exclusive' as const }]
  await ensureResources(database, [`test/${of}`])
  const id = await database.transaction(async (tx) => {
    await lockResources(tx, claims)
    const task = {
      action: 'test.quick',
      title: of,
      args: { name: of },
      claims,
      effects: [],
      binds: false,
      priority: 100
    }
    const { tasks } = await submit(tx, { tasks: [task], by: 'test' })
    const { claimed } = await settle(tx, { dispatcher: other.id, ends: [], take: 1 })
    expect(claimed.map((one) => one.id)).toEqual(tasks)
    return tasks[0] ?? 0
  })
  await database.query('select queue.unregister_dispatcher($1)', [other.id])
  return id
}

/** A plan that rolls back (so it expands), one that does not, one task that is cancelled as it runs, one that is taken over. */
async function work(tag: string): Promise<void> {
  const submitter = createSubmitter({
    database: client,
    registry: new Map([...registry, ...actions.map((each) => [each.name, each] as const)])
  })
  const ask = async (suffix: string, onFailure: 'rollback' | 'stop', tasks: Parameters<typeof lifeOf>[0]) => {
    const request = { tasks: lifeOf(tasks), plan: { onFailure }, by: 'test', idempotencyKey: `${tag}-${suffix}` }
    const answer = await insisting(() => submitter.submit(request))
    engine.engine.dispatcher.wake()
    return answer.tasks.map(({ id }) => id)
  }
  const running = await engine.submit('test.endless', { name: `${tag}-endless` })
  const [orphaned, whole, parts] = await Promise.all([
    orphan(`${tag}-orphan`),
    ask('whole', 'rollback', `${tag}-a`),
    ask('parts', 'stop', `${tag}-b`),
    engine.until(running, ({ state }) => state === 'running')
  ])
  await insisting(() => cancel(client, { task: running, by: 'test' })).catch((error: unknown) => {
    // It was asked to stop before, and the answer was lost.
    if (!(error instanceof QueueError)) throw error
  })
  acknowledged.push(running, orphaned, ...whole, ...parts)
  expect(await engine.until(running)).toMatchObject({ state: 'cancelled' })
  for (const id of [orphaned, ...whole, ...parts]) {
    const task = await engine.until(id)
    expect(task, JSON.stringify(task.error)).toMatchObject({ state: 'complete' })
  }
  expect(await auditAll(engine.database)).toEqual([])
}

/** What a statement is called here: its beginning, and for a commit that of the statement before it. */
const keyOf = (text: string, before: string): string =>
  (text === 'commit' ? `commit after: ${before}` : text).replaceAll(/\s+/g, ' ').slice(0, 90)

/** The queue's own statements, and the ends of transactions. */
const counts = (text: string): boolean => text === 'commit' || /\bqueue\./.test(text)

test(
  'at each statement of the queue, before it and after it, nothing is lost, done twice or left',
  { timeout: 300_000 },
  async () => {
    const keys = new Set<string>()
    proxy.decide = (text, before) => {
      if (counts(text)) keys.add(keyOf(text, before))
      return undefined
    }
    await work('w0')
    // Chance decides whether some are made at all: whose statements come together is told in one.
    const missed: string[] = []
    let boundaries = 0
    const began = Date.now()
    for (const [at, key] of [...keys].entries())
      for (const kind of ['before', 'after'] as const) {
        let hit = false
        proxy.decide = (text, before): StatementFault | undefined => {
          if (hit || !counts(text) || keyOf(text, before) !== key) return undefined
          hit = true
          return { kind }
        }
        try {
          await work(`w${at + 1}${kind}`)
        } catch (error) {
          throw new Error(`with a fault ${kind} \`${key}\``, { cause: error })
        }
        boundaries++
        if (!hit) missed.push(`${kind} ${key}`)
      }
    console.log(
      `${boundaries} boundaries of ${keys.size} statements in ${Math.round((Date.now() - began) / 1000)} s; not come by: ${missed.join('; ') || 'none'}`
    )
    proxy.decide = () => undefined
    const [journal, now] = [engine.fleet.journal.entries(), truthOf(engine.fleet)]
    expect(await judge(engine.database, { submitted: acknowledged, journal, now })).toEqual(nothingFound)
    expect(engine.engine.dispatcher.guardPollFound()).toBe(0)
    expect(engine.engine.dispatcher.forgotten()).toBe(0)
    expect(missed.length).toBeLessThan(boundaries / 4)
  }
)

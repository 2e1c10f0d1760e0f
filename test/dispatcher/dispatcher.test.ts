// What the dispatcher does with tasks, on a real queue; the actions are made here so that their timing is known.
import { Type } from 'typebox'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import {
  action,
  complete,
  failed,
  impossible,
  possible,
  type Observer,
  type Outcome
} from '../../src/actions/action.ts'
import { openDatabase } from '../../src/db/open.ts'
import { HostError } from '../../src/host/error.ts'
import { unpark } from '../../src/queue/dispatch.ts'
import { cancel } from '../../src/queue/requests.ts'
import { startTestEngine, type TestEngine } from '../support/engine.ts'

type Gate = { started: Promise<void>; open: () => void; begin: () => void; opened: Promise<void> }

function gate(): Gate {
  const started = Promise.withResolvers<void>()
  const opened = Promise.withResolvers<void>()
  return {
    started: started.promise,
    begin: () => started.resolve(),
    opened: opened.promise,
    open: () => opened.resolve()
  }
}

const gates = new Map<string, Gate>()
const order: string[] = []
let parkedOnce = false
let behave: (name: string, signal: AbortSignal, observe: Observer) => Promise<Outcome> = () =>
  Promise.resolve(complete())

const work = action({
  name: 'test.work',
  summary: '',
  args: Type.Object({ name: Type.String(), on: Type.String() }, { additionalProperties: false }),
  title: ({ name }) => name,
  claims: ({ on }) => [{ resource: `test/${on}`, mode: 'exclusive' }],
  check: ({ name }) => (name === 'never' ? impossible('never', 'never possible', 'do not ask') : possible),
  effect: () => [],
  async run(ctx, { name }) {
    order.push(`${name} begins`)
    const waiting = gates.get(name)
    waiting?.begin()
    await waiting?.opened
    const outcome = await behave(name, ctx.signal, ctx.observe)
    order.push(`${name} ends`)
    return outcome
  },
  probe: () => Promise.resolve({ happened: 'no', evidence: null })
})

describe('the dispatcher', () => {
  let engine: TestEngine
  beforeAll(async () => {
    engine = await startTestEngine({ actions: [work], engine: { guardPollMs: 0 } })
  })
  afterAll(async () => {
    await engine.stop()
  })

  const submit = (name: string, on: string) => engine.submit('test.work', { name, on })

  test('runs what conflicts one after another, in the order of submission', async () => {
    order.length = 0
    const first = gate()
    gates.set('first', first)
    const ids = [await submit('first', 'a'), await submit('second', 'a')]
    await first.started
    expect((await engine.until(ids[1] ?? 0, () => true)).state).toBe('waiting')
    first.open()
    await engine.until(ids[1] ?? 0)
    expect(order).toEqual(['first begins', 'first ends', 'second begins', 'second ends'])
  })

  test('runs what does not conflict at the same time', async () => {
    const [one, two] = [gate(), gate()]
    gates.set('one', one)
    gates.set('two', two)
    const ids = [await submit('one', 'b'), await submit('two', 'c')]
    await Promise.all([one.started, two.started])
    one.open()
    two.open()
    for (const id of ids) expect((await engine.until(id)).state).toBe('complete')
  })

  test('a task that parks goes on when what it waits for is there', async () => {
    behave = () => {
      if (parkedOnce) return Promise.resolve(complete('after the wait'))
      parkedOnce = true
      return Promise.resolve({ outcome: 'park', reason: 'no room', key: 'room' })
    }
    const id = await submit('parks', 'd')
    expect((await engine.until(id, (task) => task.state === 'parked')).state).toBe('parked')
    await unpark(engine.database, 'room')
    expect(await engine.until(id)).toMatchObject({ state: 'complete', result: 'after the wait' })
    behave = () => Promise.resolve(complete())
  })

  test('a running task hears that it is to be cancelled, from any process', async () => {
    const heard = Promise.withResolvers<void>()
    const begun = Promise.withResolvers<void>()
    behave = (_, signal) =>
      new Promise((resolve) => {
        begun.resolve()
        signal.addEventListener('abort', () => {
          heard.resolve()
          resolve({ outcome: 'cancelled', error: { code: 'cancelled', message: 'stopped half-way' } })
        })
      })
    const id = await submit('long', 'e')
    await begun.promise
    expect(await cancel(engine.database, { task: id, by: 'test', reason: 'changed my mind' })).toBe('cancelling')
    await heard.promise
    expect(await engine.until(id)).toMatchObject({ state: 'cancelled', error: { message: 'stopped half-way' } })
    behave = () => Promise.resolve(complete())
  })

  test('a fault of an action fails its task with the chain of causes, and nothing else', async () => {
    behave = () => Promise.reject(new Error('the wheel came off', { cause: new Error('the bolt was loose') }))
    const id = await submit('breaks', 'f')
    expect((await engine.until(id)).error).toMatchObject({
      code: 'fault',
      message: 'the wheel came off',
      causes: [{ message: 'the bolt was loose' }]
    })
    behave = () => Promise.resolve(complete())
    expect((await engine.run('test.work', { name: 'next', on: 'f' })).state).toBe('complete')
  })

  test('an action whose writes are fenced is tried again, not failed', async () => {
    let tries = 0
    behave = () =>
      tries++ === 0 ? Promise.reject(new HostError('fenced', 'h1', 'h1: not asked')) : Promise.resolve(complete())
    const id = await submit('fenced', 'g')
    expect(await engine.until(id)).toMatchObject({ state: 'complete' })
    expect(tries).toBe(2)
    behave = () => Promise.resolve(complete())
  })

  test('a failure keeps its error as the action told it', async () => {
    behave = () =>
      Promise.resolve(failed({ code: 'no_luck', message: 'it did not work', step: 'try', next: 'try again' }))
    const id = await submit('fails', 'h')
    expect((await engine.until(id)).error).toEqual({
      code: 'no_luck',
      message: 'it did not work',
      step: 'try',
      next: 'try again'
    })
    behave = () => Promise.resolve(complete())
  })
})

test('draining lets running work end and takes nothing new', async () => {
  const engine = await startTestEngine({ actions: [work] })
  try {
    const running = gate()
    gates.set('running', running)
    const id = await engine.submit('test.work', { name: 'running', on: 'x' })
    await running.started
    const stopped = engine.engine.dispatcher.stop()
    const late = await engine.submit('test.work', { name: 'late', on: 'y' })
    running.open()
    await stopped
    expect((await engine.until(id, () => true)).state).toBe('complete')
    expect((await engine.until(late, () => true)).state).toBe('ready')
  } finally {
    await engine.stop()
  }
})

test('what was taken under a lease that is lost writes nothing, although the process has a new one', async () => {
  const engine = await startTestEngine({ actions: [work], engine: { leaseMs: 900 } })
  const owner = openDatabase({ url: engine.ownerUrl, poolSize: 1 })
  try {
    const held = gate()
    gates.set('held', held)
    const fences: (string | undefined)[] = []
    const written: unknown[] = []
    behave = async (name, _, observe) => {
      if (name !== 'held') return complete()
      fences.push(engine.engine.dispatcher.whyFenced())
      written.push(await observe.setLimit('late', fences.length).catch((error: unknown) => error))
      return complete()
    }
    const id = await engine.submit('test.work', { name: 'held', on: 'z' })
    await held.started
    gates.delete('held')
    await owner.query(`update queue.dispatcher set expires_at = now() - interval '1 s'`)
    // It registers anew, takes the task over, finds that it did not happen, and runs it.
    expect(await engine.until(id)).toMatchObject({ state: 'complete', attempts: 2 })
    expect(engine.engine.dispatcher.whyFenced()).toBeUndefined()
    held.open()
    await expect.poll(() => fences).toEqual([undefined, expect.stringMatching(/had taken the task/)])
    // Neither to hosts nor to the database.
    await expect.poll(() => written).toEqual([null, expect.objectContaining({ code: 'lease_lost' })])
    expect(await owner.query(`select cap from queue.cap where key = 'late'`)).toEqual([{ cap: 1 }])
  } finally {
    behave = () => Promise.resolve(complete())
    await owner.stop()
    await engine.stop()
  }
})

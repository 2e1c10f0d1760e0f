// Late claims: what a task really touches is taken just before it counts as started. It waits for what has started only, and
// what has not started waits for it.
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest'
import { bind, expand } from '../../src/queue/dispatch.ts'
import type { ClaimedTask } from '../../src/queue/dispatch.ts'
import { auditAll, guardCounts } from '../../src/queue/guard.ts'
import { attempts, edgesOf, getTask } from '../../src/queue/read.ts'
import { cancel } from '../../src/queue/requests.ts'
import { freshDatabase } from '../support/postgres.ts'
import type { FreshDatabase } from '../support/postgres.ts'
import { findCircle } from './checker.ts'
import { claim, emptied, ids, stateOf, statesOf, submitOne, task, Worker } from './support.ts'
import type { TaskSketch } from './support.ts'

let fresh: FreshDatabase
let worker: Worker
beforeAll(async () => {
  fresh = await freshDatabase()
})
afterAll(() => fresh.drop())
beforeEach(async () => {
  worker = await emptied(fresh)
})
afterEach(async () => {
  expect(await findCircle(fresh.database)).toBeNull()
  expect(await auditAll(fresh.database)).toEqual([])
  expect((await guardCounts(fresh.database)).found).toBe(0)
})

const binding = (of: { id: number; attempt: number }, claims: string[], dispatcher = worker.id) =>
  bind(fresh.database, {
    dispatcher,
    task: of.id,
    attempt: of.attempt,
    claims: claims.map(claim),
    bound: { place: claims.join(' ') }
  })

async function begun(sketch: TaskSketch): Promise<ClaimedTask> {
  const id = await submitOne(fresh.database, sketch)
  const taken = (await worker.take()).find((one) => one.id === id)
  if (!taken) throw new Error(`task ${id} did not begin`)
  return taken
}

const STARTED = { outcome: 'started' }

test('what is free is taken, and kept with the task until its end', async () => {
  const id = await submitOne(fresh.database, { claims: ['vm'], binds: true })
  const [taken] = await worker.take()
  expect(taken).toMatchObject({ id, binds: true, bound: null })
  expect(await binding(taken!, ['vm', '~host/new'])).toEqual(STARTED)
  expect(await getTask(fresh.database, id)).toMatchObject({ bound: { place: 'vm ~host/new' }, state: 'running' })
  const next = await submitOne(fresh.database, { claims: ['host/new'] })
  const sharer = await submitOne(fresh.database, { claims: ['~host/new'] })
  expect(await statesOf(fresh.database, [next, sharer])).toEqual(['waiting', 'waiting'])
  await worker.complete(taken!)
  expect(await worker.drain()).toEqual([next, sharer])
})

test('a started task in the way sends it back to waiting: its attempt is over, and it runs when that has ended', async () => {
  const holder = await begun({ claims: ['host'] })
  const late = await begun({ claims: ['vm'], binds: true })
  expect(await binding(late, ['vm', '~host'])).toEqual({ outcome: 'waiting', for: [holder.id] })
  expect(await stateOf(fresh.database, late.id)).toBe('waiting')
  expect(await worker.take()).toEqual([])
  expect((await worker.complete(late)).settled).toMatchObject([{ outcome: 'stale' }])
  await worker.complete(holder)
  const [again] = await worker.take()
  expect(again).toMatchObject({ id: late.id, attempt: 2, bound: { place: 'vm ~host' } })
  expect(await binding(again!, ['vm', '~host'])).toEqual(STARTED)
  await worker.complete(again!)
  expect(await attempts(fresh.database, late.id)).toMatchObject([
    { outcome: 'waiting', error: { code: 'claims_not_free' } },
    { outcome: 'complete' }
  ])
})

test('an exclusive one that has not started waits for it, though it stands before it', async () => {
  const sharer = await begun({ claims: ['~host'] })
  const exclusive = await submitOne(fresh.database, { claims: ['host'] })
  const late = await begun({ claims: ['vm'], binds: true })
  expect(await binding(late, ['vm', '~host'])).toEqual(STARTED)
  await worker.complete(sharer)
  expect(await stateOf(fresh.database, exclusive)).toBe('waiting')
  await worker.complete(late)
  expect(ids(await worker.take())).toEqual([exclusive])
})

test('one that was ready already goes back to waiting for it', async () => {
  const late = await begun({ claims: ['vm'], binds: true })
  const exclusive = await submitOne(fresh.database, { claims: ['host'] })
  expect(await stateOf(fresh.database, exclusive)).toBe('ready')
  expect(await binding(late, ['vm', '~host'])).toEqual(STARTED)
  expect(await stateOf(fresh.database, exclusive)).toBe('waiting')
  await worker.complete(late)
  expect(ids(await worker.take())).toEqual([exclusive])
})

test('one that another dispatcher has taken and not bound yet does not count as started', async () => {
  const first = await begun({ claims: ['a'], binds: true })
  const second = await begun({ claims: ['b'], binds: true })
  expect(await binding(second, ['b', 'disk'])).toEqual(STARTED)
  expect(await binding(first, ['a', 'disk'])).toEqual({ outcome: 'waiting', for: [second.id] })
  await worker.complete(second)
  const [again] = await worker.take()
  expect(await binding(again!, ['a', 'disk'])).toEqual(STARTED)
})

test('of two that want the same at once one starts, and the other waits for it', async () => {
  for (let round = 0; round < 10; round++) {
    const first = await begun({ claims: ['a'], binds: true })
    const second = await begun({ claims: ['b'], binds: true })
    const answers = await Promise.all([binding(first, ['a', 'disk']), binding(second, ['b', 'disk'])])
    expect(answers.map(({ outcome }) => outcome).toSorted()).toEqual(['started', 'waiting'])
    const [winner, loser] = answers[0].outcome === 'started' ? [first, second] : [second, first]
    await worker.complete(winner)
    const [again] = await worker.take()
    expect(again?.id).toBe(loser.id)
    expect(await binding(again!, ['disk'])).toEqual(STARTED)
    await worker.complete(again!)
  }
})

test('a claim that it does not need after all is free for others at its end, and what waits for it keeps waiting', async () => {
  const late = await begun({ claims: ['a', 'b'], binds: true })
  const behind = await submitOne(fresh.database, { claims: ['b'] })
  expect(await binding(late, ['a'])).toEqual(STARTED)
  expect(await stateOf(fresh.database, behind)).toBe('waiting')
  expect(await stateOf(fresh.database, await submitOne(fresh.database, { claims: ['a'] }))).toBe('waiting')
  await worker.complete(late)
  expect(await stateOf(fresh.database, behind)).toBe('ready')
})

test('a stronger claim than submitted is not shared any more', async () => {
  const late = await begun({ claims: ['~host'], binds: true })
  const sharer = await begun({ claims: ['~host'] })
  expect(await binding(late, ['host'])).toEqual({ outcome: 'waiting', for: [sharer.id] })
  expect(await edgesOf(fresh.database, [late.id])).toMatchObject([{ task: late.id, prerequisite: sharer.id }])
  await worker.complete(sharer)
  const [again] = await worker.take()
  expect(await binding(again!, ['host'])).toEqual(STARTED)
})

test('a parent in the way whose children wait for it is refused as a circle, by name', async () => {
  const late = await begun({ claims: ['disk'], binds: true })
  const parent = await begun({ claims: ['gate'] })
  // The child stands behind `late`, which holds the disk from its submission on.
  const { children } = (await expand(fresh.database, {
    dispatcher: worker.id,
    task: parent.id,
    attempt: 1,
    children: [task({ claims: ['disk'] })]
  })) as { children: number[] }
  expect(await stateOf(fresh.database, children[0]!)).toBe('waiting')
  await expect(binding(late, ['disk', 'gate'])).rejects.toMatchObject({
    code: 'circle',
    tasks: [parent.id, children[0], late.id]
  })
  expect(await stateOf(fresh.database, late.id)).toBe('running')
  await worker.fail(late)
  expect(await worker.drain()).toEqual([children[0], parent.id])
})

test('a task that someone asked to stop ends as cancelled instead of waiting', async () => {
  const holder = await begun({ claims: ['host'] })
  const late = await begun({ claims: ['vm'], binds: true })
  await cancel(fresh.database, { task: late.id, by: 'me' })
  expect(await binding(late, ['host'])).toMatchObject({ outcome: 'waiting' })
  await worker.take()
  expect(await stateOf(fresh.database, late.id)).toBe('cancelled')
  await worker.complete(holder)
})

test('nothing is bound by a past attempt, a stranger, a lost lease, or for a task that does not bind', async () => {
  const plain = await begun({ claims: ['p'] })
  await expect(binding(plain, ['p'])).rejects.toMatchObject({ code: 'not_binding' })
  const late = await begun({ claims: ['vm'], binds: true })
  expect(await binding({ id: late.id, attempt: 7 }, ['vm', 'x'])).toEqual({ outcome: 'stale' })
  const stranger = await Worker.start(fresh.database)
  expect(await binding(late, ['vm', 'x'], stranger.id)).toEqual({ outcome: 'stale' })
  await expect(binding(late, ['vm', 'x'], 4711)).rejects.toMatchObject({ code: 'lease_lost' })
  expect(await fresh.database.query('select from queue.bound')).toEqual([])
  expect(await stateOf(fresh.database, await submitOne(fresh.database, { claims: ['x'] }))).toBe('ready')
})

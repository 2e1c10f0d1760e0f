// Complex tasks: children, what waits for them and what they wait for, and circles, which are refused by name (I3).
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { bind, expand } from '../../src/queue/dispatch.ts'
import type { ClaimedTask } from '../../src/queue/dispatch.ts'
import { auditAll, guardCounts } from '../../src/queue/guard.ts'
import { attempts, edgesOf, getTask } from '../../src/queue/read.ts'
import { cancel } from '../../src/queue/requests.ts'
import { freshDatabase } from '../support/postgres.ts'
import type { FreshDatabase } from '../support/postgres.ts'
import { findCircle } from './checker.ts'
import { claim, emptied, ids, stateOf, statesOf, submitAll, submitOne, task } from './support.ts'
import type { TaskSketch, Worker } from './support.ts'

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

async function split(parent: { id: number; attempt: number }, children: TaskSketch[], by: Worker = worker) {
  const answer = await expand(fresh.database, {
    dispatcher: by.id,
    task: parent.id,
    attempt: parent.attempt,
    children: children.map(task)
  })
  if (answer === 'stale') throw new Error('the expansion was stale')
  return answer
}

/** Submits one and takes it. */
async function begun(sketch: TaskSketch): Promise<ClaimedTask> {
  const id = await submitOne(fresh.database, sketch)
  const taken = (await worker.take()).find((one) => one.id === id)
  if (!taken) throw new Error(`task ${id} did not begin`)
  return taken
}

const edges = async (of: number) =>
  (await edgesOf(fresh.database, [of])).map(({ task: from, prerequisite }) => [from, prerequisite])

describe('a parent', () => {
  test('awaits its children in no slot, and hears of all of them when it is taken again', async () => {
    const parent = await begun({ claims: ['gate'] })
    const { children, refused } = await split(parent, [{ title: 'one' }, { title: 'two' }, { title: 'three' }])
    expect(refused).toEqual([])
    expect(await stateOf(fresh.database, parent.id)).toBe('awaiting')
    const [one, two, three] = await worker.take()
    expect(ids([one!, two!, three!])).toEqual(children)
    await worker.complete(one!, three!)
    expect(await worker.take()).toEqual([])
    await worker.fail(two!)
    const [again] = await worker.take()
    expect(again).toMatchObject({ id: parent.id, attempt: 2 })
    expect(again!.children).toMatchObject([
      { index: 0, title: 'one', state: 'complete' },
      { index: 1, title: 'two', state: 'failed', error: { code: 'broken' } },
      { index: 2, title: 'three', state: 'complete' }
    ])
    await worker.complete(again!)
    expect(await stateOf(fresh.database, parent.id)).toBe('complete')
    expect(await attempts(fresh.database, parent.id)).toMatchObject([{ outcome: 'expanded' }, { outcome: 'complete' }])
  })

  test('keeps its claims while it awaits, and its children may claim what it holds', async () => {
    const parent = await begun({ claims: ['vm'] })
    const stranger = await submitOne(fresh.database, { claims: ['vm'] })
    const { children } = await split(parent, [{ claims: ['vm'] }, { claims: ['vm'] }])
    expect(await statesOf(fresh.database, [...children, stranger])).toEqual(['ready', 'waiting', 'waiting'])
    expect(await worker.drain()).toEqual([...children, parent.id, stranger])
  })

  test('may expand again, and its grandchildren may claim what both hold', async () => {
    const parent = await begun({ claims: ['a'] })
    const { children } = await split(parent, [{ claims: ['b'] }])
    const [child] = await worker.take()
    const { children: grandchildren } = await split(child!, [{ claims: ['a', 'b'] }])
    expect(await worker.drain()).toEqual([...grandchildren, ...children, parent.id])
  })

  test('goes on when its last child is cancelled before it began', async () => {
    const parent = await begun({ claims: ['r'] })
    const { children } = await split(parent, [{}])
    await cancel(fresh.database, { task: children[0]!, by: 'me' })
    expect(await worker.take()).toMatchObject([{ id: parent.id, children: [{ state: 'cancelled' }] }])
  })

  test('that is cancelled takes along the children that have not begun; the others are asked', async () => {
    const parent = await begun({ claims: ['r'] })
    const { children } = await split(parent, [{ claims: ['x'] }, { claims: ['x'] }])
    const [first] = await worker.take()
    expect(await cancel(fresh.database, { task: parent.id, by: 'me' })).toBe('cancelling')
    expect(await statesOf(fresh.database, children)).toEqual(['cancelling', 'cancelled'])
    await worker.complete(first!)
    expect(ids(await worker.take())).toEqual([parent.id])
  })

  test('of a past attempt expands nothing', async () => {
    const parent = await begun({})
    await worker.settle([
      { task: parent.id, attempt: 1, outcome: 'retry', afterMs: 0, error: { code: 'x', message: 'x' } }
    ])
    await expect(split(parent, [{}])).rejects.toThrow('stale')
    expect(await fresh.database.query('select from queue.task')).toHaveLength(1)
  })
})

describe('positions', () => {
  test('a child goes before a queued later task, which is put back from ready to waiting', async () => {
    const parent = await begun({ claims: ['gate'] })
    const later = await submitOne(fresh.database, { claims: ['disk'] })
    expect(await stateOf(fresh.database, later)).toBe('ready')
    const { children } = await split(parent, [{ claims: ['disk'] }])
    expect(await statesOf(fresh.database, [children[0]!, later])).toEqual(['ready', 'waiting'])
    expect(await edges(later)).toEqual([[later, children[0]]])
    expect(await worker.drain()).toEqual([children[0], parent.id, later])
  })

  test('nobody is put before a task that has begun', async () => {
    const parent = await begun({ claims: ['gate'] })
    const later = await begun({ claims: ['disk'] })
    const { children } = await split(parent, [{ claims: ['disk'] }])
    expect(await stateOf(fresh.database, children[0]!)).toBe('waiting')
    await worker.complete(later)
    expect(await worker.drain()).toEqual([children[0], parent.id])
  })

  test('a child waits for an earlier task that is still queued', async () => {
    const holder = await begun({ claims: ['other'] })
    const earlier = await submitOne(fresh.database, { claims: ['disk', 'other'] })
    const parent = await begun({ claims: ['gate'] })
    const { children } = await split(parent, [{ claims: ['disk'] }])
    expect(await edges(children[0]!)).toEqual([[children[0], earlier]])
    await worker.complete(holder)
    expect(await worker.drain()).toEqual([earlier, children[0], parent.id])
  })

  test('clearing a place ends although its removal is queued behind it: what the child needs, the queued one gives way to', async () => {
    const clear = await begun({ title: 'clear h1', claims: ['gate/h1'] })
    const remove = await submitOne(fresh.database, { title: 'remove h1', claims: ['gate/h1', 'host/h1'] })
    const { children } = await split(clear, [
      { title: 'move web1', claims: ['vm/web1', '~host/h1', '~host/h2'] },
      { title: 'move web2', claims: ['vm/web2', '~host/h1', '~host/h2'] }
    ])
    const after = await submitOne(fresh.database, { title: 'start on h1', claims: ['~host/h1'] })
    expect(await statesOf(fresh.database, [...children, remove, after])).toEqual([
      'ready',
      'ready',
      'waiting',
      'waiting'
    ])
    expect(await worker.drain()).toEqual([...children, clear.id, remove, after])
  })

  test('an earlier task that waits for the parent is put behind the child: the other way round closes no circle', async () => {
    const holder = await begun({ claims: ['x'] })
    const earlier = await submitOne(fresh.database, { claims: ['x', 'late', 'disk'] })
    const parent = await begun({ claims: ['gate'], binds: true })
    const claims = [claim('gate'), claim('late')]
    await bind(fresh.database, { dispatcher: worker.id, task: parent.id, attempt: 1, claims, bound: null })
    expect(await edges(earlier)).toContainEqual([earlier, parent.id])
    const { children, refused } = await split(parent, [{ claims: ['disk'] }])
    expect(refused).toEqual([])
    expect(await edges(children[0]!)).toEqual([[earlier, children[0]]])
    await worker.complete(holder)
    expect(await worker.drain()).toEqual([children[0], parent.id, earlier])
  })

  test('a child keeps waiting for what it waits for through another, when that other is cancelled', async () => {
    const parent = await begun({ claims: ['gate'] })
    const later = await submitOne(fresh.database, { claims: ['b', 'x'] })
    await submitOne(fresh.database, { claims: ['q'], priority: 50 })
    const [other] = await worker.take(1)
    const between = (await split(other!, [{ claims: ['x'] }])).children[0]!
    // It waits for the other parent, that for its child, and that for the later one: on b the later one goes first.
    const child = (await split(parent, [{ claims: ['q', 'b'] }])).children[0]!
    await cancel(fresh.database, { task: between, by: 'me' })
    const taken = await worker.take()
    expect(ids(taken)).toEqual([other!.id, later])
    await worker.complete(taken[0]!)
    expect(await stateOf(fresh.database, child)).toBe('waiting')
    await worker.complete(taken[1]!)
    expect(await worker.drain()).toEqual([child, parent.id])
  })
})

describe('a circle', () => {
  test('of a child and a begun complex task fails the child at once, naming the circle; the rest goes on', async () => {
    const a = await begun({ title: 'a', claims: ['a'] })
    const b = await begun({ title: 'b', claims: ['b'] })
    // b's child waits for a, which has begun; a's child would wait for b.
    const { children: ofB } = await split(b, [{ claims: ['a'] }])
    const { children: ofA, refused } = await split(a, [{ claims: ['b'] }, { claims: ['c'] }])
    expect(refused).toMatchObject([{ index: 0, code: 'circle' }])
    expect(refused[0]!.message).toBe(`it would wait for itself, through tasks ${b.id}, ${ofB[0]}, ${a.id}, ${ofA[0]}`)
    expect(await getTask(fresh.database, ofA[0]!)).toMatchObject({ state: 'failed', error: { code: 'circle' } })
    expect(await fresh.database.query('select from queue.claim where task = $1', [ofA[0]])).toEqual([])
    expect(await statesOf(fresh.database, [ofB[0]!, ofA[1]!])).toEqual(['waiting', 'ready'])
    expect(await worker.drain()).toEqual([ofA[1], a.id, ofB[0], b.id])
  })

  test('of all children leaves their parent ready to hear of it', async () => {
    const a = await begun({ claims: ['a'] })
    const b = await begun({ claims: ['b'] })
    await split(b, [{ claims: ['a'] }])
    await split(a, [{ claims: ['b'] }])
    expect(await worker.take()).toMatchObject([
      { id: a.id, attempt: 2, children: [{ state: 'failed', error: { code: 'circle' } }] }
    ])
  })

  test('by an explicit edge to what waits for the parent is refused', async () => {
    const a = await begun({ claims: ['a'] })
    const { tasks } = await submitAll(fresh.database, [{ claims: ['a'] }])
    const { refused } = await split(a, [{ after: [{ task: tasks[0]!, needs: 'ended' }] }])
    expect(refused).toMatchObject([{ index: 0, code: 'later_position' }])
  })

  test('of a child that names its own parent is refused', async () => {
    const a = await begun({})
    const { refused, children } = await split(a, [{ after: [{ task: a.id, needs: 'ended' }] }])
    expect(refused).toMatchObject([{ index: 0, code: 'circle' }])
    expect(refused[0]!.message).toContain(`${a.id}, ${children[0]}`)
  })

  test('does not come about when two expand at once, however often', async () => {
    for (let round = 0; round < 10; round++) {
      const a = await begun({ claims: ['a'] })
      const b = await begun({ claims: ['b'] })
      const both = await Promise.all([split(a, [{ claims: ['b'] }]), split(b, [{ claims: ['a'] }])])
      expect(both.flatMap(({ refused }) => refused)).toMatchObject([{ code: 'circle' }])
      expect(await findCircle(fresh.database)).toBeNull()
      expect(await worker.drain()).toHaveLength(3)
    }
  })
})

describe('explicit edges of children', () => {
  test('go to elder siblings and to earlier tasks', async () => {
    const earlier = await begun({})
    const parent = await begun({})
    const { children, refused } = await split(parent, [
      { after: [{ task: earlier.id, needs: 'complete' }] },
      { after: [{ task: { index: 0 }, needs: 'complete' }] }
    ])
    expect(refused).toEqual([])
    await worker.complete(earlier)
    expect(await worker.drain()).toEqual([...children, parent.id])
  })

  test('to a younger sibling, itself, a later, an unknown or a badly ended task are refused, each alone', async () => {
    const failed = await begun({})
    await worker.fail(failed)
    const parent = await begun({})
    const later = await submitOne(fresh.database, { claims: ['z'] })
    const { refused, children } = await split(parent, [
      { after: [{ task: { index: 1 }, needs: 'ended' }] },
      { after: [{ task: { index: 1 }, needs: 'ended' }] },
      { after: [{ task: later, needs: 'ended' }] },
      { after: [{ task: 4711, needs: 'ended' }] },
      { after: [{ task: failed.id, needs: 'complete' }] },
      { after: [{ task: failed.id, needs: 'ended' }] }
    ])
    expect(refused.map(({ index, code }) => [index, code])).toEqual([
      [0, 'later_position'],
      [1, 'later_position'],
      [2, 'later_position'],
      [3, 'task_not_found'],
      [4, 'prerequisite_ended_badly']
    ])
    expect(await stateOf(fresh.database, children[5]!)).toBe('ready')
  })

  test('a child that needs a refused one fails with it', async () => {
    const parent = await begun({})
    const { refused } = await split(parent, [
      { after: [{ task: 4711, needs: 'ended' }] },
      { after: [{ task: { index: 0 }, needs: 'complete' }] }
    ])
    expect(refused).toMatchObject([{ index: 0 }])
    expect(await worker.take()).toMatchObject([
      { id: parent.id, children: [{ state: 'failed' }, { state: 'failed', error: { code: 'prerequisite_failed' } }] }
    ])
  })
})

test('a parent that is ready again is not ended as if it had not begun: it hears of its children, and that it is to stop', async () => {
  const parent = await submitOne(fresh.database)
  await worker.take()
  await expand(fresh.database, { dispatcher: worker.id, task: parent, attempt: 1, children: [task()] })
  const [child] = await worker.take()
  await worker.complete(child!)
  expect(await statesOf(fresh.database, [parent])).toEqual(['ready'])
  expect(await cancel(fresh.database, { task: parent, by: 'me' })).toBe('cancelling')
  expect(await worker.take()).toMatchObject([{ id: parent, children: [{ id: child!.id }] }])
})

test('asked to stop before it has children, it gets none', async () => {
  const parent = await submitOne(fresh.database)
  await worker.take()
  await cancel(fresh.database, { task: parent, by: 'me' })
  const expanding = expand(fresh.database, { dispatcher: worker.id, task: parent, attempt: 1, children: [task()] })
  await expect(expanding).rejects.toMatchObject({ code: 'asked_to_stop' })
})

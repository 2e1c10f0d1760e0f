// Many tasks bound at once: whoever nothing keeps from starting starts, and of everybody else nothing is changed, so that asking for it
// alone answers what it would have answered before.
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest'
import { bind, bindMany } from '../../src/queue/bind.ts'
import { ensureResources } from '../../src/queue/submit.ts'
import type { ClaimedTask } from '../../src/queue/dispatch.ts'
import { auditAll, guardCounts } from '../../src/queue/guard.ts'
import { freshDatabase } from '../support/postgres.ts'
import type { FreshDatabase } from '../support/postgres.ts'
import { claim, emptied, stateOf, submitAll } from './support.ts'
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
  expect(await auditAll(fresh.database)).toEqual([])
  expect((await guardCounts(fresh.database)).found).toBe(0)
})

async function begun(...sketches: TaskSketch[]): Promise<ClaimedTask[]> {
  const { tasks } = await submitAll(fresh.database, sketches)
  const taken = await worker.take()
  return tasks.map((id) => taken.find((one) => one.id === id)!)
}

async function together(wanted: [ClaimedTask, string[], object?][], dispatcher = worker.id) {
  await ensureResources(fresh.database, [
    ...new Set(wanted.flatMap(([, claims]) => claims.map((name) => claim(name).resource)))
  ])
  const bindings = wanted.map(([{ id, attempt }, claims, more]) => ({
    task: id,
    attempt,
    claims: claims.map(claim),
    bound: { place: claims.join(' ') },
    ...more
  }))
  const answers = await bindMany(fresh.database, { dispatcher, bindings })
  return wanted.map(([{ id }]) => answers.get(id))
}

const claimsOf = async (id: number) =>
  (
    await fresh.database.query<{ name: string }>(
      `select (case when c.exclusive then '' else '~' end) || r.name as name from queue.claim c join queue.resource r on r.id = c.resource
       where c.task = $1 order by r.name`,
      [id]
    )
  ).map(({ name }) => name)

const startedOf = async (id: number) =>
  (await fresh.database.query<{ started: boolean }>('select started from queue.run where task = $1', [id]))[0]?.started

test('what nothing is in the way of starts, with exactly the claims that it was bound to', async () => {
  const [a, b] = await begun({ claims: ['vm/a', '~old'], binds: true }, { claims: ['vm/b'], binds: true })
  expect(
    await together([
      [a!, ['vm/a', '~host/h']],
      [b!, ['vm/b', '~host/h']]
    ])
  ).toEqual(['started', 'started'])
  expect(await claimsOf(a!.id)).toEqual(['~host/h', 'vm/a'])
  expect([await startedOf(a!.id), await startedOf(b!.id)]).toEqual([true, true])
  const [next] = (await submitAll(fresh.database, [{ claims: ['host/h'] }])).tasks
  expect(await stateOf(fresh.database, next!)).toBe('waiting')
  await worker.complete(a!)
  await worker.complete(b!)
  expect(await worker.drain()).toEqual([next])
})

test('two that exclude each other do not start together, in whichever way they share', async () => {
  const [a, b, c] = await begun(
    { claims: ['vm/a'], binds: true },
    { claims: ['vm/b'], binds: true },
    { claims: ['vm/c'], binds: true }
  )
  const answers = await together([
    [a!, ['vm/a', 'late']],
    [b!, ['vm/b', '~late']],
    [c!, ['vm/c']]
  ])
  expect(answers).toEqual(['alone', 'alone', 'started'])
  expect(await claimsOf(a!.id)).toEqual(['vm/a'])
  expect([await startedOf(a!.id), await startedOf(b!.id)]).toEqual([false, false])
  expect(await together([[a!, ['vm/a', 'late']]])).toEqual(['started'])
  expect(await together([[b!, ['vm/b', '~late']]])).toEqual(['alone'])
})

test('whoever claims what another has claimed is asked for alone: what has started, what waits, what was bound late', async () => {
  const [holder, late, a, b] = await begun(
    { claims: ['host/x'] },
    { claims: ['vm/l'], binds: true },
    { claims: ['vm/a'], binds: true },
    { claims: ['vm/b'], binds: true }
  )
  expect(await together([[late!, ['vm/l', 'pool']]])).toEqual(['started'])
  expect(
    await together([
      [a!, ['vm/a', '~host/x']],
      [b!, ['vm/b', '~pool']]
    ])
  ).toEqual(['alone', 'alone'])
  const { id: task, attempt } = a!
  const alone = await bind(fresh.database, {
    dispatcher: worker.id,
    task,
    attempt,
    claims: ['vm/a', '~host/x'].map(claim),
    bound: null
  })
  expect(alone).toEqual({ outcome: 'waiting', for: [holder!.id] })
})

test('its units are exactly those that it was granted, or it is asked for alone', async () => {
  const [a, b] = await begun(
    { claims: ['vm/a'], binds: true, limits: [{ key: 'starts/h', units: 1 }] },
    { claims: ['vm/b'], binds: true, limits: [{ key: 'starts/h', units: 1 }] }
  )
  const same = { limits: [{ key: 'starts/h', units: 1 }] }
  const other = { limits: [{ key: 'starts/k', units: 1 }] }
  expect(
    await together([
      [a!, ['vm/a'], same],
      [b!, ['vm/b'], other]
    ])
  ).toEqual(['started', 'alone'])
})

test('a past attempt starts nothing, and without a lease nobody does', async () => {
  const [a] = await begun({ claims: ['vm/a'], binds: true })
  expect(await together([[{ ...a!, attempt: 2 }, ['vm/a']]])).toEqual(['alone'])
  expect(await startedOf(a!.id)).toBe(false)
  await expect(together([[a!, ['vm/a']]], 999_999)).rejects.toMatchObject({ code: 'lease_lost' })
})

// A task that has not begun gets other arguments and claims in the same place: what it leaves closes behind it, what it joins is
// ordered, and neither order (I1) nor claims (I2) nor the absence of circles (I3) suffers when everything else happens at once.
import { randomInt } from 'node:crypto'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { DatabaseError } from '../../src/db/error.ts'
import { openDatabase, type Database } from '../../src/db/open.ts'
import { expand, type ClaimedTask, type End } from '../../src/queue/dispatch.ts'
import { auditAll, guardCounts } from '../../src/queue/guard.ts'
import { setCap } from '../../src/queue/limits.ts'
import { readLog } from '../../src/queue/log.ts'
import { edgesOf, getTask } from '../../src/queue/read.ts'
import { cancel, hold, release } from '../../src/queue/requests.ts'
import { positionsOf, rewrite, unstartedTasks, type Rewrite, type Rewritten } from '../../src/queue/rewrite.ts'
import { ensureResources, openEffects } from '../../src/queue/submit.ts'
import { freshDatabase, type FreshDatabase } from '../support/postgres.ts'
import { findCircle, judge, rewritten } from './checker.ts'
import {
  claim,
  emptied,
  failure,
  stateOf,
  statesOf,
  submitAll,
  submitOne,
  task,
  unlessStopped,
  Worker
} from './support.ts'

let fresh: FreshDatabase
let worker: Worker
beforeAll(async () => {
  fresh = await freshDatabase({ poolSize: 12 })
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

/** Gives tasks these claims, as if they had had that many attempts. */
async function rewriteTo(
  db: Database,
  to: Record<number, readonly string[]>,
  more: Partial<Rewrite> = {}
): Promise<Rewritten[]> {
  await ensureResources(db, [
    ...new Set(Object.values(to).flatMap((claims) => claims.map((one) => claim(one).resource)))
  ])
  const rewrites = Object.entries(to).map(([id, claims]) => ({
    task: Number(id),
    attempts: 0,
    title: 'Do it elsewhere',
    args: { to: 'b' },
    effects: [],
    message: rewritten,
    claims: claims.map(claim),
    ...more
  }))
  const answers = await db.transaction((tx) => rewrite(tx, { rewrites, by: 'tester' }))
  return answers.map(({ answer }) => answer)
}

const edges = async (of: number) =>
  (await edgesOf(fresh.database, [of])).map(({ task: from, prerequisite }) => [from, prerequisite])

describe('a task that has not begun', () => {
  test('has its new arguments, title, claims, effects and limits, and its log says why', async () => {
    await setCap(fresh.database, 'out/b', 1)
    const id = await submitOne(fresh.database, {
      claims: ['vm', '~a'],
      effects: [{ subject: 'vm', facts: { at: 'a' } }]
    })
    expect(
      await rewriteTo(
        fresh.database,
        { [id]: ['vm', '~b'] },
        { effects: [{ subject: 'vm', facts: { at: 'b' } }], limits: [{ key: 'out/b', units: 1 }], data: { clear: 7 } }
      )
    ).toEqual(['rewritten'])
    expect(await getTask(fresh.database, id)).toMatchObject({
      title: 'Do it elsewhere',
      args: { to: 'b' },
      claims: [claim('vm'), claim('~b')],
      limits: [{ key: 'out/b', units: 1 }],
      state: 'ready'
    })
    expect(await openEffects(fresh.database, ['vm'])).toMatchObject([{ task: id, facts: { at: 'b' } }])
    expect(await readLog(fresh.database, { task: id })).toMatchObject([{ message: rewritten, data: { clear: 7 } }])
    // It needs its unit like everybody else.
    await setCap(fresh.database, 'out/b', 0)
    const other = await submitOne(fresh.database, { limits: [{ key: 'out/b', units: 1 }] })
    expect(await statesOf(fresh.database, [id, other])).toEqual(['ready', 'parked'])
    await setCap(fresh.database, 'out/b', 1)
    expect(await worker.drain()).toEqual([id, other])
    await setCap(fresh.database, 'out/b', null)
  })

  test('keeps its place in the lines that it stays in, and leaves the others closed behind it', async () => {
    const [before, moved, after] = (
      await submitAll(fresh.database, [{ claims: ['vm', 'a'] }, { claims: ['vm', 'a'] }, { claims: ['vm', 'a'] }])
    ).tasks
    expect(await rewriteTo(fresh.database, { [moved!]: ['vm', 'b'] })).toEqual(['rewritten'])
    expect(await edges(after!)).toContainEqual([after, before])
    expect(await worker.drain()).toEqual([before, moved, after])
  })

  test('held after it, joins the lines anew at their end, as everybody does', async () => {
    const [one, two] = await Promise.all([submitOne(fresh.database, { claims: ['a'] }), submitOne(fresh.database, {})])
    await rewriteTo(fresh.database, { [one]: ['b'], [two]: ['b'] })
    for (const held of [one, two]) await hold(fresh.database, { task: held, reason: 'a moment', by: 'tester' })
    const behind = await submitOne(fresh.database, { claims: ['b'] })
    for (const held of [one, two]) await release(fresh.database, { task: held, by: 'tester' })
    expect(await worker.drain()).toEqual([behind, one, two])
  })

  test('comes after whoever is before it there, and before whoever is behind', async () => {
    const earlier = await submitOne(fresh.database, { claims: ['b'] })
    const moved = await submitOne(fresh.database, { claims: ['~a'] })
    const later = await submitOne(fresh.database, { claims: ['b'], priority: 50 })
    await rewriteTo(fresh.database, { [moved]: ['~b'] })
    expect(await statesOf(fresh.database, [earlier, moved, later])).toEqual(['ready', 'waiting', 'waiting'])
    expect(await worker.drain()).toEqual([earlier, moved, later])
  })

  test('is not put before a later task that has begun', async () => {
    const moved = await submitOne(fresh.database, { claims: ['a'], priority: -1 })
    const later = await submitOne(fresh.database, { claims: ['b'] })
    const [begun] = await worker.take(1)
    expect(begun!.id).toBe(later)
    await rewriteTo(fresh.database, { [moved]: ['b'] })
    expect(await stateOf(fresh.database, moved)).toBe('waiting')
    await worker.complete(begun!)
    expect(await worker.drain()).toEqual([moved])
  })

  test('of a complex one goes before what is queued behind that', async () => {
    // A child goes before what is queued behind its parent, and so does what it newly claims.
    await submitOne(fresh.database, { claims: ['gate'] })
    const [gate] = await worker.take()
    const waits = await submitOne(fresh.database, { claims: ['x', 'b'] })
    const answer = await expand(fresh.database, {
      dispatcher: worker.id,
      task: gate!.id,
      attempt: gate!.attempt,
      children: [task({ claims: ['x', 'a'] })]
    })
    if (answer === 'stale') throw new Error('stale')
    const child = answer.children[0]!
    expect(await edges(waits)).toContainEqual([waits, child])
    await rewriteTo(fresh.database, { [child]: ['x', 'b'] })
    expect(await worker.drain()).toEqual([child, gate!.id, waits])
  })

  test('keeps waiting for what it waits for through another, when that other is cancelled', async () => {
    const moved = await submitOne(fresh.database, { claims: ['a'] })
    const later = await submitOne(fresh.database, { claims: ['b', 'x'] })
    await submitOne(fresh.database, { claims: ['q'], priority: 50 })
    const [parent] = await worker.take(1)
    const { id, attempt } = parent!
    const children = [task({ claims: ['x'] })]
    const answer = await expand(fresh.database, { dispatcher: worker.id, task: id, attempt, children })
    if (answer === 'stale') throw new Error('stale')
    // It waits for the parent, that for its child, and that for the later one: on b the later one goes first.
    expect(await rewriteTo(fresh.database, { [moved]: ['q', 'b'] })).toEqual(['rewritten'])
    await cancel(fresh.database, { task: answer.children[0]!, by: 'me' })
    const taken = await worker.take()
    expect(taken.map((one) => one.id)).toEqual([id, later])
    await worker.complete(taken[0]!)
    expect(await stateOf(fresh.database, moved)).toBe('waiting')
    await worker.complete(taken[1]!)
    expect(await worker.drain()).toEqual([moved])
  })

  test('stays as it was where it would wait for itself through a started one', async () => {
    const blocker = await submitOne(fresh.database, { claims: ['z'] })
    const [blocking] = await worker.take()
    const moved = await submitOne(fresh.database, { claims: ['z', 'a'] })
    await submitOne(fresh.database, { claims: ['b'] })
    const [parent] = await worker.take()
    const answer = await expand(fresh.database, {
      dispatcher: worker.id,
      task: parent!.id,
      attempt: parent!.attempt,
      children: [task({ claims: ['a'] })]
    })
    if (answer === 'stale') throw new Error('stale')
    // The parent waits for its child, and that for the earlier task, which is now to wait for the parent.
    expect(await rewriteTo(fresh.database, { [moved]: ['z', 'a', 'b'] })).toEqual(['circle'])
    expect(await getTask(fresh.database, moved)).toMatchObject({
      title: 'Do a thing',
      claims: [claim('z'), claim('a')]
    })
    await worker.complete(blocking!)
    expect(await worker.drain()).toEqual([moved, ...answer.children, parent!.id])
    expect(await stateOf(fresh.database, blocker)).toBe('complete')
  })

  test('that was parked after an attempt is tried anew; what it was parked for holds it no more', async () => {
    const id = await submitOne(fresh.database, { claims: ['vm', '~a'] })
    const [taken] = await worker.take()
    await worker.settle([{ task: id, attempt: taken!.attempt, outcome: 'park', reason: 'a is closed', key: 'gate/a' }])
    expect(await stateOf(fresh.database, id)).toBe('parked')
    expect(await rewriteTo(fresh.database, { [id]: ['vm', '~b'] })).toEqual(['begun'])
    expect(await rewriteTo(fresh.database, { [id]: ['vm', '~b'] }, { attempts: 1 })).toEqual(['rewritten'])
    expect(await worker.drain()).toEqual([id])
  })

  test('that is held takes its place when it is released, with its new claims', async () => {
    const id = await submitOne(fresh.database, { claims: ['a'], hold: { reason: 'wait' } })
    const other = await submitOne(fresh.database, { claims: ['b'] })
    expect(await rewriteTo(fresh.database, { [id]: ['b'] })).toEqual(['rewritten'])
    await release(fresh.database, { task: id, by: 'me' })
    expect(await edges(id)).toEqual([[id, other]])
    expect(await worker.drain()).toEqual([other, id])
  })
})

test('what runs, has ended or was asked to stop is left as it is', async () => {
  const running = await submitOne(fresh.database, { claims: ['a'] })
  await worker.take()
  const ended = await submitOne(fresh.database, { claims: ['c'] })
  await cancel(fresh.database, { task: ended, by: 'me' })
  expect(await rewriteTo(fresh.database, { [running]: ['b'], [ended]: ['b'] })).toEqual(['begun', 'ended'])
  expect(await getTask(fresh.database, running)).toMatchObject({ claims: [claim('a')], title: 'Do a thing' })
})

test('unstarted tasks are found by what they claim, in order, the ones without a place last', async () => {
  const held = await submitOne(fresh.database, { claims: ['host/h1'], hold: { reason: 'no' } })
  const first = await submitOne(fresh.database, { claims: ['~host/h1'] })
  await submitOne(fresh.database, { claims: ['~host/h2'] })
  const second = await submitOne(fresh.database, { claims: ['host/h1'] })
  const found = await unstartedTasks(fresh.database, ['host/h1'])
  expect(found.map(({ task: id }) => id)).toEqual([first, second, held])
  expect(found[2]).toMatchObject({ path: [null], heldAs: 'no', attempts: 0 })
  expect(await positionsOf(fresh.database, [first, held])).toEqual(
    new Map([
      [first, [first]],
      [held, null]
    ])
  )
})

const places = ['a', 'b', 'c', 'd']
const anyPlace = () => places[randomInt(places.length)] ?? 'a'
const someClaims = () => [
  `${randomInt(3) > 0 ? '' : '~'}vm/${randomInt(6)}`,
  `${randomInt(6) > 0 ? '~' : ''}${anyPlace()}`
]

test('while tasks are submitted, run, expand, are held and cancelled, rewriting breaks no order and leaves nobody behind', async () => {
  const crowd = 160
  const clients = Array.from({ length: 8 }, () => openDatabase({ url: fresh.serverUrl, poolSize: 1 }))
  const stored: number[] = []
  const answers: Record<Rewritten, number> = { rewritten: 0, begun: 0, ended: 0, circle: 0 }
  let submitting = 2

  const submitter = async (db: Database) => {
    for (let left = crowd / 2; left > 0; left--) {
      const last = stored.at(-1)
      const after = last !== undefined && randomInt(5) === 0 ? [{ task: last, needs: 'ended' as const }] : []
      stored.push(await submitAgain(db, { claims: someClaims(), after }))
    }
    submitting--
  }
  const runner = async (db: Database) => {
    const hand = await Worker.start(db)
    const end = async (taken: ClaimedTask): Promise<End | null> => {
      const attempt = { task: taken.id, attempt: taken.attempt }
      if (taken.children === null && taken.parent === null && randomInt(8) === 0) {
        const children = Array.from({ length: randomInt(1, 4) }, () => task({ claims: someClaims() }))
        const expanded = await unlessStopped(expand(db, { dispatcher: hand.id, ...attempt, children }))
        return expanded === 'stopped' ? { ...attempt, outcome: 'cancelled', error: failure } : null
      }
      if (randomInt(10) === 0) return { ...attempt, outcome: 'park', reason: 'later', key: 'later' }
      return randomInt(8) === 0
        ? { ...attempt, outcome: 'failed', error: failure }
        : { ...attempt, outcome: 'complete', result: null }
    }
    let ends: End[] = []
    for (;;) {
      const { claimed } = await hand.settle(ends, randomInt(1, 6))
      ends = []
      for (const taken of claimed) {
        const one = await end(taken)
        if (one) ends.push(one)
      }
      await db.query(`select queue.unpark('later')`)
      if (ends.length === 0 && claimed.length === 0 && submitting === 0 && (await isOver(db))) return
    }
  }
  const meddler = async (db: Database) => {
    for (;;) {
      if (submitting === 0 && (await isOver(db))) return
      const open = await unstartedTasks(db, places)
      const chosen = open.filter(() => randomInt(4) === 0).slice(0, 5)
      await ensureResources(db, places)
      const rewrites = chosen.map(({ task: id, attempts }) => ({
        task: id,
        attempts,
        title: 'Elsewhere',
        args: {},
        effects: [],
        message: rewritten,
        claims: [...new Map(someClaims().map((one) => [claim(one).resource, claim(one)])).values()]
      }))
      await ensureResources(
        db,
        rewrites.flatMap(({ claims }) => claims.map(({ resource }) => resource))
      )
      const said = await db.transaction((tx) => rewrite(tx, { rewrites, by: 'meddler' }))
      for (const { answer } of said) answers[answer]++
      const [victim] = open
      if (victim && randomInt(6) === 0) await cancel(db, { task: victim.task, by: 'meddler' })
      const [, other] = open
      if (other && randomInt(4) === 0) {
        await hold(db, { task: other.task, reason: 'a moment', by: 'meddler' })
          .then(() => release(db, { task: other.task, by: 'meddler' }))
          .catch((error: { code?: string }) => {
            if (!['already_started', 'already_ended', 'not_held'].includes(error.code ?? '')) throw error
          })
      }
    }
  }
  try {
    const [s1, s2, r1, r2, r3, m1, m2] = clients
    await Promise.all([
      submitter(s1!),
      submitter(s2!),
      runner(r1!),
      runner(r2!),
      runner(r3!),
      meddler(m1!),
      meddler(m2!)
    ])
  } finally {
    await Promise.all(clients.map((db) => db.stop()))
  }
  const verdict = await judge(fresh.database, [])
  expect(verdict).toMatchObject({ overlaps: [], startedBeforePrerequisite: [], left: [] })
  expect(answers.rewritten).toBeGreaterThan(0)
}, 60_000)

/** As every submitter does: what it needs was held in the same moment, or two waited for each other's rows. */
async function submitAgain(db: Database, one: Parameters<typeof submitOne>[1]): Promise<number> {
  for (;;) {
    try {
      return await submitOne(db, one)
    } catch (error) {
      if (!(error instanceof DatabaseError && error.code === 'conflict')) throw error
    }
  }
}

async function isOver(db: Database): Promise<boolean> {
  const rows = await db.query('select from queue.place limit 1')
  return rows.length === 0
}

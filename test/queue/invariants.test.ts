// The queue's invariants, each with a checker that is silent on the real queue and speaks up when the queue is broken on purpose:
// a piece of one of its functions is taken out, the same is done, and the same checker looks.
// I1 under concurrency is interleavings.test.ts, I7 roles.test.ts, crowds order-property.test.ts.
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { openDatabase } from '../../src/db/open.ts'
import type { Database } from '../../src/db/open.ts'
import { expand, takeOver, unregisterDispatcher } from '../../src/queue/dispatch.ts'
import { auditAll, guardPoll } from '../../src/queue/guard.ts'
import { cancel } from '../../src/queue/requests.ts'
import { freshDatabase } from '../support/postgres.ts'
import type { FreshDatabase } from '../support/postgres.ts'
import { whileAltered } from './altered.ts'
import type { Alteration } from './altered.ts'
import { findCircle, judge } from './checker.ts'
import type { AskedEdge } from './checker.ts'
import { emptied, failure, stateOf, submitAll, submitOne, task, Worker } from './support.ts'

let fresh: FreshDatabase
let owner: Database
let worker: Worker
beforeAll(async () => {
  fresh = await freshDatabase()
  owner = openDatabase({ url: fresh.ownerUrl, poolSize: 1 })
})
afterAll(async () => {
  await owner.stop()
  await fresh.drop()
})
beforeEach(async () => {
  worker = await emptied(fresh)
})

/** What a scenario's checker finds: on the real queue nothing, on the broken one something. */
async function isSeen(scenario: () => Promise<unknown[]>, breakage: Alteration): Promise<void> {
  expect(await scenario(), 'on the real queue').toEqual([])
  worker = await emptied(fresh)
  expect(await whileAltered(owner, [breakage], scenario), `without: ${breakage[1]}`).not.toEqual([])
  worker = await emptied(fresh)
  expect(await scenario(), 'on the real queue again').toEqual([])
}

/** Everything that is ready is taken before anything of it ends, so that what may run together does. */
async function runAll(): Promise<void> {
  for (;;) {
    const taken = await worker.take()
    if (taken.length === 0) return
    await worker.complete(...taken)
  }
}

async function faults(asked: AskedEdge[] = []): Promise<unknown[]> {
  const { overlaps, startedBeforePrerequisite, left } = await judge(fresh.database, asked)
  return [...overlaps, ...startedBeforePrerequisite, ...left.map((id) => `task ${id} was left behind`)]
}

describe('I1: a task starts only when every prerequisite has ended as needed, and is not left behind', () => {
  const chain = async () => {
    const { tasks } = await submitAll(fresh.database, [
      {},
      { after: [{ task: { index: 0 }, needs: 'complete' }] },
      { after: [{ task: { index: 1 }, needs: 'ended' }] }
    ])
    await runAll()
    return faults([
      { task: tasks[1]!, prerequisite: tasks[0]!, needs: 'complete' },
      { task: tasks[2]!, prerequisite: tasks[1]!, needs: 'ended' }
    ])
  }
  test('seen when a submission does not count what its tasks wait for', () =>
    isSeen(chain, ['submit', 'coalesce(e.unmet, 0) as unmet', '0 as unmet']))
  test('seen when an end does not count its dependants down', () =>
    isSeen(chain, ['after_ends', 'set unmet = w.unmet - d.lowers', 'set unmet = w.unmet']))
  test('seen when a failure counts as the success that was needed', () =>
    isSeen(async () => {
      const { tasks } = await submitAll(fresh.database, [{}, { after: [{ task: { index: 0 }, needs: 'complete' }] }])
      await worker.fail(...(await worker.take()))
      await runAll()
      return faults([{ task: tasks[1]!, prerequisite: tasks[0]!, needs: 'complete' }])
    }, ['settle', 'made := queue.after_ends(good, bad);', `made := queue.after_ends(good || bad, '{}');`]))
})

describe('I2: no two started tasks hold conflicting claims', () => {
  test('seen when claims give no edges', () =>
    isSeen(async () => {
      await submitAll(fresh.database, [{ claims: ['r'] }, { claims: ['~r'] }])
      await runAll()
      return faults()
    }, ['line_edges', 'where fresh and not exclusive and last_exclusive is not null', 'where false']))
  test('seen when a cancel in the middle does not close the line', () =>
    isSeen(async () => {
      const { tasks } = await submitAll(fresh.database, [{ claims: ['r'] }, { claims: ['r'] }, { claims: ['r'] }])
      await cancel(fresh.database, { task: tasks[1]!, by: 'me' })
      await runAll()
      return faults()
    }, ['closing_edges', 'if f_task is not null then', 'if false then']))
  test('seen when what is placed last does not wait for a child’s claim', () =>
    isSeen(async () => {
      await submitOne(fresh.database, { claims: ['gate'] })
      const [parent] = await worker.take()
      await split(parent!, [['r']])
      await submitOne(fresh.database, { claims: ['r'] })
      await runAll()
      return faults()
    }, ['own_edges', 'c.own and', 'false and']))
})

const split = (parent: { id: number; attempt: number }, children: string[][]) =>
  expand(fresh.database, {
    dispatcher: worker.id,
    task: parent.id,
    attempt: parent.attempt,
    children: children.map((claims) => task({ claims }))
  })

describe('I3: nothing waits in a circle', () => {
  const twoParents = async () => {
    await submitAll(fresh.database, [{ claims: ['a'] }, { claims: ['b'] }])
    const [a, b] = await worker.take()
    await split(b!, [['a']])
    await split(a!, [['b']])
    const circle = await findCircle(fresh.database)
    await runAll()
    return [...(circle ?? []), ...(await faults())]
  }
  test('seen when children are not checked for it', () =>
    isSeen(twoParents, ['expand', 'if bad_code is null and p_task = any (reach) then', 'if false then']))
  test('seen when a parent does not count as waiting for its children', () =>
    isSeen(twoParents, ['reached_from', 'where c.parent = r.task and c.outcome is null', 'where false']))
  test('seen when a child goes behind all that was there before', () =>
    isSeen(async () => {
      await submitOne(fresh.database, { claims: ['gate'] })
      const [clear] = await worker.take()
      await submitOne(fresh.database, { claims: ['gate', 'host'] })
      const expanded = await split(clear!, [['host']])
      await runAll()
      // The check of circles keeps it from standing still: the child would fail instead of going first.
      return [...(expanded === 'stale' ? ['stale'] : expanded.refused), ...(await faults())]
    }, ['expand', `when o.begun then 's'`, `when true then 's'`]))
})

describe('I4: everything that follows from an end is there with it', () => {
  // What another connection sees at any time is either before all of it or after.
  const half = (db: Database) =>
    db.query(
      `select 'ended with a claim' from queue.claim c join queue.task t on t.id = c.task where t.outcome is not null
       union all select 'ended and still counted' from queue.wait w where w.unmet <> (
         select count(*) from queue.prerequisite p join queue.task t on t.id = p.prerequisite where p.task = w.task and t.outcome is null)
       union all select 'ended with units' from queue.cost c join queue.task t on t.id = c.task where c.granted and t.outcome is not null
       union all select 'ended in two places' from queue.place p join queue.task t on t.id = p.task where t.outcome is not null`
    )
  const end = async () => {
    const { tasks } = await submitAll(fresh.database, [
      { claims: ['r'], limits: [{ key: 'k', units: 1 }] },
      { claims: ['r'] }
    ])
    const ends = JSON.stringify([{ task: tasks[0], attempt: 1, outcome: 'complete', result: null }])
    const seen: unknown[] = []
    await worker.take()
    await fresh.database.transaction(async (tx) => {
      await tx.query('select from queue.settle($1, $2::jsonb, 0)', [worker.id, ends])
      // Not committed: to everybody else nothing has happened.
      if ((await stateOf(fresh.database, tasks[0]!)) !== 'running') seen.push('an end before its commit')
      seen.push(...(await half(fresh.database)))
    })
    return [...seen, ...(await half(fresh.database))]
  }
  for (const [what, breakage] of [
    ['claims', ['after_ends', 'delete from queue.claim where task = any (all_ended)', 'perform 1']],
    ['counters', ['after_ends', 'if dependants is not null then', 'if false then']],
    ['units', ['after_ends', 'perform queue.give_back(all_ended)', 'perform 1']]
  ] as const) {
    test(`seen when ${what} are left to a later transaction`, () => isSeen(end, breakage))
  }
  test('a transaction that is broken off after its statements leaves nothing of the end', async () => {
    const { tasks } = await submitAll(fresh.database, [{ claims: ['r'] }, { claims: ['r'] }])
    const [first] = await worker.take()
    const broken = fresh.database.transaction(async (tx) => {
      await tx.query('select from queue.settle($1, $2::jsonb, 0)', [
        worker.id,
        JSON.stringify([{ task: first!.id, attempt: 1, outcome: 'complete' }])
      ])
      const [session] = await tx.query<{ pid: number }>('select pg_backend_pid() as pid')
      await owner.query('reset role')
      await owner.query('select pg_terminate_backend($1)', [session!.pid])
      await owner.query('set role taskomatic_owner')
      await tx.query('select 1')
    })
    await expect(broken).rejects.toThrow()
    expect(await stateOf(fresh.database, tasks[0]!)).toBe('running')
    expect(await auditAll(fresh.database)).toEqual([])
    expect(await worker.drain()).toEqual([])
    await worker.complete(first!)
    expect(await worker.drain()).toEqual([tasks[1]])
  })
})

describe('I5: a result is recorded once, by the attempt that is the task’s and under a lease', () => {
  test('seen when the attempt is not asked for', () =>
    isSeen(async () => {
      const id = await submitOne(fresh.database)
      const [past] = await worker.take()
      await worker.settle([{ task: id, attempt: 1, outcome: 'retry', afterMs: 0, error: failure }])
      await worker.take()
      await worker.complete(past!)
      return (await stateOf(fresh.database, id)) === 'running' ? [] : ['a past attempt ended the task']
    }, ['settle', 'r.task = e.task and r.attempt = e.attempt and', 'r.task = e.task and']))
  test('seen when the lease is not asked for', () =>
    isSeen(async () => {
      const id = await submitOne(fresh.database)
      const gone = await Worker.start(fresh.database)
      const [taken] = await gone.take()
      await unregisterDispatcher(fresh.database, gone.id)
      await gone.complete(taken!).catch(() => undefined)
      return (await stateOf(fresh.database, id)) === 'running' ? [] : ['a dispatcher without a lease ended the task']
    }, ['lease_holds', 'return found', 'return true']))
})

describe('I6: what was acknowledged is durable', () => {
  /** How many of 20 submissions were answered before their commit had been flushed. */
  const unflushed = async (synchronous: 'on' | 'off') => {
    let early = 0
    for (let n = 0; n < 20; n++) {
      const lsn = await fresh.database.transaction(async (tx) => {
        if (synchronous === 'off') await tx.query('set local synchronous_commit = off')
        await tx.query(
          `select from queue.submit('[{"action":"a.b","title":"t","args":{},"claims":[],"effects":[],"binds":false}]', null, 'me', null, null, null)`
        )
        return (await tx.query<{ lsn: string }>('select pg_current_wal_insert_lsn() as lsn'))[0]!.lsn
      })
      const [row] = await fresh.database.query<{ flushed: boolean }>(
        'select pg_current_wal_flush_lsn() > $1::pg_lsn as flushed',
        [lsn]
      )
      if (!row?.flushed) early += 1
    }
    return early
  }
  test('a commit is answered after its flush; seen when synchronous_commit is off', async () => {
    expect(await unflushed('on')).toBe(0)
    expect(await unflushed('off')).toBeGreaterThan(0)
  })
  test('no table is unlogged, and no function turns the setting off', async () => {
    expect(
      await fresh.database.query(
        `select relname from pg_class where relnamespace = 'queue'::regnamespace and relpersistence <> 'p'
         union all select proname from pg_proc where pronamespace = 'queue'::regnamespace and (
           prosrc ilike '%synchronous_commit%' or array_to_string(proconfig, ' ') ilike '%synchronous_commit%')`
      )
    ).toEqual([])
  })
})

describe('I8: what is ready equals the definition', () => {
  const twoInLine = async () => {
    await submitAll(fresh.database, [{ claims: ['r'] }, { claims: ['r'] }])
    await worker.complete(...(await worker.take()))
    return auditAll(fresh.database)
  }
  test('seen when what became runnable is not made ready; the audit makes it so, and it runs', async () => {
    const breakage: Alteration = ['after_ends', 'made := made + queue.make_ready(dependants)', 'made := made']
    await isSeen(twoInLine, breakage)
    worker = await emptied(fresh)
    expect((await whileAltered(owner, [breakage], twoInLine)).map(({ kind }) => kind)).toEqual(['missed'])
    expect(await auditAll(fresh.database)).toEqual([])
    expect(await worker.drain()).toHaveLength(1)
  })
  test('seen when something is ready that may not run', () =>
    isSeen(async () => {
      await submitAll(fresh.database, [{ claims: ['r'] }, { claims: ['r'] }])
      return auditAll(fresh.database)
    }, ['submit', 'coalesce(e.unmet, 0) as unmet', '0 as unmet']))
})

describe('I9: an ended task has no claim, whatever happened on the way', () => {
  const ways: { [way: string]: () => Promise<unknown> } = {
    'it completed': async () => worker.complete(...(await worker.take())),
    'it failed': async () => worker.fail(...(await worker.take())),
    'it was cancelled before it began': () => cancel(fresh.database, { task: 1, by: 'me' }),
    'its prerequisite failed': async () => {
      await submitOne(fresh.database, { claims: ['s'], after: [{ task: 1, needs: 'complete' }] })
      await worker.fail(...(await worker.take()))
    },
    'it was tried twice, and asked to stop': async () => {
      await worker.take()
      await cancel(fresh.database, { task: 1, by: 'me' })
      await worker.settle([{ task: 1, attempt: 1, outcome: 'retry', afterMs: 0, error: failure }])
    },
    'it was taken over from a dispatcher that was gone': async () => {
      const gone = await Worker.start(fresh.database)
      await gone.take()
      await unregisterDispatcher(fresh.database, gone.id)
      await worker.complete(...(await takeOver(fresh.database, worker.id)))
    },
    'nobody could tell, and then somebody could': async () => {
      await worker.take()
      await worker.settle([{ task: 1, attempt: 1, outcome: 'uncertain', error: failure, evidence: null }])
      await worker.complete({ id: 1, attempt: 1 })
    },
    'its child was refused, and another ended': async () => {
      const [parent] = await worker.take()
      await expand(fresh.database, {
        dispatcher: worker.id,
        task: 1,
        attempt: parent!.attempt,
        children: [task({ claims: ['x'], after: [{ task: 4711, needs: 'ended' }] }), task({ claims: ['r'] })]
      })
      await runAll()
    }
  }
  const claims = () =>
    fresh.database.query(
      `select c.task from queue.claim c left join queue.task t on t.id = c.task where t.outcome is not null or t.id is null`
    )
  test.each(Object.keys(ways))('%s', async (way) => {
    await submitOne(fresh.database, { claims: ['r', '~h'] })
    await ways[way]!()
    expect(await stateOf(fresh.database, 1)).toMatch(/^(complete|failed|cancelled)$/)
    expect(await fresh.database.query('select from queue.place')).toEqual([])
    expect(await claims()).toEqual([])
  })
  test('seen when an end leaves them, and the guard poll takes them away', async () => {
    await submitOne(fresh.database, { claims: ['r'] })
    await whileAltered(
      owner,
      [['after_ends', 'delete from queue.claim where task = any (all_ended)', 'perform 1']],
      ways['it completed']!
    )
    expect(await claims()).toHaveLength(1)
    expect((await guardPoll(fresh.database)).found).toMatchObject([{ kind: 'claim_of_ended', task: 1 }])
    expect(await claims()).toEqual([])
  })
})

// Submissions, ends and cancels that meet all the time on chains of dependants: nothing may be left waiting for what has ended.
// The guard polls beside them, as it does in a server, and must find nothing that it would have had to repair.
import { randomInt } from 'node:crypto'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { openDatabase } from '../../src/db/open.ts'
import type { Database } from '../../src/db/open.ts'
import type { End } from '../../src/queue/dispatch.ts'
import { auditAll, guardCounts, guardPoll } from '../../src/queue/guard.ts'
import { cancel } from '../../src/queue/requests.ts'
import { freshDatabase } from '../support/postgres.ts'
import type { FreshDatabase } from '../support/postgres.ts'
import { failure, submitAll, Worker } from './support.ts'
import type { TaskSketch } from './support.ts'

const TASKS = 2_500
const SUBMITTERS = 4
const COMPLETERS = 3
const CHAINS = 12

let fresh: FreshDatabase
let connections: Database[] = []
beforeAll(async () => {
  fresh = await freshDatabase()
})
afterAll(async () => {
  await Promise.all(connections.map((database) => database.stop()))
  await fresh.drop()
})

/** A client with one connection: what two of them do meets in the database, not in a pool. */
function client(): Database {
  const database = openDatabase({ url: fresh.serverUrl, poolSize: 1 })
  connections = [...connections, database]
  return database
}

class Crowd {
  readonly stored: number[] = []
  cancelled = 0
  #left = TASKS
  #submitters = 0

  /** Until the last submission has come back: who takes the rest must not go home before it is there. */
  get submitting(): boolean {
    return this.#left > 0 || this.#submitters > 0
  }

  /** Each task comes after the last of its chain, by a claim, by an edge or by both; small plans come between. */
  async submit(db: Database): Promise<void> {
    const ends = new Map<number, number>()
    this.#submitters += 1
    while (this.#left > 0) {
      const size = Math.min(this.#left, randomInt(1, 4))
      this.#left -= size
      const chain = randomInt(CHAINS)
      const last = ends.get(chain)
      const sketches = Array.from({ length: size }, (_, index): TaskSketch => {
        const prerequisite = index > 0 ? { index: index - 1 } : last
        return {
          claims: randomInt(4) > 0 ? [`${randomInt(5) > 0 ? '' : '~'}chain/${chain}`] : [],
          after: prerequisite === undefined || randomInt(2) === 0 ? [] : [{ task: prerequisite, needs: 'ended' }]
        }
      })
      if (size > 1) sketches.at(-1)!.after = [{ task: { index: 0 }, needs: 'complete' }]
      const { tasks } = await submitAll(db, sketches)
      ends.set(chain, tasks.at(-1)!)
      this.stored.push(...tasks)
    }
    this.#submitters -= 1
  }

  async complete(db: Database): Promise<void> {
    const worker = await Worker.start(db)
    let ends: End[] = []
    for (;;) {
      const { claimed } = await worker.settle(ends, randomInt(1, 12))
      ends = claimed.map(({ id, attempt }) =>
        randomInt(10) > 0
          ? { task: id, attempt, outcome: 'complete', result: null }
          : { task: id, attempt, outcome: 'failed', error: failure }
      )
      // What waits and is not ready when nothing is submitted and nothing runs any more has been left behind.
      if (ends.length === 0 && !this.submitting && !(await anythingRuns(db))) return
    }
  }

  async cancel(db: Database): Promise<void> {
    while (this.submitting) {
      const recent = this.stored.slice(-30)
      const task = recent[randomInt(Math.max(recent.length, 1))]
      if (task === undefined) await db.query('select 1')
      else if ((await cancel(db, { task, by: 'canceller' })) === 'cancelled') this.cancelled += 1
    }
  }

  /** Returns what it found. */
  async guard(db: Database): Promise<unknown[]> {
    const found: unknown[] = []
    while (this.submitting) {
      found.push(...(await guardPoll(db)).found)
      await db.query('select pg_sleep(0.2)')
    }
    return found
  }
}

/** Also true while another client is in the middle of what will make something ready. */
async function anythingRuns(db: Database): Promise<boolean> {
  const [row] = await db.query<{ busy: boolean }>(
    `select exists (select from queue.run) or exists (select from queue.ready)
       or exists (select from queue.wait where doomed_by is not null) as busy`
  )
  return row?.busy ?? true
}

test(
  '4 submitters, 3 completers and a canceller leave no task waiting for what has ended',
  { timeout: 90_000 },
  async () => {
    const crowd = new Crowd()
    const submitting = Array.from({ length: SUBMITTERS }, () => crowd.submit(client()))
    const completing = Array.from({ length: COMPLETERS }, () => crowd.complete(client()))
    const [found] = await Promise.all([crowd.guard(client()), crowd.cancel(client()), ...submitting, ...completing])

    const [count] = await fresh.database.query<object>(
      `select count(*) as tasks, count(*) filter (where outcome is null) as left,
       count(*) filter (where outcome = 'complete') as complete, count(*) filter (where outcome = 'failed') as failed,
       count(*) filter (where outcome = 'cancelled') as cancelled, (select count(*) from queue.prerequisite) as edges
     from queue.task`
    )
    console.log(count)
    expect(count).toMatchObject({ tasks: TASKS, left: 0, cancelled: crowd.cancelled })
    expect(crowd.cancelled).toBeGreaterThan(20)
    expect(found).toEqual([])
    expect(await auditAll(fresh.database)).toEqual([])
    expect(await guardCounts(fresh.database)).toEqual({ found: 0, staleReports: 0 })
    const leftovers = await fresh.database.query(
      `select (select count(*) from queue.place) as places, (select count(*) from queue.claim) as claims,
       (select count(*) from queue.effect) as effects, (select count(*) from queue.cancel_request) as requests`
    )
    expect(leftovers).toEqual([{ places: 0, claims: 0, effects: 0, requests: 0 }])
  }
)

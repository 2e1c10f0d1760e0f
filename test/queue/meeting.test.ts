// The predecessor that ends in the very moment its dependant is submitted: every order in which the steps of two connections can
// meet. Whatever the order, the dependant is never left behind. No dispatcher and no guard poll runs here: nothing but the two
// transactions themselves can make the dependant ready.
// The last test breaks it on purpose: without the submitter's `for key share` on its predecessor a dependant stays behind.
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import pg from 'pg'
import { auditAll } from '../../src/queue/guard.ts'
import { getTask } from '../../src/queue/read.ts'
import { freshDatabase } from '../support/postgres.ts'
import type { FreshDatabase } from '../support/postgres.ts'
import { emptied, submitOne, type Worker } from './support.ts'

let fresh: FreshDatabase
let submitter: pg.Client
let ender: pg.Client
let watcher: pg.Client
let worker: Worker

beforeAll(async () => {
  fresh = await freshDatabase()
  ;[submitter, ender, watcher] = await Promise.all([connected(), connected(), connected()])
  worker = await emptied(fresh)
})
afterAll(async () => {
  await Promise.all([submitter.end(), ender.end(), watcher.end()])
  await fresh.drop()
})

// The owner may call the queue's inner functions, so that a transaction can be stopped between its locks and its writes.
async function connected(): Promise<pg.Client> {
  const client = new pg.Client({ connectionString: fresh.ownerUrl })
  await client.connect()
  return client
}

/** All ways to merge `a` steps of one side with `b` of the other: true = the first side's turn. */
function merges(a: number, b: number): boolean[][] {
  if (a === 0) return [Array.from({ length: b }, () => false)]
  if (b === 0) return [Array.from({ length: a }, () => true)]
  return [...merges(a - 1, b).map((rest) => [true, ...rest]), ...merges(a, b - 1).map((rest) => [false, ...rest])]
}

type Step = (client: pg.Client) => Promise<unknown>

/** One side: its steps go one after another; while one of them waits for a lock the other side goes on. */
class Side {
  readonly client: pg.Client
  readonly #steps: Step[]
  #pending: Promise<unknown> | undefined
  #pid: number | undefined

  constructor(client: pg.Client, steps: readonly Step[]) {
    this.client = client
    this.#steps = [...steps]
  }

  /** Begins the next step; resolves when it is done or waits for a lock. A side that waits takes no turn. */
  async turn(): Promise<void> {
    if (this.#pending && (await this.#isBlocked())) return
    await this.#pending
    const step = this.#steps.shift()
    if (!step) return
    this.#pid ??= ((await this.client.query('select pg_backend_pid() as pid')).rows[0] as { pid: number }).pid
    const going = { done: false }
    this.#pending = step(this.client).finally(() => {
      going.done = true
    })
    while (!going.done && !(await this.#isBlocked())) await new Promise((resolve) => setImmediate(resolve))
    if (going.done) await this.#pending
  }

  /** Goes on to its end; while it waits for the other side, that one goes on. */
  async finish(other: Side): Promise<void> {
    while (this.#steps.length > 0 || this.#pending) {
      if (await this.#isBlocked()) await other.turn()
      else await this.turn()
      if (this.#steps.length === 0 && !(await this.#isBlocked())) {
        await this.#pending
        return
      }
    }
  }

  async #isBlocked(): Promise<boolean> {
    const { rows } = await watcher.query('select cardinality(pg_blocking_pids($1)) > 0 as blocked', [this.#pid])
    return (rows[0] as { blocked: boolean }).blocked
  }
}

const newTask = (claims: string[], after: object[]) =>
  JSON.stringify([
    {
      action: 'thing.do',
      title: 'the dependant',
      args: {},
      claims: claims.map((resource) => ({ resource, mode: 'exclusive' })),
      effects: [],
      binds: false,
      ...(after.length > 0 ? { after } : {})
    }
  ])

let dependant = 0

const submits = (predecessor: number, kind: 'claim' | 'explicit'): Step[] => [
  (client) => client.query('begin'),
  (client) =>
    kind === 'claim'
      ? client.query(`select queue.lock_resources(array['vm/meeting'], array[true])`)
      : client.query(`select queue.lock_tasks('{}', $1)`, [[predecessor]]),
  async (client) => {
    const body =
      kind === 'claim' ? newTask(['vm/meeting'], []) : newTask([], [{ task: predecessor, needs: 'complete' }])
    const { rows } = await client.query(
      `select tasks[1] as id from queue.submit($1::jsonb, null, 'tester', null, null, null)`,
      [body]
    )
    dependant = Number((rows[0] as { id: string }).id)
  },
  (client) => client.query('commit')
]

const completes = (predecessor: number, attempt: number): Step[] => [
  (client) => client.query('begin'),
  (client) =>
    client.query('select from queue.task where id = any ($1) and outcome is null order by id for update', [
      [predecessor]
    ]),
  (client) =>
    client.query('select * from queue.settle($1, $2::jsonb, 0)', [
      worker.id,
      JSON.stringify([{ task: predecessor, attempt, outcome: 'complete', result: null }])
    ]),
  (client) => client.query('commit')
]

/** Lets the two sides meet in one order; what became of the dependant. */
async function meet(kind: 'claim' | 'explicit', order: readonly boolean[]): Promise<string | undefined> {
  const predecessor = await submitOne(fresh.database, { claims: ['vm/meeting'] })
  const [claimed] = await worker.take()
  expect(claimed?.id).toBe(predecessor)
  const submitting = new Side(submitter, submits(predecessor, kind))
  const ending = new Side(ender, completes(predecessor, claimed?.attempt ?? 0))
  for (const first of order) await (first ? submitting : ending).turn()
  await submitting.finish(ending)
  await ending.finish(submitting)
  expect((await getTask(fresh.database, predecessor))?.state).toBe('complete')
  return (await getTask(fresh.database, dependant))?.state
}

const storyOf = (order: readonly boolean[]) => order.map((first) => (first ? 'S' : 'E')).join('')

describe.each(['claim', 'explicit'] as const)('a dependant by %s', (kind) => {
  test('is not left behind in any of the 70 orders in which its submission and the end of its predecessor meet', async () => {
    const orders = merges(4, 4)
    expect(orders).toHaveLength(70)
    for (const order of orders) {
      expect(await meet(kind, order), storyOf(order)).toBe('ready')
      expect(await auditAll(fresh.database), storyOf(order)).toEqual([])
      expect(await worker.drain()).toEqual([dependant])
    }
  }, 60_000)
})

test('a submitter that does not lock its predecessor leaves a dependant behind, and that is seen', async () => {
  await submitter.query(`create or replace function queue.lock_tasks(p_update bigint[], p_share bigint[]) returns bigint[]
    language sql set search_path = pg_catalog, pg_temp as $$
      select coalesce(array_agg(id), '{}') from queue.task where id = any (p_update || p_share) and outcome is null
    $$`)
  for (const order of merges(4, 4)) {
    if ((await meet('claim', order)) !== 'ready') {
      expect((await auditAll(fresh.database)).map(({ task }) => task)).toContain(dependant)
      return
    }
    await worker.drain()
  }
  throw new Error('every dependant became ready: the test cannot fail')
}, 60_000)

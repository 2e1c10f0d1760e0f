// The real queue, asked as the model is: the functions of src/queue on a database of its own whose clock stands still until told to move.
import { DatabaseError } from '../../src/db/error.ts'
import { openDatabase, type Database, type Sql, type Tx } from '../../src/db/open.ts'
import { QueueError, raised } from '../../src/queue/error.ts'
import {
  beat,
  bind,
  expand,
  registerDispatcher,
  settle,
  takeOver,
  unpark,
  unregisterDispatcher
} from '../../src/queue/dispatch.ts'
import type { ClaimedTask, End as RealEnd } from '../../src/queue/dispatch.ts'
import { setCap } from '../../src/queue/limits.ts'
import { ensureResources, submit } from '../../src/queue/submit.ts'
import type { Claim, NewTask } from '../../src/queue/task.ts'
import type { FreshDatabase } from '../support/postgres.ts'
import { alter } from '../queue/altered.ts'
import { failure } from '../queue/support.ts'
import type { Claimed } from './dispatch.ts'
import type { End } from './ends.ts'
import type { Answer, Operation } from './operations.ts'
import { RESOURCES } from './sketches.ts'
import type { Claims, Sketch } from './state.ts'

const EPOCH = Date.parse('2030-01-01T00:00:00Z')
const by = 'model'

const EMPTY = `do $$
  declare name text;
  begin
    for name in
      select relname from pg_class where relnamespace = 'queue'::regnamespace and relkind in ('r', 'p') and not relispartition
        and relname not in ('limit_lock', 'audit', 'resource')
    loop
      execute format('delete from queue.%I', name);
    end loop;
    alter sequence queue.position restart;
    alter table queue.dispatcher alter column id restart;
    insert into queue.clock values ('0');
  end $$`

export class SqlQueue {
  readonly #owner: Database
  readonly #db: Database
  /** As the caller's transaction: chores are asked for as operations of their own. */
  readonly #sql: Sql
  #now = 0

  private constructor(fresh: FreshDatabase, owner: Database) {
    this.#owner = owner
    this.#db = openDatabase({ url: fresh.serverUrl, poolSize: 1 })
    this.#sql = { query: (text, values) => this.#db.query(text, values) }
  }

  static async open(fresh: FreshDatabase): Promise<SqlQueue> {
    const owner = openDatabase({ url: fresh.ownerUrl, poolSize: 1 })
    await alter(owner, [['now', 'clock_timestamp()', `timestamptz '${new Date(EPOCH).toISOString()}'`]])
    await ensureResources(fresh.database, RESOURCES)
    return new SqlQueue(fresh, owner)
  }

  async stop(): Promise<void> {
    await this.#db.stop()
    await this.#owner.stop()
  }

  get sql(): Sql {
    return this.#sql
  }

  /** Nothing is in it any more, and its clock stands at the beginning. */
  async empty(): Promise<void> {
    // Rows are deleted: tables truncated take forty times as long.
    await this.#owner.query(EMPTY)
    // Statistics of what was there before would make PostgreSQL compile each look at the tables.
    await this.#sql.query('set jit = off')
    this.#now = 0
  }

  async do(operation: Operation): Promise<Answer> {
    try {
      return { value: (await this.#perform(operation)) ?? null }
    } catch (error) {
      if (error instanceof QueueError) return { refused: error.code }
      if (error instanceof DatabaseError && error.code === 'conflict') return { refused: 'conflict' }
      throw error
    }
  }

  async #perform(operation: Operation): Promise<unknown> {
    const sql = this.#sql
    switch (operation.do) {
      case 'pass':
        this.#now += operation.ms
        await this.#owner.query(`update queue.clock set ahead = make_interval(secs => $1 / 1000.0)`, [this.#now])
        return null
      case 'register':
        return (await registerDispatcher(sql, { name: by, leaseMs: operation.leaseMs })).id
      case 'beat':
        return (await beat(sql, operation.dispatcher)) === 'alive'
      case 'unregister':
        return unregisterDispatcher(sql, operation.dispatcher)
      case 'submit':
        return submit(sql as Tx, {
          tasks: operation.tasks.map(newTask),
          by,
          ...(operation.plan ? { plan: { onFailure: 'stop' as const } } : {}),
          ...(operation.key ? { idempotency: operation.key } : {})
        })
      case 'settle': {
        const ends = operation.ends.map(realEnd)
        const { settled, claimed, nextDueMs } = await settle(sql, {
          dispatcher: operation.dispatcher,
          ends,
          take: operation.take
        })
        const stale = settled.flatMap(({ task, attempt, outcome }) => (outcome === 'stale' ? [{ task, attempt }] : []))
        return { stale, claimed: claimed.map(asClaimed), dueMs: nextDueMs }
      }
      case 'takeOver':
        return (await takeOver(sql, operation.dispatcher, operation.limit, operation.holding ?? undefined)).map(
          asClaimed
        )
      case 'bind': {
        const { dispatcher, task, attempt, claims, limits } = operation
        const more = limits ? { limits } : {}
        const bound = await bind(sql, {
          dispatcher,
          task,
          attempt,
          claims: claims.map(realClaim),
          bound: null,
          ...more
        })
        return {
          answer: bound.outcome,
          waitsFor: bound.outcome === 'waiting' ? bound.for.toSorted((a, b) => a - b) : []
        }
      }
      case 'expand': {
        const { dispatcher, task, attempt, children } = operation
        const expanded = await expand(sql, { dispatcher, task, attempt, children: children.map(newTask) })
        if (expanded === 'stale') return 'stale'
        return { children: expanded.children, refused: expanded.refused.map(({ index, code }) => ({ index, code })) }
      }
      case 'unpark':
        return unpark(sql, operation.key)
      case 'setCap':
        return setCap(sql, operation.key, operation.cap)
      default:
        return this.#request(operation)
    }
  }

  /** What src/queue does with the chores at once, here without them. */
  async #request(operation: Operation): Promise<unknown> {
    const ask = async (call: string, values: unknown[]): Promise<unknown> =>
      (await raised(this.#sql.query<{ answer: unknown }>(`select queue.${call} as answer`, values)))[0]?.answer
    switch (operation.do) {
      case 'hold':
        return void (await ask('hold($1, $2, $3)', [operation.task, 'wait', by]))
      case 'release':
        return void (await ask('release($1, $2)', [operation.task, by]))
      case 'retry':
        return ask('retry($1, $2, $3)', [operation.task, by, operation.withDependants])
      case 'verdict':
        return void (await ask('give_verdict($1, $2, $3, $4)', [operation.task, operation.happened, by, 'looked']))
      case 'endDoomed':
        return ask('end_doomed($1)', [operation.limit])
      case 'placeWaiting':
        return ask('place_waiting($1)', [operation.limit])
      case 'cancel':
        return this.#cancel(operation.task)
    }
    throw new Error(`no such operation: ${operation.do}`)
  }

  async #cancel(task: number): Promise<string> {
    const [row] = await raised(
      this.#sql.query<{ answer: string; children: number[] }>('select * from queue.cancel($1, $2, null)', [task, by])
    )
    for (const child of row?.children ?? []) await this.#cancel(child)
    return row?.answer ?? 'ended'
  }
}

const realClaim = ({ resource, exclusive }: Claims[number]): Claim => ({
  resource,
  mode: exclusive ? 'exclusive' : 'shared'
})

function newTask(sketch: Sketch): NewTask {
  const { claims, after, priority, binds, held, notBefore, limits } = sketch
  return {
    action: 'thing.do',
    title: 'Do a thing',
    args: {},
    effects: [],
    claims: claims.map(realClaim),
    after: after.map(({ task, element, needs }) => ({ task: task ?? { index: element ?? -1 }, needs })),
    priority,
    binds,
    limits,
    ...(held ? { hold: { reason: 'wait' } } : {}),
    ...(notBefore === null ? {} : { notBefore: new Date(EPOCH + notBefore) })
  }
}

function realEnd(end: End): RealEnd {
  const { task, attempt } = end
  switch (end.outcome) {
    case 'complete':
      return { task, attempt, outcome: 'complete', result: null }
    case 'failed':
    case 'cancelled':
      return { task, attempt, outcome: end.outcome, error: failure }
    case 'retry':
      return { task, attempt, outcome: 'retry', afterMs: end.afterMs, error: failure }
    case 'park':
      return { task, attempt, outcome: 'park', reason: 'for a while', key: end.key }
    case 'awaiting':
      return { task, attempt, outcome: 'awaiting', what: 'an event', deadlineMs: end.deadlineMs }
    default:
      return { task, attempt, outcome: 'uncertain', error: failure, evidence: null }
  }
}

const asClaimed = ({ id, attempt, binds, takenOver, children }: ClaimedTask): Claimed => ({
  task: id,
  attempt,
  binds,
  takenOver,
  children: children?.map(({ state }) => state) ?? null
})

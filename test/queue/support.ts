// Short words for tests of the queue: tasks with claims written as `vm/1` (exclusive) or `~host/1` (shared), a dispatcher that does
// what it is told, and waiting for a state. No rule of the queue is repeated here.

import { openDatabase } from '../../src/db/open.ts'
import type { Database } from '../../src/db/open.ts'
import type { FreshDatabase } from '../support/postgres.ts'
import { registerDispatcher, settle } from '../../src/queue/dispatch.ts'
import type { ClaimedTask, End, Settled } from '../../src/queue/dispatch.ts'
import { QueueError } from '../../src/queue/error.ts'
import { getTask } from '../../src/queue/read.ts'
import type { TaskState } from '../../src/queue/state.ts'
import { ensureResources, lockResources, submit } from '../../src/queue/submit.ts'
import type { Submitted } from '../../src/queue/submit.ts'
import type { Claim, NewTask, Submission } from '../../src/queue/task.ts'

export const claim = (text: string): Claim =>
  text.startsWith('~') ? { resource: text.slice(1), mode: 'shared' } : { resource: text, mode: 'exclusive' }

export type TaskSketch = Partial<Omit<NewTask, 'claims'>> & { claims?: readonly string[] }

export const task = (sketch: TaskSketch = {}): NewTask => ({
  action: 'thing.do',
  title: 'Do a thing',
  args: {},
  effects: [],
  binds: false,
  ...sketch,
  claims: (sketch.claims ?? []).map(claim)
})

/** As a client submits: resources made known, locked, tasks stored. */
export async function submitAll(
  db: Database,
  sketches: readonly TaskSketch[],
  more: Partial<Omit<Submission, 'tasks'>> = {}
): Promise<Submitted> {
  const tasks = sketches.map(task)
  const claims = tasks.flatMap((one) => one.claims)
  await ensureResources(db, [...new Set(claims.map(({ resource }) => resource))])
  return db.transaction(async (tx) => {
    await lockResources(tx, claims)
    return submit(tx, { tasks, by: 'tester', ...more })
  })
}

export async function submitOne(
  db: Database,
  sketch: TaskSketch = {},
  more: Partial<Submission> = {}
): Promise<number> {
  const { tasks } = await submitAll(db, [sketch], more)
  return tasks[0] ?? 0
}

export const failure = { code: 'broken', message: 'it broke' }

/** `stopped`: the task was asked to stop before it had any children. */
export async function unlessStopped<T>(expanding: Promise<T>): Promise<T | 'stopped'> {
  try {
    return await expanding
  } catch (error) {
    if (error instanceof QueueError && error.code === 'asked_to_stop') return 'stopped'
    throw error
  }
}

export class Worker {
  readonly id: number
  readonly db: Database

  private constructor(db: Database, id: number) {
    this.db = db
    this.id = id
  }

  static async start(db: Database, leaseMs = 3_600_000): Promise<Worker> {
    const { id } = await registerDispatcher(db, { name: 'test', leaseMs })
    return new Worker(db, id)
  }

  take(take = 100): Promise<ClaimedTask[]> {
    return this.settle([], take).then(({ claimed }) => claimed)
  }

  settle(ends: readonly End[], take = 0): Promise<Settled> {
    return settle(this.db, { dispatcher: this.id, ends, take })
  }

  /** Ends attempts without taking anything. */
  async complete(...tasks: readonly { id: number; attempt: number }[]): Promise<Settled> {
    return this.settle(tasks.map(({ id, attempt }) => ({ task: id, attempt, outcome: 'complete', result: null })))
  }

  async fail(...tasks: readonly { id: number; attempt: number }[]): Promise<Settled> {
    return this.settle(tasks.map(({ id, attempt }) => ({ task: id, attempt, outcome: 'failed', error: failure })))
  }

  /** Takes and completes until nothing is ready; returns the ids in the order in which they were taken. */
  async drain(): Promise<number[]> {
    const order: number[] = []
    let ends: End[] = []
    for (;;) {
      const { claimed } = await this.settle(ends, 100)
      if (claimed.length === 0) return order
      order.push(...claimed.map(({ id }) => id))
      ends = claimed.map(({ id, attempt }) => ({ task: id, attempt, outcome: 'complete', result: null }))
    }
  }
}

export const ids = (tasks: readonly { id: number }[]): number[] => tasks.map(({ id }) => id)

export async function stateOf(db: Database, id: number): Promise<TaskState | undefined> {
  return (await getTask(db, id))?.state
}

export async function statesOf(db: Database, tasks: readonly number[]): Promise<(TaskState | undefined)[]> {
  const states: (TaskState | undefined)[] = []
  for (const id of tasks) states.push(await stateOf(db, id))
  return states
}

/** The same database again with nothing in it: a tenth of the time of a new one. */
export async function emptied(fresh: FreshDatabase): Promise<Worker> {
  const owner = openDatabase({ url: fresh.ownerUrl, poolSize: 1 })
  await owner.query(`do $$
    declare tables text;
    begin
      select string_agg(format('queue.%I', relname), ', ') into tables
      from pg_class where relnamespace = 'queue'::regnamespace and relkind in ('r', 'p') and not relispartition
        and relname not in ('limit_lock', 'audit', 'resource');
      execute 'truncate ' || tables || ' restart identity';
      execute 'alter sequence queue.position restart';
    end $$`)
  await owner.stop()
  return Worker.start(fresh.database)
}

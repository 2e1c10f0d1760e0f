// How fast the queue burns down: `node bench/queue.ts [--tasks 100000] [--rounds 3] [--pg 18|15] [--batch 500]`.
// Beside it the floor: two bare set updates a task, the least that any queue in PostgreSQL does. Both on the same server, fsync on,
// in turns, on one connection; medians are printed. Submission is timed apart. Last, how long it takes from a request in hand until
// its task is claimed, when it need not wait: submitted and claimed in one transaction.

import { performance } from 'node:perf_hooks'
import { rm } from 'node:fs/promises'
import { parseArgs } from 'node:util'
import { Client } from 'pg'
import { urlFor } from '../src/db/init.ts'
import { openDatabase } from '../src/db/open.ts'
import type { Database } from '../src/db/open.ts'
import { registerDispatcher, settle } from '../src/queue/dispatch.ts'
import type { End } from '../src/queue/dispatch.ts'
import { ensureResources, lockResources, submit } from '../src/queue/submit.ts'
import type { NewTask } from '../src/queue/task.ts'
import { startTestCluster, TEMPLATE } from '../test/support/cluster.ts'

const { values } = parseArgs({
  options: {
    tasks: { type: 'string', default: '100000' },
    rounds: { type: 'string', default: '3' },
    batch: { type: 'string', default: '500' },
    pg: { type: 'string', default: '18' }
  }
})
const tasks = Number(values.tasks)
const batch = Number(values.batch)
const PLAN = 10_000

const { cluster, directory } = await startTestCluster(values.pg, {
  shared_buffers: '512MB',
  max_wal_size: '8GB',
  checkpoint_timeout: '30min',
  max_connections: '20'
})
const admin = new Client({ connectionString: cluster.adminUrl })
await admin.connect()

type Layout = { name: string; claims: (index: number) => NewTask['claims']; after?: boolean }
const layouts: Layout[] = [
  { name: 'no claims', claims: () => [] },
  {
    name: 'three claims',
    claims: (index) => [
      { resource: `vm/${index}`, mode: 'exclusive' },
      { resource: `host/${index % 50}`, mode: 'shared' },
      { resource: `store/${index % 20}`, mode: 'shared' }
    ]
  },
  { name: 'chains of 10', claims: (index) => [{ resource: `vm/${Math.floor(index / 10)}`, mode: 'exclusive' }] }
]

async function withDatabase<T>(work: (db: Database, url: string) => Promise<T>): Promise<T> {
  const name = `bench_${Math.random().toString(36).slice(2)}`
  await admin.query(`create database ${name} template ${TEMPLATE}`)
  const db = openDatabase({ url: urlFor(cluster.adminUrl, { database: name, user: 'taskomatic_server' }), poolSize: 1 })
  try {
    return await work(db, urlFor(cluster.adminUrl, { database: name }))
  } finally {
    await db.stop()
    await admin.query(`drop database ${name} with (force)`)
  }
}

async function submitAll(db: Database, layout: Layout): Promise<number> {
  let took = 0
  for (let from = 0; from < tasks; from += PLAN) {
    const plan = Array.from({ length: Math.min(PLAN, tasks - from) }, (_, at): NewTask => {
      const index = from + at
      return {
        action: 'thing.do',
        title: `Thing ${index}`,
        args: { index },
        claims: layout.claims(index),
        effects: [],
        binds: false
      }
    })
    await ensureResources(db, [...new Set(plan.flatMap(({ claims }) => claims.map(({ resource }) => resource)))])
    const started = performance.now()
    await db.transaction((tx) => submit(tx, { tasks: plan, by: 'bench', plan: { onFailure: 'continue' } }))
    took += performance.now() - started
  }
  return took
}

async function burnDown(layout: Layout): Promise<{ rate: number; submitted: number }> {
  return withDatabase(async (db, url) => {
    const took = await submitAll(db, layout)
    await vacuum(url)
    const { id: dispatcher } = await registerDispatcher(db, { name: 'bench', leaseMs: 3_600_000 })
    let ends: End[] = []
    let done = 0
    const started = performance.now()
    for (;;) {
      const answer = await settle(db, { dispatcher, ends, take: batch })
      done += ends.length
      if (answer.claimed.length === 0) break
      ends = answer.claimed.map(({ id, attempt }) => ({ task: id, attempt, outcome: 'complete', result: null }))
    }
    const seconds = (performance.now() - started) / 1000
    if (done !== tasks) throw new Error(`${done} of ${tasks} ended`)
    return { rate: tasks / seconds, submitted: (tasks / took) * 1000 }
  })
}

const STARTS = 1_000

/** Milliseconds of each start, in order of length; behind `open` tasks that wait or are ready elsewhere. */
async function starts(open: number): Promise<number[]> {
  return withDatabase(async (db, url) => {
    const held = Array.from({ length: open }, (_, index): NewTask => {
      const claims = [{ resource: `host/${index % 50}`, mode: 'shared' as const }]
      return { action: 'bench.held', title: 'Held', args: {}, claims, effects: [], binds: false, hold: { reason: 'x' } }
    })
    const names = Array.from({ length: STARTS }, (_, index) => `vm/${index}`)
    await ensureResources(db, [...names, ...Array.from({ length: 50 }, (_, index) => `host/${index}`)])
    for (let from = 0; from < open; from += PLAN) {
      await db.transaction((tx) => submit(tx, { tasks: held.slice(from, from + PLAN), by: 'bench' }))
    }
    await vacuum(url)
    const { id: dispatcher } = await registerDispatcher(db, { name: 'bench', leaseMs: 3_600_000 })
    const took: number[] = []
    for (const [index, resource] of names.entries()) {
      const claims: NewTask['claims'] = [
        { resource, mode: 'exclusive' },
        { resource: `host/${index % 50}`, mode: 'shared' }
      ]
      const one: NewTask = { action: 'bench.start', title: 'Start', args: {}, claims, effects: [], binds: false }
      const began = performance.now()
      const { claimed } = await db.transaction(async (tx) => {
        await lockResources(tx, claims)
        await submit(tx, { tasks: [one], by: 'bench' })
        return settle(tx, { dispatcher, ends: [], take: 1 })
      })
      took.push(performance.now() - began)
      const ends = claimed.map(({ id, attempt }): End => ({ task: id, attempt, outcome: 'complete', result: null }))
      if (ends.length !== 1) throw new Error(`${ends.length} tasks were claimed`)
      await settle(db, { dispatcher, ends, take: 0 })
    }
    return took.toSorted((a, b) => a - b)
  })
}

async function floor(): Promise<number> {
  return withDatabase(async (_, url) => {
    const client = new Client({ connectionString: url })
    await client.connect()
    await client.query(
      'create table bare (id bigint primary key, state int not null, about text not null) with (fillfactor = 50)'
    )
    await client.query(`insert into bare select n, 0, repeat('x', 200) from generate_series(1, $1::int) n`, [tasks])
    await client.query('vacuum analyze bare')
    const started = performance.now()
    for (let from = 1; from <= tasks; from += batch) {
      const ids = Array.from({ length: Math.min(batch, tasks - from + 1) }, (_unused, at) => from + at)
      await client.query('update bare set state = 1 where id = any ($1)', [ids])
      await client.query('update bare set state = 2 where id = any ($1)', [ids])
    }
    const seconds = (performance.now() - started) / 1000
    await client.end()
    return tasks / seconds
  })
}

async function vacuum(url: string): Promise<void> {
  const client = new Client({ connectionString: url })
  await client.connect()
  await client.query('vacuum analyze')
  await client.end()
}

const median = (numbers: number[]) => numbers.toSorted((a, b) => a - b)[numbers.length >> 1] ?? 0
const shown = (rate: number) => Math.round(rate).toLocaleString('en')

try {
  const floors: number[] = []
  const rates = new Map<string, { rate: number; submitted: number }[]>(layouts.map(({ name }) => [name, []]))
  for (let round = 0; round < Number(values.rounds); round++) {
    floors.push(await floor())
    for (const layout of layouts) rates.get(layout.name)?.push(await burnDown(layout))
  }
  const bare = median(floors)
  console.log(`PostgreSQL ${values.pg}, ${shown(tasks)} tasks, batches of ${batch}, ${values.rounds} rounds, medians`)
  console.log(`floor: ${shown(bare)} tasks/s`)
  for (const [name, rounds] of rates) {
    const rate = median(rounds.map((round) => round.rate))
    const submitted = median(rounds.map((round) => round.submitted))
    console.log(
      `${name}: ${shown(rate)} tasks/s, ${(rate / bare).toFixed(2)} of the floor; submitted at ${shown(submitted)} tasks/s`
    )
  }
  for (const open of [0, tasks]) {
    const took = await starts(open)
    const at = (share: number) => (took[Math.floor(took.length * share)] ?? 0).toFixed(2)
    console.log(`start beside ${shown(open)} open tasks: p50 ${at(0.5)} ms, p99 ${at(0.99)} ms`)
  }
} finally {
  await admin.end()
  await cluster.stop()
  await rm(directory, { recursive: true, force: true })
}

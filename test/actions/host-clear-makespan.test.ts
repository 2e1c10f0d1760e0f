// How long it takes to clear a host: what the limit and the migrations themselves dictate, and hardly more, however much waits in the
// queue. The short form allows for a busy machine; `npm run prove -- clear` is 200 VMs at 2 s and a million waiting tasks.
import { afterAll, beforeAll, expect, test } from 'vitest'
import { setCap } from '../../src/queue/limits.ts'
import { listTasks } from '../../src/queue/read.ts'
import { ensureResources } from '../../src/queue/submit.ts'
import { startTestEngine, type TestEngine } from '../support/engine.ts'

const number = (name: string, otherwise: number) => Number(process.env[name] ?? otherwise)
const vms = number('TASKOMATIC_CLEAR_VMS', 24)
const migrationMs = number('TASKOMATIC_CLEAR_MS', 500)
const waiting = number('TASKOMATIC_CLEAR_WAITING', 5_000)
const burdenFactor = number('TASKOMATIC_CLEAR_BURDEN_FACTOR', 1.5)
const atOnce = 4
const rounds = Math.ceil(vms / atOnce)
const dictatedMs = rounds * migrationMs
// What a machine that runs other tests as well adds: to look at the host and find each VM its place, and to each round. None in the full form.
const allowedMs = number('TASKOMATIC_CLEAR_ALLOWED_MS', 4_000 + rounds * 750)

let engine: TestEngine
beforeAll(async () => {
  engine = await startTestEngine({
    hosts: 6,
    fleet: { sharedStores: [{ name: 'nfs1', path: '/srv/nfs1' }], memoryMiB: 1024 * 1024, migrationMs }
  })
  await setCap(engine.database, 'migrations-out/*', atOnce)
  await setCap(engine.database, 'migrations-in/*', 1_000)
  const hosts = engine.fleet.hosts.map(({ name }) => name)
  for (const host of hosts) await done('pool.create', { host, pool: 'nfs1', target: '/srv/nfs1' })
  await done('store.share', { store: 'nfs1', pools: hosts.map((host) => ({ host, pool: 'nfs1' })) })
  const answer = await engine.submitter.submit({
    by: 'test',
    plan: { onFailure: 'stop' },
    tasks: ['h1', 'h2'].flatMap((host) =>
      Array.from({ length: vms }, (_, index) => `${host}-${index}`).flatMap((name) => [
        { action: 'vm.create', args: { name, memoryMiB: 128, vcpus: 1, host, disks: [{ store: 'nfs1', sizeMiB: 1 }] } },
        { action: 'vm.start', args: { vm: name } }
      ])
    )
  })
  engine.engine.dispatcher.wake()
  for (const { id } of answer.tasks) expect((await engine.until(id)).state).toBe('complete')
  // Neither of the two takes what leaves the other.
  await done('host.cordon', { host: 'h2', reason: 'it is next' })
}, 600_000)
afterAll(() => engine.stop(), 60_000)

const done = async (action: string, args: Parameters<TestEngine['run']>[1]) => {
  const task = await engine.run(action, args)
  expect(task, JSON.stringify(task.error)).toMatchObject({ state: 'complete' })
  return task
}

/** Clears the host; milliseconds from the submission to the end, and the most that moved at one time. */
async function clearing(host: string): Promise<{ tookMs: number; most: number }> {
  const began = performance.now()
  const clear = await done('host.clear', { host })
  const tookMs = performance.now() - began
  expect(clear.result).toMatchObject({ moved: vms, left: [], inMaintenance: true })
  const { tasks } = await listTasks(engine.database, { parent: clear.id, limit: 1_000 })
  const times = tasks.flatMap(({ startedAt, endedAt }) => [
    { at: startedAt!.getTime(), change: 1 },
    { at: endedAt!.getTime(), change: -1 }
  ])
  times.sort((a, b) => a.at - b.at || a.change - b.change)
  let moving = 0
  const most = Math.max(...times.map(({ change }) => (moving += change)))
  return { tookMs, most }
}

/** Tasks that wait in long lines behind some that never get their unit. */
async function burden(): Promise<void> {
  const lines = 1_000
  await setCap(engine.database, 'burden', 0)
  await ensureResources(
    engine.database,
    Array.from({ length: lines }, (_, index) => `burden/${index}`)
  )
  for (let from = 0; from < waiting; from += 50_000) {
    await engine.database.query(
      `select queue.submit((
         select jsonb_agg(jsonb_build_object(
           'action', 'burden.none', 'title', 'Waits', 'args', '{}'::jsonb, 'effects', '[]'::jsonb, 'binds', false,
           'claims', jsonb_build_array(jsonb_build_object('resource', 'burden/' || i % $3, 'mode', 'exclusive')))
           || case when i < $3 then '{"limits": [{"key": "burden", "units": 1}]}' else '{}' end::jsonb order by i)
         from generate_series($1::integer, $2::integer) i), null, 'test', null, null, null)`,
      [from, Math.min(from + 50_000, waiting) - 1, lines]
    )
  }
}

test(`${vms} VMs at ${migrationMs} ms, ${atOnce} at once, take about what that dictates, and no longer beside ${waiting} waiting tasks`, async () => {
  const alone = await clearing('h1')
  await burden()
  const [rows] = await engine.database.query<{ waiting: number }>('select count(*) as waiting from queue.wait')
  expect(rows?.waiting).toBeGreaterThanOrEqual(waiting)
  const burdened = await clearing('h2')
  console.log(
    `cleared ${vms} VMs in ${Math.round(alone.tookMs)} ms (dictated ${dictatedMs} ms, ${(alone.tookMs / dictatedMs).toFixed(3)} times); ` +
      `beside ${waiting} waiting tasks in ${Math.round(burdened.tookMs)} ms (${(burdened.tookMs / alone.tookMs).toFixed(3)} times)`
  )
  expect(alone.most).toBe(atOnce)
  expect(burdened.most).toBe(atOnce)
  expect(alone.tookMs).toBeLessThanOrEqual(dictatedMs * 1.05 + allowedMs)
  expect(burdened.tookMs).toBeLessThanOrEqual(alone.tookMs * burdenFactor)
  expect(engine.fleet.journal).toMatchObject({ overCommitted: 0, twoWriters: 0 })
}, 1_800_000)

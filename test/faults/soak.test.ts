// A steady mixed load on a real engine and simulated hosts, for as long as one likes: nothing stays behind, no table grows beyond what
// is in it, and the engine's memory does not creep. TASKOMATIC_SOAK_SECONDS; `npm run prove -- soak` takes 10 minutes, 86400 a day.
import { readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { openDatabase } from '../../src/db/open.ts'
import { auditAll, guardCounts, guardPoll } from '../../src/queue/guard.ts'
import { growthOf, tablesLargerThanLive } from './soak-figures.ts'
import { Scene } from './scene.ts'
import { untilEnded } from './until-ended.ts'
import { batchOf } from './workload.ts'

const seconds = Number(process.env['TASKOMATIC_SOAK_SECONDS'] ?? 12)
const firstSeed = Number(process.env['TASKOMATIC_SEED'] ?? 1)
/** Tasks of a batch; two batches are under way at any time. */
const BATCH = 50
const SAMPLE_MS = 10_000
/** What a slope is told from: before that memory still finds its level. */
const LONG_SECONDS = 3600
const MOST_MB_AN_HOUR = 1

let scene: Scene
beforeAll(async () => {
  scene = await Scene.start({ hosts: 4, groupSize: 2, engines: 1, fleet: { startMs: 10, migrationMs: 20 } })
})
afterAll(() => scene?.stop())

const megabytes = (pid: number): number =>
  Number(/VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? 0) / 1024

/** One batch after the other until the time is over; how many tasks ended. */
async function load(lane: number, until: number): Promise<number> {
  let ended = 0
  for (let round = 0; performance.now() < until; round++) {
    const seed = firstSeed + 1000 * round + lane
    const ids = await scene.submitBatch(batchOf(seed, `l${lane}r${round}`, { tasks: BATCH, groups: scene.groups }))
    ended += (await untilEnded(scene.fresh.database, ids, { timeoutMs: 120_000 })).length
  }
  return ended
}

async function sampleMemory(samples: { hours: number; mb: number }[], over: AbortSignal): Promise<void> {
  const pid = scene.engines[0]!.pid
  const begun = performance.now()
  while (!over.aborted) {
    samples.push({ hours: (performance.now() - begun) / 3_600_000, mb: megabytes(pid) })
    await sleep(SAMPLE_MS, undefined, { signal: over }).catch(() => undefined)
  }
}

test('a table that has grown far beyond what is in it is seen, and a slope is told', async () => {
  const owner = openDatabase({ url: scene.fresh.ownerUrl, poolSize: 1 })
  await owner.query(`insert into queue.stale_report (at, dispatcher, task, attempt, said)
    select queue.now(), 0, 0, 0, repeat('x', 100) from generate_series(1, 20000)`)
  await owner.query('delete from queue.stale_report where id % 4 > 0')
  expect((await tablesLargerThanLive(owner)).found).toMatchObject([{ table: 'queue.stale_report' }])
  await owner.query('truncate queue.stale_report')
  expect((await tablesLargerThanLive(owner)).found).toEqual([])
  await owner.stop()
  const samples = Array.from({ length: 60 }, (_, at) => ({ hours: at / 60, mb: at < 15 ? 50 + at : 65 + at / 30 }))
  expect(growthOf(samples)).toBeCloseTo(2, 1)
})

test(
  `${seconds} s of a steady load: 0 tasks stuck, no table over twice its live size`,
  { timeout: seconds * 1000 + 300_000 },
  async () => {
    const samples: { hours: number; mb: number }[] = []
    const over = new AbortController()
    const sampling = sampleMemory(samples, over.signal)
    const until = performance.now() + seconds * 1000
    const ended = (await Promise.all([0, 1].map((lane) => load(lane, until)))).reduce((sum, n) => sum + n, 0)
    over.abort()
    await sampling

    const owner = openDatabase({ url: scene.fresh.ownerUrl, poolSize: 1 })
    const { open, tables, worst, found } = await tablesLargerThanLive(owner)
    const slope = growthOf(samples)
    console.log(
      `${seconds} s: ${ended} tasks ended; of ${tables} tables the largest beside its content is ${worst}; the engine has ` +
        `${samples.at(-1)?.mb.toFixed(0)} MB${slope === undefined ? '' : `, ${slope.toFixed(2)} MB/h after warm-up`}`
    )
    expect(ended).toBeGreaterThan(BATCH)
    expect(open).toEqual({ tasks: 0, places: 0, claims: 0, effects: 0, granted: 0 })
    expect(found).toEqual([])
    expect(await auditAll(scene.fresh.database)).toEqual([])
    expect((await guardPoll(scene.fresh.database)).found).toEqual([])
    expect(await guardCounts(scene.fresh.database)).toMatchObject({ found: 0 })
    await owner.stop()
    if (seconds >= LONG_SECONDS) expect(slope).toBeLessThan(MOST_MB_AN_HOUR)
  }
)

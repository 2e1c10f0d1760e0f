// kill -9 of one of three dispatchers, again and again, while batches of mixed tasks run on simulated hosts; a new process takes its
// place. The independent judge then finds nothing: no task lost, early, twice done or falsely complete.
// A run is a batch and a kill in it. Full form: `npm run prove -- kill`. A seed that failed: TASKOMATIC_KILL_SEED=… TASKOMATIC_KILL_RUNS=1.
import { setTimeout as delay } from 'node:timers/promises'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { Dice } from '../queue/dice.ts'
import { nothingFound } from './history-checker.ts'
import { Scene } from './scene.ts'
import { untilEnded, type EndedTask } from './until-ended.ts'
import { batchOf } from './workload.ts'

const number = (name: string, otherwise: number) => Number(process.env[`TASKOMATIC_KILL_${name}`] ?? otherwise)
const runs = number('RUNS', 5)
const tasks = number('TASKS', 40)
const leaseMs = number('LEASE_MS', 2000)
const firstSeed = number('SEED', 1)
/** Runs under way at once. */
const atOnce = number('AT_ONCE', 3)

let scene: Scene
beforeAll(async () => {
  scene = await Scene.start({ hosts: 20, engines: 3, engine: { leaseMs }, fleet: { startMs: 10, migrationMs: 20 } })
}, 120_000)
afterAll(() => scene?.stop())

let replacing: Promise<unknown> = Promise.resolve()

/** One at a time, so that there are three but for the moment in which one is replaced. */
function killOne(dice: Dice): Promise<void> {
  const next = replace(replacing, dice)
  replacing = next
  return next
}

async function replace(before: Promise<unknown>, dice: Dice): Promise<void> {
  await before
  const at = dice.below(scene.engines.length)
  await scene.engines[at]?.kill()
  scene.engines[at] = await scene.newEngine()
}

/** At a random effect of this batch, and now and then a little later: just after something happened is where it is worst. */
async function run(seed: number): Promise<EndedTask[]> {
  const dice = new Dice(seed)
  const tag = `s${seed}`
  const batch = batchOf(seed, tag, { tasks, groups: scene.groups })
  const entries = 1 + dice.below(tasks)
  const [ids] = await Promise.all([
    scene.submitBatch(batch),
    (async () => {
      await scene.hosts.call.nth(`${tag}-`, entries, 120_000)
      if (dice.chance(0.5)) await delay(dice.below(20))
      await killOne(dice)
    })()
  ])
  return untilEnded(scene.fresh.database, ids, { timeoutMs: 60_000 + 10 * leaseMs, orUncertain: true })
}

test(
  `${runs} runs of ${tasks} tasks, each with a kill -9 of a dispatcher: nothing lost, early, done twice or falsely complete`,
  { timeout: 60_000 + runs * (20_000 + 4 * leaseMs) },
  async () => {
    const began = Date.now()
    const seeds = Array.from({ length: runs }, (_, index) => firstSeed + index)
    const ended: EndedTask[] = []
    const failed: string[] = []
    await Promise.all(
      Array.from({ length: Math.min(atOnce, runs) }, async () => {
        for (let seed = seeds.shift(); seed !== undefined; seed = seeds.shift()) {
          try {
            ended.push(...(await run(seed)))
          } catch (error) {
            failed.push(`seed ${seed}: ${String(error)}`)
          }
        }
      })
    )
    const findings = await scene.judge()
    const count = (state: string) => ended.filter((task) => task.state === state).length
    const again = ended.filter(({ attempts }) => attempts > 1).length
    console.log(
      `${runs} kills, ${ended.length} tasks in ${Math.round((Date.now() - began) / 1000)} s at a lease of ${leaseMs} ms: ` +
        `${count('complete')} complete, ${count('failed')} failed, ${count('cancelled')} cancelled, ` +
        `${count('uncertain')} uncertain; ${again} had more than one attempt`
    )
    expect(findings).toEqual(nothingFound)
    expect(failed).toEqual([])
    // Whoever made a volume and died before he had said so leaves what nobody can tell: that is said, not guessed.
    expect(ended.filter(({ state }) => state !== 'complete' && state !== 'uncertain')).toEqual([])
    expect(again).toBeGreaterThan(0)
  }
)

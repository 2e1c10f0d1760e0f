// Random mixes of complex tasks on the real queue: after every step nothing waits in a circle, nothing conflicting is together, and
// everything ends. Each seed is one run; runs go side by side in one database, each on resources of its own.
// TASKOMATIC_SEED and TASKOMATIC_RUNS choose; `npm run prove -- complex-order` is the full form.
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { openDatabase } from '../../src/db/open.ts'
import { doChores } from '../../src/queue/chores.ts'
import { settle } from '../../src/queue/dispatch.ts'
import { auditAll, guardCounts } from '../../src/queue/guard.ts'
import { setCap } from '../../src/queue/limits.ts'
import { freshDatabase, type FreshDatabase } from '../support/postgres.ts'
import { CAPS, World } from './complex-world.ts'
import { Dice } from './dice.ts'
import { emptied } from './support.ts'
import { judgeMoment, linesOf, readMoment, type OpenTask } from './wait-graph.ts'

// On the oldest PostgreSQL a part is enough: what differs between the two is not the rule.
const usual = process.env['TASKOMATIC_TEST_PG'] === '15' ? 40 : 200
const runs = Number(process.env['TASKOMATIC_RUNS'] ?? usual)
const firstSeed = Number(process.env['TASKOMATIC_SEED'] ?? 1)
// Among other tests small worlds; the full form has larger ones.
const submissions = Number(process.env['TASKOMATIC_SUBMISSIONS'] ?? (runs > usual ? 8 : 4))
/** Runs side by side: they share the look at the tables. */
const SIDE_BY_SIDE = 40
const MOST_STEPS = 2_000

let fresh: FreshDatabase
beforeAll(async () => {
  fresh = await freshDatabase()
})
afterAll(() => fresh.drop())

type Tally = { tasks: number; steps: number; refused: number; waitedAnew: number; looks: number }

/** Lets these worlds live until all they asked for has ended. Throws at the first moment that is wrong. */
async function live(seeds: readonly number[]): Promise<Tally> {
  const worker = await emptied(fresh)
  for (const [key, cap] of Object.entries(CAPS)) await setCap(fresh.database, key, cap)
  const owner = openDatabase({ url: fresh.ownerUrl, poolSize: 1 })
  await owner.query(`insert into queue.clock values ('0')`)
  let aheadMs = 0
  const dice = new Dice(seeds[0] ?? 0)
  const worlds = seeds.map(
    (seed, at) =>
      new World({ db: fresh.database, dice: new Dice(seed), number: at, submissions, now: () => Date.now() + aheadMs })
  )
  for (const world of worlds) await world.begin()
  let open = new Set<number>()
  const tally: Tally = { tasks: 0, steps: 0, refused: 0, waitedAnew: 0, looks: 0 }
  const look = async (after: string) => {
    tally.looks += 1
    const moment = await readMoment(fresh.database)
    const wrong = judgeMoment(moment)
    open = new Set(moment.tasks.map(({ id }) => id))
    if (wrong.length === 0) return
    const told = [...wrong, ...linesOf(moment, wrong)].join('\n')
    throw new Error(`seeds ${seeds[0]} to ${seeds.at(-1)}, after step ${tally.steps} (${after}): ${told}`)
  }
  try {
    for (let going = true; going; tally.steps++) {
      if (tally.steps > MOST_STEPS)
        throw new Error(`seeds ${seeds[0]} to ${seeds.at(-1)} did not end in ${MOST_STEPS} steps`)
      for (const world of worlds) if (!world.isDone(open)) await world.step(worker.id)
      await doChores(fresh.database)
      await look('clients and beginnings')
      const ends = worlds.flatMap((world) => world.ends())
      if (worlds.every(({ idle }) => idle)) for (const world of worlds) await world.letGo()
      if (dice.chance(0.3)) {
        aheadMs += 1000
        await owner.query(`update queue.clock set ahead = make_interval(secs => $1 / 1000.0)`, [aheadMs])
      }
      const { claimed, settled } = await settle(fresh.database, {
        dispatcher: worker.id,
        ends,
        take: dice.below(2 * worlds.length)
      })
      expect(settled.filter(({ outcome }) => outcome === 'stale')).toEqual([])
      for (const task of claimed) worlds[(task.args as { world: number }).world]?.take(task)
      // What became due while it was settled takes its place in the next call.
      await doChores(fresh.database)
      await look('ends and claims')
      going = !worlds.every(({ over }) => over) || claimed.length > 0 || (await anyOpen())
    }
  } finally {
    await owner.stop()
  }
  expect(await auditAll(fresh.database)).toEqual([])
  expect(await guardCounts(fresh.database)).toEqual({ found: 0, staleReports: 0 })
  for (const { tasks, refused, waitedAnew } of worlds) {
    tally.tasks += tasks
    tally.refused += refused
    tally.waitedAnew += waitedAnew
  }
  return tally
}

const anyOpen = async (): Promise<boolean> => {
  const [row] = await fresh.database.query<{ open: boolean }>(
    'select exists (select from queue.task where outcome is null) as open'
  )
  return row?.open ?? false
}

describe('the judge is not blind', () => {
  const at = (id: number, more: Partial<OpenTask> = {}): OpenTask => ({
    id,
    parent: null,
    ended: false,
    places: ['wait'],
    started: false,
    position: id,
    rank: 0,
    unmet: more.after?.filter(({ outcome }) => outcome === null).length ?? 0,
    barred: 0,
    doomed: false,
    bound: false,
    phase: null,
    held: false,
    due: true,
    parked: null,
    claims: [],
    costs: [],
    after: [],
    ...more
  })
  const after = (...tasks: number[]) => tasks.map((task) => ({ task, needs: 'ended' as const, outcome: null }))
  const on = (resource: string, exclusive = true) => [{ resource, exclusive }]
  const running = { places: ['run' as const], started: true, phase: 'running' }
  const judged = (tasks: OpenTask[], caps = {}) => judgeMoment({ tasks, caps }).join('; ')

  test.each([
    ['a circle', [at(1, { after: after(2) }), at(2, { after: after(1) })], 'circle'],
    ['a child that waits for its parent', [at(1, running), at(2, { parent: 1, after: after(1) })], 'circle'],
    [
      'two that conflict and run',
      [at(1, { ...running, claims: on('a') }), at(2, { ...running, claims: on('a', false) })],
      'together'
    ],
    [
      'two that conflict and wait for neither',
      [at(1, { claims: on('a'), after: after(3) }), at(2, { claims: on('a'), after: after(3) }), at(3, running)],
      'neither'
    ],
    ['a ready one that is not', [at(1)], 'is not ready'],
    ['a wrong count', [at(1, { unmet: 1, after: [] })], 'counts 1'],
    ['one in two places', [at(1, { places: ['wait', 'ready'] })], 'wait and ready']
  ] as const)('%s', (_, tasks, found) => expect(judged([...tasks])).toContain(found))

  test('who holds units and waits for who lacks them stands still, without any circle of prerequisites', () => {
    const cost = (granted: boolean) => [{ key: 'k', units: 1, granted, queued: !granted }]
    const tasks = [
      at(1, { ...running, phase: 'awaiting', costs: cost(true) }),
      at(2, { parent: 1, parked: 'limit', barred: 1, costs: cost(false) })
    ]
    expect(judged(tasks, { k: 1 })).toContain('stand still')
    expect(judged(tasks, { k: 2 })).toContain('parked beside free units')
  })

  test('a family that waits in order is fine', () => {
    const tasks = [
      at(1, { ...running, phase: 'awaiting', claims: on('a') }),
      at(2, { ...running, parent: 1, claims: on('a') }),
      at(3, { claims: on('a'), after: after(1) })
    ]
    expect(judged(tasks)).toBe('')
  })
})

describe('complex tasks', () => {
  test(
    `${runs} random mixes: nothing waits in a circle, nothing conflicting is together, everything ends`,
    { timeout: 120_000 + runs * 10_000 },
    async () => {
      const total: Tally = { tasks: 0, steps: 0, refused: 0, waitedAnew: 0, looks: 0 }
      for (let done = 0; done < runs; done += SIDE_BY_SIDE) {
        const size = Math.min(SIDE_BY_SIDE, runs - done)
        const tally = await live(Array.from({ length: size }, (_, at) => firstSeed + done + at))
        for (const key of Object.keys(total) as (keyof Tally)[]) total[key] += tally[key]
        if (runs > usual) console.log(`${done + size} runs so far, ${total.tasks} tasks`)
      }
      console.log(
        `${runs} runs: ${total.tasks} tasks, ${total.looks} looks at the tables, ${total.refused} children and bindings refused, ` +
          `${total.waitedAnew} bindings waited anew`
      )
      expect(total.tasks).toBeGreaterThan(runs * submissions)
    }
  )
})

// The model of the scheduler is held against the real queue: the same operations, in the same order, by the same clock; after each of
// them both have answered alike and stand alike. TASKOMATIC_SEED and TASKOMATIC_SEEDS choose.
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { Settled } from '../model-queue/dispatch.ts'
import { momentOf } from '../model-queue/moment.ts'
import { apply, type Answer, type Operation } from '../model-queue/operations.ts'
import { Simulation } from '../model-queue/simulation.ts'
import { SqlQueue } from '../model-queue/sql-queue.ts'
import { State } from '../model-queue/state.ts'
import { readMoment, type OpenTask } from '../queue/wait-graph.ts'
import { freshDatabase, type FreshDatabase } from '../support/postgres.ts'

const seeds = Number(process.env['TASKOMATIC_SEEDS'] ?? 40)
const firstSeed = Number(process.env['TASKOMATIC_SEED'] ?? 1)
const OPERATIONS = 60

let fresh: FreshDatabase
let queue: SqlQueue
beforeAll(async () => {
  fresh = await freshDatabase()
  queue = await SqlQueue.open(fresh)
})
afterAll(async () => {
  await queue.stop()
  await fresh.drop()
})

/** What one simulated life asks for first, as far as it could change or tell anything. */
function operationsOf(seed: number): Operation[] {
  const operations: Operation[] = []
  let counted = 0
  const onOperation = (operation: Operation) => {
    if (counted < OPERATIONS) operations.push(operation)
    if (operation.do !== 'pass' && operation.do !== 'beat') counted += 1
  }
  new Simulation(seed, { wild: seed % 2 === 0, onOperation }).live()
  return operations
}

/** What only one of them says is left out. */
function comparable({ do: what }: Operation, answer: Answer): Answer {
  if (what !== 'settle' || 'refused' in answer) return answer
  const { stale, claimed, dueMs } = answer.value as Settled
  return { value: { stale, claimed, dueMs } }
}

const inOrder = (tasks: readonly OpenTask[]) =>
  tasks
    .map((task) => ({
      ...task,
      claims: task.claims.toSorted((a, b) => (a.resource < b.resource ? -1 : 1)),
      costs: task.costs.toSorted((a, b) => (a.key < b.key ? -1 : 1)),
      after: task.after.toSorted((a, b) => a.task - b.task)
    }))
    .toSorted((a, b) => a.id - b.id)

async function ended(): Promise<unknown> {
  return queue.sql.query(
    `select id, outcome::text as outcome, attempts, error ->> 'code' as code from queue.task where outcome is not null order by id`
  )
}

const endedInModel = (state: State) =>
  [...state.tasks.values()]
    .filter(({ outcome }) => outcome !== null)
    .map(({ id, outcome, attempts, code }) => ({ id, outcome, attempts, code: code === 'said' ? 'broken' : code }))
    .toSorted((a, b) => a.id - b.id)

test(
  `the same operations by ${seeds} seeds: model and database answer alike and stand alike after each`,
  { timeout: 60_000 + seeds * 5_000 },
  async () => {
    let compared = 0
    for (let seed = firstSeed; seed < firstSeed + seeds; seed++) {
      const state = new State()
      await queue.empty()
      const done: string[] = []
      for (const operation of operationsOf(seed)) {
        const expected = comparable(operation, apply(state, operation))
        const answer = await queue.do(operation)
        if (operation.do === 'pass') continue
        done.push(JSON.stringify(operation))
        const told = `seed ${seed}, after ${done.slice(-12).join('\n')}`
        expect(answer, told).toEqual(expected)
        if (operation.do === 'beat') continue
        const { tasks } = await readMoment(queue.sql)
        expect(inOrder(tasks), told).toEqual(inOrder(momentOf(state).tasks))
        expect(await ended(), told).toEqual(endedInModel(state))
        compared += 1
      }
    }
    console.log(`${seeds} seeds, ${compared} operations alike`)
    expect(compared).toBeGreaterThan(seeds * 10)
  }
)

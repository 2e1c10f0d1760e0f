// A preview tells the prerequisites that a submission then gets: the rule of the lines is told twice (in SQL for what is stored,
// in memory for what is not), and held against each other here on random submissions to a crowded queue.
import { afterAll, beforeAll, expect, test } from 'vitest'
import { action, possible } from '../../src/actions/action.ts'
import type { Evaluated } from '../../src/actions/evaluate.ts'
import { previewOf } from '../../src/actions/preview.ts'
import { asSubmission, type SubmissionRequest } from '../../src/actions/submission.ts'
import { Type } from 'typebox'
import { ensureResources, lockResources, submit } from '../../src/queue/submit.ts'
import { edgesOf } from '../../src/queue/read.ts'
import { hold } from '../../src/queue/requests.ts'
import { expand } from '../../src/queue/expand.ts'
import { Dice } from '../queue/dice.ts'
import { claim, task as newTask, Worker } from '../queue/support.ts'
import { freshDatabase, type FreshDatabase } from '../support/postgres.ts'

let fresh: FreshDatabase
beforeAll(async () => {
  fresh = await freshDatabase()
})
afterAll(() => fresh.drop())

const touch = action({
  name: 'thing.touch',
  summary: 'Touch things',
  args: Type.Object({}),
  title: () => 'Touch',
  claims: () => [],
  check: () => possible,
  effect: () => [],
  run: async () => ({ outcome: 'complete', result: null }),
  probe: async () => ({ happened: 'no', evidence: null })
})

const claimsOf = (dice: Dice) => {
  const claims = new Map(
    Array.from({ length: 1 + dice.below(3) }, () => {
      const thing = `thing/${dice.below(6)}`
      return [thing, claim(dice.chance(0.5) ? `~${thing}` : thing)]
    })
  )
  return [...claims.values()]
}

function randomRequest(dice: Dice, stored: readonly number[]): { request: SubmissionRequest; tasks: Evaluated[] } {
  const size = 1 + dice.below(8)
  const requested = Array.from({ length: size }, (_, index): SubmissionRequest['tasks'][number] => ({
    key: `k${index}`,
    action: touch.name,
    args: {},
    after: [
      ...(index > 0 && dice.chance(0.3) ? [`k${dice.below(index)}`] : []),
      ...(stored.length > 0 && dice.chance(0.2) ? [dice.pick(stored) ?? 0] : [])
    ],
    ...(dice.chance(0.1) ? { hold: { reason: 'later' } } : {})
  }))
  const tasks = requested.map((_, index): Evaluated => ({
    action: touch,
    args: {},
    title: `Touch ${index}`,
    claims: claimsOf(dice),
    effects: [],
    limits: [],
    verdict: possible,
    thanksTo: index > 0 && dice.chance(0.2) ? [{ index: dice.below(index) }] : []
  }))
  return { request: { tasks: requested, by: 'test', plan: { onFailure: 'stop' } }, tasks }
}

test('what is previewed is what is stored, on 60 random plans behind a crowd of children, held tasks and late claims', async () => {
  const dice = new Dice(7)
  const { database } = fresh
  const worker = await Worker.start(database)
  const names = Array.from({ length: 6 }, (_, at) => `thing/${at}`)
  await ensureResources(database, names)
  const stored: number[] = []
  let edges = 0
  for (let round = 0; round < 60; round++) {
    const { request, tasks } = randomRequest(dice, stored)
    const preview = await previewOf(database, tasks, request)
    const answer = await database.transaction(async (tx) => {
      await lockResources(
        tx,
        tasks.flatMap((one) => one.claims)
      )
      return submit(tx, asSubmission(request, tasks))
    })
    const found = await edgesOf(database, answer.tasks)
    for (const [index, id] of answer.tasks.entries()) {
      const told = preview.tasks[index]?.after.map(({ task: ref, needs }) => {
        return `${typeof ref === 'number' ? ref : answer.tasks[ref.index]} ${needs}`
      })
      const made = found.filter((edge) => edge.task === id).map((edge) => `${edge.prerequisite} ${edge.needs}`)
      expect(told?.toSorted(), `round ${round}, element ${index}`).toEqual(made.toSorted())
      edges += made.length
    }
    stored.push(...answer.tasks)
    // The crowd goes on: some end, one expands, one is held.
    const taken = await worker.take(3)
    for (const [at, one] of taken.entries()) {
      const parts = [newTask({ claims: [`thing/${dice.below(6)}`] })]
      if (at === 0 && one.children === null) {
        await expand(database, { dispatcher: worker.id, task: one.id, attempt: one.attempt, children: parts })
      } else await worker.complete(one)
    }
    const candidate = dice.pick(answer.tasks) ?? 0
    if (dice.chance(0.2)) await hold(database, { task: candidate, by: 'test', reason: 'later' }).catch(() => undefined)
  }
  expect(edges).toBeGreaterThan(200)
})

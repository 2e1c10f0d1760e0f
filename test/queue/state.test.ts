// The words for states are the same in PostgreSQL and TypeScript, and the table of transitions is closed.
import { afterAll, beforeAll, expect, test } from 'vitest'
import { isEnded, mayGo, phaseOf, PHASES, TASK_STATES, TRANSITIONS, UNDO_STATES } from '../../src/queue/state.ts'
import { freshDatabase } from '../support/postgres.ts'
import type { FreshDatabase } from '../support/postgres.ts'

let fresh: FreshDatabase
beforeAll(async () => {
  fresh = await freshDatabase()
})
afterAll(() => fresh.drop())

test('the words of PostgreSQL are the words of TypeScript, in the same order', async () => {
  const [row] = await fresh.database.query(
    'select enum_range(null::queue.state)::text[] as states, enum_range(null::queue.undo_state)::text[] as undo'
  )
  expect(row).toEqual({ states: [...TASK_STATES], undo: [...UNDO_STATES] })
})

test('every state is in one phase, and the phases hold all of them', () => {
  expect(Object.values(PHASES).flat().toSorted()).toEqual([...TASK_STATES].toSorted())
  for (const state of TASK_STATES) expect((PHASES[phaseOf(state)] as readonly string[]).includes(state)).toBe(true)
})

test('what is new runs only from ready, and what is complete stays so', () => {
  for (const state of PHASES.new) expect(mayGo(state, 'running')).toBe(state === 'ready')
  expect(TRANSITIONS.complete).toEqual([])
  for (const state of TASK_STATES.filter((one) => !isEnded(one))) {
    expect(TRANSITIONS[state].length).toBeGreaterThan(0)
  }
})

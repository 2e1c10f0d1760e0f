// What an action says while it runs, on its way into the database.

import pino from 'pino'
import { expect, test } from 'vitest'
import { createContexts } from '../../src/dispatcher/context.ts'
import { FleetState } from '../../src/inventory/fleet-state.ts'
import type { ClaimedTask } from '../../src/queue/dispatch.ts'

const task = { id: 7, attempt: 1, action: 'vm.start', title: 'Start web1', by: 'test' } as ClaimedTask
const state = new FleetState({ phase: 'starting', base: new Map() })

test('steps are written in the order in which they were said, however long the database takes for each', async () => {
  const said: unknown[] = []
  const done = Promise.withResolvers<void>()
  const database = {
    // The first takes longest: sent at once, it would come in last.
    async query(_sql: string, [, , , message]: unknown[]) {
      await new Promise((resolve) => setTimeout(resolve, message === 'look' ? 30 : 0))
      if (message === 'fail') throw new Error('the database is away')
      said.push(message)
      if (message === 'wait') done.resolve()
      return []
    }
  }
  const parts = { database, log: pino({ level: 'silent' }), instance: 'i' }
  const { contextFor } = createContexts(parts as unknown as Parameters<typeof createContexts>[0])
  const { context, step } = contextFor(task, state, { host: 'h1', target: null }, AbortSignal.abort())
  for (const name of ['look', 'fail', 'start', 'wait']) context.step(name)
  expect(step()).toBe('wait')
  await done.promise
  expect(said).toEqual(['look', 'start', 'wait'])
})

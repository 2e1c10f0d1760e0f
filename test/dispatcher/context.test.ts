// What an action says while it runs, on its way into the database.

import pino from 'pino'
import { expect, test } from 'vitest'
import { createContexts } from '../../src/dispatcher/context.ts'
import { FleetState } from '../../src/inventory/fleet-state.ts'
import type { ClaimedTask } from '../../src/queue/dispatch.ts'

const task = { id: 7, attempt: 1, action: 'vm.start', title: 'Start web1', by: 'test' } as ClaimedTask
const state = new FleetState({ phase: 'starting', base: new Map() })

test('steps are written in the order in which they were said, together, and one that cannot be kept alone is lost', async () => {
  const said: string[] = []
  let calls = 0
  const database = {
    async query(_sql: string, [lines]: [string]) {
      calls++
      const messages = (JSON.parse(lines) as { message: string }[]).map(({ message }) => message)
      await new Promise((resolve) => setTimeout(resolve, messages.includes('look') ? 30 : 0))
      if (messages.includes('fail')) throw new Error('it cannot be kept')
      said.push(...messages)
      return []
    }
  }
  const parts = { database, log: pino({ level: 'silent' }), instance: 'i' }
  const { contextFor, flush } = createContexts(parts as unknown as Parameters<typeof createContexts>[0])
  const { context, step } = contextFor(task, state, { host: 'h1', target: null }, AbortSignal.abort())
  for (const name of ['look', 'start']) context.step(name)
  await flush()
  for (const name of ['fail', 'wait']) context.step(name)
  expect(step()).toBe('wait')
  expect(said).toEqual(['look', 'start'])
  expect(calls).toBe(1)
  await flush()
  expect(said).toEqual(['look', 'start', 'wait'])
})

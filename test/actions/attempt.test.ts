// What becomes of a task that is cancelled: what was sent before is looked for, and what was only looked at is not.
import { expect, test } from 'vitest'
import type { ActionContext, Probe } from '../../src/actions/action.ts'
import { attempt, type Settle } from '../../src/actions/attempt.ts'
import { HostError } from '../../src/host/error.ts'

/** Ends as cancelled in the last of the steps; how often it was looked for. */
async function cancelledAfter(steps: readonly string[], found: Probe, settle: Partial<Settle> = {}) {
  let probes = 0
  const context = { step: () => {}, log: () => {}, signal: AbortSignal.abort(), task: { attempt: 1 } }
  const outcome = await attempt(
    context as unknown as ActionContext,
    (step) => {
      steps.forEach(step)
      throw new HostError('aborted', 'h1', 'h1: stopped waiting')
    },
    { probe: () => Promise.resolve((probes++, found)), patienceMs: 0, ...settle }
  )
  return { outcome: outcome.outcome, probes }
}

const sent = ['look at the VM', 'start', 'wait until it runs']
const unknown: Probe = { happened: 'unknown', evidence: null, why: 'h1 cannot be asked' }

test('what happened all the same is complete', async () => {
  const found: Probe = { happened: 'yes', evidence: null, result: { host: 'h1' } }
  expect(await cancelledAfter(sent, found)).toEqual({ outcome: 'complete', probes: 1 })
})

test('what did not happen is cancelled', async () => {
  expect(await cancelledAfter(sent, { happened: 'no', evidence: null })).toEqual({ outcome: 'cancelled', probes: 1 })
})

test('what nobody can tell is uncertain', async () => {
  expect(await cancelledAfter(sent, unknown)).toEqual({ outcome: 'uncertain', probes: 1 })
})

test('before anything is sent nothing is looked for, nor where a look could not tell', async () => {
  expect(await cancelledAfter(['look at the VM'], unknown)).toEqual({ outcome: 'cancelled', probes: 0 })
  expect(await cancelledAfter(sent, unknown, { isBlind: true })).toEqual({ outcome: 'cancelled', probes: 0 })
})

// One try at a task: follows its steps, and turns what hosts did to it into an outcome.
// A refusal fails, or is tried again when libvirt's code says that it passes, unless what was done before it is seen to be all; what was not sent waits for the host;
// what was sent and never answered is looked for, and so is what was cancelled. Faults of our own are thrown on.
import { setTimeout as delay } from 'node:timers/promises'
import type { Json } from '../db/json.ts'
import { HostError } from '../host/error.ts'
import type { TaskError } from '../queue/task.ts'
import { complete, failed, park, retry, uncertain, type ActionContext, type Outcome, type Probe } from './action.ts'
import { errorOf, isTransient } from './error.ts'
import { hostOffError } from './host-refusal.ts'

/** What must be known before acting cannot be known while a host does not answer: the task waits for it, and says why. */
export class CannotTell extends HostError {
  constructor(cause: HostError, message: string) {
    super('unreachable', cause.host, message, { cause })
  }
}

/** Names what is done next, before its effect. */
export type Step = (name: string) => void

/** A transient refusal is tried this often before it is taken for final. */
export const maxAttempts = 5
const firstRetryMs = 1_000
const longestRetryMs = 30_000

/** Doubles with each attempt: 1 s, 2 s, 4 s … 30 s. */
export const retryDelayMs = (tries: number): number =>
  Math.min(longestRetryMs, firstRetryMs * 2 ** Math.max(0, tries - 1))

export type Settle = {
  /** Asked when the outcome of something sent is unknown. */
  probe: () => Promise<Probe>
  /** Overrides what an error says to do next. */
  next?: string
  /** How long a host that is silent may take to answer the probe before the task is uncertain; default 15,000. */
  patienceMs?: number
  /** The probe can never tell: what was cancelled is said to be so, and no more. */
  isBlind?: boolean
}

/**
 * Runs `body`.
 * @throws whatever is no HostError, and HostError `fenced`
 */
export async function attempt(
  ctx: ActionContext,
  body: (step: Step) => Promise<Outcome>,
  settle: Settle
): Promise<Outcome> {
  let current = 'begin'
  let hasActed = false
  let hadActed = false
  const step: Step = (name) => {
    current = name
    hadActed = hasActed
    hasActed ||= !/^(?:look|read) /.test(name)
    ctx.step(name)
  }
  try {
    return await body(step)
  } catch (error) {
    if (!(error instanceof HostError)) throw error
    if (error.code === 'aborted') return cancelledOr(ctx, error, { step: current, hasActed }, settle)
    return outcomeOf(ctx, error, { step: current, hasActed, hadActed }, settle)
  }
}

/** Cancelled, unless it happened all the same: what had been sent before may have. */
async function cancelledOr(
  ctx: ActionContext,
  error: HostError,
  { step, hasActed }: { step: string; hasActed: boolean },
  settle: Settle
): Promise<Outcome> {
  const told = cancelledAt(step, errorOf(error, step, settle.next))
  if (!hasActed || settle.isBlind) return { outcome: 'cancelled', error: told }
  const probe = await probePatiently(ctx, error, settle, { cancelled: true })
  return probe.happened === 'no' ? { outcome: 'cancelled', error: told } : settled(ctx, told, probe)
}

async function outcomeOf(
  ctx: ActionContext,
  error: HostError,
  { step, hasActed, hadActed }: { step: string; hasActed: boolean; hadActed: boolean },
  settle: Settle
): Promise<Outcome> {
  const told = errorOf(error, step, settle.next)
  switch (error.code) {
    case 'fenced':
      throw error
    case 'unreachable':
      if (await ctx.observe.isConfirmedOff(error.host)) return failed(hostOffError(error.host, step))
      // The next attempt is parked, if the host is still down; this one is known to have done something.
      if (hadActed && !(error instanceof CannotTell)) return retry(retryDelayMs(ctx.task.attempt), told)
      return park(error instanceof CannotTell ? error.message : `host ${error.host} is down`, hostKey(error.host))
    case 'unknown_outcome':
      ctx.log('warn', `${lostAnswer}: ${error.message}`)
      return settled(ctx, told, await probePatiently(ctx, error, settle))
    case 'refused': {
      const already = hasActed && !settle.isBlind ? await seenDone(ctx, settle) : undefined
      if (already) {
        ctx.log('warn', `it is done, although not all went well: ${error.message}`, { step, code: told.code })
        return complete(already.result)
      }
      return isTransient(error) && ctx.task.attempt < maxAttempts
        ? retry(retryDelayMs(ctx.task.attempt), told)
        : failed(told)
    }
    case 'timeout': {
      // The wait is over, or an answer to a look did not come: what was sent before may have happened.
      const probe = await probePatiently(ctx, error, settle)
      return probe.happened === 'no' ? failed(told) : settled(ctx, told, probe)
    }
    default:
      return failed(told)
  }
}

/** How the log of a task begins to say that a call to its host was sent and never answered. */
export const lostAnswer = 'nobody knows yet whether it happened, the host is asked'

/** What parked tasks wait for when a host is down or silent. */
export const hostKey = (host: string): string => `host/${host}`

function settled(ctx: ActionContext, error: TaskError, probe: Probe): Outcome {
  if (probe.happened === 'yes') return complete(probe.result)
  if (probe.happened === 'no')
    return ctx.task.attempt < maxAttempts ? retry(retryDelayMs(ctx.task.attempt), error) : failed(error)
  return uncertain({ ...error, next: `${probe.why}; it is looked for again when the host returns` }, probe.evidence)
}

const defaultPatienceMs = 15_000
const firstLookMs = 100
const longestLookMs = 2_000

/** Most connections that are lost are back within seconds: only then is it said that nobody knows. */
async function probePatiently(
  ctx: ActionContext,
  sent: HostError,
  settle: Settle,
  { cancelled = false } = {}
): Promise<Probe> {
  const giveUp = performance.now() + (settle.patienceMs ?? defaultPatienceMs)
  for (let waitMs = firstLookMs; ; waitMs = Math.min(longestLookMs, waitMs * 2)) {
    const probe = await probeSafely(sent, settle.probe)
    // Whoever cancels what was sent waits to hear whether it happened.
    const isOver = (!cancelled && ctx.signal.aborted) || performance.now() + waitMs > giveUp
    if (probe.happened !== 'unknown' || isOver) return probe
    await delay(waitMs)
  }
}

/** What was refused may have been the last and least of it. One look; whoever cannot look says what was refused. */
async function seenDone(ctx: ActionContext, { probe }: Settle): Promise<{ result: Json } | undefined> {
  try {
    const seen = await probe()
    return seen.happened === 'yes' ? seen : undefined
  } catch (error) {
    if (!(error instanceof HostError) || error.code === 'fenced') throw error
    ctx.log('info', `whether it is done all the same was not seen: ${error.message}`)
    return undefined
  }
}

/** A probe that cannot ask does not know. */
async function probeSafely(sent: HostError, probe: () => Promise<Probe>): Promise<Probe> {
  try {
    return await probe()
  } catch (error) {
    if (!(error instanceof HostError) || error.code === 'fenced') throw error
    return { happened: 'unknown', evidence: { host: error.host, code: error.code }, why: sent.message }
  }
}

const cancelledAt = (step: string, error: TaskError): TaskError => ({
  ...error,
  code: 'cancelled',
  message: `cancelled while: ${step}`
})

// Tasks of which nobody could tell whether they happened: looked for again soon, whenever a host comes up, and now and then. What an
// operator says of a host that is off settles what was bound to it.
import type { Logger } from 'pino'
import type { Action, Probe } from '../actions/action.ts'
import { hostOffError } from '../actions/host-refusal.ts'
import type { Database } from '../db/open.ts'
import { HostError } from '../host/error.ts'
import { loadFacts } from '../inventory/load.ts'
import { resource } from '../model/resource.ts'
import type { End } from '../queue/dispatch.ts'
import type { TaskError } from '../queue/task.ts'
import { boundClaims, uncertainTasks, type UncertainTask } from '../queue/uncertain.ts'
import { boundPlace } from './choose-host.ts'
import type { ContextFor } from './context.ts'
import { ended } from './ended.ts'
import { TaskFacts } from './prepare.ts'

export type Looking = { database: Database; registry: ReadonlyMap<string, Action>; contextFor: ContextFor }

/** Null while still nobody can tell, and nothing else is known than before; else its end, or that it is to be tried again. */
async function probeTask(looking: Looking, task: UncertainTask): Promise<End | null> {
  const action = looking.registry.get(task.action)
  if (!action) return null
  const place = boundPlace(task)
  const facts = new TaskFacts((subjects) => loadFacts(looking.database, subjects), task)
  const state = place.host === null ? facts.state(place) : await facts.forRun(action, place)
  const { context } = looking.contextFor(task, state, place)
  const probe = await action.probe(context, task.args)
  if (probe.happened === 'unknown') return toldAnew(task, probe)
  context.log('info', `looked again whether it happened: ${probe.happened}`, { evidence: probe.evidence })
  if (probe.happened === 'yes') return ended(task, { outcome: 'complete', result: probe.result })
  if (probe.ended) return ended(task, { outcome: 'failed', error: because(probe.ended, task.error) })
  const error = { code: 'did_not_happen', message: 'what was sent to the host did not happen', step: 'probe' }
  return ended(task, { outcome: 'retry', afterMs: 0, error })
}

/** It stays uncertain, for another reason: with that and what was found now. */
function toldAnew(task: UncertainTask, { error, evidence }: Extract<Probe, { happened: 'unknown' }>): End | null {
  if (!error || error.message === task.error?.message) return null
  return ended(task, { outcome: 'uncertain', error: because(error, task.error), evidence })
}

/** What was told before is kept as a cause. */
const because = (error: TaskError, before: TaskError | null): TaskError =>
  before ? { ...error, causes: [{ code: before.code, message: before.message }, ...(before.causes ?? [])] } : error

/**
 * An uncertain task of a host that was confirmed off: looked for as far as can be looked, else it counts as not done. Null when it
 * has nothing to do with that host.
 */
async function settleOff(looking: Looking, task: UncertainTask, host: string): Promise<End | null> {
  const claims = await boundClaims(looking.database, task.id)
  // One that is made of parts is no task of the host: what its parts left waits for a verdict.
  if (looking.registry.get(task.action)?.afterChildren) return null
  if (boundPlace(task).host !== host && !claims.includes(resource.host(host))) return null
  const end = await probeTask(looking, task).catch((error: unknown) => {
    if (error instanceof HostError && error.host === host) return null
    throw error
  })
  if (end && end.outcome !== 'uncertain') return end
  return ended(task, { outcome: 'failed', error: hostOffError(host, 'probe') })
}

/** Of one host that was confirmed off all are settled at once. */
const mostUncertain = 10_000

/** The first look again is after this; each further one after twice as long. */
const soonMs = 1000
const soonTimes = 4

export type LookAgainParts = {
  /** Undefined: not now. */
  looking: () => Looking | undefined
  log: Logger
  /** Of several processes one looks for the tasks that are bound to that host; null: to none. */
  looksAt: (host: string | null) => boolean
  onEnd: (end: End) => void
}

/** Rounds over uncertain tasks, one at a time; what still cannot be told waits for the next. */
export class LookAgain {
  readonly #looking: LookAgainParts['looking']
  readonly #log: Logger
  readonly #looksAt: LookAgainParts['looksAt']
  readonly #onEnd: LookAgainParts['onEnd']
  /** When those that were told here a moment ago are looked for again, by performance.now(), and how often they were. */
  readonly #recent = new Map<number, { at: number; looks: number }>()
  #busy = false

  constructor({ looking, log, looksAt, onEnd }: LookAgainParts) {
    this.#looking = looking
    this.#log = log
    this.#looksAt = looksAt
    this.#onEnd = onEnd
  }

  /** Looked for here in a second, and a few times more: much that is not decided yet is so within moments, e.g. a guest that just starts. */
  soon(task: number): void {
    this.#recent.set(task, { at: performance.now() + soonMs, looks: 0 })
  }

  /** Those that are to be looked for soon, if it is time for any. */
  async recent(): Promise<void> {
    const now = performance.now()
    const due = new Set([...this.#recent].filter(([, { at }]) => at <= now).map(([task]) => task))
    if (due.size === 0 || this.#busy) return
    for (const task of due) {
      const looks = (this.#recent.get(task)?.looks ?? 0) + 1
      if (looks < soonTimes) this.#recent.set(task, { at: now + soonMs * 2 ** looks, looks })
      else this.#recent.delete(task)
    }
    await this.#look((task) => due.has(task.id))
  }

  round(): Promise<void> {
    return this.#look((task) => this.#looksAt(boundPlace(task).host))
  }

  async #look(wants: (task: UncertainTask) => boolean): Promise<void> {
    const looking = this.#looking()
    if (this.#busy || !looking) return
    this.#busy = true
    try {
      for (const task of await uncertainTasks(looking.database, mostUncertain)) {
        if (!wants(task)) continue
        const end = await probeTask(looking, task).catch((error: unknown) => {
          this.#log.info({ err: error, task: task.id }, 'it still cannot be told whether it happened')
          return null
        })
        if (end) this.#onEnd(end)
      }
    } finally {
      this.#busy = false
    }
  }

  async hostOff(host: string): Promise<void> {
    const looking = this.#looking()
    if (!looking) return
    for (const task of await uncertainTasks(looking.database, mostUncertain)) {
      const end = await settleOff(looking, task, host).catch((error: unknown) => {
        this.#log.warn(
          { err: error, task: task.id, host },
          'what was bound to a host that is off could not be settled yet'
        )
        return null
      })
      if (end) this.#onEnd(end)
    }
  }
}

// One claimed task from claim to end: facts, host, final claims, check, run, and what became of it.
// Returns the end to record, or null when there is nothing to record (it went back to waiting, or is no longer ours).
import {
  complete,
  uncertain,
  type Action,
  type ActionContext,
  type Outcome,
  type Probe,
  type Verdict
} from '../actions/action.ts'
import { mergeClaims } from '../actions/evaluate.ts'
import type { Database, Sql } from '../db/open.ts'
import type { JsonObject } from '../db/json.ts'
import { HostError } from '../host/error.ts'
import { FleetState, NotLoaded } from '../inventory/fleet-state.ts'
import { loadFacts } from '../inventory/load.ts'
import { bind, type ClaimedTask, type End } from '../queue/dispatch.ts'
import { expand } from '../queue/expand.ts'
import type { TaskError } from '../queue/task.ts'
import { hostOffError } from '../actions/host-refusal.ts'
import { resource } from '../model/resource.ts'
import { boundClaims } from '../queue/uncertain.ts'
import { hostOffError } from '../actions/host-refusal.ts'
import { resource } from '../model/resource.ts'
import { boundClaims } from '../queue/uncertain.ts'
import { chooseHost } from './choose-host.ts'
import { faultOf } from './fault.ts'

export type Execution = {
  database: Database
  dispatcher: number
  registry: ReadonlyMap<string, Action>
  /** Builds what the action acts through; `step` tells which step it was at last. */
  contextFor(
    task: ClaimedTask,
    state: FleetState,
    boundHost: string | null
  ): { context: ActionContext; step: () => string | undefined }
  /** Looks things up on their hosts again, before a task is failed for what the inventory says. */
  refresh(claims: readonly { resource: string }[], boundHost: string | null): Promise<void>
}

export async function executeTask(execution: Execution, task: ClaimedTask): Promise<End | null> {
  const action = execution.registry.get(task.action)
  if (!action)
    return ended(
      task,
      failedBy({
        code: 'unknown_action',
        message: `this version has no action ${task.action}`,
        next: 'run it with a version that has it, or cancel it'
      })
    )
  if (task.children) return ended(task, fromChildren(task.children))
  const placed = await prepare(execution, task, action)
  if (placed.outcome === 'end') return ended(task, placed.end)
  if (placed.outcome === 'gone') return null
  const { context, step } = execution.contextFor(task, placed.state, placed.host)
  const outcome = await runOrProbe(action, context, task, step)
  if (outcome.outcome !== 'expand') return ended(task, said(outcome, placed.nothingToDo))
  const expanded = await expand(execution.database, {
    dispatcher: execution.dispatcher,
    task: task.id,
    attempt: task.attempt,
    children: outcome.children
  })
  if (expanded === 'stale') return null
  for (const refused of expanded.refused) context.log('error', `child ${refused.index} was refused: ${refused.message}`)
  return null
}

type Prepared =
  /** nothingToDo: why, by what was observed before it ran. */
  | { outcome: 'ready'; state: FleetState; host: string | null; nothingToDo?: string | undefined }
  | { outcome: 'end'; end: Exclude<Outcome, { outcome: 'expand' }> }
  | { outcome: 'gone' }

/** Decides the host, binds the final claims and asks once more whether it is possible, on observed facts. */
async function prepare(execution: Execution, task: ClaimedTask, action: Action): Promise<Prepared> {
  const { database, dispatcher } = execution
  const base = new Map<string, JsonObject | null>()
  const args = task.args
  const before = task.takenOver ? hostOf(task) : undefined
  if (before !== undefined)
    return { outcome: 'ready', state: await factsFor(database, base, task, action, before), host: before }
  if (action.bindTo) {
    const to = await asked(database, base, task, (state) => action.bindTo?.(args, state) ?? null)
    const bound = await database.transaction(async (tx) => {
      const chosen = await chooseHost(tx, task, to)
      if (chosen.outcome !== 'chosen') return chosen
      const { claims, limits } = await asked(
        tx,
        base,
        task,
        (state) => ({ claims: mergeClaims(action.claims(args, state)), limits: action.limits?.(args, state) }),
        chosen.host
      )
      const answer = await bind(tx, {
        dispatcher,
        task: task.id,
        attempt: task.attempt,
        claims,
        bound: chosen.bound,
        ...(limits ? { limits } : {})
      })
      return answer.outcome === 'started' ? chosen : ({ outcome: 'gone' } as const)
    })
    if (bound.outcome === 'gone') return { outcome: 'gone' }
    if (bound.outcome === 'nowhere')
      return { outcome: 'end', end: { outcome: 'park', reason: bound.reason, key: bound.key } }
    const { error, nothingToDo } = await checked(execution, task, action, base, bound.host)
    if (error) return { outcome: 'end', end: failedBy(error) }
    return { outcome: 'ready', state: stateOf(base, bound.host), host: bound.host, nothingToDo }
  }
  const { error, nothingToDo } = await checked(execution, task, action, base, null)
  if (error) return { outcome: 'end', end: failedBy(error) }
  return { outcome: 'ready', state: stateOf(base, null), host: null, nothingToDo }
}

/** Where an earlier attempt was bound: it has its claims, and what it did was done there. */
function hostOf(task: ClaimedTask): string | undefined {
  const host = task.bound?.['host']
  return typeof host === 'string' ? host : undefined
}

/** Loads what the action reads; whether it is possible does not matter once it may have happened. */
async function factsFor(
  sql: Sql,
  base: Map<string, JsonObject | null>,
  task: ClaimedTask,
  action: Action,
  host: string
): Promise<FleetState> {
  await asked(sql, base, task, (state) => [action.check(task.args, state), action.claims(task.args, state)], host)
  return stateOf(base, host)
}

/**
 * Looks for a task whose outcome nobody could tell. Null while nobody still can; else its end, or that it is to be tried again.
 */
export async function probeTask(execution: Execution, task: ClaimedTask): Promise<End | null> {
  const action = execution.registry.get(task.action)
  if (!action) return null
  const host = hostOf(task)
  const base = new Map<string, JsonObject | null>()
  const state = host === undefined ? stateOf(base, null) : await factsFor(execution.database, base, task, action, host)
  const { context } = execution.contextFor(task, state, host ?? null)
  const probe = await action.probe(context, task.args)
  if (probe.happened === 'unknown') return null
  context.log('info', `looked again whether it happened: ${probe.happened}`, { evidence: probe.evidence })
  if (probe.happened === 'yes') return ended(task, { outcome: 'complete', result: probe.result })
  const error = { code: 'did_not_happen', message: 'what was sent to the host did not happen', step: 'probe' }
  return ended(task, { outcome: 'retry', afterMs: 0, error })
}

/**
 * An uncertain task of a host that was confirmed off: looked for as far as can be looked, else it counts as not done. Null when it
 * has nothing to do with that host.
 */
export async function settleOff(execution: Execution, task: ClaimedTask, host: string): Promise<End | null> {
  const bound = await boundClaims(execution.database, task.id)
  if (hostOf(task) !== host && !bound.includes(resource.host(host))) return null
  const end = await probeTask(execution, task).catch(() => null)
  return end ?? ended(task, failedBy(hostOffError(host, 'probe')))
}

/**
 * An uncertain task of a host that was confirmed off: looked for as far as can be looked, else it counts as not done. Null when it
 * has nothing to do with that host.
 */
export async function settleOff(execution: Execution, task: ClaimedTask, host: string): Promise<End | null> {
  const bound = await boundClaims(execution.database, task.id)
  if (hostOf(task) !== host && !bound.includes(resource.host(host))) return null
  const end = await probeTask(execution, task).catch(() => null)
  return end ?? ended(task, failedBy(hostOffError(host, 'probe')))
}

/**
 * The verdict on observed facts; only `impossible` decides, since whether there is nothing to do is for the host to say.
 * What looks impossible is looked up on the host first: the inventory may lag behind.
 */
async function checked(
  execution: Execution,
  task: ClaimedTask,
  action: Action,
  base: Map<string, JsonObject | null>,
  host: string | null
): Promise<{ error?: TaskError; nothingToDo?: string }> {
  const ask = () =>
    asked(
      execution.database,
      base,
      task,
      (state) => ({ verdict: action.check(task.args, state), claims: action.claims(task.args, state) }),
      host
    )
  const first = await ask()
  if (first.verdict.verdict !== 'impossible') return whyNothing(first.verdict)
  await execution.refresh(first.claims, host)
  base.clear()
  const { verdict } = await ask()
  if (verdict.verdict !== 'impossible') return whyNothing(verdict)
  return { error: { code: verdict.code, message: verdict.message, step: 'check', next: verdict.next } }
}

const whyNothing = (verdict: Verdict) => (verdict.verdict === 'nothing_to_do' ? { nothingToDo: verdict.why } : {})

/** What was so already is said with the result, unless the action found that it was not (`already: false`). */
function said<O extends Exclude<Outcome, { outcome: 'expand' }>>(outcome: O, nothingToDo: string | undefined): O {
  if (outcome.outcome !== 'complete' || nothingToDo === undefined) return outcome
  const { result } = outcome
  if (result !== null && (typeof result !== 'object' || Array.isArray(result))) return outcome
  const found = result ?? {}
  if (found['already'] === false || found['alreadyRunning'] === false) return outcome
  return { ...outcome, result: { ...found, nothingToDo } }
}

/** Facts lead to further facts (a VM to its disks, these to their stores); each round loads at least one more. */
const maxLoadRounds = 100

const stateOf = (base: Map<string, JsonObject | null>, host: string | null) =>
  new FleetState({ phase: 'starting', base, boundHost: host })

/** Asks a pure function of observed facts, loading what it reads until nothing is missing. */
async function asked<T>(
  sql: Sql,
  base: Map<string, JsonObject | null>,
  task: ClaimedTask,
  ask: (state: FleetState) => T,
  host: string | null = null
): Promise<T> {
  for (let round = 0; round < maxLoadRounds; round++) {
    try {
      return ask(stateOf(base, host))
    } catch (error) {
      if (!(error instanceof NotLoaded)) throw error
      for (const [subject, facts] of await loadFacts(sql, error.subjects)) base.set(subject, facts)
    }
  }
  throw new Error(`facts of task ${task.id} (${task.action}) led to further facts ${maxLoadRounds} times`)
}

/** A task taken over is looked for first: only what did not happen is run. What hosts did to it is the action's to tell. */
async function runOrProbe(
  action: Action,
  context: ActionContext,
  task: ClaimedTask,
  step: () => string | undefined
): Promise<Outcome> {
  try {
    const before = task.takenOver ? fromProbe(await action.probe(context, task.args)) : undefined
    return before ?? (await action.run(context, task.args))
  } catch (error) {
    if (error instanceof HostError && error.code === 'fenced')
      return { outcome: 'retry', afterMs: 1000, error: faultOf(error, step()) }
    if (task.takenOver && error instanceof HostError) return uncertain(faultOf(error, 'probe'), null)
    context.log('error', `a fault: ${error instanceof Error ? error.message : String(error)}`)
    return failedBy(faultOf(error, step()))
  }
}

/** Undefined when it did not happen and so may run. */
function fromProbe(probe: Probe): Outcome | undefined {
  if (probe.happened === 'yes') return complete(probe.result)
  if (probe.happened === 'no') return undefined
  return uncertain(
    {
      code: 'taken_over',
      message: `the dispatcher that ran it is gone, and ${probe.why}`,
      step: 'probe',
      next: 'it is looked for again when the host returns'
    },
    probe.evidence
  )
}

function fromChildren(children: NonNullable<ClaimedTask['children']>): Exclude<Outcome, { outcome: 'expand' }> {
  const bad = children.filter((child) => child.state !== 'complete')
  if (bad.length === 0) return { outcome: 'complete', result: { children: children.length } }
  return failedBy({
    code: 'children_failed',
    message: `${bad.length} of ${children.length} parts did not end well: ${bad
      .slice(0, 5)
      .map((child) => `task ${child.id} ${child.state}`)
      .join(', ')}`,
    next: `see \`taskomatic task show ${bad[0]?.id ?? ''}\`, then retry what failed`
  })
}

const failedBy = (error: TaskError) => ({ outcome: 'failed', error }) as const

const ended = (task: ClaimedTask, end: Exclude<Outcome, { outcome: 'expand' }>): End => ({
  task: task.id,
  attempt: task.attempt,
  ...end
})

// One claimed task from claim to end: facts, host, final claims, check, run, and what became of it.
// Returns the end to record, or null when there is nothing to record (it went back to waiting, or is no longer ours).
import type { Action, ActionContext, Outcome } from '../actions/action.ts'
import { mergeClaims } from '../actions/evaluate.ts'
import { RequestError } from '../actions/request-error.ts'
import { taskErrorOf } from '../actions/error.ts'
import type { Database } from '../db/open.ts'
import type { JsonObject } from '../db/json.ts'
import { HostError } from '../host/error.ts'
import { FleetState, NotLoaded } from '../inventory/fleet-state.ts'
import { loadFacts } from '../inventory/load.ts'
import { bind, type ClaimedTask, type End } from '../queue/dispatch.ts'
import { expand } from '../queue/expand.ts'
import type { TaskError } from '../queue/task.ts'
import { chooseHost } from './choose-host.ts'

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
  /** Attempts in all before a task whose outcome is `did not happen` after a lost reply is given up. */
  maxAttempts: number
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
  const outcome = await runOrProbe(execution, task, action, context, step)
  if (outcome.outcome !== 'expand') return ended(task, outcome)
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
  | { outcome: 'ready'; state: FleetState; host: string | null }
  | { outcome: 'end'; end: Exclude<Outcome, { outcome: 'expand' }> }
  | { outcome: 'gone' }

/** Decides the host, binds the final claims and asks once more whether it is possible, on observed facts. */
async function prepare(execution: Execution, task: ClaimedTask, action: Action): Promise<Prepared> {
  const { database, dispatcher } = execution
  const base = new Map<string, JsonObject | null>()
  const args = task.args
  if (action.bindTo) {
    const to = await asked(database, base, task, (state) => action.bindTo?.(args, state) ?? null)
    const bound = await database.transaction(async (tx) => {
      const chosen = await chooseHost(tx, task, to)
      if (chosen.outcome !== 'chosen') return chosen
      const claims = mergeClaims(await asked(tx, base, task, (state) => action.claims(args, state), chosen.host))
      const answer = await bind(tx, { dispatcher, task: task.id, attempt: task.attempt, claims, bound: chosen.bound })
      return answer.outcome === 'started' ? chosen : ({ outcome: 'gone' } as const)
    })
    if (bound.outcome === 'gone') return { outcome: 'gone' }
    if (bound.outcome === 'nowhere')
      return { outcome: 'end', end: { outcome: 'park', reason: bound.reason, key: bound.key } }
    const verdict = await checked(execution, task, action, base, bound.host)
    if (verdict) return { outcome: 'end', end: failedBy(verdict) }
    return { outcome: 'ready', state: stateOf(base, bound.host), host: bound.host }
  }
  const verdict = await checked(execution, task, action, base, null)
  if (verdict) return { outcome: 'end', end: failedBy(verdict) }
  return { outcome: 'ready', state: stateOf(base, null), host: null }
}

/**
 * The verdict on observed facts; only `impossible` counts, since whether there is nothing to do is for the host to say.
 * What looks impossible is looked up on the host first: the inventory may lag behind.
 */
async function checked(
  execution: Execution,
  task: ClaimedTask,
  action: Action,
  base: Map<string, JsonObject | null>,
  host: string | null
): Promise<TaskError | undefined> {
  const ask = () =>
    asked(
      execution.database,
      base,
      task,
      (state) => ({ verdict: action.check(task.args, state), claims: action.claims(task.args, state) }),
      host
    )
  const first = await ask()
  if (first.verdict.verdict !== 'impossible') return undefined
  await execution.refresh(first.claims, host)
  base.clear()
  const { verdict } = await ask()
  if (verdict.verdict !== 'impossible') return undefined
  return { code: verdict.code, message: verdict.message, step: 'check', next: verdict.next }
}

const stateOf = (base: Map<string, JsonObject | null>, host: string | null) =>
  new FleetState({ phase: 'starting', base, boundHost: host })

/** Asks a pure function of observed facts, loading what it reads until nothing is missing. */
async function asked<T>(
  sql: Pick<Database, 'query'>,
  base: Map<string, JsonObject | null>,
  task: ClaimedTask,
  ask: (state: FleetState) => T,
  host: string | null = null
): Promise<T> {
  for (let round = 0; round < 32; round++) {
    try {
      return ask(stateOf(base, host))
    } catch (error) {
      if (!(error instanceof NotLoaded)) throw error
      for (const [subject, facts] of await loadFacts(sql, [error.subject])) base.set(subject, facts)
    }
  }
  throw new Error(`facts of task ${task.id} (${task.action}) led to further facts 32 times`)
}

/** Runs the action; where the outcome of what it sent is unknown, asks its probe instead of believing either side. */
async function runOrProbe(
  execution: Execution,
  task: ClaimedTask,
  action: Action,
  context: ActionContext,
  step: () => string | undefined
): Promise<Outcome> {
  if (task.takenOver) {
    const before = await probed(action, context, task, undefined)
    if (before.outcome !== 'retry') return before
  }
  try {
    return await action.run(context, task.args)
  } catch (error) {
    const taskError = taskErrorOf(error, step())
    if (error instanceof RequestError) return failedBy(taskError)
    if (error instanceof HostError && error.code === 'unreachable') {
      return { outcome: 'park', reason: `host ${error.host} is down: ${error.message}`, key: `host/${error.host}` }
    }
    if (error instanceof HostError && error.code === 'fenced')
      return { outcome: 'retry', afterMs: 1000, error: taskError }
    if (!(error instanceof HostError) || !unsettled.has(error.code)) return failedBy(taskError)
    const outcome = await probed(action, context, task, taskError)
    if (outcome.outcome === 'retry' && task.previousAttempts + 1 >= execution.maxAttempts) return failedBy(taskError)
    return outcome
  }
}

const unsettled: ReadonlySet<string> = new Set(['unknown_outcome'])

async function probed(
  action: Action,
  context: ActionContext,
  task: ClaimedTask,
  cause: TaskError | undefined
): Promise<Outcome> {
  const lost: TaskError = cause ?? { code: 'taken_over', message: 'the dispatcher that ran it is gone' }
  try {
    const answer = await action.probe(context, task.args)
    context.log('info', `looked whether it happened: ${answer.happened}`, { evidence: answer.evidence })
    if (answer.happened === 'yes') return { outcome: 'complete', result: answer.result }
    if (answer.happened === 'no') return { outcome: 'retry', afterMs: 1000, error: lost }
    return {
      outcome: 'uncertain',
      error: { ...lost, next: `${answer.why}; it is looked up again when the host is back` },
      evidence: answer.evidence
    }
  } catch (error) {
    const why = taskErrorOf(error, 'probe')
    return {
      outcome: 'uncertain',
      error: { ...lost, causes: [...(lost.causes ?? []), { code: why.code, message: why.message }] },
      evidence: null
    }
  }
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

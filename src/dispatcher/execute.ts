// One claimed task from claim to end: facts, host, final claims, check, run, and what became of it.
// Returns the end to record, or null when there is nothing to record (it went back to waiting, or is no longer ours).
import { complete, uncertain, type Action, type ActionContext, type Outcome, type Probe } from '../actions/action.ts'
import { DatabaseError } from '../db/error.ts'
import type { JsonObject } from '../db/json.ts'
import type { Database } from '../db/open.ts'
import { HostError } from '../host/error.ts'
import type { ClaimedTask, End, EndedChild } from '../queue/dispatch.ts'
import { QueueError } from '../queue/error.ts'
import { expand } from '../queue/expand.ts'
import { attempts } from '../queue/read.ts'
import type { TaskError } from '../queue/task.ts'
import type { ContextFor } from './context.ts'
import { ended } from './ended.ts'
import { faultOf } from './fault.ts'
import { prepare, type Preparation } from './prepare.ts'

export type Execution = Preparation & {
  registry: ReadonlyMap<string, Action>
  contextFor: ContextFor
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
  const placed = await prepare(execution, task, action)
  if (placed.outcome === 'end') return ended(task, placed.end)
  if (placed.outcome === 'gone') return null
  const { context, step } = execution.contextFor(task, placed.state, placed.place)
  const outcome = task.children
    ? await afterChildren(action, context, task, task.children, step)
    : await runOrProbe(action, context, task, step)
  if (outcome.outcome !== 'expand')
    return ended(task, await said(execution.database, task, outcome, placed.nothingToDo))
  const expanded = await expand(execution.database, {
    dispatcher: execution.dispatcher,
    task: task.id,
    attempt: task.attempt,
    children: outcome.children
  }).catch((error: unknown) => {
    if (error instanceof QueueError && error.code === 'asked_to_stop') return 'asked to stop' as const
    throw error
  })
  if (expanded === 'stale') return null
  if (expanded === 'asked to stop') {
    const message = 'cancelled before it had any parts'
    return ended(task, { outcome: 'cancelled', error: { code: 'cancelled', message } })
  }
  for (const refused of expanded.refused) context.log('error', `child ${refused.index} was refused: ${refused.message}`)
  return null
}

type Ending = Exclude<Outcome, { outcome: 'expand' }>

/**
 * What was so already is said with the result, unless the action found that it was not (`already: false`); or an earlier attempt may
 * have made it so, whose answer was lost: that is no longer nothing, and can be undone.
 */
async function said(
  database: Database,
  task: ClaimedTask,
  outcome: Ending,
  nothingToDo: string | undefined
): Promise<Ending> {
  if (outcome.outcome !== 'complete') return outcome
  const { result } = outcome
  if (result !== null && (typeof result !== 'object' || Array.isArray(result))) return outcome
  const found = result ?? {}
  const wasSo = nothingToDo !== undefined || found['already'] === true || found['alreadyRunning'] === true
  if (!wasSo || found['already'] === false || found['alreadyRunning'] === false) return outcome
  if (await mayHaveActed(database, task)) return { ...outcome, result: asOurs(found) }
  return nothingToDo === undefined ? outcome : { ...outcome, result: { ...found, nothingToDo } }
}

const asOurs = (found: JsonObject): JsonObject => ({
  ...found,
  ...('already' in found ? { already: false } : {}),
  ...('alreadyRunning' in found ? { alreadyRunning: false } : {})
})

/** Those that were parked, or went back to waiting, had not begun. */
async function mayHaveActed(database: Database, { id, attempt: current }: ClaimedTask): Promise<boolean> {
  if (current === 1) return false
  const before = (await attempts(database, id)).filter(({ attempt }) => attempt < current)
  return before.some(({ outcome }) => outcome !== 'parked' && outcome !== 'waiting')
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
    if (before) return before
    // Whoever had it may have died before it was bound again: the next attempt gets its room, its units and its checks anew.
    if (task.takenOver && action.bindTo) return againAtOnce(step())
    return await action.run(context, task.args)
  } catch (error) {
    if (isOver(error) || (error instanceof HostError && error.code === 'fenced')) return later(error, step())
    // What was sent before the database went away may have happened.
    if (error instanceof DatabaseError) return uncertain(faultOf(error, step()), null)
    if (task.takenOver && error instanceof HostError) return uncertain(faultOf(error, 'probe'), null)
    context.log('error', `a fault: ${error instanceof Error ? error.message : String(error)}`)
    return failedBy(faultOf(error, step()))
  }
}

/** It is no longer ours; whatever is reported of it is refused. */
const isOver = (error: unknown): boolean =>
  error instanceof QueueError && (error.code === 'lease_lost' || error.code === 'stale_attempt')

/** Nothing is wrong with the task: our lease was too old, or the database was away. */
export const isPassing = (error: unknown): boolean =>
  isOver(error) || error instanceof DatabaseError || (error instanceof HostError && error.code === 'fenced')

export const later = (error: unknown, step: string | undefined) =>
  ({ outcome: 'retry', afterMs: 1000, error: faultOf(error, step) }) as const

const againAtOnce = (step: string | undefined): Outcome => ({
  outcome: 'retry',
  afterMs: 0,
  error: {
    code: 'taken_over',
    message: 'the dispatcher that had it is gone, and it had not happened',
    ...(step === undefined ? {} : { step })
  }
})

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

async function afterChildren(
  action: Action,
  context: ActionContext,
  task: ClaimedTask,
  children: readonly EndedChild[],
  step: () => string | undefined
): Promise<Outcome> {
  if (!action.afterChildren) return fromChildren(children)
  try {
    return await action.afterChildren(context, task.args, children)
  } catch (error) {
    if (isPassing(error)) return later(error, step())
    context.log('error', `a fault: ${error instanceof Error ? error.message : String(error)}`)
    return failedBy(faultOf(error, step()))
  }
}

function fromChildren(children: readonly EndedChild[]): Exclude<Outcome, { outcome: 'expand' }> {
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

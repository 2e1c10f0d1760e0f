// Undoing a plan that has ended, on request: what was done is undone by tasks of their own, the last part first, as parts of one task.
// Made by undoPlan, never asked for by name.
import { Type } from 'typebox'
import type { JsonObject } from '../db/json.ts'
import type { Database } from '../db/open.ts'
import type { EndedChild } from '../queue/dispatch.ts'
import type { NewTask } from '../queue/task.ts'
import { partsOfPlan } from '../queue/undo.ts'
import { action, complete, expand, failed, possible, type Action, type ActionContext, type Outcome } from './action.ts'
import { planChildren } from './children.ts'
import { RequestError } from './request-error.ts'
import { hasDone, holding, undoOf, undoSteps, undoTasks, type DonePart, type Inverse } from './rollback.ts'
import type { Submitter } from './submit.ts'

const args = Type.Object({ plan: Type.Integer(), tasks: Type.Array(Type.Unknown()) }, { additionalProperties: false })

export const planUndo = action({
  name: 'plan.undo',
  summary: 'Undo what a plan did',
  args,
  title: ({ plan }) => `Undo plan ${plan}`,
  claims: () => [],
  check: () => possible,
  effect: () => [],
  run: (_, { tasks }) => Promise.resolve(expand(tasks as NewTask[])),
  afterChildren: (ctx, _, children) => afterUndoing(ctx, children),
  probe: () => Promise.resolve({ happened: 'no', evidence: null })
})

async function afterUndoing(ctx: ActionContext, children: readonly EndedChild[]): Promise<Outcome> {
  const list = children.map(({ undoes, state }) => ({
    task: undoes ?? 0,
    state: state === 'complete' ? ('undone' as const) : ('needs_operator' as const)
  }))
  await ctx.markUndone(list)
  const bad = children.filter(({ state }) => state !== 'complete')
  if (bad.length === 0) return complete({ undone: list.length })
  const which = bad.map(({ id, title }) => `task ${id} (${title})`).join(', ')
  return failed({
    code: 'not_all_undone',
    message: `${list.length - bad.length} of ${list.length} parts are undone; these failed: ${which}`,
    next: `see \`taskomatic task show ${bad[0]?.id}\``,
    details: { undone: list }
  })
}

export type UndoRequest = { plan: number; by: string; reason?: string }
export type UndoAnswer = {
  task: number
  title: string
  /** What was done and cannot be undone. */
  left: { task: number; title: string; why: string }[]
}

type Parts = { database: Database; registry: ReadonlyMap<string, Action>; submitter: Submitter }

/**
 * Submits it. What cannot be undone, of what was done, is told beside it; nothing is submitted when that is all.
 * @throws RequestError plan_not_ended, nothing_to_undo; QueueError plan_not_found
 */
export async function undoPlan(parts: Parts, { plan, by, reason }: UndoRequest): Promise<UndoAnswer> {
  const { steps, left } = await undoable(parts, { plan, by })
  if (steps.length === 0) {
    const why = left.map(({ title, why: reasonOf }) => `${title}: ${reasonOf}`).join('; ')
    const message = `plan ${plan} has nothing that could be undone${why === '' ? '' : ` (${why})`}`
    const next = `see \`taskomatic plan show ${plan}\``
    throw new RequestError('nothing_to_undo', message, { pointer: '', next, status: 'conflict' })
  }
  const title = `Undo plan ${plan}`
  const holder = (tasks: readonly NewTask[]): NewTask => {
    const undoing = undoTasks(steps, tasks)
    return {
      ...holding(undoing),
      action: planUndo.name,
      title,
      args: { plan, tasks: undoing as unknown as JsonObject[] }
    }
  }
  const tasks = steps.map(({ step }) => step)
  const answer = await parts.submitter.submit({ tasks, by, holder, ...(reason === undefined ? {} : { reason }) })
  return { task: answer.tasks[0]?.id ?? 0, title, left }
}

/** The inverses that are possible as things are now, the last part's first; and what was done and has none. */
async function undoable(
  { database, registry }: Parts,
  { plan, by }: UndoRequest
): Promise<{ steps: Inverse[]; left: UndoAnswer['left'] }> {
  const parts = await partsOfPlan(database, plan)
  if (parts.some(({ state }) => state === 'open')) {
    const next = `wait for its end: \`taskomatic plan wait ${plan}\``
    throw new RequestError('plan_not_ended', `plan ${plan} has not ended`, { pointer: '', next, status: 'conflict' })
  }
  const done: DonePart[] = parts
    .filter((part) => hasDone(part) && part.undoState !== 'undone')
    .map(({ id, title, step, result }) => ({ id, title, undo: undoOf(step, result) }))
  const steps = undoSteps(done)
  const wanted = steps.map(({ step }) => step)
  const { refused } = await planChildren(database, registry, { id: 0, by }, wanted)
  const bad = new Map(refused.map(({ index, error }) => [index, error.message]))
  return {
    steps: steps.filter((_, index) => !bad.has(index)),
    left: [
      ...steps.flatMap(({ part }, index) => told(part, bad.get(index))),
      ...done.flatMap((part) => told(part, part.undo && 'impossible' in part.undo ? part.undo.impossible : undefined))
    ]
  }
}

const told = ({ id, title }: DonePart, why: string | undefined) => (why === undefined ? [] : [{ task: id, title, why }])

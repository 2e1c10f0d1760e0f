// Undoing a plan that has ended, on request: what was done is undone by tasks of their own, the last part first, as parts of one task.
// Made by undoPlan, never asked for by name.
import { Type } from 'typebox'
import type { JsonObject } from '../db/json.ts'
import type { Database } from '../db/open.ts'
import type { EndedChild } from '../queue/dispatch.ts'
import { ensureResources, lockResources, submit } from '../queue/submit.ts'
import type { NewTask } from '../queue/task.ts'
import { partsOfPlan } from '../queue/undo.ts'
import { action, complete, expand, failed, possible, type Action, type ActionContext, type Outcome } from './action.ts'
import { planChildren } from './children.ts'
import { mergeClaims } from './evaluate.ts'
import { RequestError } from './request-error.ts'
import { undoOf, undoTasks, undoSteps, type DonePart } from './rollback.ts'

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

/**
 * Submits it. What cannot be undone, of what was done, is told beside it; nothing is submitted when that is all.
 * @throws RequestError plan_not_ended, nothing_to_undo; QueueError plan_not_found
 */
export async function undoPlan(
  database: Database,
  registry: ReadonlyMap<string, Action>,
  { plan, by, reason }: UndoRequest
): Promise<{ task: number; title: string; left: { task: number; title: string; why: string }[] }> {
  const parts = await partsOfPlan(database, plan)
  if (parts.some(({ state }) => state === 'open')) {
    const next = `wait for its end: \`taskomatic plan wait ${plan}\``
    throw new RequestError('plan_not_ended', `plan ${plan} has not ended`, { pointer: '', next, status: 'conflict' })
  }
  const done: DonePart[] = parts
    .filter(({ state, undoState }) => state === 'complete' && undoState !== 'undone')
    .map(({ id, title, step, result }) => ({ id, title, undo: undoOf(step, result) }))
  const steps = undoSteps(done)
  const { children, refused } = await planChildren(
    database,
    registry,
    { id: 0, by },
    steps.map(({ step }) => step)
  )
  const bad = new Map(refused.map(({ index, error }) => [index, error.message]))
  const tasks = undoTasks(
    steps.filter((_, index) => !bad.has(index)),
    children
  )
  const left = [
    ...steps.flatMap(({ part }, index) => told(part, bad.get(index))),
    ...done.flatMap((part) => told(part, part.undo && 'impossible' in part.undo ? part.undo.impossible : undefined))
  ]
  if (tasks.length === 0) {
    const why = left.map(({ title, why: reasonOf }) => `${title}: ${reasonOf}`).join('; ')
    const message = `plan ${plan} has nothing that could be undone${why === '' ? '' : ` (${why})`}`
    throw new RequestError('nothing_to_undo', message, {
      pointer: '',
      next: `see \`taskomatic plan show ${plan}\``,
      status: 'conflict'
    })
  }
  const root: NewTask = {
    action: planUndo.name,
    title: `Undo plan ${plan}`,
    args: { plan, tasks: tasks as unknown as JsonObject[] },
    claims: mergeClaims(tasks.flatMap(({ claims }) => claims)),
    effects: tasks.flatMap(({ effects }) => effects),
    binds: false
  }
  await ensureResources(
    database,
    root.claims.map(({ resource }) => resource)
  )
  const stored = await database.transaction(async (tx) => {
    await lockResources(tx, root.claims)
    return submit(tx, { tasks: [root], by, ...(reason === undefined ? {} : { reason }) })
  })
  return { task: stored.tasks[0] ?? 0, title: root.title, left }
}

const told = ({ id, title }: DonePart, why: string | undefined) => (why === undefined ? [] : [{ task: id, title, why }])

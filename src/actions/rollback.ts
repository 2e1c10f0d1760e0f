// Undoing what a plan did: from the steps that were written before its parts ran, as tasks of their own, the last first.
// What became of each is told on the task that was undone.
import type { Json, JsonObject } from '../db/json.ts'
import type { FleetState } from '../inventory/fleet-state.ts'
import type { EndedChild } from '../queue/dispatch.ts'
import type { UndoState } from '../queue/state.ts'
import type { NewTask, TaskError } from '../queue/task.ts'
import { mergeClaims } from './evaluate.ts'
import { cancelled, failed, uncertain, type Action, type ActionContext, type Outcome } from './action.ts'

/** An inverse, or why there is none. `nothing`: what was asked for was so before. */
export type UndoStep =
  /** `half`: also of a task that failed after it had done something. */
  { action: string; args: JsonObject; half?: true } | { impossible: string } | { nothing: string }

/** What is written down before an action runs. */
export function inverseStep(action: Action, args: JsonObject, state: FleetState): UndoStep {
  const inverse = action.undo?.(args, state) ?? { impossible: 'it has no inverse' }
  return 'action' in inverse && action.undoesHalf ? { ...inverse, half: true } : inverse
}

/** Of a task that is made of parts: it claims what they claim, and promises what they promise. */
export const holding = (parts: readonly NewTask[]) => ({
  claims: mergeClaims(parts.flatMap(({ claims }) => claims)),
  effects: parts.flatMap(({ effects }) => effects),
  binds: false
})

/** A part that was done; newest last. */
export type DonePart = { id: number; title: string; undo: UndoStep | null }

/** What became of a part's undoing, and by which task. */
type Undone = { task: number; title: string; state: UndoState; why: string | null; by: number | null }

export const partsDone = (children: readonly EndedChild[]): DonePart[] =>
  children
    .filter((child) => child.undoes === null && hasDone({ ...child, step: child.undo }))
    .map(({ id, title, undo, result }) => ({ id, title, undo: undoOf(undo, result) }))

/** Complete, or it did not end well after it had done something that its inverse puts back. */
export function hasDone({
  state,
  step,
  error
}: {
  state: string
  step: JsonObject | null
  error: TaskError | null
}): boolean {
  if (state === 'complete') return true
  return step?.['half'] === true && error?.step !== undefined && !/^(?:begin$|check$|look |read )/.test(error.step)
}

/** What was written before it ran, unless it found that what was asked for was so already: then there is nothing to take back. */
export function undoOf(written: JsonObject | null, result: Json): UndoStep | null {
  const found = result !== null && typeof result === 'object' && !Array.isArray(result) ? result : {}
  if (typeof found['nothingToDo'] === 'string') return { nothing: found['nothingToDo'] }
  if (found['alreadyRunning'] === true) return { nothing: 'it ran already' }
  if (found['already'] === true) return { nothing: 'it was so already' }
  return written as UndoStep | null
}

export type Inverse = { part: DonePart; step: { action: string; args: JsonObject } }

/** The inverses that were written down, the last part's first. */
export const undoSteps = (parts: readonly DonePart[]): Inverse[] =>
  parts
    .toReversed()
    .flatMap((part) => (part.undo && 'action' in part.undo ? [{ part, step: inverseOf(part.undo) }] : []))

const inverseOf = ({ action, args }: Inverse['step']): Inverse['step'] => ({ action, args })

/** Tasks that undo the parts, the last first. What cannot be asked for is left out, and logged. */
export async function planUndo(ctx: ActionContext, parts: readonly DonePart[]): Promise<NewTask[]> {
  const steps = undoSteps(parts)
  if (steps.length === 0) return []
  const { children, refused } = await ctx.planChildren(steps.map(({ step }) => step))
  const bad = new Set(refused.map(({ index }) => index))
  for (const { index, error } of refused)
    ctx.log('error', `task ${steps[index]?.part.id} cannot be undone: ${error.message}`)
  return undoTasks(
    steps.filter((_, index) => !bad.has(index)),
    children
  )
}

/** Marked as what they are, and in order; but one that fails keeps only those from being undone that need it. */
export const undoTasks = (steps: readonly Inverse[], tasks: readonly NewTask[]): NewTask[] =>
  tasks.map((task, index) => ({
    ...task,
    title: `Undo: ${steps[index]?.part.title ?? task.title}`,
    undo: { of: steps[index]?.part.id ?? 0 },
    after: [...(task.after ?? []), ...(index > 0 ? [{ task: { index: index - 1 }, needs: 'ended' as const }] : [])]
  }))

/**
 * Tells on every part what became of its undoing, and ends the plan's task: as failed or cancelled with the list, or, while something
 * was not undone that could have been, as uncertain: it keeps the claims until an operator's verdict.
 */
export async function settleUndone(
  ctx: ActionContext,
  { code, cause, bad }: { code: string; cause: string; bad: EndedChild },
  parts: readonly DonePart[],
  children: readonly EndedChild[]
): Promise<Outcome> {
  const by = new Map(children.map((child) => [child.undoes, child]))
  const list = parts.map((part) => undone(part, by.get(part.id)))
  await ctx.markUndone(list)
  const left = list.filter(({ state }) => state === 'needs_operator')
  const gone = list.filter(({ state }) => state === 'undone').length
  const details = { undone: asJson(list), failedTask: bad.id }
  if (left.length > 0) {
    const which = left.map(({ task, title }) => `${task} (${title})`).join(', ')
    const message = `${cause}; ${gone} of ${list.length} parts were undone, but not ${which}`
    const next = `put it right by hand, then \`taskomatic task verdict ${ctx.task.id} did-not --reason …\` lets go of what the plan holds`
    return uncertain({ code: 'needs_operator', message, next, details }, asJson(list))
  }
  const message = `${cause}; ${gone} of ${list.length} parts that were done are undone`
  const error = { code, message, next: `see \`taskomatic task show ${bad.id}\``, details }
  return bad.state === 'cancelled' ? cancelled(error) : failed(error)
}

function undone({ id: task, title, undo }: DonePart, child: EndedChild | undefined): Undone {
  if (child?.state === 'complete') return { task, title, state: 'undone', why: null, by: child.id }
  if (child) return { task, title, state: 'needs_operator', why: child.error?.message ?? child.state, by: child.id }
  if (undo && 'nothing' in undo) return { task, title, state: 'none', why: undo.nothing, by: null }
  if (undo && 'impossible' in undo) return { task, title, state: 'impossible', why: undo.impossible, by: null }
  return { task, title, state: 'needs_operator', why: 'its undoing could not be asked for: see the log', by: null }
}

const asJson = (list: readonly Undone[]): Json =>
  list.map(({ task, title, state, why, by }) => ({ task, title, undo: state, why, by }))

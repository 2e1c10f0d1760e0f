// What a complex task expands into: asked of predicted state as a submission is, but what is impossible is told instead of refusing all.
import type { Sql } from '../db/open.ts'
import type { NewTask } from '../queue/task.ts'
import type { Action } from './action.ts'
import { askedOf, evaluateLoaded } from './evaluate-loaded.ts'
import { RequestError } from './request-error.ts'
import { asSubmission, type RequestedTask } from './submission.ts'

export type PlannedChildren = {
  /** In the order of the requests, without the refused ones. */
  children: NewTask[]
  /** `index` is that of the request. What comes `after` a refused one is refused as well. */
  refused: { index: number; error: RequestError }[]
}

/**
 * As if the parent's own promised effects were not there: they are what its children will bring about.
 * @throws RequestError when a request names no action or its arguments do not fit: a fault of whoever expands
 */
export async function planChildren(
  sql: Sql,
  registry: ReadonlyMap<string, Action>,
  parent: { id: number; by: string },
  requests: readonly RequestedTask[]
): Promise<PlannedChildren> {
  const refused: PlannedChildren['refused'] = []
  let left = requests.map((task, index) => ({ task, index }))
  while (left.length > 0) {
    const request = { tasks: left.map(({ task }) => task), plan: { onFailure: 'continue' as const }, by: parent.by }
    const { evaluation } = await evaluateLoaded(sql, await askedOf(sql, request, registry), new Set(), parent.id)
    if (evaluation.refusals.length === 0) {
      return { children: [...asSubmission(request, evaluation.tasks).tasks], refused }
    }
    const bad = new Map(evaluation.refusals.map(({ index, error }) => [index, error]))
    refused.push(...[...bad].flatMap(([at, error]) => (left[at] ? [{ index: left[at].index, error }] : [])))
    const remaining = left.filter((_, at) => !bad.has(at))
    left = withoutFollowers(remaining, requests, refused)
  }
  return { children: [], refused }
}

type Left = { task: RequestedTask; index: number }[]

function withoutFollowers(left: Left, requests: readonly RequestedTask[], refused: PlannedChildren['refused']): Left {
  const gone = new Set(refused.flatMap(({ index }) => requests[index]?.key ?? []))
  const stays: Left = []
  for (const one of left) {
    const missing = (one.task.after ?? []).find((ref) => typeof ref === 'string' && gone.has(ref))
    if (missing === undefined) {
      stays.push(one)
      continue
    }
    if (one.task.key !== undefined) gone.add(one.task.key)
    const message = `it comes after ${String(missing)}, which was refused`
    const next = 'see why that was refused'
    refused.push({ index: one.index, error: new RequestError('prerequisite_refused', message, { pointer: '', next }) })
  }
  return stays
}

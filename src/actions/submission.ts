// A submission as people send it, as the queue takes it, and as it is answered. How one becomes the other is submit.ts; what it
// would become is preview.ts.
import { createHash } from 'node:crypto'
import type { Json, JsonObject } from '../db/json.ts'
import { quote } from '../model/name.ts'
import type { Submission, Submitted } from '../queue/submit.ts'
import type { NewTask, TaskRef } from '../queue/task.ts'
import type { Evaluated } from './evaluate.ts'
import { planTask } from './plan-run.ts'
import { RequestError } from './request-error.ts'

export type RequestedTask = {
  /** Names the task within its plan. */
  key?: string
  action: string
  args: JsonObject
  /** Explicit prerequisites: keys of earlier elements, or ids of stored tasks; they must be complete. */
  after?: readonly (string | number)[]
  priority?: number
  /** ISO 8601 */
  notBefore?: string
  hold?: { reason: string }
}

export type SubmissionRequest = {
  tasks: readonly RequestedTask[]
  plan?: { name?: string; onFailure: 'stop' | 'continue' | 'rollback' }
  by: string
  reason?: string
  idempotencyKey?: string
  /** Set by the server alone: the tasks are parts of this one, which is stored instead. A plan that rolls back has one by itself. */
  holder?: (parts: readonly NewTask[]) => NewTask
}

export type SubmissionAnswer = {
  plan: number | null
  tasks: { id: number; key: string | null; action: string; title: string }[]
  /** The same request under the same idempotency key had been accepted before; this is its answer. */
  replayed: boolean
  /** Unfinished tasks that `now` made way by cancelling. */
  overtaken: { id: number; title: string }[]
}

/** A single request has its fields at the root; a plan's are under /tasks/N. */
export const pointerTo = (request: SubmissionRequest, index: number): string => (request.plan ? `/tasks/${index}` : '')

export function asSubmission(request: SubmissionRequest, tasks: readonly Evaluated[]): Submission {
  const parts = tasks.map((task, index) => newTask(task, index, request))
  const holder = holderOf(request)
  return {
    tasks: holder ? [holder(parts)] : parts,
    by: request.by,
    ...(request.plan ? { plan: request.plan } : {}),
    ...(request.reason === undefined ? {} : { reason: request.reason }),
    ...(request.idempotencyKey === undefined
      ? {}
      : { idempotency: { key: request.idempotencyKey, fingerprint: fingerprint(request) } })
  }
}

function holderOf({ holder, plan }: SubmissionRequest): SubmissionRequest['holder'] {
  return holder ?? (plan?.onFailure === 'rollback' ? (parts) => planTask(plan.name, parts) : undefined)
}

/** What the task that is stored at this place is called in the request; one that holds the others has no name there. */
export const keyOf = (request: SubmissionRequest, index: number): string | null =>
  holderOf(request) ? null : (request.tasks[index]?.key ?? null)

function newTask(task: Evaluated, index: number, request: SubmissionRequest): NewTask {
  const asked = request.tasks[index]
  return {
    action: task.action.name,
    title: task.title,
    args: task.args,
    claims: task.claims,
    effects: task.effects,
    after: prerequisites(task, index, request),
    binds: task.action.bindTo !== undefined,
    ...(task.limits.length === 0 ? {} : { limits: task.limits }),
    ...(asked?.priority === undefined ? {} : { priority: asked.priority }),
    ...(asked?.notBefore === undefined ? {} : { notBefore: dateOf(asked.notBefore, request, index) }),
    ...(asked?.hold === undefined ? {} : { hold: asked.hold })
  }
}

/** What `after` names. @throws RequestError bad_prerequisite */
export function explicitRefs(request: SubmissionRequest, index: number): TaskRef[] {
  return (request.tasks[index]?.after ?? []).map((ref, at): TaskRef => {
    if (typeof ref === 'number') return ref
    const earlier = indexOfKey(request, ref)
    if (earlier !== undefined && earlier < index) return { index: earlier }
    throw new RequestError('bad_prerequisite', `${quote(ref)} is not the key of an earlier task of this plan`, {
      pointer: `${pointerTo(request, index)}/after/${at}`,
      next: 'put the task that it names before this one'
    })
  })
}

function prerequisites(
  task: Evaluated,
  index: number,
  request: SubmissionRequest
): { task: TaskRef; needs: 'complete' }[] {
  const refs = [...explicitRefs(request, index), ...task.thanksTo]
  const known = new Set<string>()
  return refs
    .filter((ref) => !known.has(JSON.stringify(ref)) && known.add(JSON.stringify(ref)))
    .map((ref) => ({ task: ref, needs: 'complete' }))
}

const keysOf = new WeakMap<SubmissionRequest, Map<string, number>>()

/** A plan of 10,000 tasks that name each other by key is not searched 10,000 times. */
function indexOfKey(request: SubmissionRequest, key: string): number | undefined {
  let keys = keysOf.get(request)
  if (!keys) {
    keys = new Map(request.tasks.flatMap((task, index) => (task.key === undefined ? [] : [[task.key, index] as const])))
    keysOf.set(request, keys)
  }
  return keys.get(key)
}

function dateOf(text: string, request: SubmissionRequest, index: number): Date {
  const date = new Date(text)
  if (!Number.isNaN(date.getTime())) return date
  throw new RequestError('bad_time', `${quote(text)} is not a time`, {
    pointer: `${pointerTo(request, index)}/notBefore`,
    next: 'write it as ISO 8601, e.g. 2030-01-31T22:00:00Z'
  })
}

/** The same request has the same fingerprint, whatever the order of its keys. */
export function fingerprint(request: SubmissionRequest): string {
  const { tasks, plan, reason, by } = request
  const text = JSON.stringify(sorted({ tasks, plan, reason, by } as unknown as Json))
  return createHash('sha256').update(text).digest('hex')
}

function sorted(value: Json): Json {
  if (Array.isArray(value)) return value.map(sorted)
  if (value === null || typeof value !== 'object') return value
  return Object.fromEntries(
    Object.keys(value)
      .toSorted()
      .map((key) => [key, sorted(value[key] ?? null)])
  )
}

export function answerOf(
  request: SubmissionRequest,
  tasks: readonly NewTask[],
  stored: Submitted,
  overtaken: { id: number; title: string }[]
): SubmissionAnswer {
  return {
    plan: stored.plan,
    replayed: stored.replayed,
    tasks: stored.tasks.map((id, index) => ({
      id,
      key: keyOf(request, index),
      action: tasks[index]?.action ?? '',
      title: tasks[index]?.title ?? ''
    })),
    overtaken
  }
}

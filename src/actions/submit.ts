// How a request becomes tasks: checked, resolved, asked of predicted state, and stored with its claims and prerequisites,
// all or nothing. Nobody else writes tasks but a complex task that expands.
import { createHash } from 'node:crypto'
import type { Database, Sql, Tx } from '../db/open.ts'
import type { Json, JsonObject } from '../db/json.ts'
import { loadFacts } from '../inventory/load.ts'
import { quote } from '../model/name.ts'
import type { Overlay } from '../inventory/fleet-state.ts'
import { ensureResources, lockResources, openEffects, submit } from '../queue/submit.ts'
import type { Submission, Submitted } from '../queue/submit.ts'
import type { Claim, NewTask, TaskRef } from '../queue/task.ts'
import type { Action } from './action.ts'
import { checkArgs } from './check-args.ts'
import { evaluatePlan, mergeClaims, type Asked, type Evaluated, type Evaluation, type Loaded } from './evaluate.ts'
import { overtake } from './overtake.ts'
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
}

export type SubmissionAnswer = {
  plan: number | null
  tasks: { id: number; key: string | null; action: string; title: string }[]
  /** The same request under the same idempotency key had been accepted before; this is its answer. */
  replayed: boolean
  /** Unfinished tasks that `now` made way by cancelling. */
  overtaken: { id: number; title: string }[]
}

export type PreviewedTask = {
  index: number
  key: string | null
  action: string
  title: string
  irreversible: boolean
  /** Said when there will be nothing to do. */
  nothingToDo: string | null
  claims: Claim[]
  after: { task: TaskRef; needs: 'complete' | 'ended' }[]
}

export type Preview = { tasks: PreviewedTask[] }

export interface Submitter {
  /** @throws RequestError when a task is impossible or badly asked; nothing is stored then. QueueError */
  submit(request: SubmissionRequest): Promise<SubmissionAnswer>
  /** What `submit` would store now. Locks nothing. */
  preview(request: SubmissionRequest): Promise<Preview>
}

/** At most this many tasks a submission. */
export const maxTasks = 20_000
// Facts lead to further facts (a VM to its disks, these to their stores); each round loads at least one more.
const maxLoadRounds = 100
// Claims may differ once they are locked, since the fleet moves; who loses five races in a row is told to try again.
const maxLockRounds = 5

export function createSubmitter(options: { database: Database; registry: ReadonlyMap<string, Action> }): Submitter {
  const { database, registry } = options
  return {
    async submit(request) {
      const asked = askedOf(request, registry)
      const first = accepted((await evaluateLoaded(database, asked, new Set())).evaluation, request)
      const overtaken = await overtake(database, first, request)
      let claims = claimsOf(first)
      let subjects = new Set<string>()
      for (let round = 0; round < maxLockRounds; round++) {
        await ensureResources(
          database,
          claims.map((claim) => claim.resource)
        )
        const outcome = await database.transaction((tx) => submitLocked(tx, asked, request, claims, subjects))
        if (outcome.stored) return answerOf(request, outcome.tasks, outcome.stored, overtaken)
        claims = outcome.again
        subjects = outcome.subjects
      }
      throw new RequestError(
        'fleet_moves',
        `what the request touches changed ${maxLockRounds} times while it was taken`,
        {
          pointer: '',
          next: 'submit it again',
          status: 'conflict'
        }
      )
    },
    async preview(request) {
      const asked = askedOf(request, registry)
      const tasks = accepted((await evaluateLoaded(database, asked, new Set())).evaluation, request)
      return { tasks: tasks.map((task, index) => previewed(task, index, request)) }
    }
  }
}

type Outcome =
  | { stored: Submitted; tasks: Evaluated[] }
  /** The fleet moved before the locks were held: these are the claims to lock, and the subjects to load, next time. */
  | { stored: null; again: Claim[]; subjects: Set<string> }

async function submitLocked(
  tx: Tx,
  asked: readonly Asked[],
  request: SubmissionRequest,
  claims: readonly Claim[],
  subjects: ReadonlySet<string>
): Promise<Outcome> {
  await lockResources(tx, claims)
  const fresh = await evaluateLoaded(tx, asked, subjects)
  const tasks = accepted(fresh.evaluation, request)
  const wanted = claimsOf(tasks)
  if (!covered(wanted, claims)) return { stored: null, again: wanted, subjects: fresh.subjects }
  return { stored: await submit(tx, asSubmission(request, tasks)), tasks }
}

type Done = Extract<Evaluation, { missing: null }>

/** Evaluates, loading what is missing, until nothing is. */
async function evaluateLoaded(
  sql: Sql,
  asked: readonly Asked[],
  known: ReadonlySet<string>
): Promise<{ evaluation: Done; subjects: Set<string> }> {
  const base = new Map<string, JsonObject | null>()
  const overlays = new Map<string, Overlay[]>()
  let wanted: ReadonlySet<string> = known
  for (let round = 0; round < maxLoadRounds; round++) {
    if (wanted.size > 0) await loadInto(sql, [...wanted], base, overlays)
    const evaluation = evaluatePlan(asked, { base, overlays } satisfies Loaded)
    if (evaluation.missing === null) return { evaluation, subjects: new Set(base.keys()) }
    wanted = evaluation.missing
  }
  throw new Error(`facts led to further facts ${maxLoadRounds} times; last: ${[...wanted].slice(0, 5).join(', ')}`)
}

async function loadInto(
  sql: Sql,
  subjects: readonly string[],
  base: Map<string, JsonObject | null>,
  overlays: Map<string, Overlay[]>
): Promise<void> {
  for (const [subject, facts] of await loadFacts(sql, subjects)) base.set(subject, facts)
  for (const effect of await openEffects(sql, subjects)) {
    const list = overlays.get(effect.subject) ?? []
    overlays.set(effect.subject, list)
    list.push({ task: effect.task, title: effect.title, subject: effect.subject, facts: effect.facts })
  }
}

function askedOf(request: SubmissionRequest, registry: ReadonlyMap<string, Action>): Asked[] {
  if (request.tasks.length === 0 || request.tasks.length > maxTasks) {
    throw new RequestError('bad_size', `a submission holds 1 to ${maxTasks} tasks, not ${request.tasks.length}`, {
      pointer: '/tasks',
      next: 'split it into several plans',
      status: request.tasks.length === 0 ? 'bad_request' : 'too_large'
    })
  }
  return request.tasks.map((task, index) => {
    const action = registry.get(task.action)
    if (!action) {
      throw new RequestError('unknown_action', `there is no action ${quote(task.action)}`, {
        pointer: `${pointerTo(request, index)}/action`,
        next: `one of ${[...registry.keys()].join(', ')}`
      })
    }
    try {
      const args = checkArgs(action, task.args)
      return { action, args: action.prepare ? (action.prepare(args) as JsonObject) : args }
    } catch (error) {
      throw error instanceof RequestError ? error.within(`${pointerTo(request, index)}/args`) : error
    }
  })
}

/** A single request has its fields at the root; a plan's are under /tasks/N. */
const pointerTo = (request: SubmissionRequest, index: number): string => (request.plan ? `/tasks/${index}` : '')

function accepted({ tasks, refusals }: Done, request: SubmissionRequest): Evaluated[] {
  const [first] = refusals
  if (first) throw first.error.within(`${pointerTo(request, first.index)}/args`)
  return tasks
}

const claimsOf = (tasks: readonly Evaluated[]): Claim[] => mergeClaims(tasks.flatMap((task) => task.claims))

function covered(wanted: readonly Claim[], locked: readonly Claim[]): boolean {
  const modes = new Map(locked.map((claim) => [claim.resource, claim.mode]))
  return wanted.every((claim) => {
    const mode = modes.get(claim.resource)
    return mode === 'exclusive' || mode === claim.mode
  })
}

function asSubmission(request: SubmissionRequest, tasks: readonly Evaluated[]): Submission {
  return {
    tasks: tasks.map((task, index) => newTask(task, index, request)),
    by: request.by,
    ...(request.plan ? { plan: request.plan } : {}),
    ...(request.reason === undefined ? {} : { reason: request.reason }),
    ...(request.idempotencyKey === undefined
      ? {}
      : { idempotency: { key: request.idempotencyKey, fingerprint: fingerprint(request) } })
  }
}

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
    ...(asked?.priority === undefined ? {} : { priority: asked.priority }),
    ...(asked?.notBefore === undefined ? {} : { notBefore: dateOf(asked.notBefore, request, index) }),
    ...(asked?.hold === undefined ? {} : { hold: asked.hold })
  }
}

function prerequisites(
  task: Evaluated,
  index: number,
  request: SubmissionRequest
): { task: TaskRef; needs: 'complete' }[] {
  const explicit = (request.tasks[index]?.after ?? []).map((ref, at): TaskRef => {
    if (typeof ref === 'number') return ref
    const earlier = request.tasks.findIndex((other) => other.key === ref)
    if (earlier >= 0 && earlier < index) return { index: earlier }
    throw new RequestError('bad_prerequisite', `${quote(ref)} is not the key of an earlier task of this plan`, {
      pointer: `${pointerTo(request, index)}/after/${at}`,
      next: 'put the task that it names before this one'
    })
  })
  const refs = [...explicit, ...task.thanksTo]
  const known = new Set<string>()
  return refs
    .filter((ref) => !known.has(JSON.stringify(ref)) && known.add(JSON.stringify(ref)))
    .map((ref) => ({ task: ref, needs: 'complete' }))
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
function fingerprint(request: SubmissionRequest): string {
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

function answerOf(
  request: SubmissionRequest,
  tasks: readonly Evaluated[],
  stored: Submitted,
  overtaken: { id: number; title: string }[]
): SubmissionAnswer {
  return {
    plan: stored.plan,
    replayed: stored.replayed,
    tasks: stored.tasks.map((id, index) => ({
      id,
      key: request.tasks[index]?.key ?? null,
      action: tasks[index]?.action.name ?? '',
      title: tasks[index]?.title ?? ''
    })),
    overtaken
  }
}

function previewed(task: Evaluated, index: number, request: SubmissionRequest): PreviewedTask {
  return {
    index,
    key: request.tasks[index]?.key ?? null,
    action: task.action.name,
    title: task.title,
    irreversible: task.action.irreversible ?? false,
    nothingToDo: task.verdict.verdict === 'nothing_to_do' ? task.verdict.why : null,
    claims: task.claims,
    after: prerequisites(task, index, request)
  }
}

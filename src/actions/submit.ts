// How a request becomes tasks: checked, resolved, asked of predicted state, and stored with its claims and prerequisites,
// all or nothing. Nobody else writes tasks but a complex task that expands.
import { DatabaseError } from '../db/error.ts'
import type { Database, Sql, Tx } from '../db/open.ts'
import type { JsonObject } from '../db/json.ts'
import type { Overlay } from '../inventory/fleet-state.ts'
import { loadFacts } from '../inventory/load.ts'
import { quote } from '../model/name.ts'
import { submittedBefore } from '../queue/replay.ts'
import { ensureResources, lockResources, openEffects, submit } from '../queue/submit.ts'
import type { Submitted } from '../queue/submit.ts'
import type { Claim } from '../queue/task.ts'
import type { Action } from './action.ts'
import { checkArgs } from './check-args.ts'
import { evaluatePlan, mergeClaims, type Asked, type Evaluated, type Evaluation, type Loaded } from './evaluate.ts'
import { overtake } from './overtake.ts'
import { previewOf, type Preview } from './preview.ts'
import { RequestError } from './request-error.ts'
import {
  answerOf,
  asSubmission,
  fingerprint,
  pointerTo,
  type SubmissionAnswer,
  type SubmissionRequest
} from './submission.ts'

export type { Preview } from './preview.ts'
export type { RequestedTask, SubmissionAnswer, SubmissionRequest } from './submission.ts'

export interface Submitter {
  /** @throws RequestError when a task is impossible or badly asked; nothing is stored then. QueueError */
  submit(request: SubmissionRequest): Promise<SubmissionAnswer>
  /** What `submit` would store now. Locks nothing. */
  preview(request: SubmissionRequest): Promise<Preview>
}

/** At most this many tasks a submission. */
const maxTasks = 20_000
// Facts lead to further facts (a VM to its disks, these to their stores); each round loads at least one more.
const maxLoadRounds = 100
// Claims may differ once they are locked, since the fleet moves; who loses five races in a row is told to try again.
const maxLockRounds = 5

export function createSubmitter(options: { database: Database; registry: ReadonlyMap<string, Action> }): Submitter {
  const { database, registry } = options
  return {
    async submit(request) {
      const replay = await replayOf(database, request)
      if (replay) return replay
      try {
        return await submitNew(database, askedOf(request, registry), request)
      } catch (error) {
        // Its twin may have been stored meanwhile: what that brings about is then what makes this one impossible.
        const twin = error instanceof RequestError ? await replayOf(database, request) : undefined
        if (twin) return twin
        throw error
      }
    },
    async preview(request) {
      const { evaluation } = await evaluateLoaded(database, askedOf(request, registry), new Set())
      return previewOf(database, accepted(evaluation, request), request)
    }
  }
}

async function submitNew(
  database: Database,
  asked: readonly Asked[],
  request: SubmissionRequest
): Promise<SubmissionAnswer> {
  const first = await evaluateLoaded(database, asked, new Set())
  const tasks = accepted(first.evaluation, request)
  const overtaken = await overtake(database, tasks, request)
  let { subjects } = first
  let claims = claimsOf(tasks)
  for (let round = 0; round < maxLockRounds; round++) {
    const names = claims.map((claim) => claim.resource)
    await ensureResources(database, names)
    const outcome = await database
      .transaction((tx) => submitLocked(tx, asked, request, claims, subjects))
      .catch((error: unknown) => movedMeanwhile(error, claims, subjects))
    if (outcome.stored) return answerOf(request, outcome.tasks, outcome.stored, overtaken)
    claims = outcome.again
    subjects = outcome.subjects
  }
  const message = `what the request touches changed ${maxLockRounds} times while it was taken`
  throw new RequestError('fleet_moves', message, { pointer: '', next: 'submit it again', status: 'conflict' })
}

type Outcome =
  | { stored: Submitted; tasks: Evaluated[] }
  /** The fleet moved before the locks were held: these are the claims to lock, and the subjects to load, next time. */
  | { stored: null; again: Claim[]; subjects: Set<string> }

/** A prerequisite that was held in the same moment, or a deadlock: nothing happened, and it is asked for again. */
function movedMeanwhile(error: unknown, again: Claim[], subjects: Set<string>): Outcome {
  if (error instanceof DatabaseError && error.code === 'conflict') return { stored: null, again, subjects }
  throw error
}

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

async function replayOf(database: Database, request: SubmissionRequest): Promise<SubmissionAnswer | undefined> {
  const key = request.idempotencyKey
  const earlier = key === undefined ? null : await submittedBefore(database, { key, fingerprint: fingerprint(request) })
  if (!earlier) return undefined
  const tasks = earlier.tasks.map((task, index) => ({ ...task, key: request.tasks[index]?.key ?? null }))
  return { plan: earlier.plan, tasks, replayed: true, overtaken: [] }
}

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

// How a request becomes tasks: checked, resolved, asked of predicted state, and stored with its claims and prerequisites,
// all or nothing. Nobody else writes tasks but a complex task that expands.
import { DatabaseError } from '../db/error.ts'
import type { Database, Tx } from '../db/open.ts'
import { submittedBefore } from '../queue/replay.ts'
import { ensureResources, lockResources, submit } from '../queue/submit.ts'
import type { Submitted } from '../queue/submit.ts'
import type { Claim, NewTask } from '../queue/task.ts'
import type { Action } from './action.ts'
import { askedOf, evaluateLoaded, type Done } from './evaluate-loaded.ts'
import { mergeClaims, type Asked, type Evaluated } from './evaluate.ts'
import { overtake } from './overtake.ts'
import { previewOf, type Preview } from './preview.ts'
import { RequestError } from './request-error.ts'
import {
  answerOf,
  asSubmission,
  fingerprint,
  keyOf,
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

// Claims may differ once they are locked, since the fleet moves; who loses five races in a row is told to try again.
const maxLockRounds = 5

export function createSubmitter(options: { database: Database; registry: ReadonlyMap<string, Action> }): Submitter {
  const { database, registry } = options
  return {
    async submit(request) {
      const replay = await replayOf(database, request)
      if (replay) return replay
      try {
        return await submitNew(database, await askedOf(database, request, registry), request)
      } catch (error) {
        // Its twin may have been stored meanwhile: what that brings about is then what makes this one impossible.
        const twin = error instanceof RequestError ? await replayOf(database, request) : undefined
        if (twin) return twin
        throw error
      }
    },
    async preview(request) {
      const { evaluation } = await evaluateLoaded(database, await askedOf(database, request, registry), new Set())
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
  | { stored: Submitted; tasks: readonly NewTask[] }
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
  const submission = asSubmission(request, tasks)
  return { stored: await submit(tx, submission), tasks: submission.tasks }
}

async function replayOf(database: Database, request: SubmissionRequest): Promise<SubmissionAnswer | undefined> {
  const key = request.idempotencyKey
  const earlier = key === undefined ? null : await submittedBefore(database, { key, fingerprint: fingerprint(request) })
  if (!earlier) return undefined
  const tasks = earlier.tasks.map((task, index) => ({ ...task, key: keyOf(request, index) }))
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

// GET /plans/:id: tasks that were submitted together; its tasks are listed by GET /tasks?plan=ID. POST /plans/:id/undo undoes them.
import { Type } from 'typebox'
import type { UndoAnswer, UndoRequest } from '../actions/plan-undo.ts'
import { hasEnded, PlanUndone, PlanView } from '../api/task.ts'
import type { Database } from '../db/open.ts'
import { QueueError } from '../queue/error.ts'
import { planOf, type Plan } from '../queue/read.ts'
import { answers, type Api } from './app.ts'
import { untilEvent } from './event-feed.ts'
import { IdParams, type TaskRoutesParts } from './tasks.ts'
import { waitMs, waitQuery } from './wait.ts'

/** Counting a plan's tasks is not free: while ends pour in it is done so often at most. */
const RECOUNT_MS = 200

export function planRoutes(app: Api, { reads, feed, closing }: TaskRoutesParts): void {
  const query = Type.Object(waitQuery, { additionalProperties: false })
  app.get(
    '/plans/:id',
    {
      schema: {
        summary: 'A plan; with `wait` once all its tasks have ended',
        operationId: 'getPlan',
        params: IdParams,
        querystring: query,
        response: { 200: answers('The plan', PlanView) }
      }
    },
    async ({ params, query: { wait } }) => {
      const id = Number(params.id)
      let plan = await viewOf(reads, id)
      const until = Date.now() + waitMs(wait)
      for (let left = until - Date.now(); !plan.ended && left > 0; left = until - Date.now()) {
        const counted = Date.now()
        const atOnce = async () => (plan = await viewOf(reads, id)).ended
        const answer = await untilEvent(feed, (event) => event.ended.length > 0, {
          timeoutMs: left,
          signal: closing,
          atOnce
        })
        if (answer === 'aborted') break
        const early = RECOUNT_MS - (Date.now() - counted)
        if (answer === 'event' && early > 0) await new Promise((resolve) => setTimeout(resolve, Math.min(early, left)))
      }
      return plan
    }
  )
}

export type UndoParts = { undo: (request: UndoRequest) => Promise<UndoAnswer> }

export function planUndoRoute(app: Api, { undo }: UndoParts): void {
  const body = Type.Object(
    { reason: Type.Optional(Type.String({ minLength: 1, maxLength: 1000, description: 'Why; kept with the task' })) },
    { additionalProperties: false }
  )
  app.post(
    '/plans/:id/undo',
    {
      schema: {
        summary: 'Undo what a plan that has ended did, the last first',
        operationId: 'undoPlan',
        params: IdParams,
        body,
        response: { 201: answers('The task that undoes it', PlanUndone) }
      }
    },
    async ({ params, body: { reason }, actor }, reply) => {
      const by = actor.name
      const answer = await undo({ plan: Number(params.id), by, ...(reason === undefined ? {} : { reason }) })
      return reply.code(201).send(answer)
    }
  )
}

/** @throws QueueError plan_not_found */
async function viewOf(reads: Database, id: number): Promise<PlanView> {
  const plan = await planOf(reads, id)
  if (!plan) throw new QueueError('plan_not_found', `there is no plan ${id}`)
  const { name, onFailure, by, reason, createdAt, counts, undone } = plan
  const ended = Object.keys(counts).every(hasEnded)
  return {
    id,
    name,
    onFailure,
    by,
    reason,
    submittedAt: createdAt.toISOString(),
    ended,
    outcome: outcomeOf(plan, ended),
    undone,
    counts
  }
}

function outcomeOf({ counts, undone }: Plan, ended: boolean): PlanView['outcome'] {
  if ((undone.needs_operator ?? 0) > 0) return 'needs_operator'
  if (!ended) return 'open'
  const gone = (undone.undone ?? 0) > 0
  if (gone) return (undone.impossible ?? 0) > 0 ? 'partly_undone' : 'undone'
  if ((counts.failed ?? 0) > 0) return 'failed'
  return (counts.cancelled ?? 0) > 0 ? 'cancelled' : 'complete'
}

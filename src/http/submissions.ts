// POST /tasks and POST /plans: what comes in over the network, as a submission. With `?dryRun=true` only what would be made.
import { Type } from 'typebox'
import type { SubmissionRequest, Submitter } from '../actions/submit.ts'
import { RequestError } from '../actions/request-error.ts'
import { PlanSubmission, Preview, Submitted, TaskSubmission } from '../api/submission.ts'
import { answers, limits, type Api } from './app.ts'

type Args = SubmissionRequest['tasks'][number]['args']

/** Questions to the world before anything is stored, by action's name: is that host reachable? Each throws a RequestError. */
export type Preflight = ReadonlyMap<string, (args: Args) => Promise<void>>

const Query = Type.Object(
  {
    dryRun: Type.Optional(Type.Union([Type.Literal('true'), Type.Literal('false')], { description: 'Store nothing' }))
  },
  { additionalProperties: false }
)
const Headers = Type.Object({
  'idempotency-key': Type.Optional(
    Type.String({
      minLength: 1,
      maxLength: 200,
      pattern: '^[!-~]+$',
      description: 'The same request sent again with the same key is answered as before, and makes nothing new'
    })
  )
})
const described = {
  querystring: Query,
  headers: Headers,
  response: {
    200: answers(
      'Nothing new was made: a dry run, or the request was answered before',
      Type.Union([Preview, Submitted])
    ),
    201: answers('Accepted: it is stored durably', Submitted)
  }
}

export function submissionRoutes(app: Api, deps: Parts): void {
  app.post(
    '/tasks',
    {
      bodyLimit: limits.taskBodyBytes,
      schema: { summary: 'Submit a task', operationId: 'submitTask', body: TaskSubmission, ...described }
    },
    async (request, reply) => {
      const { reason, ...task } = request.body
      const submission: SubmissionRequest = {
        tasks: [{ ...task, args: task.args as Args }],
        by: request.actor.name,
        ...given(reason, request.headers)
      }
      const { status, body } = await answer(deps, submission, request.query)
      return reply.code(status).send(body)
    }
  )
  app.post(
    '/plans',
    {
      bodyLimit: limits.planBodyBytes,
      schema: { summary: 'Submit a plan', operationId: 'submitPlan', body: PlanSubmission, ...described }
    },
    async (request, reply) => {
      const { reason, tasks, name, onFailure = 'stop' } = request.body
      const submission: SubmissionRequest = {
        tasks: tasks.map((task) => ({ ...task, args: task.args as Args })),
        plan: { onFailure, ...(name === undefined ? {} : { name }) },
        by: request.actor.name,
        ...given(reason, request.headers)
      }
      const { status, body } = await answer(deps, submission, request.query)
      return reply.code(status).send(body)
    }
  )
}

type Parts = { submitter: Submitter; preflight: Preflight }

async function ask(
  preflight: Preflight,
  submission: SubmissionRequest,
  task: SubmissionRequest['tasks'][number]
): Promise<void> {
  try {
    await preflight.get(task.action)?.(task.args)
  } catch (error) {
    if (!(error instanceof RequestError)) throw error
    throw error.within(submission.plan ? `/tasks/${submission.tasks.indexOf(task)}/args` : '/args')
  }
}

function given(
  reason: string | undefined,
  headers: { 'idempotency-key'?: string }
): { reason?: string; idempotencyKey?: string } {
  const idempotencyKey = headers['idempotency-key']
  return { ...(reason === undefined ? {} : { reason }), ...(idempotencyKey === undefined ? {} : { idempotencyKey }) }
}

async function answer(
  { submitter, preflight }: Parts,
  submission: SubmissionRequest,
  { dryRun }: { dryRun?: 'true' | 'false' }
): Promise<{ status: 200 | 201; body: object }> {
  // The submitter first: what it refuses is not worth asking the world about.
  const asks = submission.tasks.filter(({ action }) => preflight.has(action))
  if (dryRun === 'true' || asks.length > 0) {
    const preview = await submitter.preview(submission)
    await Promise.all(asks.map((task) => ask(preflight, submission, task)))
    if (dryRun === 'true') return { status: 200, body: preview }
  }
  const submitted = await submitter.submit(submission)
  return { status: submitted.replayed ? 200 : 201, body: submitted }
}

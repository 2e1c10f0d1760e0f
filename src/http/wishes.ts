// POST /tasks/:id/cancel, /hold, /release, /retry, /verdict: what an operator wishes of a task that is there. Each answers the task.
import { Type } from 'typebox'
import { TaskView } from '../api/task.ts'
import type { Database } from '../db/open.ts'
import { QueueError } from '../queue/error.ts'
import { cancel, hold, release, retry } from '../queue/requests.ts'
import { giveVerdict } from '../queue/verdict.ts'
import { answers, type Api } from './app.ts'
import { taskOf, viewOf } from './task-view.ts'
import { IdParams } from './tasks.ts'

export type WishParts = { database: Database; wake: () => void }

const Reason = Type.String({ minLength: 1, maxLength: 1000, description: 'Why; kept with the task' })
const response = { 200: answers('The task as it is now', TaskView) }

export function wishRoutes(app: Api, { database, wake }: WishParts): void {
  // Something may have become ready by it.
  const now = async (id: number) => {
    wake()
    return viewOf(database, await taskOf(database, id))
  }

  const cancelBody = Type.Object({ reason: Type.Optional(Reason) }, { additionalProperties: false })
  app.post(
    '/tasks/:id/cancel',
    {
      schema: {
        summary: 'Cancel: at once where it has not started, else as soon as it can stop',
        operationId: 'cancelTask',
        params: IdParams,
        body: cancelBody,
        response
      }
    },
    async ({ params, body, actor }) => {
      const task = Number(params.id)
      const answer = await cancel(database, {
        task,
        by: actor.name,
        ...(body.reason === undefined ? {} : { reason: body.reason })
      })
      if (answer === 'ended') throw new QueueError('already_ended', `task ${task} has ended`, { tasks: [task] })
      return now(task)
    }
  )

  const holdBody = Type.Object({ reason: Reason }, { additionalProperties: false })
  app.post(
    '/tasks/:id/hold',
    {
      schema: {
        summary: 'Hold a task that has not started',
        operationId: 'holdTask',
        params: IdParams,
        body: holdBody,
        response
      }
    },
    async ({ params, body, actor }) => {
      await hold(database, { task: Number(params.id), reason: body.reason, by: actor.name })
      return now(Number(params.id))
    }
  )

  const releaseBody = Type.Object({}, { additionalProperties: false })
  app.post(
    '/tasks/:id/release',
    {
      schema: {
        summary: 'Release a held task',
        operationId: 'releaseTask',
        params: IdParams,
        body: releaseBody,
        response
      }
    },
    async ({ params, actor }) => {
      await release(database, { task: Number(params.id), by: actor.name })
      return now(Number(params.id))
    }
  )

  const retryBody = Type.Object(
    { withDependants: Type.Optional(Type.Boolean({ description: 'And what failed only because it did' })) },
    { additionalProperties: false }
  )
  app.post(
    '/tasks/:id/retry',
    {
      schema: {
        summary: 'Try a task that failed or was cancelled again',
        operationId: 'retryTask',
        params: IdParams,
        body: retryBody,
        response
      }
    },
    async ({ params, body, actor }) => {
      await retry(database, { task: Number(params.id), by: actor.name, withDependants: body.withDependants ?? false })
      return now(Number(params.id))
    }
  )

  const verdictBody = Type.Object(
    {
      verdict: Type.Union([Type.Literal('happened'), Type.Literal('did-not')], { description: 'What is known now' }),
      reason: Type.String({ minLength: 1, maxLength: 1000, description: 'How it is known; kept for good' })
    },
    { additionalProperties: false }
  )
  app.post(
    '/tasks/:id/verdict',
    {
      schema: {
        summary: 'Say of an uncertain task whether it happened: it ends by that',
        operationId: 'giveVerdict',
        params: IdParams,
        body: verdictBody,
        response
      }
    },
    async ({ params, body, actor }) => {
      const task = Number(params.id)
      await giveVerdict(database, { task, happened: body.verdict === 'happened', by: actor.name, reason: body.reason })
      return now(task)
    }
  )
}

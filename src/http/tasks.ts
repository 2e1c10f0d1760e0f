// GET /tasks and what hangs below a task: why, log, and the wishes of operators. Plans are in plans.ts.
import { Type } from 'typebox'
import { LogLine, taskStates, TaskPage, TaskView, Why, hasEnded, type TaskState } from '../api/task.ts'
import type { Database } from '../db/open.ts'
import { InventoryError } from '../inventory/error.ts'
import { findVm } from '../inventory/resolve.ts'
import { quote } from '../model/name.ts'
import { resource } from '../model/resource.ts'
import { readLog } from '../queue/log.ts'
import { listTasks, type TaskFilter } from '../queue/read.ts'
import { PHASES } from '../queue/state.ts'
import { answers, type Api } from './app.ts'
import { concernsTask, untilEvent, type EventFeed } from './event-feed.ts'
import { limitOf, pageQuery } from './paging.ts'
import { HttpError } from './problem.ts'
import { summaryOf, taskOf, viewOf } from './task-view.ts'
import { waitQuery, waitMs } from './wait.ts'
import { whyView } from './why-view.ts'

export type TaskRoutesParts = {
  /** For reading: its statements have a timeout. */
  reads: Database
  feed: EventFeed
  /** Aborts when the server stops: long polls are answered then. */
  closing: AbortSignal
}

export const IdParams = Type.Object({
  id: Type.String({ pattern: '^[1-9][0-9]{0,14}$', description: "A task's or plan's number" })
})

const Text = (description: string) => Type.Optional(Type.String({ minLength: 1, maxLength: 300, description }))
const ListQuery = Type.Object(
  {
    id: Type.Optional(
      Type.String({ pattern: '^[1-9][0-9]{0,14}(,[1-9][0-9]{0,14}){0,99}$', description: 'Only these, with commas' })
    ),
    state: Text(`With commas: ${taskStates.join(', ')}, or new, in_progress, ended, open`),
    action: Text('With commas, e.g. vm.start,vm.stop'),
    resource: Text('Only those that claim it, e.g. pool/h1/data'),
    vm: Text('Only those that claim this VM: NAME, NAME@HOST or UUID'),
    host: Text('Only those that claim this host'),
    plan: Type.Optional(Type.String({ pattern: '^[1-9][0-9]{0,14}$' })),
    text: Text('Only with this in the title, whatever the case'),
    ...pageQuery
  },
  { additionalProperties: false }
)

export function taskRoutes(app: Api, { reads, feed, closing }: TaskRoutesParts): void {
  app.get(
    '/tasks',
    {
      schema: {
        summary: 'Tasks, newest first',
        operationId: 'listTasks',
        querystring: ListQuery,
        response: { 200: answers('A page', TaskPage) }
      }
    },
    async ({ query }) => {
      const { cursor, limit } = query
      const after = cursor === undefined ? undefined : cursorOf(cursor)
      const page = await listTasks(reads, {
        ...(await filterOf(reads, query)),
        limit: limitOf(limit),
        ...(after === undefined ? {} : { after })
      })
      return { items: page.tasks.map((task) => summaryOf(task)), next: page.next === null ? null : String(page.next) }
    }
  )

  const oneQuery = Type.Object(
    {
      ...waitQuery,
      not: Type.Optional(
        Type.String({ maxLength: 20, description: 'With `wait`: answer as soon as the state is another' })
      )
    },
    { additionalProperties: false }
  )
  app.get(
    '/tasks/:id',
    {
      schema: {
        summary: 'A task; with `wait` once it has ended',
        operationId: 'getTask',
        params: IdParams,
        querystring: oneQuery,
        response: { 200: answers('The task', TaskView) }
      }
    },
    async ({ params, query }) => {
      const id = Number(params.id)
      const over = async () => {
        const { state } = await taskOf(reads, id)
        return hasEnded(state) || (query.not !== undefined && state !== query.not)
      }
      const until = Date.now() + waitMs(query.wait)
      for (let left = until - Date.now(); left > 0; left = until - Date.now()) {
        const answer = await untilEvent(feed, concernsTask(id), { timeoutMs: left, signal: closing, atOnce: over })
        if (answer !== 'event') break
      }
      return viewOf(reads, await taskOf(reads, id))
    }
  )

  app.get(
    '/tasks/:id/why',
    {
      schema: {
        summary: 'Why a task is where it is, and what ends that',
        operationId: 'whyTask',
        params: IdParams,
        response: { 200: answers('Reasons', Why) }
      }
    },
    async ({ params }) => whyView(reads, await taskOf(reads, Number(params.id)))
  )

  const logQuery = Type.Object(
    {
      after: Type.Optional(Type.String({ pattern: '^[0-9]{1,15}$', description: 'The id of the last line seen' })),
      limit: pageQuery.limit
    },
    { additionalProperties: false }
  )
  app.get(
    '/tasks/:id/log',
    {
      schema: {
        summary: "A task's log",
        operationId: 'taskLog',
        params: IdParams,
        querystring: logQuery,
        response: { 200: answers('Lines, oldest first', Type.Object({ items: Type.Array(LogLine) })) }
      }
    },
    async ({ params, query }) => {
      const task = await taskOf(reads, Number(params.id))
      const lines = await readLog(reads, {
        task: task.id,
        after: Number(query.after ?? 0),
        limit: query.limit === undefined ? 1000 : limitOf(query.limit)
      })
      return {
        items: lines.map(({ id, at, attempt, level, message, data }) => ({
          id,
          at: at.toISOString(),
          attempt,
          level,
          message,
          ...(data === null ? {} : { data })
        }))
      }
    }
  )
}

type ListFilters = {
  id?: string
  state?: string
  action?: string
  resource?: string
  vm?: string
  host?: string
  plan?: string
  text?: string
}

async function filterOf(reads: Database, query: ListFilters): Promise<TaskFilter> {
  const filter: TaskFilter = {}
  if (query.id !== undefined) filter.ids = query.id.split(',').map(Number)
  if (query.state !== undefined) filter.states = statesOf(query.state)
  if (query.action !== undefined) filter.actions = query.action.split(',')
  if (query.plan !== undefined) filter.plan = Number(query.plan)
  if (query.text !== undefined) filter.text = query.text
  const touched = [query.resource, query.vm, query.host].filter((value) => value !== undefined)
  if (touched.length > 1)
    throw new HttpError(400, 'bad_value', 'of resource, vm and host only one can be asked for', {
      next: 'leave the others out',
      pointer: '/resource'
    })
  if (query.resource !== undefined) filter.resource = query.resource
  if (query.host !== undefined) filter.resource = resource.host(query.host)
  if (query.vm !== undefined) filter.resource = await vmResource(reads, query.vm)
  return filter
}

/** A VM that is gone, or is only about to be created, is known to tasks by its name. */
async function vmResource(reads: Database, reference: string): Promise<string> {
  try {
    return resource.vm((await findVm(reads, reference)).uuid)
  } catch (error) {
    if (!(error instanceof InventoryError) || error.code !== 'not_found') throw error
    return /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i.test(reference)
      ? resource.vm(reference.toLowerCase())
      : resource.vmName(reference)
  }
}

const groups: Record<string, readonly TaskState[]> = { ...PHASES, open: [...PHASES.new, ...PHASES.in_progress] }

function statesOf(text: string): TaskState[] {
  return [...new Set(text.split(','))].flatMap((word) => {
    const group = Object.hasOwn(groups, word) ? groups[word] : undefined
    if (group) return group
    const state = taskStates.find((known) => known === word)
    if (state) return [state]
    throw new HttpError(400, 'bad_value', `${quote(word)} is not a state`, {
      next: `one of ${taskStates.join(', ')}, new, in_progress, ended, open`,
      pointer: '/state'
    })
  })
}

function cursorOf(text: string): number {
  if (/^[1-9][0-9]{0,14}$/.test(text)) return Number(text)
  throw new HttpError(400, 'bad_value', `${quote(text)} is not a cursor that a list gave`, {
    next: 'give `next` of the page before',
    pointer: '/cursor'
  })
}

// GET /events: what happens to tasks, as server-sent events. Whoever comes back with Last-Event-ID misses nothing.
import { Type } from 'typebox'
import type { ServerResponse } from 'node:http'
import type { Api } from './app.ts'
import type { EventFeed, TaskEvent } from './event-feed.ts'

const HEARTBEAT_MS = 15_000
/** A reader that does not read is let go: it comes back with Last-Event-ID. */
const MAX_UNSENT_BYTES = 1024 * 1024
const BATCH = 500

export function eventRoutes(app: Api, { feed, closing }: { feed: EventFeed; closing: AbortSignal }): void {
  const headers = Type.Object({
    'last-event-id': Type.Optional(
      Type.String({ pattern: '^[0-9]{1,15}$', description: 'The id of the last event seen' })
    )
  })
  const querystring = Type.Object(
    { after: Type.Optional(Type.String({ pattern: '^[0-9]{1,15}$', description: 'As Last-Event-ID' })) },
    { additionalProperties: false }
  )
  const description =
    'text/event-stream: events `tasks` with { at, submitted, started, ended, changed }, each a list of tasks. GET /tasks?id=… tells more'
  app.get(
    '/events',
    {
      schema: {
        summary: 'What happens to tasks, as server-sent events',
        operationId: 'events',
        description,
        headers,
        querystring
      }
    },
    async (request, reply) => {
      const after = request.headers['last-event-id'] ?? request.query.after
      reply.hijack()
      const stream = reply.raw
      for (const [name, value] of Object.entries(reply.getHeaders()))
        if (value !== undefined) stream.setHeader(name, value)
      stream.writeHead(200, { 'content-type': 'text/event-stream', connection: 'close' })
      stream.write(': what happens to tasks\nretry: 2000\n\n')
      await pass(feed, stream, after === undefined ? undefined : Number(after), closing)
    }
  )
}

async function pass(
  feed: EventFeed,
  stream: ServerResponse,
  after: number | undefined,
  closing: AbortSignal
): Promise<void> {
  const ended = Promise.withResolvers<void>()
  let sent = after ?? 0
  let early: TaskEvent[] | undefined = []
  const send = (event: TaskEvent) => {
    if (event.id <= sent) return
    sent = event.id
    stream.write(textOf(event))
    if (stream.writableLength > MAX_UNSENT_BYTES) ended.resolve()
  }
  // Heard before the past is read, so that nothing falls in between; told after it.
  const unsubscribe = feed.subscribe((event) => {
    if (early) early.push(event)
    else send(event)
  })
  const heartbeat = setInterval(() => stream.write(': still here\n\n'), HEARTBEAT_MS)
  const end = () => ended.resolve()
  stream.once('close', end)
  closing.addEventListener('abort', end, { once: true })
  try {
    for (let more = after !== undefined; more && !stream.destroyed;) {
      const past = await feed.since(sent, BATCH)
      for (const event of past) send(event)
      more = past.length === BATCH
    }
    for (const event of early) send(event)
    early = undefined
    if (!closing.aborted) await ended.promise
  } finally {
    clearInterval(heartbeat)
    closing.removeEventListener('abort', end)
    unsubscribe()
    stream.end()
  }
}

const textOf = ({ id, at, submitted, started, ended, changed }: TaskEvent): string =>
  `id: ${id}\nevent: tasks\ndata: ${JSON.stringify({ at: at.toISOString(), submitted, started, ended, changed })}\n\n`

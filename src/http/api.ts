// All of the API put together: /api/v1, /healthz, /metrics.
import type { FastifyBaseLogger } from 'fastify'
import type { Action } from '../actions/action.ts'
import { undoPlan } from '../actions/plan-undo.ts'
import type { Submitter } from '../actions/submit.ts'
import type { Database } from '../db/open.ts'
import type { Authenticator } from '../identity/token.ts'
import { channels, lastEvent, readEvents } from '../queue/notify.ts'
import { countOpen } from '../queue/read.ts'
import type { Staging } from '../staging/staging.ts'
import { actionRoutes } from './actions.ts'
import { createApp, type Api } from './app.ts'
import { contentRoutes } from './contents.ts'
import { startEventFeed } from './event-feed.ts'
import { eventRoutes } from './events.ts'
import { fleetRoutes, type ReadVmXml } from './fleet.ts'
import { limitRoutes } from './limits.ts'
import { metricRoutes, type MetricSources } from './metrics.ts'
import { planRoutes, planUndoRoute } from './plans.ts'
import { submissionRoutes, type Preflight } from './submissions.ts'
import { taskRoutes } from './tasks.ts'
import { wishRoutes } from './wishes.ts'

export type ApiParts = {
  database: Database
  /** For lists and long polls: a pool of its own, whose statements have a timeout, cannot hold submissions up. */
  reads: Database
  registry: ReadonlyMap<string, Action>
  submitter: Submitter
  authenticator: Authenticator
  log: FastifyBaseLogger
  version: string
  /** Something may have become runnable: told after each change. */
  wake?: () => void
  preflight?: Preflight
  /** Left out: definitions cannot be read. */
  readVmXml?: ReadVmXml
  metrics?: Omit<MetricSources, 'openTasks'>
  /** Shared with the dispatcher of this process; without it no bytes are taken or given. */
  staging?: Staging
  /** Within which a request must have arrived whole. Default 30,000. */
  requestTimeoutMs?: number
}

/** Ready to listen. Closing it ends long polls and streams first. */
export async function createApi(parts: ApiParts): Promise<Api> {
  const { database, reads, log } = parts
  const app = await createApp({
    authenticate: (header) => parts.authenticator.authenticate(header),
    log,
    version: parts.version,
    requestTimeoutMs: parts.requestTimeoutMs
  })
  const feed = await startEventFeed({
    read: (after, limit) => readEvents(reads, { after, limit }),
    newest: () => lastEvent(reads),
    listen: (look) => reads.listen(channels.event, look),
    onError: (error) => log.warn({ err: error }, 'events could not be read')
  })
  const closing = new AbortController()
  app.addHook('preClose', async () => {
    closing.abort()
    await feed.stop()
  })
  // A connection that is answered while the server closes would else be kept, and keep the server, for its idle time.
  app.addHook('onSend', async (_request, reply) => {
    if (closing.signal.aborted) reply.header('connection', 'close')
  })
  const wake = parts.wake ?? (() => undefined)
  const submitter = wakingSubmitter(parts.submitter, wake)
  metricRoutes(app, {
    guardPollFound: () => 0,
    forgotten: () => 0,
    running: () => 0,
    hosts: () => ({}),
    ...parts.metrics,
    openTasks: () => countOpen(reads)
  })
  app.get('/healthz', { config: { open: true }, schema: { hide: true } }, async () => {
    await reads.query('select 1')
    return { status: 'ok' }
  })
  await app.register(
    async (routes) => {
      submissionRoutes(routes, { submitter, preflight: parts.preflight ?? new Map() })
      taskRoutes(routes, { reads, feed, closing: closing.signal })
      wishRoutes(routes, { database, wake })
      planRoutes(routes, { reads, feed, closing: closing.signal })
      planUndoRoute(routes, {
        undo: (request) => undoPlan({ database, registry: parts.registry, submitter }, request)
      })
      limitRoutes(routes, reads)
      fleetRoutes(routes, reads, parts.readVmXml)
      actionRoutes(routes, parts.registry)
      if (parts.staging) contentRoutes(routes, { staging: parts.staging, closing: closing.signal })
      eventRoutes(routes, { feed, closing: closing.signal })
      routes.get('/openapi.json', { schema: { hide: true } }, () => app.swagger())
    },
    { prefix: '/api/v1' }
  )
  await app.ready()
  return app
}

const wakingSubmitter = (submitter: Submitter, wake: () => void): Submitter => ({
  preview: (request) => submitter.preview(request),
  async submit(request) {
    const answer = await submitter.submit(request)
    wake()
    return answer
  }
})

// The API server as a value: hooks, limits and error handling, with the routes registered on it. It neither listens nor opens
// anything: server.ts does.
import swagger from '@fastify/swagger'
import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox'
import fastify, {
  LogController,
  type FastifyBaseLogger,
  type FastifyInstance,
  type FastifyReply,
  type RawServerDefault
} from 'fastify'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { randomUUID } from 'node:crypto'
import type { TSchema } from 'typebox'
import { Problem } from '../api/problem.ts'
import type { Actor } from '../identity/token.ts'
import { HttpError, problemOf } from './problem.ts'
import { refuseBadText, validatorCompiler } from './validate.ts'

export type Api = FastifyInstance<
  RawServerDefault,
  IncomingMessage,
  ServerResponse,
  FastifyBaseLogger,
  TypeBoxTypeProvider
>

declare module 'fastify' {
  interface FastifyRequest {
    /** Set before any handler but that of /healthz. */
    actor: Actor
  }
  interface FastifyContextConfig {
    /** Answers without a token. */
    open?: boolean
    /** Its body is bytes that flow: neither text to be looked at, nor to arrive within the time of a request. */
    flows?: boolean
  }
}

export const limits = {
  bodyBytes: 256 * 1024,
  /** POST /tasks: a VM may be given as XML; and a name that is far too long is refused by its rule, not by its size. */
  taskBodyBytes: 2 * 1024 * 1024,
  /** POST /plans: 10,000 tasks at some 800 bytes each, or a few with XML. */
  planBodyBytes: 16 * 1024 * 1024,
  connections: 1000,
  headersTimeoutMs: 10_000,
  requestTimeoutMs: 30_000
} as const

export type AppOptions = {
  authenticate(authorization: string | undefined): Actor
  log: FastifyBaseLogger
  version: string
  /** Within which a request must have arrived whole. Default 30,000. */
  requestTimeoutMs?: number | undefined
}

const securityHeaders = {
  'cache-control': 'no-store',
  'content-security-policy': "default-src 'none'; frame-ancestors 'none'",
  'cross-origin-opener-policy': 'same-origin',
  'cross-origin-resource-policy': 'same-origin',
  'referrer-policy': 'no-referrer',
  'x-content-type-options': 'nosniff'
}

export async function createApp(options: AppOptions): Promise<Api> {
  const app: Api = fastify({
    loggerInstance: options.log,
    logController: new LogController({ disableRequestLogging: true }),
    bodyLimit: limits.bodyBytes,
    // Held for each request (arriveInTime): a body that flows may take hours.
    requestTimeout: 0,
    http: { headersTimeout: limits.headersTimeoutMs },
    forceCloseConnections: 'idle',
    genReqId: () => randomUUID(),
    // Query keys given twice come as arrays, which no schema here takes: a refusal, not a silent choice.
    routerOptions: { maxParamLength: 300 },
    onProtoPoisoning: 'error',
    onConstructorPoisoning: 'error',
    frameworkErrors(error, request, reply) {
      sendProblem(reply as unknown as FastifyReply, error, request.id)
    }
  })
  app.removeContentTypeParser('text/plain')
  app.setValidatorCompiler(validatorCompiler)
  // Response schemas are for the reader of openapi.json, held by tests; what a handler answers is sent as it is.
  app.setSerializerCompiler(() => (data) => JSON.stringify(data))
  app.addSchema(Problem)
  guard(app, options)
  handleErrors(app)
  await describe(app, options.version)
  return app
}

function guard(app: Api, options: AppOptions): void {
  app.decorateRequest('actor', null as unknown as Actor)
  app.addHook('onRequest', async (request, reply) => {
    reply.headers(securityHeaders)
    reply.header('x-request-id', request.id)
    const site = request.headers['sec-fetch-site']
    if (site !== undefined && site !== 'same-origin' && site !== 'none') {
      throw new HttpError(403, 'cross_site', `a page of another site (${site}) may not send requests here`, {
        next: 'use the command, or a program'
      })
    }
    if (!request.routeOptions.config.flows)
      arriveInTime(request.raw, reply, options.requestTimeoutMs ?? limits.requestTimeoutMs)
    if (request.routeOptions.config.open) return
    request.actor = options.authenticate(request.headers.authorization)
  })
  app.addHook('preValidation', async (request) => {
    refuseBadText(request.params)
    refuseBadText(request.query)
    if (!request.routeOptions.config.flows) refuseBadText(request.body)
  })
  app.addHook('onResponse', async (request, reply) => {
    if (request.routeOptions.config.open) return
    request.log.info(
      {
        method: request.method,
        route: request.routeOptions.url,
        status: reply.statusCode,
        ms: Math.round(reply.elapsedTime),
        by: request.actor?.name
      },
      'request'
    )
  })
}

/** A request that trickles in holds no connection for longer. */
function arriveInTime(request: IncomingMessage, reply: FastifyReply, withinMs: number): void {
  if (request.complete) return
  const timer = setTimeout(() => {
    if (request.complete || reply.sent) return
    const late = `the request took longer than ${withinMs / 1000} s to arrive`
    reply.header('connection', 'close')
    // Once it is said: else the connection would end without a word.
    reply.raw.once('finish', () => request.destroy())
    sendProblem(reply, new HttpError(408, 'too_slow', late, { next: 'send it again' }), reply.request.id)
  }, withinMs)
  timer.unref()
  request.once('close', () => clearTimeout(timer))
}

function handleErrors(app: Api): void {
  app.setErrorHandler((error, request, reply) => {
    // Fastify wraps what a validator returns; the refusal itself is what we made.
    const problem = problemOf(error, request.id)
    if (problem.status >= 500) request.log.error({ err: error, code: problem.code }, 'request failed')
    if (problem.status === 401) reply.header('www-authenticate', 'Bearer')
    if (problem.status === 503) reply.header('retry-after', '2')
    return reply.code(problem.status).type('application/problem+json').send(problem)
  })
  app.setNotFoundHandler((request) => {
    throw new HttpError(
      404,
      'no_such_endpoint',
      `there is no ${request.method} ${request.url.split('?')[0]?.slice(0, 200)}`,
      {
        next: 'see /api/v1/openapi.json'
      }
    )
  })
}

function sendProblem(reply: FastifyReply, error: unknown, id: string): void {
  const problem = problemOf(error, id)
  void reply.code(problem.status).type('application/problem+json').send(JSON.stringify(problem))
}

type Described = { body?: unknown; response?: unknown } & Record<string, unknown>

async function describe(app: Api, version: string): Promise<void> {
  await app.register(swagger, {
    openapi: {
      openapi: '3.1.0',
      info: { title: 'Taskomatic', version, description: 'Tasks on a fleet of libvirt hosts.' },
      components: { securitySchemes: { token: { type: 'http', scheme: 'bearer' } } },
      security: [{ token: [] }]
    },
    refResolver: {
      buildLocalReference: (json, _base, _fragment, index) =>
        typeof json['$id'] === 'string' ? json['$id'] : `schema-${index}`
    },
    transform: ({ schema, url }) => ({ schema: withProblems((schema ?? {}) as Described), url })
  })
}

const withProblems = (schema: Described): Described => ({
  ...schema,
  response: {
    ...(schema.response as object | undefined),
    default: { description: 'An error', content: { 'application/problem+json': { schema: { $ref: 'Problem#' } } } }
  }
})

/** A response for openapi.json. */
export const answers = (description: string, schema: TSchema) => ({
  description,
  content: { 'application/json': { schema } }
})

// A volume's bytes over HTTP, as they flow: POST /uploads keeps what a client sends until a task brings it to a host; GET /downloads
// hands on what a running task reads. Nothing is held in memory but what is on its way; who is slow is waited for, who stops is not.
import type { Socket } from 'node:net'
import { Readable } from 'node:stream'
import { Type, type Static } from 'typebox'
import { UploadView } from '../api/contents.ts'
import { StagingError } from '../staging/error.ts'
import type { Staging } from '../staging/staging.ts'
import { answers, type Api } from './app.ts'
import { HttpError } from './problem.ts'

const octets = 'application/octet-stream'
/** Without a byte for this long, either way, the connection is given up. */
const idleMs = 60_000
/** A request for bytes that no task gives yet is answered after this long: sooner than proxies and clients lose patience. */
const waitMs = 20_000
/** Each takes the server's disk and a processor for its checksum. */
const mostAtOnce = 8
const chunkBytes = 256 * 1024

const uploadQuery = Type.Object(
  {
    sha256: Type.Optional(
      Type.String({
        pattern: '^[0-9a-fA-F]{64}$',
        maxLength: 64,
        description: 'SHA-256 that the bytes must have, in hex'
      })
    )
  },
  { additionalProperties: false }
)
const downloadParams = Type.Object({
  download: Type.String({
    pattern: '^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$',
    maxLength: 36,
    description: 'As given to volume.download'
  })
})

export function contentRoutes(app: Api, { staging, closing }: { staging: Staging; closing: AbortSignal }): void {
  let active = 0
  // Bytes may flow for hours: a server that closes does not wait for them, nor for connections that were left in their midst.
  const sockets = new Set<Socket>()
  closing.addEventListener('abort', () => {
    for (const socket of sockets) socket.destroy()
  })
  const follow = (socket: Socket) => {
    socket.setTimeout(idleMs)
    if (sockets.has(socket)) return
    sockets.add(socket)
    socket.once('close', () => sockets.delete(socket))
  }
  // In a scope of its own: everywhere else only JSON is understood.
  void app.register(async (routes) => {
    routes.addContentTypeParser(octets, (_request, payload, done) => done(null, payload))
    routes.post(
      '/uploads',
      {
        config: { flows: true },
        schema: {
          summary: "Send a volume's bytes, for volume.upload",
          description: `The body is the bytes (${octets}). They are kept for a day, or until a task has used them.`,
          operationId: 'sendUpload',
          consumes: [octets],
          querystring: uploadQuery,
          response: { 201: answers('Kept, whole', UploadView) }
        }
      },
      async (request, reply) => {
        const { sha256 } = request.query as Static<typeof uploadQuery>
        const body = request.body as Readable | undefined
        if (!(body instanceof Readable))
          throw new HttpError(400, 'no_body', 'there are no bytes', { next: `send them as ${octets}` })
        if (active >= mostAtOnce)
          throw new HttpError(503, 'too_many_uploads', `${active} uploads are under way already`, {
            next: 'try again when one of them has ended'
          })
        active++
        follow(request.raw.socket)
        try {
          const length = request.headers['content-length']
          const bytes = length === undefined ? undefined : Number(length)
          return await reply.code(201).send(await staging.uploads.stage(body, { bytes, sha256 }))
        } catch (error) {
          // The rest of what is being sent is not read.
          if (!body.readableEnded) reply.header('connection', 'close')
          throw error
        } finally {
          active--
        }
      }
    )
  })

  app.get(
    '/downloads/:download',
    {
      schema: {
        summary: 'The bytes that a running volume.download reads',
        description: `The body is the bytes (${octets}). 409 \`not_yet\` after ${waitMs / 1000} s while no task gives them.`,
        operationId: 'takeDownload',
        params: downloadParams,
        response: {
          200: {
            description: 'The bytes',
            content: { [octets]: { schema: Type.Unsafe({ type: 'string', format: 'binary' }) } }
          }
        }
      }
    },
    async (request, reply) => {
      const left = new AbortController()
      request.raw.socket.once('close', () => left.abort())
      const signal = AbortSignal.any([left.signal, closing])
      const source = await staging.downloads
        .take(request.params.download, { timeoutMs: waitMs, signal })
        .catch((error: unknown) => {
          if (!(error instanceof StagingError)) throw error
          throw new HttpError(409, 'not_yet', error.message, {
            next: 'ask again while the task that reads the volume has not ended'
          })
        })
      const stream = Readable.from(source, { objectMode: false, highWaterMark: chunkBytes })
      // Whoever left while it was waited for, or the server that closes, takes no more.
      signal.addEventListener('abort', () => stream.destroy())
      if (signal.aborted) stream.destroy()
      follow(request.raw.socket)
      return reply.type(octets).send(stream)
    }
  )
}

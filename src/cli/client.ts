// The API's client: finds the server and its token, sends JSON, and turns problems into errors that say what to do. It uses
// node:http rather than fetch, which takes longer to load than everything else here together.
import { existsSync, readFileSync } from 'node:fs'
import { request as requestHttp, type IncomingMessage } from 'node:http'
import { request as requestHttps } from 'node:https'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { demoDirectory, serverNoteFile, stateDirectory, tokenFile, type ServerNote } from '../api/places.ts'
import type { Problem } from '../api/problem.ts'
import { CliError, type ExitName } from './failure.ts'

type Env = Record<string, string | undefined>

export type Server = { url: string; token: string }

export type Query = Record<string, string | number | readonly string[] | undefined>

export interface Client {
  readonly url: string
  get<T>(path: string, query?: Query, options?: { signal?: AbortSignal }): Promise<T>
  post<T>(
    path: string,
    body?: unknown,
    options?: { query?: Query; idempotencyKey?: string; signal?: AbortSignal }
  ): Promise<T>
  /** Sends bytes as they come; `bytes` is their number, where it is known. */
  sendBytes<T>(path: string, source: Readable, options: { bytes?: number; signal?: AbortSignal }): Promise<T>
  /** The bytes that are answered, as they come; undefined for a problem with this code. */
  takeBytes(path: string, options: { unless: string; signal?: AbortSignal }): Promise<IncomingMessage | undefined>
  /** The lines of an event stream, until it ends. */
  stream(path: string, query: Query, onLine: (line: string) => void, signal: AbortSignal): Promise<void>
}

/**
 * TASKOMATIC_URL and TASKOMATIC_TOKEN (or TASKOMATIC_TOKEN_FILE), else the state directory that TASKOMATIC_STATE names, else a
 * demo that runs from this clone, else the usual state directory.
 */
export function findServer(env: Env): Server {
  const directory = serverDirectory(env)
  const url = env['TASKOMATIC_URL'] || noteIn(directory)?.url
  const token = env['TASKOMATIC_TOKEN'] || readToken(env['TASKOMATIC_TOKEN_FILE'] || tokenFile(directory))
  if (url) return { url: checkedUrl(url), token }
  // Whoever else listens where a server usually does is not sent the token of one that does not run.
  throw new CliError('error', `no server runs with the state directory ${directory}`, {
    next: 'start it: `taskomatic server`; or name another: TASKOMATIC_URL'
  })
}

function serverDirectory(env: Env): string {
  if (env['TASKOMATIC_STATE']) return stateDirectory(env)
  const demo = demoDirectory(env)
  return noteIn(demo) ? demo : stateDirectory(env)
}

/** The note of a server that still runs; undefined where there is none. */
function noteIn(directory: string): ServerNote | undefined {
  const file = serverNoteFile(directory)
  if (!existsSync(file)) return undefined
  try {
    const note = JSON.parse(readFileSync(file, 'utf8')) as ServerNote
    process.kill(note.pid, 0)
    return note
  } catch (error) {
    // Another user's process may not be signalled, but it is there. Else: a server that died without taking its note along.
    return (error as NodeJS.ErrnoException).code === 'EPERM'
      ? (JSON.parse(readFileSync(file, 'utf8')) as ServerNote)
      : undefined
  }
}

function checkedUrl(text: string): string {
  const url = URL.canParse(text) ? new URL(text) : undefined
  if (!url || !/^https?:$/.test(url.protocol))
    throw new CliError('usage', `TASKOMATIC_URL: ${JSON.stringify(text)} is not an http or https URL`, {
      next: 'write e.g. http://127.0.0.1:7420'
    })
  const loopback = /^(localhost|127(\.\d+){3}|\[::1\])$/.test(url.hostname)
  if (url.protocol === 'http:' && !loopback)
    throw new CliError('auth', `the token is not sent to ${url.hostname} without TLS`, {
      next: 'use https, or an ssh tunnel to a loopback port'
    })
  return url.origin
}

function readToken(file: string): string {
  try {
    return readFileSync(file, 'utf8').trim()
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException
    if (code === 'ENOENT') {
      throw new CliError('auth', `there is no token at ${file}`, {
        next: 'start a server (`taskomatic server`, or `npm start` for the demo), or set TASKOMATIC_STATE, or TASKOMATIC_URL and TASKOMATIC_TOKEN',
        cause: error
      })
    }
    throw new CliError('auth', `cannot read the token: ${message}`, {
      next: 'run this as the user of the server',
      cause: error
    })
  }
}

/** Idle for this long means lost; a long poll is answered sooner. */
const IDLE_TIMEOUT_MS = 90_000

export function createClient(server: Server): Client {
  const send = (
    method: string,
    path: string,
    query: Query,
    body: string | Readable | undefined,
    options: { idempotencyKey?: string; signal?: AbortSignal; bytes?: number }
  ) =>
    new Promise<IncomingMessage>((resolve, reject) => {
      const url = new URL(`/api/v1${path}`, server.url)
      for (const [key, value] of Object.entries(query)) {
        if (value !== undefined) for (const one of [value].flat()) url.searchParams.append(key, String(one))
      }
      const request = (url.protocol === 'https:' ? requestHttps : requestHttp)(url, {
        method,
        headers: {
          authorization: `Bearer ${server.token}`,
          accept: 'application/json',
          ...(body === undefined ? {} : headersOf(body, options.bytes)),
          ...(options.idempotencyKey === undefined ? {} : { 'idempotency-key': options.idempotencyKey })
        },
        timeout: IDLE_TIMEOUT_MS,
        ...(options.signal ? { signal: options.signal } : {})
      })
      request.once('response', resolve)
      request.once('timeout', () => request.destroy(new Error(`no answer within ${IDLE_TIMEOUT_MS / 1000} s`)))
      request.once('error', (error) => reject(options.signal?.aborted ? error : unreachable(server.url, error)))
      if (!(body instanceof Readable)) request.end(body)
      // An answer that comes before the end, a refusal, is heard all the same; what the source throws ends the request.
      else pipeline(body, request).catch((error: Error) => reject(error))
    })

  async function json<T>(
    method: string,
    path: string,
    query: Query,
    body: unknown,
    options: { idempotencyKey?: string; signal?: AbortSignal }
  ): Promise<T> {
    return valueOf<T>(await send(method, path, query, body === undefined ? undefined : JSON.stringify(body), options))
  }

  async function valueOf<T>(response: IncomingMessage): Promise<T> {
    const text = await textOf(response)
    let value: unknown
    try {
      value = text === '' ? null : JSON.parse(text)
    } catch (error) {
      throw new CliError('error', `${server.url} answered something that is not JSON (status ${response.statusCode})`, {
        next: 'is that a Taskomatic server?',
        cause: error
      })
    }
    if ((response.statusCode ?? 500) >= 400) throw problemError(value as Partial<Problem>, response.statusCode ?? 500)
    return value as T
  }

  return {
    url: server.url,
    get: (path, query = {}, options = {}) => json('GET', path, query, undefined, options),
    post: (path, body, options = {}) => json('POST', path, options.query ?? {}, body, options),
    async sendBytes<T>(path: string, source: Readable, options: { bytes?: number; signal?: AbortSignal }) {
      const response = await send('POST', path, {}, source, options)
      return valueOf<T>(response)
    },
    async takeBytes(path, { unless, ...options }) {
      const response = await send('GET', path, {}, undefined, options)
      if (response.statusCode === 200) return response
      const problem = JSON.parse(await textOf(response)) as Partial<Problem>
      if (problem.code === unless) return undefined
      throw problemError(problem, response.statusCode ?? 500)
    },
    async stream(path, query, onLine, signal) {
      const response = await send('GET', path, query, undefined, { signal })
      if (response.statusCode !== 200)
        throw problemError(JSON.parse(await textOf(response)) as Partial<Problem>, response.statusCode ?? 500)
      let rest = ''
      response.setEncoding('utf8')
      for await (const chunk of response) {
        const lines = (rest + String(chunk)).split('\n')
        rest = lines.pop() ?? ''
        for (const line of lines) onLine(line)
      }
    }
  }
}

const headersOf = (body: string | Readable, bytes: number | undefined): Record<string, string | number> =>
  body instanceof Readable
    ? { 'content-type': 'application/octet-stream', ...(bytes === undefined ? {} : { 'content-length': bytes }) }
    : { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) }

async function textOf(response: IncomingMessage): Promise<string> {
  response.setEncoding('utf8')
  let text = ''
  for await (const chunk of response) text += String(chunk)
  return text
}

const unreachable = (url: string, error: Error) =>
  new CliError(
    'error',
    `cannot reach the server at ${url}: ${error.message || String((error as NodeJS.ErrnoException).code)}`,
    {
      next: 'is it running? `taskomatic server` starts one; TASKOMATIC_URL names another',
      cause: error
    }
  )

function problemError(problem: Partial<Problem>, status: number): CliError {
  const details: string[] = []
  if (problem.pointer) details.push(`at ${problem.pointer} of the request`)
  if (problem.task) details.push(`in the way: task ${problem.task.id}, ${problem.task.title}`)
  for (const candidate of problem.candidates ?? []) details.push(`  ${candidate}`)
  return new CliError(exitOf(status), problem.detail ?? `the server answered with status ${status}`, {
    ...(problem.next === undefined ? {} : { next: problem.next }),
    details,
    problem
  })
}

const exitOf = (status: number): ExitName => {
  if (status === 401 || status === 403) return 'auth'
  if (status === 404 || status === 409) return 'conflict'
  if (status === 400 || status === 413) return 'usage'
  return 'error'
}

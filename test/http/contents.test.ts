// Volumes' bytes over HTTP: taken whole or not at all, handed on as they come, and other requests still arrive in time or are ended.
import { createHash, randomBytes, randomUUID } from 'node:crypto'
import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setImmediate } from 'node:timers/promises'
import pino from 'pino'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { createApi } from '../../src/http/api.ts'
import { listen, type Listening } from '../../src/http/server.ts'
import { tokenAuthenticator } from '../../src/identity/token.ts'
import { Staging } from '../../src/staging/staging.ts'
import { freshDatabase, type FreshDatabase } from '../support/postgres.ts'
import { token } from './serve.ts'

let fresh: FreshDatabase
let server: Listening
let staging: Staging
let directory: string
beforeAll(async () => {
  fresh = await freshDatabase({ poolSize: 4 })
  directory = mkdtempSync(join(tmpdir(), 'tk-contents-'))
  staging = new Staging({ directory, maxBytes: 1_000_000 })
  const api = await createApi({
    database: fresh.database,
    reads: fresh.database,
    registry: new Map(),
    submitter: { submit: () => Promise.reject(new Error()), preview: () => Promise.reject(new Error()) },
    authenticator: tokenAuthenticator(token),
    log: pino({ level: 'silent' }),
    version: '0.0.0',
    staging,
    requestTimeoutMs: 500
  })
  server = await listen(api, { host: '127.0.0.1', port: 0 })
})
afterAll(async () => {
  await server.stop()
  await fresh.drop()
  rmSync(directory, { recursive: true, force: true })
})

const authorization = `Bearer ${token}`
const sha256 = (bytes: Buffer) => createHash('sha256').update(bytes).digest('hex')
async function send(body: Buffer, query = '', headers: Record<string, string> = {}) {
  const answer = await fetch(`${server.url}/api/v1/uploads${query}`, {
    method: 'POST',
    headers: { authorization, 'content-type': 'application/octet-stream', ...headers },
    body: new Uint8Array(body)
  })
  return { status: answer.status, body: (await answer.json()) as Record<string, unknown> }
}

test('what is sent is kept, and said what it is', async () => {
  const bytes = randomBytes(500_000)
  const { status, body } = await send(bytes, `?sha256=${sha256(bytes)}`)
  expect({ status, body }).toMatchObject({
    status: 201,
    body: { bytes: 500_000, sha256: sha256(bytes), format: 'raw' }
  })
  expect(await staging.uploads.find(String(body['upload']))).toMatchObject({ bytes: 500_000 })
})

test.each([
  ['more than is taken', randomBytes(1_000_001), '', 413, 'too_large'],
  ['other bytes than their checksum says', randomBytes(10), `?sha256=${'0'.repeat(64)}`, 400, 'wrong_checksum'],
  ['an image of a make that hosts would look into', Buffer.from('KDMV...'), '', 422, 'bad_image'],
  ['nothing', Buffer.alloc(0), '', 400, 'incomplete'],
  ['a checksum that is none', randomBytes(10), '?sha256=abc', 400, 'bad_value']
])('%s is refused', async (_, bytes, query, status, code) => {
  const before = readdirSync(directory)
  expect(await send(bytes, query)).toMatchObject({ status, body: { code, next: expect.any(String) } })
  expect(readdirSync(directory)).toEqual(before)
})

test('bytes are taken nowhere else, and nothing else there', async () => {
  const elsewhere = await fetch(`${server.url}/api/v1/tasks`, {
    method: 'POST',
    headers: { authorization, 'content-type': 'application/octet-stream' },
    body: 'x'
  })
  expect(elsewhere.status).toBe(415)
  expect(await send(Buffer.from('{}'), '', { 'content-type': 'text/plain' })).toMatchObject({ status: 415 })
  const nobody = await fetch(`${server.url}/api/v1/uploads`, { method: 'POST', body: 'x' })
  expect(nobody.status).toBe(401)
})

test('a sender that breaks off leaves nothing', async () => {
  const before = readdirSync(directory)
  const { port } = new URL(server.url)
  const socket = connect(Number(port), '127.0.0.1')
  socket.write(
    `POST /api/v1/uploads HTTP/1.1\r\nhost: x\r\nauthorization: ${authorization}\r\n` +
      'content-type: application/octet-stream\r\ncontent-length: 1000\r\n\r\nhalf'
  )
  await expect.poll(() => readdirSync(directory).length).toBeGreaterThan(before.length)
  socket.destroy()
  await expect.poll(() => readdirSync(directory)).toEqual(before)
})

test('a request that trickles in is ended and told why; bytes may take their time', async () => {
  const { port } = new URL(server.url)
  const begin = (path: string, type: string) => {
    const socket = connect(Number(port), '127.0.0.1')
    let answer = ''
    socket.on('data', (data) => (answer += String(data)))
    const closed = new Promise<string>((resolve) => socket.once('close', () => resolve(answer)))
    socket.write(
      `POST /api/v1${path} HTTP/1.1\r\nhost: x\r\nauthorization: ${authorization}\r\n` +
        `content-type: ${type}\r\ncontent-length: 4\r\nconnection: close\r\n\r\n{"`
    )
    return { socket, closed }
  }
  const slow = begin('/tasks', 'application/json')
  const bytes = begin('/uploads', 'application/octet-stream')
  expect(await slow.closed).toMatch(/^HTTP\/1.1 408 [\s\S]*"code":"too_slow"/)
  // More than a request's time has gone.
  bytes.socket.write('"}')
  expect(await bytes.closed).toMatch(/^HTTP\/1.1 201 /)
})

test('what a task reads is handed on as it comes; who leaves is noticed', async () => {
  const chunks = Array.from({ length: 40 }, () => randomBytes(100_000))
  let given = 0
  const source = async function* () {
    for (const chunk of chunks) {
      given++
      yield chunk
    }
  }
  const id = randomUUID()
  const [answer] = await Promise.all([
    fetch(`${server.url}/api/v1/downloads/${id}`, { headers: { authorization } }).then(async (response) =>
      Buffer.from(await response.arrayBuffer())
    ),
    staging.downloads.give(id, source(), { timeoutMs: 5_000 })
  ])
  expect(sha256(answer)).toBe(sha256(Buffer.concat(chunks)))
  expect(given).toBe(40)

  const endless = async function* () {
    for (;;) {
      // As bytes from a socket do: never many in one turn.
      await setImmediate()
      yield Buffer.alloc(100_000)
    }
  }
  const left = randomUUID()
  const stop = new AbortController()
  const taken = fetch(`${server.url}/api/v1/downloads/${left}`, { headers: { authorization }, signal: stop.signal })
  const ended = staging.downloads.give(left, endless(), { timeoutMs: 5_000 })
  await taken
  stop.abort()
  await expect(ended).rejects.toMatchObject({ code: 'nobody_there' })
})

test('a task whose source breaks cuts the answer off: a part is not taken for the whole', async () => {
  const broken = async function* () {
    yield Buffer.alloc(100_000)
    throw new Error('the host is gone')
  }
  const id = randomUUID()
  const given = staging.downloads.give(id, broken(), { timeoutMs: 5_000 })
  const answer = fetch(`${server.url}/api/v1/downloads/${id}`, { headers: { authorization } })
  await expect(given).rejects.toThrow('the host is gone')
  await expect(answer.then((response) => response.arrayBuffer())).rejects.toThrow()
})

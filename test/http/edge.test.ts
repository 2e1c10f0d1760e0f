// The API's edge: who is let in, what is too large, what is not understood. No database, no actions.
import { connect } from 'node:net'
import { once } from 'node:events'
import pino from 'pino'
import { Type } from 'typebox'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { createApp, limits, type Api } from '../../src/http/app.ts'
import { isLoopback, listen } from '../../src/http/server.ts'
import { tokenAuthenticator } from '../../src/identity/token.ts'

const token = 'tkm_test'
const authorization = `Bearer ${token}`
let app: Api
let logged: string[]

beforeEach(async () => {
  logged = []
  app = await createApp({
    authenticate: (header) => tokenAuthenticator(token).authenticate(header),
    log: pino({ level: 'trace' }, { write: (line: string) => logged.push(line) }),
    version: '0.0.0'
  })
  const body = Type.Object(
    {
      name: Type.String({ maxLength: 5, description: 'a short name' }),
      size: Type.Optional(Type.Integer({ minimum: 1 }))
    },
    { additionalProperties: false }
  )
  const querystring = Type.Object(
    { limit: Type.Optional(Type.String({ pattern: '^[0-9]+$' })) },
    { additionalProperties: false }
  )
  app.post('/things', { schema: { body } }, async (request) => request.body)
  app.get('/things', { schema: { querystring } }, async () => ({ items: [] }))
  app.get('/broken', async () => {
    throw new Error('secret: hunter2')
  })
})
afterEach(() => app.close())

const post = (payload: string, headers: Record<string, string> = {}) =>
  app.inject({
    method: 'POST',
    url: '/things',
    payload,
    headers: { authorization, 'content-type': 'application/json', ...headers }
  })

test('without a token nobody is let in, and the refusals do not tell right from nearly right', async () => {
  for (const header of [
    undefined,
    'Bearer',
    'Bearer wrong',
    `Basic ${token}`,
    `Bearer ${token}x`,
    `Bearer ${token} x`
  ]) {
    const answer = await app.inject({ url: '/things', headers: header === undefined ? {} : { authorization: header } })
    expect(answer.statusCode).toBe(401)
    expect(answer.headers['content-type']).toMatch('application/problem+json')
    expect(answer.headers['www-authenticate']).toBe('Bearer')
  }
  expect((await app.inject({ url: '/things', headers: { authorization } })).statusCode).toBe(200)
})

test('an endpoint that does not exist needs a token too', async () => {
  expect((await app.inject({ url: '/nothing' })).statusCode).toBe(401)
  const answer = await app.inject({ url: '/nothing', headers: { authorization } })
  expect(answer.json()).toMatchObject({
    status: 404,
    code: 'no_such_endpoint',
    next: expect.stringContaining('openapi.json')
  })
})

describe('a body that does not fit is refused with the value, the rule and the way out:', () => {
  test.each([
    ['an unknown field', '{"name":"a","nam":1}', 'unknown_field', '/nam', /unknown field "nam"/, /known: name, size/],
    ['a missing field', '{}', 'missing_field', '/name', /no "name"/, /a short name/],
    ['a long value', '{"name":"abcdefg"}', 'bad_value', '/name', /"abcdefg"/, /a short name/],
    ['another type', '{"name":"a","size":"3"}', 'bad_value', '/size', /"3"/, /correct it/],
    ['a negative number', '{"name":"a","size":-3}', 'bad_value', '/size', /-3/, /correct it/],
    ['a NUL', '{"name":"a\\u0000"}', 'bad_text', '/name', /"a\\u0000", which holds a NUL/, /leave that character out/],
    ['half a character', '{"name":"\\ud800"}', 'bad_text', '/name', /half a character/, /leave/],
    ['no JSON', '{"name"', 'bad_json', undefined, /not valid JSON/, /JSON/],
    ['__proto__', '{"name":"a","__proto__":{"admin":true}}', 'bad_json', undefined, /__proto__/, /JSON/],
    [
      'constructor.prototype',
      '{"name":"a","constructor":{"prototype":{}}}',
      'bad_json',
      undefined,
      /__proto__/,
      /JSON/
    ],
    ['nothing', '', 'bad_json', undefined, /empty/, /JSON/]
  ])('%s', async (_, payload, code, pointer, detail, next) => {
    const answer = await post(payload)
    expect(answer.statusCode).toBe(400)
    const problem = answer.json()
    expect(problem).toMatchObject({
      type: `urn:taskomatic:problem:${code}`,
      code,
      status: 400,
      detail: expect.stringMatching(detail),
      next: expect.stringMatching(next)
    })
    expect(problem.pointer).toBe(pointer)
    expect(problem.instance).toBe(answer.headers['x-request-id'])
  })
})

test('nothing in a query is coerced, guessed or chosen', async () => {
  for (const url of ['/things?limit=ten', '/things?limit=1&limit=2', '/things?lmit=1']) {
    expect((await app.inject({ url, headers: { authorization } })).statusCode, url).toBe(400)
  }
  expect((await app.inject({ url: '/things?limit=10', headers: { authorization } })).statusCode).toBe(200)
})

test('only JSON is taken', async () => {
  for (const type of [
    'text/plain',
    'application/x-www-form-urlencoded',
    'multipart/form-data; boundary=x',
    'application/xml'
  ]) {
    expect((await post('{"name":"a"}', { 'content-type': type })).json()).toMatchObject({
      status: 415,
      code: 'bad_media_type'
    })
  }
})

test('what is larger than the limit is refused before it is read', async () => {
  const answer = await post(JSON.stringify({ name: 'x'.repeat(limits.bodyBytes) }))
  expect(answer.json()).toMatchObject({ status: 413, code: 'body_too_large' })
})

test('a fault says a request id and nothing else; the log has the rest', async () => {
  const answer = await app.inject({ url: '/broken', headers: { authorization } })
  expect(answer.statusCode).toBe(500)
  expect(answer.body).not.toContain('hunter2')
  const { instance } = answer.json()
  expect(logged.some((line) => line.includes(instance) && line.includes('hunter2'))).toBe(true)
})

test('the token never reaches the log', async () => {
  await app.inject({ url: '/things', headers: { authorization } })
  await app.inject({ url: '/broken', headers: { authorization } })
  await app.inject({ url: '/things?limit=x', headers: { authorization: 'Bearer tkm_almost' } })
  expect(logged.length).toBeGreaterThan(1)
  expect(logged.join('\n')).not.toMatch(/tkm_/)
})

test('every answer carries the headers that keep browsers from doing harm, and no banner', async () => {
  for (const url of ['/things', '/nothing', '/broken']) {
    const { headers } = await app.inject({ url, headers: { authorization } })
    expect(headers).toMatchObject({
      'cache-control': 'no-store',
      'x-content-type-options': 'nosniff',
      'content-security-policy': expect.stringContaining("default-src 'none'")
    })
    expect(headers).not.toHaveProperty('server')
    expect(headers).not.toHaveProperty('x-powered-by')
  }
})

test("another site's page may not send requests here, even with the token", async () => {
  const answer = await post('{"name":"a"}', { 'sec-fetch-site': 'cross-site' })
  expect(answer.json()).toMatchObject({ status: 403, code: 'cross_site' })
})

test('addresses beyond loopback are refused as long as there is no TLS', async () => {
  for (const address of ['127.0.0.1', '127.8.8.8', '::1', 'localhost']) expect(isLoopback(address), address).toBe(true)
  for (const address of ['0.0.0.0', '::', '192.168.1.1', 'example.org', '127.evil.org', ''])
    expect(isLoopback(address), address).toBe(false)
  await expect(listen(app, { host: '0.0.0.0', port: 0 })).rejects.toMatchObject({ code: 'not_loopback' })
})

test('a port that is taken is named', async () => {
  const first = await listen(app, { host: '127.0.0.1', port: 0 })
  const port = Number(new URL(first.url).port)
  const second = await createApp({ authenticate: () => ({ name: 'x' }), log: pino({ level: 'silent' }), version: '0' })
  await expect(listen(second, { host: '127.0.0.1', port })).rejects.toMatchObject({
    code: 'port_taken',
    message: expect.stringContaining(String(port))
  })
  await second.close()
  await first.stop()
  await first.stop()
})

test.each([
  ['two content lengths', 'Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}'],
  ['a length and chunks', 'Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n'],
  ['a header without a colon', 'Nonsense\r\n\r\n']
])('a request with %s is refused and its connection closed', async (_, rest) => {
  const server = await listen(app, { host: '127.0.0.1', port: 0 })
  const socket = connect(Number(new URL(server.url).port), '127.0.0.1')
  let answer = ''
  socket.on('data', (chunk: Buffer) => (answer += chunk.toString()))
  socket.write(
    `POST /things HTTP/1.1\r\nHost: localhost\r\nAuthorization: ${authorization}\r\nContent-Type: application/json\r\n${rest}`
  )
  await once(socket, 'close')
  expect(answer).toMatch(/^HTTP\/1\.1 400 /)
  await server.stop()
})

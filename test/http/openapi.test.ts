// openapi.json describes every endpoint, and says of each what a client must know. Whether answers fit it, serve.ts checks.
import { afterAll, beforeAll, expect, test } from 'vitest'
import { serve, token, type Served } from './serve.ts'

type Operation = {
  operationId?: string
  summary?: string
  requestBody?: { content: Record<string, { schema: { additionalProperties?: boolean } }> }
  responses: Record<string, unknown>
}
type Document = {
  openapi: string
  paths: Record<string, Record<string, Operation>>
  security: unknown
  components: { schemas: object }
}

let api: Served
let document: Document
beforeAll(async () => {
  api = await serve()
  const answer = await fetch(`${api.url}/api/v1/openapi.json`, { headers: { authorization: `Bearer ${token}` } })
  document = (await answer.json()) as Document
})
afterAll(() => api.stop())

test('it is OpenAPI 3.1 and lists the endpoints', () => {
  expect(document.openapi).toBe('3.1.0')
  const listed = Object.entries(document.paths).flatMap(([path, methods]) =>
    Object.keys(methods).map((method) => `${method} ${path.replace('/api/v1', '')}`)
  )
  expect(listed.toSorted()).toEqual(
    [
      'get /actions', 'get /events', 'get /hosts', 'get /hosts/{host}', 'get /images', 'get /images/{image}', 'get /limits', 'get /networks', 'get /plans/{id}', 'get /pools', 'get /stores', 'get /tasks', 'get /tasks/{id}',
      'get /tasks/{id}/log', 'get /tasks/{id}/why', 'get /vms', 'get /vms/{vm}', 'get /volumes', 'post /plans', 'post /plans/{id}/undo', 'post /tasks', 'post /tasks/{id}/cancel',
      'post /tasks/{id}/hold', 'post /tasks/{id}/release', 'post /tasks/{id}/retry', 'post /tasks/{id}/verdict'
    ].toSorted()
  ) // prettier-ignore
})

test('every operation has a name of its own, a summary and its errors; every body refuses unknown fields', () => {
  const operations = Object.values(document.paths).flatMap((methods) => Object.values(methods))
  const names = operations.map(({ operationId }) => operationId)
  expect(new Set(names).size).toBe(names.length)
  for (const { operationId, summary, responses, requestBody } of operations) {
    expect(operationId).toMatch(/^[a-z][A-Za-z]+$/)
    expect(summary, operationId).toBeTruthy()
    expect(JSON.stringify(responses['default']), operationId).toContain('#/components/schemas/Problem')
    if (requestBody)
      expect(requestBody.content['application/json']?.schema.additionalProperties, operationId).toBe(false)
  }
  expect(document.security).toEqual([{ token: [] }])
})

test('everything but the health check needs the token', async () => {
  for (const [path, methods] of Object.entries(document.paths)) {
    for (const method of Object.keys(methods)) {
      const answer = await fetch(api.url + path.replaceAll(/\{\w+\}/g, '1'), { method })
      expect(answer.status, `${method} ${path}`).toBe(401)
    }
  }
  for (const path of ['/metrics', '/api/v1/openapi.json', '/', '/api'])
    expect((await fetch(api.url + path)).status, path).toBe(401)
  expect(await (await fetch(`${api.url}/healthz`)).json()).toEqual({ status: 'ok' })
})

test('metrics are told to whoever has the token', async () => {
  const answer = await fetch(`${api.url}/metrics`, { headers: { authorization: `Bearer ${token}` } })
  const text = await answer.text()
  expect(answer.headers.get('content-type')).toMatch(/^text\/plain/)
  expect(text).toMatch(/^taskomatic_guard_poll_found_total 0$/m)
  expect(text).toMatch(/^taskomatic_dispatcher_running 0$/m)
  expect(text).toMatch(
    /taskomatic_http_request_duration_seconds_count\{method="GET",route="\/api\/v1\/vms",status="401"\}/
  )
})

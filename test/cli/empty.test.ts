// A list of nothing: people are told so, programs get an empty list.
import { afterAll, beforeAll, expect, test } from 'vitest'
import { fakeServer, run } from './fake-server.ts'

let server: Awaited<ReturnType<typeof fakeServer>>
beforeAll(async () => {
  server = await fakeServer(() => ({ body: { items: [], next: null } }))
})
afterAll(() => server.stop())

test.each([
  [['vm', 'list'], 'no VMs\n'],
  [['vm', 'list', '-o', 'wide'], 'no VMs\n'],
  [['vm', 'list', '-o', 'name'], 'no VMs\n'],
  [['host', 'list'], 'no hosts\n'],
  [['store', 'list'], 'no stores\n'],
  [['pool', 'list'], 'no pools\n'],
  [['volume', 'list'], 'no volumes\n'],
  [['task', 'list'], 'no tasks\n']
])('%j says on standard error that there is none', async (words, said) =>
  expect(await run(words, { url: server.url })).toEqual({ code: 0, out: '', err: said })
)

test.each([
  ['json', '[]\n'],
  ['jsonl', ''],
  ['yaml', '[]\n']
])('-o %s is an empty list', async (format, out) =>
  expect(await run(['vm', 'list', '-o', format], { url: server.url })).toEqual({ code: 0, out, err: '' })
)

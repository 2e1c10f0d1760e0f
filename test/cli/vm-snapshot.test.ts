// `vm snapshot`, `vm clone` and `vm migrate`: what they print, and what they ask for.
import { afterEach, expect, test } from 'vitest'
import { fakeServer, run, type Answer, type Asked } from './fake-server.ts'

let server: Awaited<ReturnType<typeof fakeServer>> | undefined
afterEach(async () => {
  await server?.stop()
  server = undefined
})

const snapshot = (name: string, more: object = {}) => ({
  name,
  parent: null,
  current: false,
  createdAt: '2026-01-01T00:00:00.000Z',
  state: 'off',
  external: false,
  description: null,
  ...more
})

const vm = { name: 'web1', snapshots: [snapshot('a'), snapshot('b', { parent: 'a', current: true, state: 'running' })] }

/** Whatever is submitted is kept, and refused. */
function answer({ method, path }: Asked): Answer {
  if (method === 'GET' && path === '/vms/web1') return { body: vm }
  return { status: 409, body: { type: 'about:blank', title: 'no', status: 409, code: 'refused', detail: 'not here' } }
}

test('snapshots are listed, parents first, the current one starred', async () => {
  server = await fakeServer(answer)
  const { code, out } = await run(['vm', 'snapshot', 'list', 'web1'], { url: server.url })
  expect(code).toBe(0)
  const [head = '', first = '', second = ''] = out.split('\n')
  expect(head).toMatch(/^NAME\s+PARENT\s+STATE\s+AGE/)
  expect(first).toMatch(/^a\s+off/)
  expect(second).toMatch(/^b \*\s+a\s+running/)
  expect((await run(['vm', 'snapshot', 'list', 'web1', '-o', 'name'], { url: server.url })).out).toBe('a\nb\n')
})

test.each<[string, object[]]>([
  ['snapshot create web1 --name a', [{ action: 'vm.snapshot.create', args: { vm: 'web1', name: 'a' } }]],
  [
    'snapshot revert web1 a --before b',
    [{ action: 'vm.snapshot.revert', args: { vm: 'web1', snapshot: 'a', before: 'b' } }]
  ],
  [
    'snapshot delete web1 a --children --yes',
    [{ action: 'vm.snapshot.delete', args: { vm: 'web1', snapshot: 'a', children: true } }]
  ],
  [
    'clone golden web1 web2 --linked',
    ['web1', 'web2'].map((name) => ({ action: 'vm.clone', args: { vm: 'golden', name, linked: true } }))
  ],
  ['migrate web1', [{ action: 'vm.migrate', args: { vm: 'web1' } }]],
  ['migrate web1 --to h2 --offline', [{ action: 'vm.migrate', args: { vm: 'web1', to: 'h2', offline: true } }]],
  [
    'migrate web1 --to h2 --managed --allow-unsafe --postcopy --bandwidth 10MiB --deadline 5m',
    [
      {
        action: 'vm.migrate',
        args: { managed: true, unsafe: true, postCopy: true, bandwidthMiBps: 10, deadlineSeconds: 300 }
      }
    ]
  ]
])('`vm %s` asks for what it says', async (words, tasks) => {
  server = await fakeServer(answer)
  expect((await run(['vm', ...words.split(' ')], { url: server.url })).code).toBe(5)
  const sent = server.asked.find(({ method }) => method === 'POST')?.body as { tasks?: object[] }
  expect(sent?.tasks ?? [sent]).toMatchObject(tasks)
})

// Labels and limits in the command's words: what they ask the server for.
import { expect, test } from 'vitest'
import { fakeServer, run, type Answer, type Asked } from './fake-server.ts'

const submitted = { plan: null, tasks: [{ id: 7, title: 'a task' }] }
const pages: Record<string, { items: unknown[]; next: string | null }> = {
  '': { items: [{ uuid: 'u1', name: 'web1' }], next: 'more' },
  more: { items: [{ uuid: 'u2', name: 'web2' }], next: null }
}

const answer = ({ path, method, query }: Asked): Answer => {
  if (method === 'POST') return { status: 201, body: submitted }
  if (path === '/vms')
    return { body: query['labels'] === 'role=none' ? { items: [], next: null } : pages[query['cursor'] ?? ''] }
  return { body: { items: [], next: null } }
}

async function asking(...words: string[]) {
  const server = await fakeServer(answer)
  try {
    const ran = await run([...words, '--no-wait'], { url: server.url })
    return {
      ...ran,
      asked: server.asked,
      bodies: server.asked.filter(({ method }) => method === 'POST').map(({ body }) => body)
    }
  } finally {
    await server.stop()
  }
}

test('a verb takes everything that labels pick, page by page', async () => {
  const { bodies, asked } = await asking('vm', 'start', '-l', 'role=web')
  expect(bodies).toMatchObject([{ tasks: [{ action: 'vm.start', args: { vm: 'u1' } }, { args: { vm: 'u2' } }] }])
  expect(asked[0]?.query).toMatchObject({ labels: 'role=web' })
})

test.each([
  [['vm', 'start', '-l', 'role=none'], 'no vm has labels role=none'],
  [['vm', 'start', 'web1', '-l', 'role=web'], 'both names and labels'],
  [['vm', 'start'], 'nothing is named'],
  [['vm', 'label', 'web1'], 'no label is given'],
  [['vm', 'label', 'web1', '--set', 'role'], 'is no label']
])('%j is refused', async (words, said) => {
  const { code, err, bodies } = await asking(...words)
  expect({ code, bodies }).toEqual({ code: 2, bodies: [] })
  expect(err).toContain(said)
})

test('labels and limits are set by tasks', async () => {
  const labels = await asking('vm', 'label', 'web1', '--set', 'role=web', '--set', 'zone=a', '--remove', 'tier')
  expect(labels.bodies).toMatchObject([
    { action: 'vm.label', args: { vm: 'web1', set: { role: 'web', zone: 'a' }, remove: ['tier'] } }
  ])
  const host = await asking('host', 'label', 'h1', '--set', 'rack=3')
  expect(host.bodies).toMatchObject([{ action: 'host.label', args: { host: 'h1', set: { rack: '3' } } }])
  const set = await asking('limit', 'set', 'starts/*', '4')
  expect(set.bodies).toMatchObject([{ action: 'limit.set', args: { key: 'starts/*', cap: 4 } }])
  const unset = await asking('limit', 'unset', 'starts/h1')
  expect(unset.bodies).toMatchObject([{ action: 'limit.set', args: { key: 'starts/h1', cap: null } }])
})

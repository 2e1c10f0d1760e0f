// vm set and vm edit: what their words ask the server for.
import { expect, test } from 'vitest'
import { fakeServer, run, type Answer, type Asked } from './fake-server.ts'

const uuid = '00000000-0000-4000-8000-000000000001'
const submitted = { plan: null, tasks: [{ id: 7, title: 'a task' }] }
const answer = ({ path, method }: Asked): Answer => {
  if (path.endsWith('/xml')) return { body: { uuid, host: 'h1', xml: '<domain><vcpu>1</vcpu></domain>', digest: 'd1' } }
  if (method === 'POST') return { status: 201, body: submitted }
  return {
    body: {
      items: [
        { id: 7, action: 'vm.edit', title: 'a task', state: 'ready', by: 'x', createdAt: '2026-01-01T00:00:00Z' }
      ],
      next: null
    }
  }
}

async function asking(words: string[], options: Parameters<typeof run>[1] = {}) {
  const server = await fakeServer(answer)
  try {
    const ran = await run(words, { ...options, url: server.url })
    return { ...ran, bodies: server.asked.filter(({ method }) => method === 'POST').map(({ body }) => body) }
  } finally {
    await server.stop()
  }
}

test('vm set takes VMs and settings, in the words that people use', async () => {
  const { bodies } = await asking([
    'vm',
    'set',
    'web1',
    'vcpus=4',
    'memory=2GiB',
    'autostart=on',
    'delay=1m',
    '--next-boot'
  ])
  const args = { vm: 'web1', vcpus: 4, memoryMiB: 2048, autostart: true, delaySeconds: 60, nextBoot: true }
  expect(bodies).toMatchObject([{ action: 'vm.set', args }])
  const several = await asking(['vm', 'set', 'web1', 'web2', 'vcpus=2'])
  expect(several.bodies).toMatchObject([
    { tasks: [{ args: { vm: 'web1', vcpus: 2 } }, { args: { vm: 'web2', vcpus: 2 } }] }
  ])
})

test.each([
  [['vm', 'set', 'web1'], 'nothing is to be set'],
  [['vm', 'set', 'vcpus=4'], 'no VM is named'],
  [['vm', 'set', 'web1', 'cpus=4'], 'there is no setting "cpus"'],
  [['vm', 'set', 'web1', 'vcpus=four'], 'vcpus'],
  [['vm', 'set', 'web1', 'autostart=maybe'], 'autostart=on'],
  [['vm', 'set', 'web1', 'vcpus=1', 'vcpus=2'], 'given twice']
])('%j is refused before the server is asked', async (words, said) => {
  const { code, err, bodies } = await asking(words)
  expect({ code, bodies }).toEqual({ code: 2, bodies: [] })
  expect(err).toContain(said)
})

test('vm edit sends what the editor left, named by what it was given', async () => {
  const { code, bodies } = await asking(['vm', 'edit', 'web1'], { env: { EDITOR: 'sed -i s/1/3/' } })
  const args = { vm: uuid, xml: '<domain><vcpu>3</vcpu></domain>', was: 'd1' }
  expect({ code, bodies }).toMatchObject({ code: 0, bodies: [{ action: 'vm.edit', args }] })
})

test('vm edit asks for nothing when nothing was changed, and when the editor fails', async () => {
  const unchanged = await asking(['vm', 'edit', 'web1'], { env: { EDITOR: 'true' } })
  expect(unchanged).toMatchObject({ code: 0, bodies: [], err: expect.stringContaining('nothing was changed') })
  const broken = await asking(['vm', 'edit', 'web1'], { env: { EDITOR: 'false' } })
  expect(broken).toMatchObject({ code: 1, bodies: [] })
})

test('vm edit takes a file, and the digest that it was made from', async () => {
  const { bodies } = await asking(['vm', 'edit', 'web1', '--file', '-', '--was', 'd0'], { stdin: '<domain/>' })
  expect(bodies).toMatchObject([{ action: 'vm.edit', args: { xml: '<domain/>', was: 'd0' } }])
})

// The command against a server of canned answers: what it sends, prints and exits with.
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, describe, expect, test } from 'vitest'
import { fakeServer, run, type Answer, type Asked } from './fake-server.ts'

let stop: (() => Promise<unknown>) | undefined
afterEach(async () => {
  await stop?.()
  stop = undefined
})

async function serve(answer: (asked: Asked) => Answer | Promise<Answer>) {
  const server = await fakeServer(answer)
  stop = server.stop
  return server
}

const summary = (id: number, state: string, more: object = {}) => ({
  id, action: 'vm.start', title: `Start web${id}`, state, note: null, priority: 0, plan: null, parent: null, by: 'admin',
  submittedAt: '2026-01-01T00:00:00.000Z', startedAt: null, endedAt: null, ...more
}) // prettier-ignore

/** Accepts what is submitted; tasks then stand in the states that are listed, one after the other. */
function accepting(states: string[], more: object = {}) {
  const left = new Map<string, string[]>()
  return ({ method, path, query, body }: Asked): Answer => {
    if (method === 'POST' && path === '/tasks')
      return {
        status: 201,
        body: { plan: null, replayed: false, tasks: [{ id: 1, key: null, action: 'vm.start', title: 'Start web1' }] }
      }
    if (method === 'POST' && path === '/plans') {
      const { tasks } = body as { tasks: { key: string; action: string }[] }
      return {
        status: 201,
        body: {
          plan: 9,
          replayed: false,
          tasks: tasks.map(({ key, action }, index) => ({ id: index + 1, key, action, title: `Start web${index + 1}` }))
        }
      }
    }
    const one = /^\/tasks\/(\d+)$/.exec(path)
    if (one) {
      const rest = left.get(path) ?? [...states]
      left.set(path, rest)
      const state = rest.length > 1 ? rest.shift() : rest[0]
      return { body: summary(Number(one[1]), state ?? '', more) }
    }
    if (path === '/tasks')
      return {
        body: {
          next: null,
          items: String(query['id'])
            .split(',')
            .map((id) => summary(Number(id), states.at(-1) ?? '', more))
        }
      }
    return { status: 404, body: { code: 'no_such_endpoint', detail: path } }
  }
}

test('the first page of help needs no server and names every noun', async () => {
  const { code, out } = await run(['--help'])
  expect(code).toBe(0)
  for (const noun of ['vm', 'host', 'store', 'pool', 'volume', 'task', 'plan', 'server'])
    expect(out).toMatch(new RegExp(`^  ${noun} `, 'm'))
  expect((await run([])).code).toBe(2)
  expect((await run(['--version'])).out).toBe('1.2.3\n')
})

describe('one name is one task, several are one plan', () => {
  test('one', async () => {
    const server = await serve(accepting(['ready']))
    expect(
      await run(['vm', 'start', 'web1', '--reason', 'why not', '--priority', '-5', '--after', '7'], server)
    ).toMatchObject({ code: 0 })
    expect(server.asked[0]).toMatchObject({
      method: 'POST', path: '/tasks', authorization: 'Bearer tkm_test', key: expect.stringMatching(/.{16}/),
      body: { action: 'vm.start', args: { vm: 'web1' }, reason: 'why not', priority: -5, after: [7] }
    }) // prettier-ignore
  })

  test('several', async () => {
    const server = await serve(accepting(['ready']))
    await run(['vm', 'start', 'web1', 'web2'], server)
    expect(server.asked[0]).toMatchObject({
      path: '/plans',
      body: {
        onFailure: 'continue',
        tasks: [
          { action: 'vm.start', args: { vm: 'web1' } },
          { action: 'vm.start', args: { vm: 'web2' } }
        ]
      }
    })
  })

  test('create with --start is a plan in which the start comes after', async () => {
    const server = await serve(accepting(['ready']))
    await run(
      [
        'vm',
        'create',
        'web1',
        '--memory',
        '2GiB',
        '--vcpus',
        '2',
        '--disk',
        'size=10GiB,store=nfs1',
        '--nic',
        'lan',
        '--uefi',
        '--start'
      ],
      server
    )
    expect(server.asked[0]).toMatchObject({
      path: '/plans',
      body: {
        tasks: [
          {
            key: 't0',
            action: 'vm.create',
            args: {
              name: 'web1',
              memoryMiB: 2048,
              vcpus: 2,
              firmware: 'uefi',
              disks: [{ sizeMiB: 10_240, store: 'nfs1' }],
              nics: [{ network: 'lan' }]
            }
          },
          { action: 'vm.start', args: { vm: 'web1' }, after: ['t0'] }
        ]
      }
    })
  })
})

test("other managers' words are understood", async () => {
  const server = await serve(accepting(['ready']))
  await run(['vm', 'shutdown', 'web1'], server)
  await run(['vm', 'undefine', 'web1', '--yes'], server)
  expect(
    server.asked.filter(({ method }) => method === 'POST').map(({ body }) => (body as { action: string }).action)
  ).toEqual(['vm.stop', 'vm.delete'])
})

test('destroy is refused and names what it may have meant', async () => {
  const { code, err } = await run(['vm', 'destroy', 'web1'])
  expect(code).toBe(2)
  expect(err).toMatch(/vm stop --force/)
  expect(err).toMatch(/vm delete/)
})

test('what cannot be undone is not done by a script that does not say --yes', async () => {
  const server = await serve(accepting(['ready']))
  const { code, err } = await run(['vm', 'delete', 'web1'], server)
  expect(code).toBe(2)
  expect(err).toMatch(/cannot be undone.*\n.*--yes/)
  expect(server.asked).toEqual([])
})

describe('waiting', () => {
  test.each([
    ['complete', 0],
    ['failed', 3],
    ['cancelled', 6]
  ])('for a task that ends %s exits with %d', async (state, code) => {
    const error =
      state === 'failed'
        ? {
            code: 'refused',
            message: 'no disk',
            step: 'start',
            next: 'look at the disk',
            causes: [{ code: '38', message: 'No such file' }]
          }
        : null
    const server = await serve(accepting(['waiting', 'running', state], { error }))
    const ran = await run(['vm', 'start', 'web1', '--wait'], server)
    expect(ran.code).toBe(code)
    expect(ran.err).toMatch(/task 1: Start web1\n.*waiting\n.*running/)
    expect(ran.out).toMatch(new RegExp(`1 +${state} +Start web1`))
    if (error)
      expect(ran.err).toMatch(
        /no disk \(refused\)\n.*because: No such file \(38\)\n.*while: start\n.*next: look at the disk/
      )
  })

  test('is what a terminal gets, and a script does not', async () => {
    const server = await serve(accepting(['running', 'complete']))
    expect((await run(['vm', 'start', 'web1'], { ...server, tty: true })).err).toMatch(/complete/)
    server.asked.length = 0
    expect((await run(['vm', 'start', 'web1', '-o', 'name'], server)).out).toBe('1\n')
    expect(server.asked.some(({ path }) => path === '/tasks/1')).toBe(false)
  })

  test('ends after --timeout with 124, and the task goes on', async () => {
    const server = await serve(async (asked) => {
      if (asked.query['wait']) await new Promise((resolve) => setTimeout(resolve, Number(asked.query['wait']) * 1000))
      return accepting(['running'])(asked)
    })
    const { code, err } = await run(['vm', 'start', 'web1', '--timeout', '1s'], server)
    expect(code).toBe(124)
    expect(err).toMatch(/taskomatic task wait 1/)
  })

  test('ends at Ctrl-C with the words to go on waiting', async () => {
    const interrupt = new AbortController()
    const server = await serve((asked) => {
      if (asked.query['wait'] === undefined) return accepting(['running'])(asked)
      interrupt.abort()
      return new Promise<Answer>(() => undefined)
    })
    const { code, err } = await run(['vm', 'start', 'web1', '--wait'], { ...server, interrupted: interrupt.signal })
    expect(code).toBe(130)
    expect(err).toMatch(/detached.*taskomatic task wait 1\n/)
  })
})

test('a lost answer is asked for again under the same key', async () => {
  let calls = 0
  const server = await serve((asked) => (asked.method === 'POST' && calls++ < 2 ? 'drop' : accepting(['ready'])(asked)))
  expect((await run(['vm', 'start', 'web1'], server)).code).toBe(0)
  const keys = server.asked.filter(({ method }) => method === 'POST').map(({ key }) => key)
  expect(keys).toHaveLength(3)
  expect(new Set(keys).size).toBe(1)
})

describe('a plan', () => {
  const yaml =
    'onFailure: stop\ntasks:\n  - key: make\n    action: vm.create\n    args: { name: web1 }\n  - { action: vm.start, args: { vm: web1 }, after: [make] }\n'

  test('comes from standard input, as YAML', async () => {
    const server = await serve(accepting(['ready']))
    expect((await run(['plan', 'submit', '-f', '-', '--reason', 'r'], { ...server, stdin: yaml })).code).toBe(0)
    expect(server.asked[0]).toMatchObject({
      path: '/plans',
      body: { onFailure: 'stop', reason: 'r', tasks: [{ key: 'make' }, { after: ['make'] }] }
    })
  })

  test('comes from a file, as JSON', async () => {
    const directory = await mkdtemp(join(tmpdir(), 'tk-plan-'))
    const file = join(directory, 'plan.json')
    await writeFile(file, JSON.stringify([{ action: 'vm.start', args: { vm: 'a' } }]))
    const server = await serve(accepting(['ready']))
    expect((await run(['plan', 'submit', '-f', file], server)).code).toBe(0)
    expect(server.asked[0]?.body).toEqual({ tasks: [{ action: 'vm.start', args: { vm: 'a' } }] })
    await rm(directory, { recursive: true })
  })

  test.each([
    ['tasks: [', /neither YAML nor JSON/],
    ['a: 1', /holds no tasks/],
    ['', /holds no tasks/]
  ])('that is %j is refused', async (stdin, message) => {
    const { code, err } = await run(['plan', 'submit', '-f', '-'], { stdin })
    expect(code).toBe(2)
    expect(err).toMatch(message)
  })
})

test('--host h1,h2 of an action that has a host is one task for each, beside many names', async () => {
  const server = await serve(accepting(['ready']))
  await run(['vm', 'create', 'web1', 'web2', '--memory', '1GiB', '--host', 'h1,h2', '--no-wait'], server)
  const body = server.asked[0]?.body as { tasks: { args: unknown }[] } | undefined
  expect(body?.tasks.map(({ args }) => args)).toMatchObject([
    { name: 'web1', host: 'h1' },
    { name: 'web1', host: 'h2' },
    { name: 'web2', host: 'h1' },
    { name: 'web2', host: 'h2' }
  ])
  expect(await run(['vm', 'create', 'web1', '--host', 'h1,h1'])).toMatchObject({ code: 2 })
  expect(await run(['vm', 'create', 'web1', '--host', 'h1,'])).toMatchObject({ code: 2 })
})

describe('lists', () => {
  const vms = ['web1', 'evil\u001b[31m\u0007'].map((name) => ({
    name,
    uuid: 'u',
    home: 'h1',
    activeOn: null,
    power: 'off',
    reason: '',
    memoryMiB: 2048,
    maxMemoryMiB: 2048,
    vcpus: 2,
    owner: 'ours',
    observedAt: null
  }))

  test('come in every format, and never move the cursor', async () => {
    const server = await serve(() => ({ body: { items: vms } }))
    const table = (await run(['vm', 'list'], server)).out
    expect(table).toMatch(/^NAME +POWER +HOST +MEMORY +VCPUS\nweb1 +off +h1 +2GiB +2\nevil\\x1b\[31m\\x07 /)
    expect((await run(['vm', 'list', '-o', 'wide'], server)).out).toMatch(/UUID/)
    expect((await run(['vm', 'list', '-o', 'name'], server)).out).toBe('web1\nevil\\x1b[31m\\x07\n')
    expect(JSON.parse((await run(['vm', 'list', '-o', 'json'], server)).out)).toEqual(vms)
    expect((await run(['vm', 'list', '-o', 'jsonl'], server)).out.trim().split('\n')).toHaveLength(2)
    expect((await run(['vm', 'list', '-o', 'yaml'], server)).out).toMatch(/^- name: web1\n/)
    const one = await serve(({ path }) => ({ body: path === '/vms' ? { items: vms.slice(0, 1) } : vms[0] }))
    expect((await run(['vm', 'list', '-o', 'yaml'], one)).out).toMatch(/^- name: web1\n/)
    expect((await run(['vm', 'show', 'web1', '-o', 'yaml'], one)).out).toMatch(/^name: web1\n/)
  })

  test('are coloured on a terminal only, and not under NO_COLOR', async () => {
    const server = await serve(() => ({ body: { items: vms.slice(0, 1) } }))
    // oxlint-disable-next-line no-control-regex -- the colours themselves
    const colour = /\u001b\[/
    expect((await run(['vm', 'list'], server)).out).not.toMatch(colour)
    expect((await run(['vm', 'list'], { ...server, tty: true })).out).toMatch(colour)
    expect((await run(['vm', 'list'], { ...server, tty: true, env: { NO_COLOR: '1' } })).out).not.toMatch(colour)
  })

  test('of tasks are paged until there are enough', async () => {
    const server = await serve(({ query }) => ({
      body: {
        items: Array.from({ length: Number(query['limit']) }, (_, index) => summary(1000 - index, 'ready')),
        next: query['cursor'] === undefined ? 'c1' : null
      }
    }))
    expect(
      (
        await run(['task', 'list', '--limit', '600', '-o', 'name', '--state', 'ready', '--state', 'running'], server)
      ).out
        .trim()
        .split('\n')
    ).toHaveLength(600)
    expect(server.asked.map(({ query }) => query)).toEqual([
      { limit: '500', state: 'ready,running' },
      { limit: '100', state: 'ready,running', cursor: 'c1' }
    ])
  })
})

test('completion offers verbs, and names from the server', async () => {
  const { asked, url } = await serve(() => ({ body: { items: [{ name: 'web1' }, { name: 'web2' }] } }))
  const lines: string[] = []
  const log = console.log
  console.log = (line: string) => void lines.push(line)
  try {
    await run(['complete', '--', 'vm', 'st'], { url })
    await run(['complete', '--', 'vm', 'start', 'web'], { url })
  } finally {
    console.log = log
  }
  expect(lines.join('\n')).toMatch(/start\tStart VMs/)
  expect(lines.join('\n')).toMatch(/web1/)
  expect(asked.map(({ path }) => path)).toEqual(['/vms', '/hosts'])
  expect((await run(['complete', 'tcsh'])).code).toBe(2)
})

// Every kind of invalid input is refused with the value, the rule and the way out, over HTTP and by the command, and leaves no row.
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { run } from '../cli/fake-server.ts'
import { serve, smallFleet, token, type Served } from './serve.ts'

let api: Served
beforeAll(async () => {
  api = await serve()
  await smallFleet(api.fresh)
})
afterAll(() => api.stop())

const rows = async () => {
  const [counts] = await api.fresh.database.query<Record<string, number>>(
    `select (select count(*) from queue.task) as tasks, (select count(*) from queue.plan) as plans,
       (select count(*) from queue.claim) as claims, (select count(*) from queue.resource) as resources,
       (select count(*) from queue.idempotency) as keys, (select count(*) from queue.event) as events`
  )
  return counts
}
const none = { tasks: 0, plans: 0, claims: 0, resources: 0, keys: 0, events: 0 }

const vm = { name: 'new1', memoryMiB: 512, host: 'h1' }
const domain = (head: string) =>
  `${head}<domain type='kvm'><name>new1</name><memory>1024</memory><os><type>hvm</type></os></domain>`
const bomb = `<!DOCTYPE d [<!ENTITY a "aaaaaaaaaa">${Array.from({ length: 9 }, (_, i) => `<!ENTITY ${'bcdefghij'[i]} "${`&${'abcdefghi'[i]};`.repeat(10)}">`).join('')}]>`

type Case = [
  what: string,
  action: string,
  args: object,
  status: number,
  code: string,
  pointer: RegExp,
  detail: RegExp,
  next: RegExp
]
const cases: Case[] = [
  ['an unknown VM', 'vm.start', { vm: 'nope' }, 404, 'not_found', /^\/args\/vm$/, /no VM "nope"/, /vm list/],
  [
    'an unknown host',
    'vm.create',
    { ...vm, host: 'h9' },
    404,
    'not_found',
    /^\/args\/host$/,
    /no host "h9"/,
    /host list/
  ],
  [
    'an ambiguous name',
    'vm.start',
    { vm: 'twin' },
    409,
    'ambiguous',
    /^\/args\/vm$/,
    /"twin" names 2 VMs: twin@h1, twin@h2/,
    /write one of these/
  ],
  [
    'a name with ../',
    'vm.create',
    { ...vm, name: '../../etc/x' },
    400,
    'bad_args',
    /^\/args\/name$/,
    /"..\/..\/etc\/x".*letters, digits/,
    /name/i
  ],
  [
    'a name with a NUL',
    'vm.create',
    { ...vm, name: 'a\0b' },
    400,
    'bad_text',
    /^\/args\/name$/,
    /"a\\u0000b".*NUL/,
    /leave that character out/
  ],
  [
    'a name of 1 MB',
    'vm.create',
    { ...vm, name: 'a'.repeat(1_000_000) },
    400,
    'bad_args',
    /^\/args\/name$/,
    /"aaa.*\(1000000 characters\)/,
    /name/i
  ],
  [
    'a negative size',
    'vm.create',
    { ...vm, memoryMiB: -512 },
    400,
    'bad_args',
    /^\/args\/memoryMiB$/,
    /-512.*must be 1 MiB or more/,
    /MiB/
  ],
  [
    'a negative size of a disk',
    'vm.create',
    { ...vm, disks: [{ store: 'h1/data', sizeMiB: -1 }] },
    400,
    'bad_args',
    /^\/args\/disks\/0\/sizeMiB$/,
    /-1.*must be 1 MiB or more/,
    /MiB/
  ],
  [
    'an unknown field of an action',
    'vm.start',
    { vm: 'web1', forse: true },
    400,
    'unknown_field',
    /^\/args\/forse$/,
    /vm.start has no "forse"/,
    /vm, host, paused/
  ],
  [
    'an action that is not there',
    'vm.explode',
    {},
    400,
    'unknown_action',
    /^\/action$/,
    /no action "vm.explode"/,
    /vm.start/
  ],
  [
    'XML with a DOCTYPE',
    'vm.create',
    { name: 'new1', host: 'h1', xml: domain('<!DOCTYPE domain SYSTEM "file:///etc/passwd">') },
    400,
    'bad_xml',
    /^\/args(\/xml)?$/,
    /"xml" is no VM's definition.*document type/,
    /virsh dumpxml/
  ],
  [
    'XML that is an entity bomb',
    'vm.create',
    { name: 'new1', host: 'h1', xml: domain(bomb) },
    400,
    'bad_xml',
    /^\/args(\/xml)?$/,
    /"xml" is no VM's definition.*document type/,
    /virsh dumpxml/
  ],
  [
    'a host that cannot be reached',
    'host.add',
    { host: 'h9', controlUri: 'qemu+unix:///system?socket=/nonexistent/sock' },
    422,
    'host_unreachable',
    /^\/args\/controlUri$/,
    /no libvirtd answers at .*\/nonexistent\/sock/,
    /libvirtd runs/
  ]
]

describe('over HTTP', () => {
  test.each(cases)('%s', async (_, action, args, status, code, pointer, detail, next) => {
    // Once on its own and once in a plan whose other task is good: all or nothing.
    for (const [path, body, prefix] of [
      ['/tasks', { action, args }, ''],
      [
        '/plans',
        {
          tasks: [
            { action: 'vm.start', args: { vm: 'web1' } },
            { action, args }
          ]
        },
        '/tasks/1'
      ]
    ] as const) {
      const answer = await api.request('POST', path, body)
      expect(answer.body).toMatchObject({
        status,
        code,
        detail: expect.stringMatching(detail),
        next: expect.stringMatching(next)
      })
      expect(answer.status).toBe(status)
      expect(answer.type).toMatch(/^application\/problem\+json/)
      expect(answer.body.pointer.slice(prefix.length)).toMatch(pointer)
      expect(answer.body.pointer.startsWith(prefix)).toBe(true)
      expect(answer.body.detail.length).toBeLessThan(1000)
    }
    expect(await rows()).toEqual(none)
    expect(api.woken()).toBe(0)
  })

  test('an ambiguous name comes with its candidates', async () => {
    const { body } = await api.request('POST', '/tasks', { action: 'vm.start', args: { vm: 'twin' } })
    expect(body.candidates).toEqual(['twin@h1', 'twin@h2'])
  })

  test('an unknown field of the request itself', async () => {
    const { body, status } = await api.request('POST', '/tasks', {
      action: 'vm.start',
      args: { vm: 'web1' },
      prioritty: 1
    })
    expect(status).toBe(400)
    expect(body).toMatchObject({
      code: 'unknown_field',
      pointer: '/prioritty',
      next: expect.stringContaining('priority')
    })
    expect(await rows()).toEqual(none)
  })

  test('an entity bomb is refused within 50 ms', async () => {
    const body = { action: 'vm.create', args: { name: 'new1', host: 'h1', xml: domain(bomb) } }
    await api.request('POST', '/tasks', body)
    const taken: number[] = []
    for (let round = 0; round < 5; round++) {
      const began = performance.now()
      await api.request('POST', '/tasks', body)
      taken.push(performance.now() - began)
    }
    // The best of five: a busy machine is not what is tested.
    expect(Math.min(...taken)).toBeLessThan(50)
  })
})

describe('by the command', () => {
  const env = { TASKOMATIC_TOKEN: token }
  const plan = (action: string, args: object) =>
    run(['plan', 'submit', '-f', '-'], { url: api.url, env, stdin: JSON.stringify([{ action, args }]) })

  test.each(cases)('%s', async (_, action, args, status, _code, _pointer, detail, next) => {
    const { code, out, err } = await plan(action, args)
    expect(code).toBe({ 400: 2, 422: 1 }[status] ?? 5)
    expect(out).toBe('')
    // A NUL is shown, never written.
    expect(err).not.toContain('\0')
    expect(err).toMatch(detail)
    expect(err).toMatch(new RegExp(`next: .*(${next.source})`, next.flags))
    expect(await rows()).toEqual(none)
  })

  test.each([
    [['vm', 'start', 'nope'], 5, /there is no VM "nope"[\s\S]*next: .*vm list/],
    [['vm', 'start', 'twin'], 5, /twin@h1[\s\S]*twin@h2[\s\S]*next: write one of these/],
    [['vm', 'create', '../x', '--memory', '1GiB', '--host', 'h1'], 2, /"\.\.\/x"[\s\S]*next: /],
    [['vm', 'create', 'x', '--memory', '-1GiB', '--host', 'h1'], 2, /"-1GiB" is not above zero[\s\S]*next: /],
    [['host', 'add', 'h9', 'qemu+unix:///system?socket=/nonexistent/sock'], 1, /no libvirtd answers[\s\S]*next: /]
  ])('%j', async (words, exit, message) => {
    const { code, err } = await run(words, { url: api.url, env })
    expect(err).toMatch(message)
    expect(code).toBe(exit)
    expect(await rows()).toEqual(none)
  })
})

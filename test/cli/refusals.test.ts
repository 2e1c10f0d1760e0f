// What the command refuses, and how it tells what the server refused: each with the value, the rule and the way out.
import { mkdtemp, rm } from 'node:fs/promises'
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

describe('errors of the server are told with the value, the rule and the way out', () => {
  test.each([
    [400, 2],
    [401, 4],
    [404, 5],
    [409, 5],
    [500, 1]
  ])('status %d exits with %d', async (status, code) => {
    const server = await serve(() => ({
      status,
      body: {
        code: 'ambiguous',
        detail: '"web1" names 2 VMs',
        next: 'write one of these',
        pointer: '/args/vm',
        candidates: ['web1@h1', 'web1@h2'],
        task: { id: 41, title: 'Delete web1' }
      }
    }))
    const ran = await run(['vm', 'start', 'web1'], server)
    expect(ran.code).toBe(code)
    expect(ran.out).toBe('')
    for (const part of [
      '"web1" names 2 VMs',
      'next: write one of these',
      '/args/vm',
      'web1@h1',
      'web1@h2',
      'task 41, Delete web1'
    ])
      expect(ran.err).toContain(part)
    expect(JSON.parse((await run(['vm', 'start', 'web1', '-o', 'json'], server)).err)).toMatchObject({
      code: 'ambiguous',
      pointer: '/args/vm'
    })
  })

  test('no server', async () => {
    const { code, err } = await run(['vm', 'list'], { url: 'http://127.0.0.1:1' })
    expect(code).toBe(1)
    expect(err).toMatch(/cannot reach the server at http:\/\/127.0.0.1:1.*\n.*taskomatic server/)
  })

  test('no token', async () => {
    const directory = await mkdtemp(join(tmpdir(), 'tk-cli-'))
    const { code, err } = await run(['vm', 'list'], { env: { TASKOMATIC_TOKEN: '', TASKOMATIC_STATE: directory } })
    await rm(directory, { recursive: true })
    expect(code).toBe(4)
    expect(err).toContain(directory)
  })

  test('the token is not sent to another machine in the clear', async () => {
    const { code, err } = await run(['vm', 'list'], { url: 'http://example.org' })
    expect(code).toBe(4)
    expect(err).toMatch(/without TLS/)
  })
})

describe('words that do not fit are refused before anything is sent', () => {
  test.each([
    [['vm', 'create', 'web1', '--memory', '-4GiB'], /"-4GiB" is not above zero/],
    [['vm', 'create', 'web1', '--memory', '4'], /"4" has no unit.*\n.*4GiB/],
    [['vm', 'create', 'web1', '--vcpus', '0'], /"0" is not a whole number/],
    [['vm', 'create', 'web1', '--disk', 'sise=1GiB'], /"sise=1GiB" is not understood.*\n.*size/],
    [['vm', 'start'], /missing required argument 'vm'/],
    [['vm', 'start', 'a', 'a'], /same name/],
    [['vm', 'start', 'a', '--forse'], /unknown option '--forse'/],
    [['vm', 'strat', 'a'], /unknown command 'strat'.*\n.*start/],
    [['vms'], /no command "vms".*\n.*vm/],
    [['__proto__'], /no command "__proto__"/],
    [['vm', 'list', '-o', 'xml'], /"xml" is not possible.*\n.*json/],
    [['task', 'show', 'x'], /"x" is not a whole number/],
    [['pool', 'start', 'data'], /does not say on which host.*\n.*data@HOST/],
    [['plan', 'submit', '-f', '/nonexistent'], /cannot read/]
  ])('%j', async (words, message) => {
    const server = await serve(() => ({ status: 500, body: {} }))
    const { code, err } = await run(words, server)
    expect(err).toMatch(message)
    expect(err).toMatch(/\n {2}next: /)
    expect(code).toBe(2)
    expect(server.asked).toEqual([])
  })
})

// The launcher as people start it: through links, from anywhere, with whatever `node` is on the PATH.
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { fakeServer } from './fake-server.ts'

const launcher = join(import.meta.dirname, '..', '..', 'bin', 'taskomatic')
let directory: string
beforeEach(() => (directory = mkdtempSync(join(tmpdir(), 'tk launcher '))))
afterEach(() => rmSync(directory, { recursive: true, force: true }))

// No node of the PATH may be needed.
const env = () => ({ HOME: directory, XDG_CACHE_HOME: directory, PATH: '/usr/bin:/bin' })

describe('the launcher starts', () => {
  test.each([
    ['an absolute link', () => symlinkSync(launcher, join(directory, 'tk'))],
    [
      'a relative link to a link',
      () => {
        mkdirSync(join(directory, 'deep'))
        symlinkSync(launcher, join(directory, 'deep', 'one'))
        symlinkSync('deep/one', join(directory, 'tk'))
      }
    ]
  ])('through %s', (_, make) => {
    make()
    const { status, stdout } = spawnSync(join(directory, 'tk'), ['--version'], { env: env(), encoding: 'utf8' })
    expect(stdout).toMatch(/^\d+\.\d+\.\d+\n$/)
    expect(status).toBe(0)
  })

  test('by its bare name in its own directory', () => {
    const { status, stderr } = spawnSync('sh', ['taskomatic', 'vm', 'start', 'two words', '--nope'], {
      cwd: join(launcher, '..'),
      env: env(),
      encoding: 'utf8'
    })
    expect(stderr).toMatch(/unknown option '--nope'/)
    expect(status).toBe(2)
  })

  test('without HOME', () => {
    const { status } = spawnSync(launcher, ['--help'], { env: { PATH: '/usr/bin:/bin' } })
    expect(status).toBe(0)
  })
})

test('the node of the PATH is not used where one was brought along', () => {
  writeFileSync(join(directory, 'node'), '#!/bin/sh\nexit 77\n', { mode: 0o755 })
  expect(spawnSync(launcher, ['--help'], { env: { ...env(), PATH: `${directory}:/usr/bin:/bin` } }).status).toBe(0)
})

test('it is one process: Ctrl-C reaches the command, which detaches and says how to go on', async () => {
  const polled = Promise.withResolvers<void>()
  const task = { id: 1, title: 'Start web1', state: 'running', note: null, error: null }
  const server = await fakeServer(({ method, query }) => {
    if (method === 'POST')
      return {
        status: 201,
        body: { plan: null, tasks: [{ id: 1, key: null, action: 'vm.start', title: 'Start web1' }], replayed: false }
      }
    if (query['wait'] === undefined) return { body: task }
    polled.resolve()
    return new Promise(() => undefined)
  })
  const child = spawn(launcher, ['vm', 'start', 'web1', '--wait'], {
    env: { ...env(), TASKOMATIC_URL: server.url, TASKOMATIC_TOKEN: 'tkm_x' },
    stdio: ['ignore', 'ignore', 'pipe']
  })
  let err = ''
  child.stderr.on('data', (chunk: Buffer) => (err += chunk.toString()))
  const ended = once(child, 'close')
  await polled.promise
  child.kill('SIGINT')
  expect((await ended)[0]).toBe(130)
  expect(err).toMatch(/detached.*taskomatic task wait 1/)
  await server.stop()
})

test('a reader that stops reading is no error', () => {
  const { status, stdout, stderr } = spawnSync('sh', ['-c', `"${launcher}" --help | head -1; exit 0`], {
    env: env(),
    encoding: 'utf8'
  })
  expect({ status, stderr, lines: stdout.split('\n').length }).toEqual({ status: 0, stderr: '', lines: 2 })
})

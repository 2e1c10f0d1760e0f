// The demo as a newcomer has it: it comes up, what it prints works, a second one is refused, and it leaves nothing.
import { spawn, spawnSync, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'

const root = join(import.meta.dirname, '..', '..')
let temporary: string
let state: string
let child: ChildProcess | undefined
beforeEach(() => {
  temporary = mkdtempSync(join(tmpdir(), 'tk-demo-'))
  state = join(temporary, 'state')
})
afterEach(async () => {
  if (child && child.exitCode === null && child.signalCode === null) {
    child.kill('SIGKILL')
    await once(child, 'exit')
  }
  rmSync(temporary, { recursive: true, force: true })
})

// A directory of its own for the demo and for the command, so that a demo that somebody has running is left alone.
const env = () => ({
  ...process.env,
  TASKOMATIC_DEMO: state,
  TMPDIR: temporary,
  TASKOMATIC_STATE: '',
  TASKOMATIC_URL: '',
  TASKOMATIC_TOKEN: '',
  DATABASE_URL: ''
})

function start(words: string[] = []): {
  process: ChildProcess
  out: () => string
  until: (text: string) => Promise<void>
} {
  const spawned = spawn(process.execPath, [join(root, 'bin', 'demo.ts'), ...words], {
    cwd: root,
    env: env(),
    stdio: ['ignore', 'pipe', 'pipe']
  })
  let out = ''
  const hearers = new Set<() => void>()
  for (const stream of [spawned.stdout, spawned.stderr]) {
    stream.on('data', (chunk: Buffer) => {
      out += chunk.toString()
      for (const hear of hearers) hear()
    })
  }
  const until = (text: string) =>
    new Promise<void>((resolve, reject) => {
      const look = () => {
        if (out.includes(text)) resolve()
      }
      hearers.add(look)
      spawned.once('exit', (code) => reject(new Error(`the demo ended (${code}) before it said ${text}: ${out}`)))
      look()
    })
  return { process: spawned, out: () => out, until }
}

const sh = (line: string) => spawnSync('sh', ['-c', line], { cwd: root, env: env(), encoding: 'utf8' })

test('what it prints works, a second one is refused, and nothing is left of it', { timeout: 180_000 }, async () => {
  const demo = start(['--hosts', '3', '--vms', '6'])
  child = demo.process
  await demo.until('Ctrl-C ends it')
  const commands = [...demo.out().matchAll(/^ {2}(\S*bin\/taskomatic .*)$/gm)].map((match) => match[1] ?? '')
  expect(commands).toHaveLength(3)
  expect(demo.out()).toMatch(/http:\/\/127\.0\.0\.1:\d+\/api\/v1/)
  const tokenFile = /token {2}(\S+)/.exec(demo.out())?.[1] ?? ''
  expect(existsSync(tokenFile)).toBe(true)
  for (const command of commands) {
    const { status, stderr } = sh(command.includes(' vm ') ? `${command} --wait` : command)
    expect(status, `${command}: ${stderr}`).toBe(0)
  }
  expect(sh('bin/taskomatic vm list').stdout).toMatch(/^web1 +running +h2 /m)

  const second = start()
  const [code] = (await once(second.process, 'exit')) as [number]
  expect(code).toBe(1)
  expect(second.out()).toMatch(/a demo runs already \(process \d+\).*Ctrl-C/)
  expect(sh('bin/taskomatic host list').status).toBe(0)

  demo.process.kill('SIGINT')
  expect((await once(demo.process, 'exit'))[0]).toBe(0)
  expect(existsSync(state)).toBe(false)
  expect(readdirSync(temporary)).toEqual([])
})

test(
  '--once --json clears a host while starts wait for it, restores it, and says so in one JSON object',
  {
    timeout: 180_000
  },
  async () => {
    const demo = start(['--once', '--json'])
    child = demo.process
    const [code] = (await once(demo.process, 'close')) as [number]
    const last = JSON.parse(demo.out().trim().split('\n').at(-1) ?? '') as { tasks: Record<string, number> }
    expect(last).toEqual({
      hosts: 6,
      vms: 60,
      clearedHost: 'h1',
      runningOnClearedHost: 0,
      rewrittenStarts: 20,
      tasks: { complete: expect.any(Number), failed: 0, cancelled: 0 },
      overCommitted: 0,
      twoWriters: 0,
      guardPollFound: 0,
      durationMs: expect.any(Number)
    })
    // 13 to prepare, 60 created, 60 started, 20 stopped and started, the clear and the restore with 10 migrations each.
    expect(last.tasks['complete']).toBeGreaterThanOrEqual(195)
    expect(code).toBe(0)
    expect(readdirSync(temporary)).toEqual([])
  }
)

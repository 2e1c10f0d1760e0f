// `taskomatic server` and `taskomatic db init` as processes: what they refuse, keep, and leave behind.
import { spawn, spawnSync, type ChildProcess } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pg from 'pg'
import { afterEach, beforeEach, expect, inject, test } from 'vitest'

const launcher = join(import.meta.dirname, '..', '..', 'bin', 'taskomatic')
let state: string
const children: ChildProcess[] = []
beforeEach(() => (state = mkdtempSync(join(tmpdir(), 'tk-server-'))))
afterEach(async () => {
  for (const child of children.splice(0)) {
    if (child.exitCode !== null || child.signalCode !== null) continue
    child.kill('SIGKILL')
    await once(child, 'exit')
  }
  rmSync(state, { recursive: true, force: true })
})

const env = (more: Record<string, string> = {}) => ({
  ...process.env,
  TASKOMATIC_STATE: state,
  TASKOMATIC_URL: '',
  TASKOMATIC_TOKEN: '',
  DATABASE_URL: '',
  ...more
})
const command = (words: string[], more: Record<string, string> = {}) =>
  spawnSync(launcher, words, { env: env(more), encoding: 'utf8' })

/** Resolves when the server listens, or has ended. */
async function serve(more: Record<string, string> = {}) {
  const child = spawn(launcher, ['server', '--port', '0', '--drain', '1s'], {
    env: env(more),
    stdio: ['ignore', 'ignore', 'pipe']
  })
  children.push(child)
  let log = ''
  const listens = new Promise<void>((resolve) => {
    child.stderr.on('data', (chunk: Buffer) => {
      log += chunk.toString()
      if (log.includes('server listens')) resolve()
    })
  })
  const ended = once(child, 'close').then(([code]) => code as number)
  await Promise.race([listens, ended])
  return { child, ended, log: () => log }
}

test('words that do not fit, and addresses beyond loopback, are refused', () => {
  expect(command(['server', '--prot', '1'])).toMatchObject({ status: 2, stderr: expect.stringContaining("'--prot'") })
  expect(command(['server', '--port', '70000'])).toMatchObject({
    status: 2,
    stderr: expect.stringMatching(/from 0 to 65535/)
  })
  expect(command(['server', '--log-level', 'loud'])).toMatchObject({
    status: 2,
    stderr: expect.stringMatching(/one of trace, debug/)
  })
  expect(command(['db', 'drop'])).toMatchObject({ status: 2 })
  expect(command(['db', 'init'])).toMatchObject({ status: 2, stderr: expect.stringContaining('TASKOMATIC_ADMIN_URL') })
})

test('a server brings its database along, keeps its token, and ends in order', { timeout: 120_000 }, async () => {
  const first = await serve()
  expect(first.log()).toContain('server listens')
  const token = readFileSync(join(state, 'token'), 'utf8')
  for (const file of ['token', 'server.json', 'definition.key'])
    expect(statSync(join(state, file)).mode & 0o777, file).toBe(0o600)
  expect(command(['host', 'list'])).toMatchObject({ status: 0, stdout: '', stderr: expect.stringMatching(/^no hosts/) })
  expect(command(['host', 'list'], { TASKOMATIC_TOKEN: 'tkm_wrong' })).toMatchObject({
    status: 4,
    stderr: expect.stringMatching(/token[\s\S]*next: /)
  })

  const second = await serve()
  expect(await second.ended).toBe(1)
  expect(second.log()).toMatch(/error: PostgreSQL.*already runs on/)
  expect(command(['host', 'list']).status).toBe(0)

  first.child.kill('SIGTERM')
  expect(await first.ended).toBe(0)
  expect(first.log()).not.toContain(token.trim())
  expect(existsSync(join(state, 'server.json'))).toBe(false)
  expect(command(['host', 'list'])).toMatchObject({ status: 1, stderr: expect.stringContaining('taskomatic server') })

  const third = await serve()
  expect(readFileSync(join(state, 'token'), 'utf8')).toBe(token)
  expect(command(['host', 'list']).status).toBe(0)
  third.child.kill('SIGINT')
  expect(await third.ended).toBe(0)
})

test(
  "a PostgreSQL of one's own is prepared by `db init` and served by DATABASE_URL",
  { timeout: 120_000 },
  async () => {
    const { adminUrl } = inject('postgres')
    const database = `own_${randomBytes(6).toString('hex')}`
    const unprepared = await serve({ DATABASE_URL: adminUrl })
    expect(await unprepared.ended).toBe(1)
    expect(unprepared.log()).toContain('taskomatic db init')
    try {
      const init = command(['db', 'init', '--database', database], { TASKOMATIC_ADMIN_URL: adminUrl })
      expect(init.stderr).toMatch(/made the database; \d+ migrations applied/)
      expect(command(['db', 'init', '--database', database], { TASKOMATIC_ADMIN_URL: adminUrl }).stderr).toMatch(
        /was there; 0 migrations/
      )
      const url = init.stdout.trim()
      expect(url).toContain('taskomatic_server')
      const server = await serve({ DATABASE_URL: url })
      expect(command(['task', 'list'])).toMatchObject({ status: 0 })
      expect(existsSync(join(state, 'postgres'))).toBe(false)
      server.child.kill('SIGTERM')
      expect(await server.ended).toBe(0)
    } finally {
      const client = new pg.Client({ connectionString: adminUrl })
      await client.connect()
      await client.query(`drop database if exists ${database} with (force)`)
      await client.end()
    }
  }
)

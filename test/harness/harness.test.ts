// The harness tells the truth: what fails outside of a test is counted, and what was left running is found and ended.

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { endLeftovers, markedProcesses, markName } from './leftovers.ts'
import type { Counts } from './reporter.ts'

// Below node_modules, so that the sample tests find vitest and the runner of these tests does not find them.
const cache = join(import.meta.dirname, '../../node_modules/.cache')
let directory: string

beforeAll(() => {
  mkdirSync(cache, { recursive: true })
  directory = mkdtempSync(join(cache, 'harness-'))
})
afterAll(() => rmSync(directory, { recursive: true, force: true }))

async function countsOf(files: Record<string, string>): Promise<{ counts: Counts; exitCode: number | null }> {
  const root = mkdtempSync(join(directory, 'sample-'))
  for (const [name, text] of Object.entries(files)) writeFileSync(join(root, name), text)
  writeFileSync(join(root, 'vitest.config.ts'), 'export default { test: { exclude: [] } }')
  const reporter = join(import.meta.dirname, 'reporter.ts')
  const child = spawn('vitest', ['run', '--root', root, '--reporter', reporter], {
    env: { ...process.env, TASKOMATIC_TEST_COUNTS: join(root, 'counts.json') },
    stdio: 'ignore'
  })
  const [exitCode] = (await once(child, 'exit')) as [number | null]
  return { counts: JSON.parse(readFileSync(join(root, 'counts.json'), 'utf8')) as Counts, exitCode }
}

const head = "import { beforeAll, describe, expect, test } from 'vitest'\n"

test('passes, failures and skips are counted, skips with their reason', async () => {
  const { counts, exitCode } = await countsOf({
    'a.test.ts': `${head}
      test('good', () => {})
      test('bad', () => { expect(1).toBe(2) })
      test.skip('left out', () => {})
      test('left out later', (context) => { context.skip('no broker') })`
  })
  expect(counts).toMatchObject({ passed: 1, failed: 1, skipped: 2 })
  expect(counts.skips).toEqual(['a.test.ts: left out', 'a.test.ts: left out later (no broker)'])
  expect(exitCode).toBe(1)
})

test('a file that cannot be read, a hook that throws and a stray rejection are failures', async () => {
  const { counts } = await countsOf({
    'import.test.ts': `import './not-there.ts'\n${head} test('never', () => {})`,
    'hook.test.ts': `${head} describe('s', () => { beforeAll(() => { throw new Error('x') }); test('never', () => {}) })`,
    'stray.test.ts': `${head} test('good', () => { void Promise.reject(new Error('stray')) })`
  })
  expect(counts.passed).toBe(1)
  expect(counts.failed).toBeGreaterThanOrEqual(3)
})

test.runIf(process.platform === 'linux')('a process left running is found by its mark and ended', async () => {
  const mark = `harness-test-${process.pid}`
  const child = spawn('sleep', ['600'], { env: { ...process.env, [markName]: mark }, detached: true, stdio: 'ignore' })
  const exit = once(child, 'exit')
  await once(child, 'spawn')
  expect(markedProcesses(mark)).toEqual([{ pid: child.pid, command: 'sleep 600' }])
  expect(await endLeftovers(mark, 200)).toHaveLength(1)
  expect(await exit).toEqual([null, 'SIGKILL'])
  expect(await endLeftovers(mark, 0)).toEqual([])
})

// `npm test`: brings what the tests need, runs the static checks and all tests, and prints as its last line
// `N passed, N failed, N skipped`. Every static check counts as one test, and so does every process left running.
// With arguments (`npm test -- test/queue`) only the tests whose file matches run, without the static checks.
// With CI=true nothing may be skipped: what is, counts as failed.

import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, existsSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { ownDirectory, ownerFile } from '../../src/sim/owned-directory.ts'
import { runChecks } from './checks.ts'
import { installMissing } from './install.ts'
import { endLeftovers, markName } from './leftovers.ts'
import { obstacles } from './parts.ts'
import type { Counts } from './reporter.ts'

type Phase = { name: string; projects: string[]; timeoutMs: number }

// The system tests run alone: they measure and meet deadlines on the same two cores.
const phases: readonly Phase[] = [
  {
    name: 'unit and database tests',
    projects: ['unit', 'database', 'queue-pg15', 'notify-off'],
    timeoutMs: 40 * 60_000
  },
  { name: 'system tests', projects: ['system'], timeoutMs: 30 * 60_000 }
]

const filters = process.argv.slice(2)
const mark = `${process.pid}-${Date.now()}`
// Short, since unix sockets live in it, and open to others, since PostgreSQL does not run as root.
const { path: temporary } = await ownDirectory('tk-run-')
chmodSync(temporary, 0o755)
let running: ChildProcess | undefined

function seconds(since: number): string {
  return `${((performance.now() - since) / 1000).toFixed(1)} s`
}

async function phase<T>(name: string, body: () => T | Promise<T>): Promise<T> {
  console.log(`\n== ${name}`)
  const began = performance.now()
  const result = await body()
  console.log(`-- ${name}: ${seconds(began)}`)
  return result
}

/** Runs vitest on the phase's projects; whatever happens to it, the counts say so. */
async function runTests({ name, projects, timeoutMs }: Phase): Promise<Counts> {
  const file = join(temporary, `counts-${projects[0]}.json`)
  const args = ['run', ...projects.flatMap((project) => ['--project', project]), '--passWithNoTests', ...filters]
  const env = { ...process.env, [markName]: mark, TMPDIR: temporary, TASKOMATIC_TEST_COUNTS: file }
  const child = spawn('vitest', args, { env, stdio: ['ignore', 'inherit', 'inherit'] })
  running = child
  let late = false
  const timer = setTimeout(() => {
    late = true
    child.kill('SIGKILL') // its workers, and what they started, are found by their mark
  }, timeoutMs)
  const [code] = (await once(child, 'exit')) as [number | null]
  clearTimeout(timer)
  running = undefined

  const counts: Counts = existsSync(file)
    ? (JSON.parse(readFileSync(file, 'utf8')) as Counts)
    : { passed: 0, failed: 0, skipped: 0, skips: [] }
  const fail = (why: string): void => {
    counts.failed++
    console.log(`FAIL ${name}: ${why}`)
  }
  if (late) fail(`not done after ${timeoutMs / 1000} s`)
  else if (!existsSync(file)) fail(`vitest ended with ${code} and without a result`)
  else if (code !== 0 && counts.failed === 0) fail(`vitest ended with ${code}`)
  for (const { pid, command } of await endLeftovers(mark)) fail(`left running, killed now: ${pid} ${command}`)
  return counts
}

function explainSkips(skips: readonly string[]): void {
  if (skips.length === 0) return
  console.log('\nskipped:')
  for (const reason of obstacles()) console.log(`  ${reason}`)
  for (const skip of skips) console.log(`  - ${skip}`)
}

async function main(): Promise<number> {
  const total: Counts = { passed: 0, failed: 0, skipped: 0, skips: [] }
  const began = performance.now()
  await phase('needs', installMissing)
  if (filters.length === 0) {
    for (const { passed } of await phase('static checks', runChecks)) total[passed ? 'passed' : 'failed']++
  }
  for (const each of phases) {
    const counts = await phase(each.name, () => runTests(each))
    total.passed += counts.passed
    total.failed += counts.failed
    total.skipped += counts.skipped
    total.skips.push(...counts.skips)
  }
  if (total.passed + total.failed + total.skipped === 0) {
    console.log(`no test matches ${filters.join(' ')}`)
    total.failed++
  }
  explainSkips(total.skips)
  if (process.env['CI'] === 'true' && total.skipped > 0) {
    console.log(`CI=true: the ${total.skipped} skipped count as failed`)
    total.failed += total.skipped
    total.skipped = 0
  }
  console.log(`\nall of it: ${seconds(began)}`)
  console.log(`${total.passed} passed, ${total.failed} failed, ${total.skipped} skipped`)
  return total.failed === 0 ? 0 : 1
}

function cleanUp(): void {
  const left = existsSync(temporary)
    ? readdirSync(temporary).filter((entry) => entry !== ownerFile && !entry.startsWith('counts-'))
    : []
  if (left.length > 0) console.error(`removing what tests left in their temporary directory: ${left.join(', ')}`)
  rmSync(temporary, { recursive: true, force: true })
}

async function stop(signal: NodeJS.Signals): Promise<void> {
  running?.kill('SIGKILL')
  await endLeftovers(mark, 0)
  cleanUp()
  process.exit(signal === 'SIGINT' ? 130 : 143)
}

for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.once(signal, () => void stop(signal))
const exitCode = await main()
// Before the last line's reader sees the end: nothing is printed after it on stdout.
cleanUp()
process.exitCode = exitCode

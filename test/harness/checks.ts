// The checks that read the code without running it. `npm run check` runs these alone; `npm test` counts each as a test.

import { spawnSync } from 'node:child_process'

type Check = { name: string; command: string; args: string[]; fix?: string }

const checks: readonly Check[] = [
  { name: 'types', command: 'tsc', args: ['--noEmit'] },
  { name: 'lint', command: 'oxlint', args: ['--type-aware'] },
  { name: 'format', command: 'oxfmt', args: ['--check', '.'], fix: 'npm run format' },
  { name: 'unused', command: 'knip', args: ['--no-progress'] }
]

export type CheckResult = { name: string; passed: boolean; durationMs: number }

/** Runs every check, also after one has failed, and prints what the failing ones said. */
export function runChecks(): CheckResult[] {
  return checks.map(({ name, command, args, fix }) => {
    const began = performance.now()
    const { status, stdout, stderr, error } = spawnSync(command, args, {
      encoding: 'utf8',
      timeout: 5 * 60_000,
      maxBuffer: 64 * 1024 * 1024
    })
    const result = { name, passed: status === 0, durationMs: Math.round(performance.now() - began) }
    console.log(`${result.passed ? 'ok  ' : 'FAIL'} ${name} (${command} ${args.join(' ')}, ${result.durationMs} ms)`)
    if (!result.passed) {
      console.log(error ? error.message : `${stdout}${stderr}`.trim())
      if (fix) console.log(`${fix} puts it right`)
    }
    return result
  })
}

if (import.meta.main) {
  const failed = runChecks().filter((result) => !result.passed)
  process.exitCode = failed.length === 0 ? 0 : 1
}

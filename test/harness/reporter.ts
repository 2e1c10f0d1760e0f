// A vitest reporter that counts: tests passed, failed, skipped, and what went wrong outside of any test. Writes its counts
// as JSON to the file that TASKOMATIC_TEST_COUNTS names, for test/harness/run.ts; what people read is vitest's own output.

import { writeFileSync } from 'node:fs'
import type { Reporter, TestModule } from 'vitest/node'

export type Counts = {
  passed: number
  failed: number
  skipped: number
  /** Of each skipped test: file, name and, where one was given, why. */
  skips: string[]
}

function countModule(module: TestModule, counts: Counts): void {
  // A file that cannot be imported, or whose suite's hook threw, has failed although no test of it did.
  counts.failed += module.errors().length
  for (const suite of module.children.allSuites()) counts.failed += suite.errors().length
  for (const test of module.children.allTests()) {
    const result = test.result()
    if (result.state === 'passed') counts.passed++
    else if (result.state === 'skipped') {
      counts.skipped++
      counts.skips.push(`${module.relativeModuleId}: ${test.fullName}${result.note ? ` (${result.note})` : ''}`)
    } else counts.failed++ // failed, or still pending when the run was cut short
  }
}

export default class CountingReporter implements Reporter {
  onTestRunEnd(modules: readonly TestModule[], unhandledErrors: readonly unknown[]): void {
    const counts: Counts = { passed: 0, failed: unhandledErrors.length, skipped: 0, skips: [] }
    for (const module of modules) countModule(module, counts)
    const file = process.env['TASKOMATIC_TEST_COUNTS']
    if (file) writeFileSync(file, JSON.stringify(counts))
  }
}

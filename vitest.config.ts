// Where tests are and how they run. Projects say what a test needs: `unit` nothing, `database` a PostgreSQL (npm brings
// one), `queue-pg15` the oldest PostgreSQL that is supported, `system` real hosts. `unit` takes every test file that the
// others do not name, so that none is forgotten.

import { existsSync } from 'node:fs'
import { defineConfig } from 'vitest/config'

const database = ['test/{db,queue,inventory,dispatcher,actions,identity,http,demo,faults}/**/*.test.ts']
const system = ['test/system/**/*.test.ts']
const support = ['test/support/**/*.test.ts']
const cluster = ['test/support/cluster.ts']
const havePostgres15 = existsSync('/usr/lib/postgresql/15/bin/postgres')

const project = (name: string, include: string[], more: Record<string, unknown> = {}) => ({
  test: {
    name,
    include,
    exclude: ['**/node_modules/**'],
    environment: 'node',
    testTimeout: 30_000,
    hookTimeout: 60_000,
    ...more
  }
})

export default defineConfig({
  test: {
    maxWorkers: 2,
    reporters: ['default', './test/harness/reporter.ts'],
    projects: [
      project('unit', ['test/**/*.test.ts'], { exclude: ['**/node_modules/**', ...database, ...system, ...support] }),
      project('database', database, { globalSetup: cluster }),
      // Without Debian's PostgreSQL 15 the project shows one skipped test.
      project(
        'queue-pg15',
        havePostgres15 ? ['test/{db,queue}/**/*.test.ts'] : ['test/support/no-postgres-15.test.ts'],
        {
          env: { TASKOMATIC_TEST_PG: '15' },
          globalSetup: havePostgres15 ? cluster : [],
          // The server that npm brings is another one.
          exclude: ['**/node_modules/**', 'test/db/embedded.test.ts']
        }
      ),
      // Nothing may depend on notifications: the engine's tests once more, with engines that hear none.
      project('notify-off', ['test/dispatcher/**/*.test.ts'], {
        env: { TASKOMATIC_TEST_NOTIFY: 'off' },
        globalSetup: cluster
      }),
      project('system', system, { fileParallelism: false, testTimeout: 120_000 })
    ]
  }
})

import { existsSync } from 'node:fs'
import { defineConfig } from 'vitest/config'

// Projects mirror what a machine must have: `unit` needs nothing, `database` a PostgreSQL, `system` libvirt and QEMU.
const project = (name: string, include: string[], more: Record<string, unknown> = {}) => ({
  test: { name, include, exclude: ['**/node_modules/**'], environment: 'node', testTimeout: 30_000, ...more }
})

const cluster = ['test/support/cluster.ts']
const havePostgres15 = existsSync('/usr/lib/postgresql/15/bin/postgres')

export default defineConfig({
  test: {
    maxWorkers: 2,
    projects: [
      project('unit', ['test/{libvirt,model,sim,api,cli,host,actions}/**/*.test.ts', 'test/*.test.ts']),
      project('database', ['test/{db,queue,inventory,dispatcher,http,demo}/**/*.test.ts'], { globalSetup: cluster }),
      // The oldest PostgreSQL that is supported; without it the project shows one skipped test.
      project(
        'queue-pg15',
        havePostgres15 ? ['test/{db,queue}/**/*.test.ts'] : ['test/support/no-postgres-15.test.ts'],
        {
          env: { TASKOMATIC_TEST_PG: '15' },
          globalSetup: havePostgres15 ? cluster : []
        }
      ),
      project('system', ['test/system/**/*.test.ts'], { fileParallelism: false, testTimeout: 120_000 })
    ]
  }
})

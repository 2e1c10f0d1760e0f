import { defineConfig } from 'vitest/config'

// Projects mirror what a machine must have: `unit` needs nothing, `database` a PostgreSQL, `system` libvirt and QEMU.
const project = (name: string, include: string[], more: Record<string, unknown> = {}) => ({
  test: { name, include, exclude: ['**/node_modules/**'], environment: 'node', testTimeout: 30_000, ...more }
})

export default defineConfig({
  test: {
    maxWorkers: 2,
    projects: [
      project('unit', ['test/{libvirt,model,sim,api,cli,host,actions}/**/*.test.ts', 'test/*.test.ts']),
      project('database', ['test/{db,queue,inventory,dispatcher,http,demo}/**/*.test.ts']),
      project('system', ['test/system/**/*.test.ts'], { fileParallelism: false, testTimeout: 120_000 })
    ]
  }
})

// Without notifications everything still runs: a dispatcher looks by itself, and its own ends and submissions need none.
import { expect, test } from 'vitest'
import { startTestEngine } from '../support/engine.ts'

test('with notifications off, tasks of another process are found by looking, and the main path ends', async () => {
  const engine = await startTestEngine({ hosts: 2, engine: { listen: false, guardPollMs: 200 } })
  try {
    // Stored by "another process": nobody wakes the dispatcher here.
    const { tasks } = await engine.submitter.submit({
      by: 'test',
      plan: { onFailure: 'stop' },
      tasks: [
        { action: 'pool.create', args: { host: 'h1', pool: 'quiet', target: '/srv/quiet' } },
        {
          action: 'vm.create',
          args: { name: 'still', memoryMiB: 64, vcpus: 1, host: 'h1', disks: [{ store: 'h1/quiet', sizeMiB: 8 }] }
        },
        { action: 'vm.start', args: { vm: 'still' } },
        { action: 'vm.delete', args: { vm: 'still', force: true, volumes: true } }
      ]
    })
    for (const { id } of tasks) expect((await engine.until(id)).state).toBe('complete')
  } finally {
    await engine.stop()
  }
})

test('with notifications on, the guard poll finds nothing on a healthy run', async () => {
  const engine = await startTestEngine({ hosts: 1, engine: { guardPollMs: 100 } })
  try {
    const { tasks } = await engine.submitter.submit({
      by: 'test',
      tasks: Array.from({ length: 40 }, (_, at) => ({
        action: 'vm.create',
        args: { name: `vm-${at}`, memoryMiB: 64, vcpus: 1, host: 'h1' }
      }))
    })
    for (const { id } of tasks) expect((await engine.until(id)).state).toBe('complete')
    expect(engine.engine.dispatcher.guardPollFound()).toBe(0)
  } finally {
    await engine.stop()
  }
})

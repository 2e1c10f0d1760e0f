// A closed host, through the whole engine: what was queued before waits until it is open again, what comes later is refused.
import { expect, test } from 'vitest'
import { release } from '../../src/queue/requests.ts'
import { startTestEngine } from '../support/engine.ts'

test('a start that was queued before its host was closed runs once it is opened', async () => {
  const engine = await startTestEngine({ hosts: 1 })
  try {
    await engine.run('vm.create', { name: 'web1', memoryMiB: 64, vcpus: 1, host: 'h1' })
    const start = await engine.submit('vm.start', { vm: 'web1' }, { hold: { reason: 'until the host is closed' } })
    await engine.run('host.cordon', { host: 'h1', reason: 'new disks' })
    await expect(engine.submit('vm.start', { vm: 'web1', host: 'h1' })).rejects.toMatchObject({ code: 'host_cordoned' })
    await release(engine.database, { task: start, by: 'test' })
    engine.engine.dispatcher.wake()
    expect(await engine.until(start, (task) => task.state === 'parked')).toMatchObject({ state: 'parked' })
    await engine.run('host.uncordon', { host: 'h1' })
    expect(await engine.until(start)).toMatchObject({ state: 'complete' })
    expect(engine.engine.dispatcher.guardPollFound()).toBe(0)
  } finally {
    await engine.stop()
  }
})

// The main path on simulated hosts, end to end through queue, dispatcher, actions, hosts and inventory.
import { afterAll, beforeAll, expect, test } from 'vitest'
import { loadFacts } from '../../src/inventory/load.ts'
import { resource } from '../../src/model/resource.ts'
import { startTestEngine, type TestEngine } from '../support/engine.ts'

let engine: TestEngine
beforeAll(async () => {
  engine = await startTestEngine({
    hosts: 3,
    fleet: { sharedStores: [{ name: 'nfs1', path: '/srv/nfs1' }] }
  })
})
afterAll(async () => {
  await engine.stop()
})

const ended = async (action: string, args: Parameters<TestEngine['run']>[1]) => {
  const task = await engine.run(action, args)
  expect(task, JSON.stringify(task.error)).toMatchObject({ state: 'complete' })
  return task
}

test('a pool is made on every host, shared, and VMs are created, started, moved, stopped and deleted', async () => {
  for (const host of ['h1', 'h2', 'h3']) await ended('pool.create', { host, pool: 'nfs1', target: '/srv/nfs1' })
  await ended('store.share', { store: 'nfs1', pools: ['h1', 'h2', 'h3'].map((host) => ({ host, pool: 'nfs1' })) })
  await ended('vm.create', {
    name: 'web1',
    memoryMiB: 256,
    vcpus: 1,
    host: 'h1',
    disks: [{ store: 'nfs1', sizeMiB: 64 }]
  })
  await ended('vm.start', { vm: 'web1' })
  for (const to of ['h2', 'h3', 'h1']) {
    await ended('vm.migrate', { vm: 'web1', to })
    const uuid = [...engine.fleet.host(to).domains.values()].find((domain) => domain.name === 'web1')?.uuid ?? ''
    const [[, facts] = []] = await loadFacts(engine.database, [resource.vm(uuid)])
    expect(facts).toMatchObject({ power: 'running', home: to, activeOn: to })
    // Wherever it went, and on its way back as well, its disk is known to be in use.
    const [[, volume] = []] = await loadFacts(engine.database, [resource.volume('nfs1', 'web1.qcow2')])
    expect(volume).toMatchObject({ usedBy: [uuid] })
    await expect(engine.submit('volume.delete', { volume: 'nfs1/web1.qcow2' })).rejects.toThrow(/web1/)
  }
  await ended('vm.stop', { vm: 'web1' })
  await ended('vm.delete', { vm: 'web1', volumes: true })
  for (const host of engine.fleet.hosts) expect([...host.domains.values()]).toEqual([])
  expect(engine.engine.dispatcher.guardPollFound()).toBe(0)
})

test('everything may be submitted in one plan before any of it exists', async () => {
  const answer = await engine.submitter.submit({
    by: 'test',
    plan: { name: 'all at once', onFailure: 'stop' },
    tasks: [
      { action: 'pool.create', args: { host: 'h1', pool: 'fast', target: '/srv/fast' } },
      {
        action: 'vm.create',
        args: { name: 'db1', memoryMiB: 256, vcpus: 1, host: 'h1', disks: [{ store: 'h1/fast', sizeMiB: 64 }] }
      },
      { action: 'vm.start', args: { vm: 'db1' } },
      { action: 'vm.stop', args: { vm: 'db1' } },
      { action: 'vm.delete', args: { vm: 'db1', volumes: true } }
    ]
  })
  engine.engine.dispatcher.wake()
  for (const { id } of answer.tasks) {
    const task = await engine.until(id)
    expect(task, JSON.stringify(task.error)).toMatchObject({ state: 'complete' })
  }
})

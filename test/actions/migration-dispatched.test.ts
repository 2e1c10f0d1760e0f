// Snapshots, clones and moves through queue, dispatcher and inventory, on simulated hosts.
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { VmFacts } from '../../src/inventory/facts.ts'
import { loadFacts } from '../../src/inventory/load.ts'
import { resource } from '../../src/model/resource.ts'
import { startTestEngine, type TestEngine } from '../support/engine.ts'

let engine: TestEngine
beforeAll(async () => {
  engine = await startTestEngine({
    hosts: 3,
    fleet: {
      sharedStores: [
        { name: 'nfs1', path: '/srv/nfs1' },
        { name: 'lun1', path: '/srv/lun1', kind: 'block' }
      ]
    }
  })
  for (const pool of ['nfs1', 'lun1']) {
    for (const host of ['h1', 'h2', 'h3']) await ended('pool.create', { host, pool, target: `/srv/${pool}` })
    await ended('store.share', { store: pool, pools: ['h1', 'h2', 'h3'].map((host) => ({ host, pool })) })
  }
})
afterAll(async () => {
  await engine.stop()
})

const ended = async (action: string, args: Parameters<TestEngine['run']>[1]) => {
  const task = await engine.run(action, args)
  expect(task, JSON.stringify(task.error)).toMatchObject({ state: 'complete' })
  return task
}

const factsOf = async (name: string): Promise<VmFacts | undefined> => {
  const domains = engine.fleet.hosts.flatMap((host) => [...host.domains.values()])
  const uuid = domains.find((domain) => domain.name === name)?.uuid ?? ''
  const [[, facts] = []] = await loadFacts(engine.database, [resource.vm(uuid)])
  return (facts ?? undefined) as unknown as VmFacts | undefined
}

const create = (name: string, store: string) =>
  ended('vm.create', { name, memoryMiB: 256, host: 'h1', disks: [{ store, sizeMiB: 64 }] })

test('snapshots are facts, go along wherever the VM is placed, and their names are known to what is queued', async () => {
  await create('web1', 'nfs1')
  await ended('vm.start', { vm: 'web1' })
  await ended('vm.snapshot.create', { vm: 'web1', name: 'a' })
  await ended('vm.snapshot.create', { vm: 'web1', name: 'b', description: 'second' })
  expect((await factsOf('web1'))?.snapshots).toMatchObject([
    { name: 'a', parent: null, current: false, state: 'running' },
    { name: 'b', parent: 'a', current: true, description: 'second' }
  ])
  // No target: placed as it starts, and the answer says who was considered.
  const moved = await ended('vm.migrate', { vm: 'web1' })
  const after = await factsOf('web1')
  expect(['h2', 'h3']).toContain(after?.activeOn)
  expect(moved.result).toMatchObject({ from: 'h1', to: after?.activeOn })
  expect(after?.snapshots.map(({ name }) => name)).toEqual(['a', 'b'])
  const left = await engine.database.query(`select 1 from inventory.kept_snapshot`)
  expect(left).toEqual([])
  await expect(engine.submit('vm.snapshot.delete', { vm: 'web1', snapshot: 'c' })).rejects.toThrow(
    /it has a, b|no snapshot/
  )
  // In one plan, of which nothing has happened when it is accepted.
  const answer = await engine.submitter.submit({
    by: 'test',
    plan: { name: 'try it', onFailure: 'stop' },
    tasks: [
      { action: 'vm.snapshot.create', args: { vm: 'web1', name: 'c' } },
      { action: 'vm.snapshot.revert', args: { vm: 'web1', snapshot: 'c', before: 'd' } },
      { action: 'vm.snapshot.delete', args: { vm: 'web1', snapshot: 'd' } },
      { action: 'vm.migrate', args: { vm: 'web1', to: 'h1' } }
    ]
  })
  engine.engine.dispatcher.wake()
  for (const { id } of answer.tasks) {
    const task = await engine.until(id)
    expect(task, JSON.stringify(task.error)).toMatchObject({ state: 'complete' })
  }
  expect((await factsOf('web1'))?.snapshots.map(({ name, current }) => [name, current])).toEqual([
    ['a', false],
    ['b', false],
    ['c', true]
  ])
})

test('a VM on a store without a lock is carried through from here, and nobody writes twice', async () => {
  await create('db1', 'lun1')
  await ended('vm.start', { vm: 'db1' })
  for (const to of ['h2', 'h1']) await ended('vm.migrate', { vm: 'db1', to, managed: true })
  expect(await factsOf('db1')).toMatchObject({ home: 'h1', activeOn: 'h1', elsewhere: {} })
  expect(engine.fleet.journal.twoWriters).toBe(0)
})

test('clones of one VM are made side by side; what they lie over is not started, and is refused to whoever asks', async () => {
  await create('golden', 'nfs1')
  const names = ['c1', 'c2', 'c3']
  const answer = await engine.submitter.submit({
    by: 'test',
    plan: { name: 'three', onFailure: 'stop' },
    tasks: [
      ...names.map((name) => ({ action: 'vm.clone', args: { vm: 'golden', name, linked: true } })),
      ...names.map((name) => ({ action: 'vm.start', args: { vm: name } }))
    ]
  })
  // Queued already: the prediction says so.
  await expect(engine.submit('vm.start', { vm: 'golden' })).rejects.toThrow(/lies under disks/)
  engine.engine.dispatcher.wake()
  for (const { id } of answer.tasks) {
    const task = await engine.until(id)
    expect(task, JSON.stringify(task.error)).toMatchObject({ state: 'complete' })
  }
  // Observed now.
  expect(await factsOf('golden')).toMatchObject({ overlaid: ['vda'], power: 'off' })
  await expect(engine.submit('vm.start', { vm: 'golden' })).rejects.toThrow(/lies under disks/)
  await expect(engine.submit('volume.delete', { volume: 'nfs1/golden.qcow2' })).rejects.toThrow(/c1|golden/)
  await expect(engine.submit('volume.resize', { volume: 'nfs1/golden.qcow2', sizeMiB: 128 })).rejects.toThrow()
  const macs = await engine.database.query<{ mac: string }>(`select mac from inventory.nic`)
  expect(new Set(macs.map(({ mac }) => mac)).size).toBe(macs.length)
  for (const name of names) await ended('vm.delete', { vm: name, volumes: true, force: true })
  await ended('vm.start', { vm: 'golden' })
  expect(engine.fleet.journal.twoWriters).toBe(0)
})

test('of a VM that is off the definition moves, and what was queued behind it finds it there', async () => {
  await create('off1', 'nfs1')
  const answer = await engine.submitter.submit({
    by: 'test',
    plan: { name: 'move and start', onFailure: 'stop' },
    tasks: [
      { action: 'vm.migrate', args: { vm: 'off1', to: 'h3', offline: true } },
      { action: 'vm.start', args: { vm: 'off1' } }
    ]
  })
  engine.engine.dispatcher.wake()
  for (const { id } of answer.tasks) {
    const task = await engine.until(id)
    expect(task, JSON.stringify(task.error)).toMatchObject({ state: 'complete' })
  }
  expect(await factsOf('off1')).toMatchObject({ home: 'h3', activeOn: 'h3', power: 'running', elsewhere: {} })
})

// Who uses a volume and who takes it away, asked for in the same moment, through queue and dispatcher: claims give them turns, and
// whoever comes second is refused or finds things as they are then.
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { JsonObject } from '../../src/db/json.ts'
import { loadFacts } from '../../src/inventory/load.ts'
import { resource } from '../../src/model/resource.ts'
import type { Task } from '../../src/queue/task.ts'
import { startTestEngine, type TestEngine } from '../support/engine.ts'

let engine: TestEngine
beforeAll(async () => {
  engine = await startTestEngine({ hosts: 2, fleet: { sharedStores: [{ name: 'nfs1', path: '/srv/nfs1' }] } })
  for (const host of ['h1', 'h2']) await done('pool.create', { host, pool: 'nfs1', target: '/srv/nfs1' })
  await done('store.share', { store: 'nfs1', pools: ['h1', 'h2'].map((host) => ({ host, pool: 'nfs1' })) })
})
afterAll(() => engine.stop())

async function done(action: string, args: JsonObject): Promise<void> {
  const task = await engine.run(action, args)
  expect(task, JSON.stringify(task.error)).toMatchObject({ state: 'complete' })
}

/** How it ended; `refused` where it was not even taken. */
async function fate(action: string, args: JsonObject): Promise<Task['state'] | 'refused'> {
  try {
    return (await engine.run(action, args)).state
  } catch {
    return 'refused'
  }
}

const files = () => [...(engine.fleet.stores.get('nfs1')?.files.keys() ?? [])]
const entries = (kind: 'started' | 'volume_resized', name: string) => engine.fleet.journal.entries({ kind, name })

test.each(['start first', 'growth first'])('a VM is started and its disk grown, %s', async (order) => {
  const name = order === 'start first' ? 'a1' : 'a2'
  const disks = [{ store: 'nfs1', sizeMiB: 16, name: `${name}.img` }]
  await done('vm.create', { name, memoryMiB: 64, vcpus: 1, host: 'h2', disks })
  const start = () => fate('vm.start', { vm: name })
  const grow = () => fate('volume.resize', { volume: `nfs1/${name}.img`, sizeMiB: 32 })
  const [first, second] = order === 'start first' ? [start, grow] : [grow, start]
  const fates = await Promise.all([first(), second()])
  const [started, grown] = order === 'start first' ? fates : fates.toReversed()
  expect(started).toBe('complete')
  const resized = entries('volume_resized', `${name}.img`)[0]
  if (grown === 'complete') expect(resized?.seq).toBeLessThan(entries('started', name)[0]?.seq ?? 0)
  else expect(resized).toBeUndefined()
})

test('a volume is given to a VM and deleted in one moment, again and again: one of the two happens', async () => {
  for (let round = 0; round < 6; round++) {
    const name = `b${round}`
    await done('volume.create', { store: 'nfs1', name: `${name}.img`, sizeMiB: 16 })
    const give = () =>
      fate('vm.create', { name, memoryMiB: 64, vcpus: 1, host: 'h2', disks: [{ volume: `nfs1/${name}.img` }] })
    const take = () => fate('volume.delete', { volume: `nfs1/${name}.img` })
    const [given, taken] =
      round % 2 === 0 ? await Promise.all([give(), take()]) : (await Promise.all([take(), give()])).toReversed()
    expect(
      [given, taken].filter((one) => one === 'complete'),
      `round ${round}: ${given}, ${taken}`
    ).toHaveLength(1)
    expect(files().includes(`/${name}.img`)).toBe(given === 'complete')
  }
})

test('pools on one export are one store at once, wherever they appear', async () => {
  const source = { hosts: ['nas'], path: '/export' }
  for (const [host, target] of [
    ['h1', '/mnt/a'],
    ['h2', '/mnt/b']
  ] as const)
    await done('pool.create', { host, pool: 'nas', type: 'netfs', target, source })
  const [[, store] = []] = await loadFacts(engine.database, [resource.store('nas')])
  expect(store).toMatchObject({ shared: true, pools: { h1: { target: '/mnt/a' }, h2: { target: '/mnt/b' } } })
  await done('volume.create', { store: 'nas', name: 'a.img', sizeMiB: 1 })
  for (const host of ['h1', 'h2'])
    expect(await engine.engine.hosts.host(host).volume('nas', 'a.img'), host).toBeDefined()
  // A VM of the other host keeps it, though its path is another one there.
  await done('vm.create', { name: 'd1', memoryMiB: 64, vcpus: 1, host: 'h2', disks: [{ volume: 'nas/a.img' }] })
  expect(await fate('volume.delete', { volume: 'nas/a.img' })).toBe('refused')
})

test('a pool is stopped and a VM started whose disk is there, in one moment: the VM runs, or the pool was stopped before', async () => {
  const disks = [{ store: 'nfs1', sizeMiB: 16 }]
  await done('vm.create', { name: 'c1', memoryMiB: 64, vcpus: 1, host: 'h2', disks })
  const [started, stopped] = await Promise.all([
    fate('vm.start', { vm: 'c1' }),
    fate('pool.stop', { host: 'h1', pool: 'nfs1' })
  ])
  expect(started).toBe('complete')
  const running = entries('started', 'c1')[0]?.seq ?? 0
  const end = engine.fleet.journal.entries({ kind: 'pool_stopped', host: 'h1' })[0]
  if (stopped === 'complete') expect(end?.seq).toBeLessThan(running)
  else expect(end).toBeUndefined()
  expect(engine.fleet.journal.twoWriters).toBe(0)
  expect(engine.engine.dispatcher.guardPollFound()).toBe(0)
})

// The other ways to move a VM: its definition alone, with its disks, with post-copy.
import { expect, test } from 'vitest'
import { vmCreate } from '../../src/actions/vm-create.ts'
import { vmMigrate } from '../../src/actions/vm-migrate.ts'
import { vmSnapshotCreate } from '../../src/actions/vm-snapshot-create.ts'
import { vmStart } from '../../src/actions/vm-start.ts'
import { errorIn, textOf, withStage, type Stage } from './stage.ts'

async function made(stage: Stage, store = 'nfs1'): Promise<string> {
  const disks = [{ store, sizeMiB: 8 }]
  return textOf((await stage.done(vmCreate, { name: 'web1', memoryMiB: 64, host: 'h1', disks }))['uuid'])
}

const seen = async (stage: Stage, uuid: string) =>
  Promise.all(
    ['h1', 'h2'].map(async (host) => {
      const vm = await stage.hosts.host(host).vm(uuid)
      return vm ? `${vm.power} (${vm.reason})` : 'absent'
    })
  )

const offline = { to: 'h2', offline: true }

test('a VM that is off moves with its definition and its snapshots, and can be started there', () =>
  withStage({}, async (stage) => {
    const uuid = await made(stage)
    await stage.done(vmSnapshotCreate, { vm: uuid, name: 'a' })
    await stage.done(vmSnapshotCreate, { vm: uuid, name: 'b' })
    const task = stage.task(vmMigrate, { vm: uuid, ...offline })
    expect((await task.run()).outcome).toMatchObject({ outcome: 'complete', result: { from: 'h1', to: 'h2' } })
    expect(await seen(stage, uuid)).toEqual(['absent', expect.stringMatching(/^off/)])
    expect((await stage.hosts.host('h2').snapshots(uuid)).map(({ name, parent }) => [name, parent])).toEqual([
      ['a', null],
      ['b', 'a']
    ])
    expect((await task.run()).outcome).toMatchObject({ outcome: 'complete' })
    expect(await task.probe()).toMatchObject({ happened: 'yes' })
    await stage.done(vmStart, { vm: uuid })
    expect((await seen(stage, uuid))[1]).toMatch(/^running/)
  }))

test('a disk that is missing at the target is found missing before anything moves', () =>
  withStage({}, async (stage) => {
    const uuid = await made(stage)
    await stage.done(vmSnapshotCreate, { vm: uuid, name: 'a' })
    await stage.hosts.host('h2').stopPool('nfs1')
    await stage.hosts.host('h2').undefinePool('nfs1')
    // The same path, and another directory behind it.
    stage.fleet.host('h2').mount('/shared', stage.fleet.remoteStore('elsewhere'))
    await stage.hosts.host('h2').definePool({ name: 'nfs1', type: 'dir', target: '/shared' })
    const ran = await stage.run(vmMigrate, { vm: uuid, ...offline })
    expect(errorIn(ran)).toMatchObject({ code: 'disk_not_there' })
    expect(await seen(stage, uuid)).toEqual([expect.stringMatching(/^off/), 'absent'])
    expect((await stage.hosts.host('h1').snapshots(uuid)).map(({ name }) => name)).toEqual(['a'])
  }))

test.each(['DOMAIN_DEFINE_XML_FLAGS', 'DOMAIN_UNDEFINE_FLAGS'] as const)(
  'offline, an answer to %s that is lost changes nothing: it ends at the target alone',
  (on) =>
    withStage({}, async (stage) => {
      const uuid = await made(stage)
      const host = on === 'DOMAIN_DEFINE_XML_FLAGS' ? 'h2' : 'h1'
      stage.fleet.host(host).faults.add({ on, fault: { kind: 'drop_after' }, times: 1 })
      const task = stage.task(vmMigrate, { vm: uuid, ...offline })
      const first = await task.run()
      await stage.reachable(host)
      await stage.relist()
      if (first.outcome.outcome !== 'complete') expect(first.outcome.outcome).toBe('retry')
      expect((await task.run()).outcome).toMatchObject({ outcome: 'complete' })
      expect(await seen(stage, uuid)).toEqual(['absent', expect.stringMatching(/^off/)])
    })
)

test('with its disks, where the hosts share no store', () =>
  withStage({}, async (stage) => {
    for (const host of ['h1', 'h2'])
      await stage.hosts.host(host).definePool({ name: 'local', type: 'dir', target: '/local' })
    await stage.relist()
    const uuid = await made(stage, 'h1/local')
    await stage.done(vmStart, { vm: uuid })
    expect(errorIn(await stage.run(vmMigrate, { vm: uuid, to: 'h2' })).code).toBe('store_not_on_target')
    expect(await stage.done(vmMigrate, { vm: uuid, to: 'h2', copyStorage: true })).toMatchObject({ to: 'h2' })
    expect(await stage.hosts.host('h2').volume('local', 'web1.qcow2')).toBeDefined()
    expect(await seen(stage, uuid)).toEqual(['absent', 'running (migrated)'])
  }))

test('a post-copy whose link is cut goes on once the hosts are joined again', () =>
  withStage({ migrationMs: 2_000 }, async (stage) => {
    const uuid = await made(stage)
    await stage.done(vmStart, { vm: uuid })
    const domain = stage.fleet.host('h1').domains.get(uuid)
    if (domain) domain.guest.dirtyMiBps = 1_000_000
    const task = stage.task(vmMigrate, { vm: uuid, to: 'h2', postCopy: true })
    const ran = task.run()
    await stage.fleet.journal.next(({ kind, host }) => kind === 'migrated' && host === 'h2')
    stage.fleet.partition('h1', 'h2')
    await expect
      .poll(() => seen(stage, uuid), { timeout: 10_000 })
      .toEqual(['paused (post-copy failed)', 'paused (post-copy failed)'])
    stage.fleet.heal('h1', 'h2')
    const { outcome, steps } = await ran
    expect(outcome, JSON.stringify(outcome)).toMatchObject({ outcome: 'complete', result: { to: 'h2' } })
    expect(steps).toContain('go on with the post-copy')
    expect(await seen(stage, uuid)).toEqual(['absent', 'running (migrated)'])
    expect(stage.fleet.journal.twoWriters).toBe(0)
  }))

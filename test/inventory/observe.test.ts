// What hosts say becomes facts: whereabouts, homes, stores and who uses what, on a real PostgreSQL.

import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { Database } from '../../src/db/open.ts'
import type { HostFacts, PoolFacts, StoreFacts, VmFacts, VolumeFacts } from '../../src/inventory/facts.ts'
import { forgetHost } from '../../src/inventory/hosts.ts'
import { loadFacts } from '../../src/inventory/load.ts'
import { beginSight, beginSights, recordListing, recordPool, recordSights } from '../../src/inventory/observe.ts'
import type { Listing } from '../../src/inventory/observe.ts'
import { shareStore } from '../../src/inventory/stores.ts'
import { setWatchedConnection, shareWatches } from '../../src/inventory/watches.ts'
import type { HostConnection } from '../../src/model/host.ts'
import { registerDispatcher } from '../../src/queue/dispatch.ts'
import { freshDatabase, type FreshDatabase } from '../support/postgres.ts'
import { bindWhereabouts, knownHost, recordVm, seenDisk, seenPool, seenVm, seenVolume, whereabouts } from './seen.ts'

let fresh: FreshDatabase
let db: Database
beforeEach(async () => {
  fresh = await freshDatabase({ poolSize: 4 })
  db = fresh.database
})
afterEach(() => fresh.drop())

async function list(host: string, listing: Partial<Listing>) {
  const sight = await beginSight(db)
  return db.transaction((tx) => recordListing(tx, sight, host, { vms: [], pools: [], networks: [], ...listing }))
}

async function see(host: string, vm: ReturnType<typeof seenVm>) {
  return recordVm(db, await beginSight(db), host, vm.uuid, vm)
}

async function facts<T>(subject: string): Promise<T | null> {
  return ((await loadFacts(db, [subject])).get(subject) ?? null) as T | null
}

describe('VMs', () => {
  test('a listed VM has facts, its home and its name', async () => {
    await knownHost(db, 'h1')
    const web1 = seenVm({ name: 'web1', power: 'running', reason: 'booted', maxMemoryMiB: 2048 })
    await list('h1', { vms: [web1] })
    const all = await loadFacts(db, [`vm/${web1.uuid}`, 'vm-name/web1', 'vm-name/web2', 'host/h1', 'host-gate/h1'])
    expect(all.get(`vm/${web1.uuid}`)).toMatchObject({
      name: 'web1',
      home: 'h1',
      activeOn: 'h1',
      power: 'running',
      reason: 'booted',
      persistent: true,
      owner: 'plain',
      elsewhere: {}
    })
    expect(all.get('vm-name/web1')).toEqual({ [web1.uuid]: 'h1' })
    expect(all.get('vm-name/web2')).toBeNull()
    expect(all.get('host-gate/h1')).toBeNull()
    expect(all.get('host/h1') as unknown as HostFacts).toMatchObject({
      definitions: 1,
      activeVms: 1,
      committedMiB: Math.ceil(2048 * 1.05) + 256
    })
  })

  test('subjects that are no names of ours have no facts and break nothing', async () => {
    const odd = [
      'vm/not-a-uuid',
      'vm/',
      'nonsense',
      'pool/h1',
      "host/'; drop table",
      'vm-name/a\0b',
      'volume/x',
      'host/h1/refresh'
    ]
    const all = await loadFacts(db, odd)
    expect([...all.keys()]).toEqual(odd)
    expect([...all.values()].every((value) => value === null)).toBe(true)
  })

  test('an older sight never overwrites a newer one, whichever is written last', async () => {
    await knownHost(db, 'h1')
    const web1 = seenVm({ name: 'web1' })
    const older = await beginSight(db)
    const newer = await beginSight(db)
    await recordVm(db, newer, 'h1', web1.uuid, { ...web1, power: 'running' })
    await recordVm(db, older, 'h1', web1.uuid, web1)
    await recordVm(db, older, 'h1', web1.uuid, undefined)
    await db.transaction((tx) => recordListing(tx, older, 'h1', { vms: [], pools: [], networks: [] }))
    expect(await facts<VmFacts>(`vm/${web1.uuid}`)).toMatchObject({ power: 'running', activeOn: 'h1' })
  })

  test('a VM that a full listing does not name is absent there and has no facts, but is remembered', async () => {
    await knownHost(db, 'h1')
    const web1 = seenVm({ name: 'web1', power: 'running', disks: [seenDisk('/pools/a/web1.qcow2')] })
    await list('h1', { vms: [web1] })
    const changes = await list('h1', {})
    expect(changes).toEqual([
      { vm: web1.uuid, name: 'web1', was: { state: 'active', power: 'running' }, now: { state: 'absent', power: null } }
    ])
    expect(await facts(`vm/${web1.uuid}`)).toBeNull()
    expect(await facts('vm-name/web1')).toBeNull()
    expect(await whereabouts(db, web1.uuid)).toEqual([{ host: 'h1', state: 'absent' }])
    expect(await db.query('select from inventory.disk')).toHaveLength(0)
  })

  test('sights of many VMs on many hosts are recorded at once: of two of one VM on one host the later counts', async () => {
    await knownHost(db, 'h1')
    await knownHost(db, 'h2')
    const [a, b] = [seenVm({ name: 'a', maxMemoryMiB: 512 }), seenVm({ name: 'b' })]
    const [first, second, third, fourth] = await beginSights(db, 4)
    await recordSights(db, [
      { ...second!, host: 'h1', vm: a.uuid, seen: { ...a, power: 'running' } },
      { ...first!, host: 'h1', vm: a.uuid, seen: a },
      { ...third!, host: 'h2', vm: b.uuid, seen: b }
    ])
    expect(await facts<VmFacts>(`vm/${a.uuid}`)).toMatchObject({ power: 'running', activeOn: 'h1' })
    expect(await facts<HostFacts>('host/h1')).toMatchObject({ activeVms: 1, committedMiB: Math.ceil(512 * 1.05) + 256 })
    expect(await facts<VmFacts>(`vm/${b.uuid}`)).toMatchObject({ home: 'h2', activeOn: null })
    await recordSights(db, [{ ...fourth!, host: 'h2', vm: b.uuid, seen: undefined }])
    expect(await facts(`vm/${b.uuid}`)).toBeNull()
    const [late] = await beginSights(db, 1)
    await expect(recordSights(db, [{ ...late!, host: 'h9', vm: a.uuid, seen: a }])).rejects.toMatchObject({
      code: 'unknown_host'
    })
  })

  test('a listing that says what was known already changes nothing', async () => {
    await knownHost(db, 'h1')
    const web1 = seenVm({ name: 'web1', disks: [seenDisk('/a/b')] })
    expect(await list('h1', { vms: [web1] })).toHaveLength(1)
    expect(await list('h1', { vms: [web1] })).toEqual([])
  })

  test('the home moves when the definition is seen elsewhere and not at the old home', async () => {
    await knownHost(db, 'h1')
    await knownHost(db, 'h2')
    const web1 = seenVm({ name: 'web1', power: 'running' })
    await see('h1', web1)
    // Arriving: a process without a definition at the target.
    await see('h2', { ...web1, power: 'paused', reason: 'migrating', persistent: false })
    expect(await facts<VmFacts>(`vm/${web1.uuid}`)).toMatchObject({
      home: 'h1',
      activeOn: 'h1',
      power: 'running',
      elsewhere: { h2: 'active' }
    })
    await see('h2', { ...web1, power: 'running', reason: 'migrated' })
    expect(await facts<VmFacts>(`vm/${web1.uuid}`)).toMatchObject({ home: 'h1' })
    await recordVm(db, await beginSight(db), 'h1', web1.uuid, undefined)
    expect(await facts<VmFacts>(`vm/${web1.uuid}`)).toMatchObject({
      home: 'h2',
      activeOn: 'h2',
      reason: 'migrated',
      elsewhere: {}
    })
  })

  test('a second definition is shown and does not take the home', async () => {
    await knownHost(db, 'h1')
    await knownHost(db, 'h2')
    const web1 = seenVm({ name: 'web1' })
    await see('h2', web1)
    await see('h1', web1)
    expect(await facts<VmFacts>(`vm/${web1.uuid}`)).toMatchObject({ home: 'h2', elsewhere: { h1: 'defined' } })
  })

  test('sights of one VM on two hosts at once leave the home that both together say', async () => {
    await knownHost(db, 'h1')
    await knownHost(db, 'h2')
    for (let round = 0; round < 20; round++) {
      const vm = seenVm({ name: `vm${round}`, power: 'running' })
      await see('h1', vm)
      await Promise.all([
        beginSight(db).then((sight) => recordVm(db, sight, 'h1', vm.uuid, undefined)),
        see('h2', { ...vm, reason: 'migrated' })
      ])
      expect(await facts<VmFacts>(`vm/${vm.uuid}`)).toMatchObject({ home: 'h2', activeOn: 'h2' })
    }
  })

  test('a host to which an attempt was bound is unknown until it is looked at', async () => {
    await knownHost(db, 'h1')
    await knownHost(db, 'h2')
    const web1 = seenVm({ name: 'web1' })
    await see('h1', web1)
    const before = await beginSight(db)
    await bindWhereabouts(db, web1.uuid, 'h2')
    await recordVm(db, before, 'h2', web1.uuid, undefined)
    expect(await facts<VmFacts>(`vm/${web1.uuid}`)).toMatchObject({ elsewhere: { h2: 'unknown' } })
    // Deleted at home; it may still be on h2.
    await recordVm(db, await beginSight(db), 'h1', web1.uuid, undefined)
    expect(await facts<VmFacts>(`vm/${web1.uuid}`)).toMatchObject({ home: 'h1', power: 'off', reason: 'absent' })
    await recordVm(db, await beginSight(db), 'h2', web1.uuid, undefined)
    expect(await facts<VmFacts>(`vm/${web1.uuid}`)).toBeNull()
    expect(await whereabouts(db, web1.uuid)).toEqual([
      { host: 'h1', state: 'absent' },
      { host: 'h2', state: 'absent' }
    ])
  })

  test('whose a VM is, its mark and its metadata say', async () => {
    await knownHost(db, 'h1')
    const [row] = await db.query<{ instance: string }>('select instance::text from inventory.installation')
    const ours = seenVm({ name: 'a', mark: { instance: row?.instance ?? '', task: 1, generation: 1 } })
    const theirs = seenVm({ name: 'b', mark: { instance: 'another', task: 1, generation: 1 } })
    const managed = seenVm({ name: 'c', foreignMetadata: ['http://ovirt.org/vm/1.0'] })
    const plain = seenVm({ name: 'd', foreignMetadata: ['http://libosinfo.org/xmlns/libvirt/domain/1.0'] })
    const vms = [ours, theirs, managed, plain]
    await list('h1', { vms })
    const all = await loadFacts(
      db,
      vms.map((vm) => `vm/${vm.uuid}`)
    )
    expect([...all.values()].map((vm) => vm?.['owner'])).toEqual(['ours', 'foreign', 'foreign', 'plain'])
  })

  test('a forgotten host takes with it what was seen only there', async () => {
    await knownHost(db, 'h1')
    await knownHost(db, 'h2')
    const [here, both] = [seenVm({ name: 'here' }), seenVm({ name: 'both' })]
    await list('h1', { vms: [here, both], pools: [seenPool({ name: 'default' })] })
    await list('h2', { vms: [both] })
    await db.transaction((tx) => forgetHost(tx, 'h1'))
    expect(await facts(`vm/${here.uuid}`)).toBeNull()
    expect(await facts<VmFacts>(`vm/${both.uuid}`)).toMatchObject({ home: 'h2', elsewhere: {} })
    expect(await facts('host/h1')).toBeNull()
    expect(await facts('store/h1/default')).toBeNull()
  })
})

describe('storage', () => {
  test('a directory pool is a store of its host until it is declared shared', async () => {
    await knownHost(db, 'h1')
    await knownHost(db, 'h2')
    const pool = seenPool({ name: 'nfs1', target: '/srv/nfs1', volumes: [seenVolume('/srv/nfs1/base.qcow2')] })
    await list('h1', { pools: [pool] })
    await list('h2', { pools: [{ ...pool, name: 'shared' }] })
    expect(await facts<PoolFacts>('pool/h1/nfs1')).toMatchObject({ store: 'h1/nfs1', active: true })
    expect(await facts<StoreFacts>('store/h2/shared')).toMatchObject({ shared: false })

    await db.transaction((tx) =>
      shareStore(tx, 'nfs1', [
        { host: 'h1', pool: 'nfs1' },
        { host: 'h2', pool: 'shared' }
      ])
    )
    expect(await facts('store/h1/nfs1')).toBeNull()
    expect(await facts<StoreFacts>('store/nfs1')).toEqual({
      name: 'nfs1',
      shared: true,
      type: 'dir',
      thinPercent: 25,
      rawPercent: 100,
      pools: {
        h1: { pool: 'nfs1', target: '/srv/nfs1', active: true },
        h2: { pool: 'shared', target: '/srv/nfs1', active: true }
      }
    })
    await list('h1', { pools: [pool] })
    expect(await facts<PoolFacts>('pool/h1/nfs1')).toMatchObject({ store: 'nfs1' })
    await expect(db.transaction((tx) => shareStore(tx, 'other', [{ host: 'h1', pool: 'nfs1' }]))).rejects.toMatchObject(
      { code: 'store_conflict' }
    )
    await expect(db.transaction((tx) => shareStore(tx, 'nfs1', [{ host: 'h1', pool: 'none' }]))).rejects.toMatchObject({
      code: 'unknown_pool'
    })
  })

  test('pools with equal remote sources are one store, seen at once or one after another', async () => {
    const hosts = ['h1', 'h2', 'h3', 'h4']
    for (const host of hosts) await knownHost(db, host)
    const pool = seenPool({ name: 'vms', type: 'netfs', source: 'netfs://filer/export/vms', target: '/mnt/vms' })
    await Promise.all(hosts.map((host) => list(host, { pools: [pool] })))
    const store = await facts<StoreFacts>('store/vms')
    expect(store).toMatchObject({ shared: true })
    expect(Object.keys(store?.pools ?? {}).toSorted()).toEqual(hosts)
  })

  test('who uses a volume is found on every host and through backing chains', async () => {
    await knownHost(db, 'h1')
    await knownHost(db, 'h2')
    const volumes = [
      seenVolume('/srv/base.qcow2'),
      seenVolume('/srv/middle.qcow2', { backing: '/srv/base.qcow2' }),
      seenVolume('/srv/top.qcow2', { backing: '/srv/middle.qcow2' }),
      seenVolume('/srv/alone.qcow2')
    ]
    const pool = seenPool({ name: 's', target: '/srv', volumes })
    const onTop = seenVm({ name: 'onTop', power: 'running', disks: [seenDisk('/srv/top.qcow2')] })
    const onMiddle = seenVm({ name: 'onMiddle', disks: [seenDisk('s/middle.qcow2', { kind: 'volume' })] })
    await list('h1', { pools: [pool], vms: [onMiddle] })
    await list('h2', { pools: [pool], vms: [onTop] })
    await db.transaction((tx) =>
      shareStore(tx, 's', [
        { host: 'h1', pool: 's' },
        { host: 'h2', pool: 's' }
      ])
    )

    const used = async (name: string) => (await facts<VolumeFacts>(`volume/s/${name}`))?.usedBy
    expect(await used('base.qcow2')).toEqual([onTop.uuid, onMiddle.uuid].toSorted())
    expect(await used('middle.qcow2')).toEqual([onTop.uuid, onMiddle.uuid].toSorted())
    expect(await used('top.qcow2')).toEqual([onTop.uuid])
    expect(await used('alone.qcow2')).toEqual([])
    expect(await facts('volume/s/none')).toBeNull()
    expect((await facts<VmFacts>(`vm/${onTop.uuid}`))?.disks).toMatchObject([{ store: 's', volume: 'top.qcow2' }])
    expect((await facts<VmFacts>(`vm/${onMiddle.uuid}`))?.disks).toMatchObject([{ store: 's', volume: 'middle.qcow2' }])

    // The disk is taken away: nobody is left on top.
    await see('h2', { ...onTop, disks: [] })
    expect(await used('top.qcow2')).toEqual([])
  })

  test('a circle in backing chains ends', async () => {
    await knownHost(db, 'h1')
    const volumes = [seenVolume('/srv/a', { backing: '/srv/b' }), seenVolume('/srv/b', { backing: '/srv/a' })]
    await list('h1', { pools: [seenPool({ name: 's', target: '/srv', volumes })] })
    expect((await facts<VolumeFacts>('volume/h1/s/a'))?.usedBy).toEqual([])
  })

  test('a pool that was looked up and is gone takes its volumes along; an inactive one keeps them', async () => {
    await knownHost(db, 'h1')
    const pool = seenPool({ name: 's', target: '/srv', volumes: [seenVolume('/srv/a')] })
    await list('h1', { pools: [pool] })
    const record = async (seen: typeof pool | undefined) => {
      const sight = await beginSight(db)
      await db.transaction((tx) => recordPool(tx, sight, 'h1', 's', seen))
    }
    await record({ ...pool, active: false, volumes: [] })
    expect(await facts<PoolFacts>('pool/h1/s')).toMatchObject({ active: false })
    expect(await facts('volume/h1/s/a')).not.toBeNull()
    await record({ ...pool, volumes: [] })
    expect(await facts('volume/h1/s/a')).toBeNull()
    await record(undefined)
    expect(await facts('pool/h1/s')).toBeNull()
  })
})

test('the connection keeps since when it is as it is', async () => {
  await knownHost(db, 'h1')
  const read = () =>
    db.query<{ connection: string; connection_since: Date; connection_reason: string | null }>(
      'select connection, connection_since, connection_reason from inventory.host'
    )
  const watcher = await registerDispatcher(db, { name: 'watcher', leaseMs: 60_000 })
  await shareWatches(db, watcher.id)
  const say = async (connection: HostConnection, reason: string | null) =>
    expect(await setWatchedConnection(db, watcher.id, 'h1', { connection, reason })).toBe(true)
  await say('down', 'refused')
  const [first] = await read()
  await say('down', 'timeout')
  const [second] = await read()
  expect(second).toEqual({ ...first, connection_reason: 'timeout' })
  await say('up', null)
  const [third] = await read()
  expect(third?.connection).toBe('up')
  expect(third?.connection_since.getTime()).toBeGreaterThan(first?.connection_since.getTime() ?? Infinity)
})

test('facts of 10,000 VMs are loaded in one go', async () => {
  await knownHost(db, 'h1')
  const vms = Array.from({ length: 10_000 }, (_, index) =>
    seenVm({ name: `vm${index}`, disks: [seenDisk(`/pools/s/vm${index}`)] })
  )
  await list('h1', { vms, pools: [seenPool({ name: 's' })] })
  const subjects = vms.map((vm) => `vm/${vm.uuid}`)
  let queries = 0
  const counting = {
    query<R>(text: string, values?: readonly unknown[]): Promise<R[]> {
      queries++
      return db.query<R>(text, values)
    }
  }
  const all = await loadFacts(counting, subjects)
  expect(all.size).toBe(10_000)
  expect([...all.values()].every((value) => value?.['home'] === 'h1')).toBe(true)
  // The VMs, and the pools that their disks may be in.
  expect(queries).toBe(2)
})

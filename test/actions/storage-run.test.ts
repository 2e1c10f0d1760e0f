// Pools, volumes and stores on simulated hosts.
import { describe, expect, test } from 'vitest'
import { poolCreate } from '../../src/actions/pool-create.ts'
import { poolDelete } from '../../src/actions/pool-delete.ts'
import { poolRefresh } from '../../src/actions/pool-refresh.ts'
import { poolStart } from '../../src/actions/pool-start.ts'
import { poolStop } from '../../src/actions/pool-stop.ts'
import { storeShare } from '../../src/actions/store-share.ts'
import { vmCreate } from '../../src/actions/vm-create.ts'
import { vmStart } from '../../src/actions/vm-start.ts'
import { vmStop } from '../../src/actions/vm-stop.ts'
import { volumeCreate } from '../../src/actions/volume-create.ts'
import { volumeDelete } from '../../src/actions/volume-delete.ts'
import { volumeResize } from '../../src/actions/volume-resize.ts'
import { errorIn, withStage, type Stage } from './stage.ts'

const mebibyte = 1024 ** 2
const local = { host: 'h1', pool: 'fast', target: '/srv/fast' }
const files = (stage: Stage) => [...(stage.fleet.stores.get('nfs')?.files.keys() ?? [])].toSorted()

describe('pools', () => {
  test('are made, stopped, started, refreshed and deleted; twice is harmless; the data stays', () =>
    withStage({}, async (stage) => {
      for (const of of [poolCreate, poolStop, poolStart, poolRefresh]) {
        const task = stage.task(of, of === poolCreate ? local : { host: 'h1', pool: 'fast' })
        expect((await task.run()).outcome.outcome).toBe('complete')
        expect((await task.run()).outcome.outcome).toBe('complete')
        const active = of !== poolStop
        expect(stage.memory.facts('pool/h1/fast')).toMatchObject({
          active,
          autostart: true,
          store: 'h1/fast',
          target: '/srv/fast'
        })
      }
      await stage.done(volumeCreate, { store: 'h1/fast', name: 'a', sizeMiB: 1 })
      const remove = stage.task(poolDelete, { host: 'h1', pool: 'fast' })
      expect((await remove.run()).outcome.outcome).toBe('complete')
      expect((await remove.run()).outcome.outcome).toBe('complete')
      expect(stage.memory.facts('pool/h1/fast')).toBeNull()
      expect(await stage.done(poolCreate, local)).toMatchObject({ volumes: 1 })
    }))

  test('whose making lost a reply are made by the next attempt', () =>
    withStage({}, async (stage) => {
      for (const on of ['STORAGE_POOL_DEFINE_XML', 'STORAGE_POOL_BUILD', 'STORAGE_POOL_CREATE'] as const) {
        stage.fleet.host('h1').faults.add({ on, fault: { kind: 'drop_after' }, times: 1 })
        const create = stage.task(poolCreate, { host: 'h1', pool: `p-${on.at(-1)}`, target: `/srv/${on.at(-1)}` })
        const first = await create.run()
        expect(['complete', 'retry'], on).toContain(first.outcome.outcome)
        await stage.reachable('h1')
        expect((await create.run()).outcome.outcome, on).toBe('complete')
      }
    }))

  test('in use by a running VM, here or on another host, are not stopped; nor deleted while a VM is defined there', () =>
    withStage({}, async (stage) => {
      const { uuid } = await stage.done(vmCreate, {
        name: 'web1',
        memoryMiB: 64,
        host: 'h2',
        disks: [{ store: 'nfs1', sizeMiB: 1 }]
      })
      await stage.done(vmStart, { vm: uuid })
      for (const host of ['h1', 'h2']) {
        const error = errorIn(await stage.run(poolStop, { host, pool: 'nfs1' }))
        expect(error).toMatchObject({ code: 'pool_in_use', message: expect.stringContaining('"web1" on h2 (running)') })
      }
      expect((await stage.run(poolStop, { host: 'h1', pool: 'nfs1', onlyThisHost: true })).outcome.outcome).toBe(
        'complete'
      )
      await stage.done(poolStart, { host: 'h1', pool: 'nfs1' })
      await stage.done(vmStop, { vm: uuid })
      expect(errorIn(await stage.run(poolDelete, { host: 'h1', pool: 'nfs1' }))).toMatchObject({ code: 'pool_in_use' })
      expect((await stage.run(poolStop, { host: 'h2', pool: 'nfs1' })).outcome.outcome).toBe('complete')
    }))

  test('are not stopped while another host that has the store is silent', () =>
    withStage({}, async (stage) => {
      await stage.fleet.host('h2').server.stop()
      expect((await stage.run(poolStop, { host: 'h1', pool: 'nfs1' })).outcome).toMatchObject({
        outcome: 'park',
        key: 'host/h2'
      })
    }))

  test('under a name that another pool has are not touched', () =>
    withStage({}, async (stage) => {
      stage.memory.pools.delete('h1/nfs1')
      expect(errorIn(await stage.run(poolCreate, { host: 'h1', pool: 'nfs1', target: '/srv/other' }))).toMatchObject({
        code: 'pool_exists'
      })
    }))
})

describe('volumes', () => {
  test('are made, grown and deleted, and every host that has the store sees it', () =>
    withStage({}, async (stage) => {
      const create = stage.task(volumeCreate, { store: 'nfs1', name: 'a.qcow2', sizeMiB: 10 })
      expect((await create.run()).outcome).toMatchObject({
        outcome: 'complete',
        result: { path: '/shared/a.qcow2', capacityBytes: 10 * mebibyte }
      })
      // Whose it is could only the attempt tell that saw it with its marker.
      expect(await create.probe()).toMatchObject({ happened: 'unknown' })
      expect(errorIn(await create.run())).toMatchObject({ code: 'volume_exists' })
      expect(await stage.hosts.host('h2').volume('nfs1', 'a.qcow2')).toBeDefined()
      const grow = stage.task(volumeResize, { volume: 'nfs1/a.qcow2', sizeMiB: 20 })
      expect((await grow.run()).outcome).toMatchObject({ result: { capacityBytes: 20 * mebibyte } })
      expect((await grow.run()).outcome.outcome).toBe('complete')
      const remove = stage.task(volumeDelete, { volume: 'nfs1/a.qcow2' })
      expect((await remove.run()).outcome).toMatchObject({ result: { already: false } })
      expect((await remove.run()).outcome).toMatchObject({ result: { already: true } })
      expect(await stage.hosts.host('h2').volume('nfs1', 'a.qcow2')).toBeUndefined()
      expect(files(stage)).toEqual([])
    }))

  test('of another task or person are not taken for our own', () =>
    withStage({}, async (stage) => {
      stage.fleet.stores.get('nfs')?.create('/a.qcow2', { format: 'qcow2', capacityBytes: BigInt(10 * mebibyte) })
      expect(errorIn(await stage.run(volumeCreate, { store: 'nfs1', name: 'a.qcow2', sizeMiB: 10 }))).toMatchObject({
        code: 'volume_exists'
      })
    }))

  test('that another volume lies over are neither deleted nor grown', () =>
    withStage({}, async (stage) => {
      const store = stage.fleet.stores.get('nfs')
      store?.create('/base.qcow2', { format: 'qcow2', capacityBytes: BigInt(mebibyte) })
      store?.create('/over.qcow2', {
        format: 'qcow2',
        capacityBytes: BigInt(mebibyte),
        backing: { path: '/shared/base.qcow2', format: 'qcow2' }
      })
      await stage.done(poolRefresh, { host: 'h1', pool: 'nfs1' })
      for (const [of, more] of [
        [volumeDelete, {}],
        [volumeResize, { sizeMiB: 9 }]
      ] as const) {
        const error = errorIn(await stage.run(of, { volume: 'nfs1/base.qcow2', ...more }))
        expect(error).toMatchObject({ code: 'volume_in_use', message: expect.stringContaining('"over.qcow2"') })
      }
    }))

  test('whose deletion lost its reply are told by a look', () =>
    withStage({}, async (stage) => {
      await stage.done(volumeCreate, { store: 'nfs1', name: 'a.qcow2', sizeMiB: 10 })
      stage.fleet.host('h1').faults.add({ on: 'STORAGE_VOL_DELETE', fault: { kind: 'drop_after' }, times: 1 })
      expect((await stage.run(volumeDelete, { volume: 'nfs1/a.qcow2' })).outcome.outcome).toBe('complete')
    }))

  test('are not deleted while a host that has the store does not say whether it uses them', () =>
    withStage({}, async (stage) => {
      await stage.done(volumeCreate, { store: 'nfs1', name: 'a.qcow2', sizeMiB: 10 })
      await stage.fleet.host('h2').server.stop()
      const remove = stage.task(volumeDelete, { volume: 'nfs1/a.qcow2' })
      expect((await remove.run()).outcome).toMatchObject({
        outcome: 'park',
        key: 'host/h2',
        reason: expect.stringMatching(/^cannot tell whether volume "nfs1\/a.qcow2" is in use: h2/)
      })
      await stage.fleet.host('h2').server.start()
      await stage.reachable('h2')
      expect((await remove.run()).outcome.outcome).toBe('complete')
    }))
})

describe('store.share', () => {
  const pools = ['h1', 'h2'].map((host) => ({ host, pool: 'both' }))

  test('takes pools on one directory for one store, and leaves no marker', () =>
    withStage(
      {
        sharedStores: [
          { name: 'nfs', path: '/shared' },
          { name: 'two', path: '/two' }
        ]
      },
      async (stage) => {
        for (const { host, pool } of pools) await stage.done(poolCreate, { host, pool, target: '/two' })
        const share = stage.task(storeShare, { store: 'both', pools })
        expect((await share.run()).outcome).toMatchObject({ outcome: 'complete', result: { store: 'both' } })
        expect((await share.run()).outcome.outcome).toBe('complete')
        expect(stage.memory.facts('store/both')).toMatchObject({
          shared: true,
          pools: { h1: { pool: 'both' }, h2: { pool: 'both' } }
        })
        expect([...(stage.fleet.stores.get('two')?.files.keys() ?? [])]).toEqual([])
      }
    ))

  test('tells directories with equal paths on different disks apart', () =>
    withStage({}, async (stage) => {
      for (const { host, pool } of pools) await stage.done(poolCreate, { host, pool, target: '/srv/both' })
      const error = errorIn(await stage.run(storeShare, { store: 'both', pools }))
      expect(error).toMatchObject({ code: 'not_one_store', message: expect.stringContaining('pool "both" on h2') })
      expect(stage.memory.facts('store/both')).toBeNull()
      expect(await stage.hosts.host('h1').pool('both')).toMatchObject({ volumes: [] })
    }))

  test('proves a new pool against the store itself', () =>
    withStage({ hosts: 3 }, async (stage) => {
      stage.memory.shares.delete('h3/nfs1')
      const third = { host: 'h3', pool: 'nfs1' }
      const others = errorIn(
        await stage.run(storeShare, { store: 'nfs1', pools: [third, { host: 'h2', pool: 'none' }] })
      )
      expect(others).toMatchObject({ code: 'pool_not_found' })
      expect(
        (await stage.run(storeShare, { store: 'nfs1', pools: [third, { host: 'h1', pool: 'nfs1' }] })).outcome.outcome
      ).toBe('complete')
      expect(Object.keys((stage.memory.facts('store/nfs1') as { pools: object }).pools)).toEqual(['h1', 'h2', 'h3'])
    }))
})

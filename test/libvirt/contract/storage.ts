// The contract: pools and volumes, their states, refusals and events.

import { expect, test } from 'vitest'
import { ErrorCode, StoragePoolEventLifecycleType, StoragePoolState } from '../../../src/libvirt/constants.gen.ts'
import type { StoragePool, StorageVolume } from '../../../src/libvirt/wire.gen.ts'
import type { Bench } from '../contract.ts'
import { freshName, withPool } from './scratch.ts'

export function storageContract(bench: Bench): void {
  const call: Bench['connection']['call'] = (...args) => bench.connection.call(...args)
  const poolXml = (name: string): string =>
    `<pool type='dir'><name>${name}</name><target><path>${bench.folder}/${name}</path></target></pool>`
  const createVolume = async (pool: StoragePool, name: string, bytes = 1_048_576): Promise<StorageVolume> => {
    const xml = `<volume><name>${name}</name><capacity unit='bytes'>${bytes}</capacity><target><format type='raw'/></target></volume>`
    return (await call('STORAGE_VOL_CREATE_XML', { pool, xml, flags: 0 })).vol
  }

  test('a pool is defined, built, started, stopped and undefined, and says what it is in between', async () => {
    const name = freshName()
    const { pool } = await call('STORAGE_POOL_DEFINE_XML', { xml: poolXml(name), flags: 0 })
    expect(await call('STORAGE_POOL_IS_ACTIVE', { pool })).toEqual({ active: 0 })
    expect(await call('STORAGE_POOL_LOOKUP_BY_UUID', { uuid: pool.uuid })).toEqual({ pool })
    await call('STORAGE_POOL_BUILD', { pool, flags: 0 })
    await call('STORAGE_POOL_CREATE', { pool, flags: 0 })
    const info = await call('STORAGE_POOL_GET_INFO', { pool })
    expect(info.state).toBe(StoragePoolState.RUNNING)
    expect(info.capacity).toBeGreaterThanOrEqual(info.available)
    expect((await call('STORAGE_POOL_GET_XML_DESC', { pool, flags: 0 })).xml).toContain(
      `<path>${bench.folder}/${name}</path>`
    )
    const { pools } = await call('CONNECT_LIST_ALL_STORAGE_POOLS', { need_results: 1, flags: 0 })
    expect(pools).toContainEqual(pool)
    await call('STORAGE_POOL_REFRESH', { pool, flags: 0 })
    await call('STORAGE_POOL_DESTROY', { pool })
    await call('STORAGE_POOL_UNDEFINE', { pool })
    await expect(call('STORAGE_POOL_LOOKUP_BY_NAME', { name })).rejects.toMatchObject({
      code: ErrorCode.NO_STORAGE_POOL
    })
  })

  test('a pool’s name is taken once, and what does not fit its state is refused', () =>
    withPool(bench, async (pool) => {
      const invalid = { code: ErrorCode.OPERATION_INVALID }
      await expect(call('STORAGE_POOL_DEFINE_XML', { xml: poolXml(pool.name), flags: 0 })).rejects.toMatchObject({
        code: ErrorCode.OPERATION_FAILED
      })
      await expect(call('STORAGE_POOL_CREATE', { pool, flags: 0 })).rejects.toMatchObject(invalid)
      await expect(call('STORAGE_POOL_UNDEFINE', { pool })).rejects.toMatchObject(invalid)
      await call('STORAGE_POOL_DESTROY', { pool })
      await expect(call('STORAGE_POOL_DESTROY', { pool })).rejects.toMatchObject(invalid)
      await expect(call('STORAGE_VOL_LOOKUP_BY_NAME', { pool, name: 'v' })).rejects.toMatchObject(invalid)
    }))

  test('autostart of a pool is set and told', () =>
    withPool(bench, async (pool) => {
      await call('STORAGE_POOL_SET_AUTOSTART', { pool, autostart: 1 })
      expect(await call('STORAGE_POOL_GET_AUTOSTART', { pool })).toEqual({ autostart: 1 })
      await call('STORAGE_POOL_SET_AUTOSTART', { pool, autostart: 0 })
    }))

  test('a volume is created, found, told and deleted', () =>
    withPool(bench, async (pool, path) => {
      const vol = await createVolume(pool, 'a.raw')
      expect(vol).toEqual({ pool: pool.name, name: 'a.raw', key: `${path}/a.raw` })
      expect(await call('STORAGE_VOL_LOOKUP_BY_NAME', { pool, name: 'a.raw' })).toEqual({ vol })
      expect(await call('STORAGE_VOL_LOOKUP_BY_PATH', { path: `${path}/a.raw` })).toEqual({ vol })
      expect(await call('STORAGE_POOL_LOOKUP_BY_VOLUME', { vol })).toEqual({ pool })
      expect(await call('STORAGE_VOL_GET_PATH', { vol })).toEqual({ name: `${path}/a.raw` })
      expect(await call('STORAGE_VOL_GET_INFO', { vol })).toMatchObject({ type: 0, capacity: 1_048_576n })
      expect((await call('STORAGE_VOL_GET_XML_DESC', { vol, flags: 0 })).xml).toContain('<name>a.raw</name>')
      const listed = await call('STORAGE_POOL_LIST_ALL_VOLUMES', { pool, need_results: 1, flags: 0 })
      expect(listed).toEqual({ vols: [vol], ret: 1 })
      await call('STORAGE_VOL_DELETE', { vol, flags: 0 })
      const gone = { code: ErrorCode.NO_STORAGE_VOL }
      await expect(call('STORAGE_VOL_LOOKUP_BY_NAME', { pool, name: 'a.raw' })).rejects.toMatchObject(gone)
      await expect(call('STORAGE_VOL_DELETE', { vol, flags: 0 })).rejects.toMatchObject(gone)
    }))

  test('a volume’s name is taken once', () =>
    withPool(bench, async (pool) => {
      await createVolume(pool, 'b.raw')
      // libvirt's test driver knows no better than OPERATION_FAILED.
      const code = bench.capabilities.qemu ? ErrorCode.STORAGE_VOL_EXIST : ErrorCode.OPERATION_FAILED
      await expect(createVolume(pool, 'b.raw')).rejects.toMatchObject({ code })
    }))

  test('a volume is copied', () =>
    withPool(bench, async (pool) => {
      const clonevol = await createVolume(pool, 'c.raw')
      const xml = `<volume><name>d.raw</name><capacity unit='bytes'>1048576</capacity></volume>`
      const { vol } = await call('STORAGE_VOL_CREATE_XML_FROM', { pool, xml, clonevol, flags: 0 })
      expect(await call('STORAGE_VOL_GET_INFO', { vol })).toMatchObject({ capacity: 1_048_576n })
    }))

  // The test driver can neither resize volumes nor stream them.
  if (bench.capabilities.streams) {
    test('a volume grows', () =>
      withPool(bench, async (pool) => {
        const vol = await createVolume(pool, 'e.raw')
        await call('STORAGE_VOL_RESIZE', { vol, capacity: 2_097_152n, flags: 0 })
        expect(await call('STORAGE_VOL_GET_INFO', { vol })).toMatchObject({ capacity: 2_097_152n })
      }))
  }

  test('the events of a pool’s life come in order', async () => {
    const watcher = await bench.target.connect()
    const seen: string[] = []
    let wake = (): void => {}
    const names = new Map(Object.entries(StoragePoolEventLifecycleType).map(([name, value]) => [value as number, name]))
    const note = (what: string): void => {
      seen.push(what)
      wake()
    }
    let own = ''
    await watcher.on('STORAGE_POOL_EVENT_LIFECYCLE', ({ pool, event }) => {
      own ||= pool.uuid
      if (pool.uuid === own) note(names.get(event) ?? String(event))
    })
    await watcher.on('STORAGE_POOL_EVENT_REFRESH', ({ pool }) => pool.uuid === own && note('REFRESH'))
    await withPool(bench, async (pool) => {
      await call('STORAGE_POOL_REFRESH', { pool, flags: 0 })
    })
    while (seen.at(-1) !== 'UNDEFINED') await new Promise<void>((resolve) => (wake = resolve))
    // DELETED is told by some drivers only.
    expect(seen.filter((name) => name !== 'DELETED')).toEqual([
      'DEFINED',
      'CREATED',
      'STARTED',
      'REFRESH',
      'STOPPED',
      'UNDEFINED'
    ])
    await watcher.close()
  })
}

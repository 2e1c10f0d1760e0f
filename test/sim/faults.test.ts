// What goes wrong on purpose on a simulated host, and what its journal says of it.

import { describe, expect, test } from 'vitest'
import { connect } from '../../src/libvirt/connect.ts'
import { seeded } from '../../src/sim/faults.ts'
import { define, diskXml, domainXml, sharedDisk, withConnection, withFleet } from './support.ts'

const hostname = { on: 'CONNECT_GET_HOSTNAME' } as const

describe('faults of a simulated host', () => {
  test('an error is the error that was set, and has no effect', () =>
    withFleet({ hosts: 1 }, (fleet) =>
      withConnection(fleet.host('h1'), async (connection) => {
        const dom = await define(connection, domainXml('a'))
        const fault = { kind: 'error', code: 'INTERNAL_ERROR', domain: 'QEMU', message: 'no luck' } as const
        fleet.host('h1').faults.add({ on: 'DOMAIN_CREATE', fault, times: 1 })
        await expect(connection.call('DOMAIN_CREATE', { dom })).rejects.toMatchObject({
          codeName: 'INTERNAL_ERROR',
          message: /no luck/
        })
        expect(fleet.journal.entries({ kind: 'started' })).toEqual([])
        await connection.call('DOMAIN_CREATE', { dom })
        expect(fleet.journal.entries({ kind: 'started' })).toHaveLength(1)
      })
    ))

  test.each([
    ['drop_before', 0],
    ['drop_after', 1]
  ] as const)('a connection that is cut (%s) leaves an unknown outcome and %i effects', (kind, effects) =>
    withFleet({ hosts: 1 }, async (fleet) => {
      const h1 = fleet.host('h1')
      const connection = await connect(h1.uri)
      const dom = await define(connection, domainXml('a'))
      h1.faults.add({ on: 'DOMAIN_CREATE', fault: { kind }, times: 1 })
      await expect(connection.call('DOMAIN_CREATE', { dom })).rejects.toMatchObject({ code: 'unknown_outcome' })
      expect(fleet.journal.entries({ kind: 'started' })).toHaveLength(effects)
      connection.destroy()
    })
  )

  test('a call that hangs holds only itself up, and five of them stop the connection but not the host', () =>
    withFleet({ hosts: 1 }, async (fleet) => {
      const h1 = fleet.host('h1')
      const stuck = await connect(h1.uri, { window: 8 })
      const dom = await define(stuck, domainXml('a'))
      const pending = [1, 2, 3, 4].map(() => {
        h1.faults.add({ on: 'DOMAIN_GET_INFO', fault: { kind: 'hang' }, times: 1 })
        return stuck.call('DOMAIN_GET_INFO', { dom }).catch(() => 'ended')
      })
      await stuck.call('CONNECT_GET_HOSTNAME', {})
      h1.faults.add({ on: 'DOMAIN_GET_INFO', fault: { kind: 'hang' }, times: 1 })
      pending.push(stuck.call('DOMAIN_GET_INFO', { dom }).catch(() => 'ended'))
      const sixth = stuck.call('CONNECT_GET_HOSTNAME', {}).catch(() => 'ended')
      await withConnection(h1, (other) => other.call('CONNECT_GET_HOSTNAME', {}))
      stuck.destroy()
      expect(await sixth).toBe('ended')
      expect(await Promise.all(pending)).toEqual(pending.map(() => 'ended'))
    }))

  test('lost events reach nobody, later ones do', () =>
    withFleet({ hosts: 1 }, (fleet) =>
      withConnection(fleet.host('h1'), async (connection) => {
        const seen: string[] = []
        const second = Promise.withResolvers<void>()
        await connection.on('DOMAIN_EVENT_CALLBACK_LIFECYCLE', ({ dom }) => {
          seen.push(dom.name)
          second.resolve()
        })
        fleet.host('h1').faults.loseEvents(1)
        await define(connection, domainXml('lost'))
        await define(connection, domainXml('seen'))
        await second.promise
        expect(seen).toEqual(['seen'])
      })
    ))

  test('chances follow from the seed', async () => {
    const answers = async (seed: number): Promise<boolean[]> => {
      const got: boolean[] = []
      await withFleet({ hosts: 1, seed }, async (fleet) => {
        const fault = { kind: 'error', code: 'RPC', domain: 'RPC', message: 'by chance' } as const
        fleet.host('h1').faults.add({ ...hostname, fault, chance: 0.5 })
        await withConnection(fleet.host('h1'), async (connection) => {
          for (let i = 0; i < 40; i++)
            got.push(
              await connection.call('CONNECT_GET_HOSTNAME', {}).then(
                () => true,
                () => false
              )
            )
        })
      })
      return got
    }
    const first = await answers(7)
    expect(await answers(7)).toEqual(first)
    expect(await answers(8)).not.toEqual(first)
    expect(new Set(first).size).toBe(2)
    expect(seeded(1)()).toBe(seeded(1)())
  })

  test('power that is cut takes the guests and transient domains, and leaves definitions, files and the boot time tells', () =>
    withFleet({ hosts: 1 }, async (fleet) => {
      const h1 = fleet.host('h1')
      const before = h1.bootedAt
      const connection = await connect(h1.uri)
      const [kept, auto] = [await define(connection, domainXml('kept')), await define(connection, domainXml('auto'))]
      await connection.call('DOMAIN_SET_AUTOSTART', { dom: auto, autostart: 1 })
      await connection.call('DOMAIN_CREATE', { dom: kept })
      await connection.call('DOMAIN_CREATE_XML', { xml_desc: domainXml('transient'), flags: 0 })
      const closed = connection.closed
      await fleet.powerOff('h1')
      await closed
      await expect(connect(h1.uri)).rejects.toMatchObject({ code: 'unreachable' })
      await fleet.boot('h1')
      await withConnection(h1, async (again) => {
        const { domains } = await again.call('CONNECT_LIST_ALL_DOMAINS', { need_results: 1, flags: 1 })
        expect(domains.map(({ name }) => name)).toEqual(['auto'])
        const all = await again.call('CONNECT_LIST_ALL_DOMAINS', { need_results: 1, flags: 0 })
        expect(all.domains.map(({ name }) => name)).toEqual(['kept', 'auto'])
      })
      expect(h1.bootedAt).toBeGreaterThanOrEqual(before)
    }))

  test('power that goes silently tells nobody: only keepalive finds out', () =>
    withFleet({ hosts: 1 }, async (fleet) => {
      const connection = await connect(fleet.host('h1').uri, { keepalive: { intervalMs: 20, count: 2 } })
      const started = Date.now()
      await fleet.powerOff('h1', { silent: true })
      const call = connection.call('CONNECT_GET_HOSTNAME', {})
      await expect(call).rejects.toMatchObject({ code: 'unknown_outcome' })
      expect(Date.now() - started).toBeGreaterThanOrEqual(35)
    }))

  test('a daemon that restarts drops its clients and keeps the guests', () =>
    withFleet({ hosts: 1 }, async (fleet) => {
      const h1 = fleet.host('h1')
      const connection = await connect(h1.uri)
      const dom = await define(connection, domainXml('a'))
      await connection.call('DOMAIN_CREATE', { dom })
      const closed = connection.closed
      await fleet.restartDaemon('h1')
      await closed
      await withConnection(h1, async (again) =>
        expect(await again.call('DOMAIN_IS_ACTIVE', { dom })).toEqual({ active: 1 })
      )
    }))

  test('a start beyond the host’s memory succeeds, as with QEMU, and the journal marks it', () =>
    withFleet({ hosts: 1, memoryMiB: 100 }, (fleet) =>
      withConnection(fleet.host('h1'), async (connection) => {
        for (const name of ['a', 'b'])
          await connection.call('DOMAIN_CREATE', { dom: await define(connection, domainXml(name)) })
        expect(fleet.journal.entries({ kind: 'started' }).map(({ overCommitted }) => overCommitted ?? false)).toEqual([
          false,
          true
        ])
        expect(fleet.journal.overCommitted).toBe(1)
      })
    ))

  test('a second guest on a disk is refused on a file, and marked as a second writer on a block device', async () => {
    for (const kind of ['file', 'block'] as const)
      await withFleet({ sharedStores: [{ name: 'nfs', path: '/shared', kind }] }, async (fleet) => {
        const devices = diskXml(sharedDisk(fleet, 'disk'), kind)
        const start = (host: string): Promise<unknown> =>
          withConnection(fleet.host(host), async (connection) =>
            connection.call('DOMAIN_CREATE', { dom: await define(connection, domainXml(host, { devices })) })
          )
        await start('h1')
        if (kind === 'file') await expect(start('h2')).rejects.toThrow('Failed to get "write" lock')
        else await start('h2')
        expect(fleet.journal.twoWriters).toBe(kind === 'file' ? 0 : 1)
      })
  })

  test('a copy that is cut off leaves a volume of full size, as on a real host', () =>
    withFleet({ hosts: 1 }, async (fleet) => {
      const h1 = fleet.host('h1')
      const connection = await connect(h1.uri)
      const xml = "<pool type='dir'><name>p</name><target><path>/p</path></target></pool>"
      const { pool } = await connection.call('STORAGE_POOL_DEFINE_XML', { xml, flags: 0 })
      await connection.call('STORAGE_POOL_CREATE', { pool, flags: 1 })
      const volume = (name: string): string => `<volume><name>${name}</name><capacity>4096</capacity></volume>`
      const { vol: clonevol } = await connection.call('STORAGE_VOL_CREATE_XML', { pool, xml: volume('a'), flags: 0 })
      h1.faults.add({ on: 'STORAGE_VOL_CREATE_XML_FROM', fault: { kind: 'half_copy' }, times: 1 })
      const copied = connection.call('STORAGE_VOL_CREATE_XML_FROM', { pool, xml: volume('b'), clonevol, flags: 0 })
      await expect(copied).rejects.toMatchObject({ code: 'unknown_outcome' })
      await withConnection(h1, async (again) => {
        const { vol } = await again.call('STORAGE_VOL_LOOKUP_BY_NAME', { pool, name: 'b' })
        expect(await again.call('STORAGE_VOL_GET_INFO', { vol })).toMatchObject({ capacity: 4096n })
      })
      expect(h1.file('/p/b')?.partial).toBe(true)
    }))
})

// Snapshots, devices and what a definition may hold, through our own client.

import { describe, expect, test } from 'vitest'
import {
  BlockJobStatus,
  DomainPausedReason,
  DomainShutoffReason,
  DomainState,
  DomainBlockCopyFlags,
  DomainBlockJobAbortFlags,
  DomainSnapshotCreateFlags,
  DomainSnapshotDeleteFlags,
  DomainUndefineFlags
} from '../../src/libvirt/constants.gen.ts'
import { guestCrash, guestOff, ioError } from '../../src/sim/lifecycle.ts'
import { define, diskXml, domainXml, migrate, withConnection, withFleet } from './support.ts'

const qcow2 = (path: string): string => diskXml(path).replace("type='raw'", "type='qcow2'")

describe('changes of a simulated guest', () => {
  test('snapshots are carried over a migration: dumped, forgotten, made again at the target', () =>
    withFleet({}, async (fleet) => {
      const [h1, h2] = [fleet.host('h1'), fleet.host('h2')]
      fleet.stores.get('nfs')!.create('/s.qcow2', { format: 'qcow2', capacityBytes: 1n })
      await withConnection(h1, async (connection) => {
        const dom = await define(connection, domainXml('s', { devices: qcow2('/shared/s.qcow2') }))
        await connection.call('DOMAIN_CREATE', { dom })
        for (const name of ['one', 'two'])
          await connection.call('DOMAIN_SNAPSHOT_CREATE_XML', {
            dom,
            xml_desc: `<domainsnapshot><name>${name}</name></domainsnapshot>`,
            flags: 0
          })
        await expect(migrate(connection, dom, h2)).rejects.toThrow('cannot migrate domain with 2 snapshots')
        const { snapshots } = await connection.call('DOMAIN_LIST_ALL_SNAPSHOTS', { dom, need_results: 1, flags: 0 })
        const dumped: string[] = []
        for (const snap of snapshots)
          dumped.push((await connection.call('DOMAIN_SNAPSHOT_GET_XML_DESC', { snap, flags: 1 })).xml)
        for (const snap of snapshots)
          await connection.call('DOMAIN_SNAPSHOT_DELETE', { snap, flags: DomainSnapshotDeleteFlags.METADATA_ONLY })
        await migrate(connection, dom, h2)
        await withConnection(h2, async (other) => {
          const { REDEFINE, CURRENT } = DomainSnapshotCreateFlags
          const redefine = (xml_desc: string, flags: number): Promise<unknown> =>
            other.call('DOMAIN_SNAPSHOT_CREATE_XML', { dom, xml_desc, flags: REDEFINE | flags })
          await expect(redefine(dumped[1]!, 0)).rejects.toThrow('parent one for moment two not found')
          await redefine(dumped[0]!, 0)
          await redefine(dumped[1]!, CURRENT)
          const { snap } = await other.call('DOMAIN_SNAPSHOT_CURRENT', { dom, flags: 0 })
          expect(snap.name).toBe('two')
          expect((await other.call('DOMAIN_SNAPSHOT_GET_PARENT', { snap, flags: 0 })).snap.name).toBe('one')
        })
      })
    }))

  test('a snapshot of disks only puts an overlay over each, which the guest uses from then on', () =>
    withFleet({ hosts: 1 }, async (fleet) => {
      const h1 = fleet.host('h1')
      h1.localStore.create('/d.qcow2', { format: 'qcow2', capacityBytes: 5n })
      await withConnection(h1, async (connection) => {
        const dom = await define(connection, domainXml('o', { devices: qcow2('/d.qcow2') }))
        await connection.call('DOMAIN_CREATE', { dom })
        const flags = DomainSnapshotCreateFlags.DISK_ONLY
        await connection.call('DOMAIN_SNAPSHOT_CREATE_XML', {
          dom,
          xml_desc: '<domainsnapshot><name>x</name></domainsnapshot>',
          flags
        })
        expect((await connection.call('DOMAIN_GET_XML_DESC', { dom, flags: 0 })).xml).toContain("file='/d.x'")
        expect(h1.file('/d.x')).toMatchObject({ capacityBytes: 5n, backing: { path: '/d.qcow2', format: 'qcow2' } })
      })
    }))

  test('a device that the guest does not give up is still there after a successful detach, until a reset', () =>
    withFleet({ hosts: 1 }, async (fleet) => {
      const h1 = fleet.host('h1')
      for (const path of ['/a', '/b']) h1.localStore.create(path, { format: 'raw', capacityBytes: 1n })
      await withConnection(h1, async (connection) => {
        const dom = await define(connection, domainXml('d', { devices: diskXml('/a') }))
        await connection.call('DOMAIN_CREATE', { dom })
        const removed = Promise.withResolvers<string>()
        await connection.on('DOMAIN_EVENT_CALLBACK_DEVICE_REMOVED', ({ devAlias }) => removed.resolve(devAlias))
        const xml = diskXml('/b').replace('vda', 'vdb')
        const targets = async (): Promise<string[]> =>
          [...(await connection.call('DOMAIN_GET_XML_DESC', { dom, flags: 0 })).xml.matchAll(/dev='(vd.)'/g)].map(
            ([, dev]) => dev!
          )
        await connection.call('DOMAIN_ATTACH_DEVICE_FLAGS', { dom, xml, flags: 1 })
        expect(await targets()).toEqual(['vda', 'vdb'])
        h1.domainByName('d')!.guest.releasesDevices = false
        await connection.call('DOMAIN_DETACH_DEVICE_FLAGS', { dom, xml, flags: 1 })
        expect(await targets()).toEqual(['vda', 'vdb'])
        await connection.call('DOMAIN_RESET', { dom, flags: 0 })
        expect(await removed.promise).toBe('virtio-disk1')
        expect(await targets()).toEqual(['vda'])
      })
    }))

  test('a disk moves while the guest runs: copied, ready, and used from the pivot on', () =>
    withFleet({ hosts: 1, copyMsPerGiB: 50 }, async (fleet) => {
      const h1 = fleet.host('h1')
      h1.localStore.create('/from', { format: 'raw', capacityBytes: 20n * 1024n ** 3n })
      await withConnection(h1, async (connection) => {
        const dom = await define(connection, domainXml('m', { devices: diskXml('/from') }))
        await connection.call('DOMAIN_CREATE', { dom })
        const ready = Promise.withResolvers<void>()
        await connection.on(
          'DOMAIN_EVENT_BLOCK_JOB_2',
          ({ status }) => status === BlockJobStatus.READY && ready.resolve()
        )
        const copy = (flags: number): Promise<unknown> =>
          connection.call('DOMAIN_BLOCK_COPY', { dom, path: 'vda', destxml: diskXml('/to'), params: [], flags })
        await expect(copy(0)).rejects.toThrow('domain is not transient')
        await copy(DomainBlockCopyFlags.TRANSIENT_JOB)
        const pivot = { dom, path: 'vda', flags: DomainBlockJobAbortFlags.PIVOT }
        await expect(connection.call('DOMAIN_BLOCK_JOB_ABORT', pivot)).rejects.toThrow('not ready for pivot yet')
        expect(h1.file('/to')?.partial).toBe(true)
        await ready.promise
        await connection.call('DOMAIN_BLOCK_JOB_ABORT', pivot)
        expect(h1.file('/to')?.partial).toBe(false)
        expect((await connection.call('DOMAIN_GET_XML_DESC', { dom, flags: 2 })).xml).toContain("file='/to'")
        expect(h1.localStore.lockedBy('/from', { host: '', uuid: '', name: '' })).toBeUndefined()
      })
    }))

  test('a guest that ends by itself, dies, or loses its disk says so by its state and reason', () =>
    withFleet({ hosts: 1 }, async (fleet) => {
      const h1 = fleet.host('h1')
      h1.localStore.create('/disk', { format: 'raw', capacityBytes: 1n })
      await withConnection(h1, async (connection) => {
        const dom = await define(connection, domainXml('g', { devices: diskXml('/disk') }))
        const domain = h1.domainByName('g')!
        const after = async (happen: () => void) => {
          if (!domain.active) await connection.call('DOMAIN_CREATE', { dom })
          happen()
          return connection.call('DOMAIN_GET_STATE', { dom, flags: 0 })
        }
        const { SHUTOFF, PAUSED } = DomainState
        expect(await after(() => guestOff(h1, domain))).toEqual({
          state: SHUTOFF,
          reason: DomainShutoffReason.SHUTDOWN
        })
        expect(await after(() => guestCrash(h1, domain))).toEqual({
          state: SHUTOFF,
          reason: DomainShutoffReason.CRASHED
        })
        expect(await after(() => ioError(h1, domain, 'vda'))).toEqual({
          state: PAUSED,
          reason: DomainPausedReason.IOERROR
        })
      })
    }))

  test('secrets are shown only when asked for', () =>
    withFleet({ hosts: 1 }, (fleet) =>
      withConnection(fleet.host('h1'), async (connection) => {
        const dom = await define(connection, domainXml('v', { devices: "<graphics type='vnc' passwd='sesame'/>" }))
        expect((await connection.call('DOMAIN_GET_XML_DESC', { dom, flags: 0 })).xml).not.toContain('sesame')
        expect((await connection.call('DOMAIN_GET_XML_DESC', { dom, flags: 1 })).xml).toContain("passwd='sesame'")
      })
    ))

  test('variables of firmware keep a definition from being removed unasked', () =>
    withFleet({ hosts: 1 }, (fleet) =>
      withConnection(fleet.host('h1'), async (connection) => {
        const xml = domainXml('n').replace('</os>', '<nvram>/n.fd</nvram></os>')
        const dom = await define(connection, xml)
        await expect(connection.call('DOMAIN_UNDEFINE', { dom })).rejects.toThrow('cannot undefine domain with nvram')
        await connection.call('DOMAIN_UNDEFINE_FLAGS', { dom, flags: DomainUndefineFlags.KEEP_NVRAM })
      })
    ))

  test.each([
    ['a DOCTYPE', '<!DOCTYPE domain [<!ENTITY a "b">]><domain type="qemu"/>', 'DOCTYPE'],
    ['what is not well-formed', '<domain type="qemu"><name>a</domain>', '(document)'],
    ['another root', '<network/>', 'expecting <domain>'],
    ['a name with a slash', domainXml('a/b'), "cannot contain '/'"],
    ['no memory', "<domain type='qemu'><name>a</name><os><type>hvm</type></os></domain>", 'missing memory element'],
    ['two disks at one target', domainXml('a', { devices: diskXml('/a') + diskXml('/b') }), "target 'vda' duplicated"]
  ])('%s is refused', (_, xml, why) =>
    withFleet({ hosts: 1 }, (fleet) =>
      withConnection(fleet.host('h1'), async (connection) => {
        await expect(define(connection, xml)).rejects.toThrow(why)
        expect(fleet.host('h1').domains.size).toBe(0)
      })
    )
  )

  test('an unknown element is refused when validation is asked for', () =>
    withFleet({ hosts: 1 }, (fleet) =>
      withConnection(fleet.host('h1'), async (connection) => {
        const xml = domainXml('a', { head: '<memroy>1</memroy>' })
        await expect(connection.call('DOMAIN_DEFINE_XML_FLAGS', { xml, flags: 1 })).rejects.toMatchObject({
          codeName: 'XML_INVALID_SCHEMA'
        })
        await connection.call('DOMAIN_DEFINE_XML_FLAGS', { xml, flags: 0 })
      })
    ))
})

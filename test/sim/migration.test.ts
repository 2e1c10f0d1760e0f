// What migration between simulated hosts does when it goes well, is aborted, never ends, or loses the other side.

import { describe, expect, test } from 'vitest'
import {
  DomainMigrateFlags,
  DomainPausedReason,
  DomainRunningReason,
  DomainState
} from '../../src/libvirt/constants.gen.ts'
import type { OpenConnection } from '../../src/libvirt/connect.ts'
import type { Domain } from '../../src/libvirt/wire.gen.ts'
import type { FleetHost, SimFleet } from '../../src/sim/fleet.ts'
import type { SimFleetOptions } from '../../src/sim/fleet.ts'
import { define, diskXml, domainXml, migrate, sharedDisk, withConnection, withFleet } from './support.ts'

type Scene = { fleet: SimFleet; h1: FleetHost; h2: FleetHost; connection: OpenConnection; dom: Domain }

/** A guest with a shared disk runs on h1. */
function withGuest(
  options: Partial<SimFleetOptions>,
  use: (scene: Scene) => Promise<void>,
  kind: 'file' | 'block' = 'file'
): Promise<void> {
  const sharedStores = [{ name: 'nfs', path: '/shared', kind }]
  return withFleet({ ...options, sharedStores }, async (fleet) => {
    const [h1, h2] = [fleet.host('h1'), fleet.host('h2')]
    await withConnection(h1, async (connection) => {
      const dom = await define(connection, domainXml('guest', { devices: diskXml(sharedDisk(fleet, 'disk'), kind) }))
      await connection.call('DOMAIN_CREATE', { dom })
      await use({ fleet, h1, h2, connection, dom })
    })
  })
}

const stateOf = (host: FleetHost, { uuid }: Domain): string => {
  const domain = host.domains.get(uuid)
  return domain ? `${domain.state}/${domain.reason}` : 'absent'
}
const running = (reason: keyof typeof DomainRunningReason): string =>
  `${DomainState.RUNNING}/${DomainRunningReason[reason]}`
const paused = (reason: keyof typeof DomainPausedReason): string =>
  `${DomainState.PAUSED}/${DomainPausedReason[reason]}`

/** Resolves when the target waits for the guest's memory. */
const arriving = (fleet: SimFleet): Promise<unknown> =>
  fleet.journal.next(({ kind, detail }) => kind === 'started' && (detail ?? '').startsWith('arriving'))

/** Registers for the guest's progress; `begun` resolves when its memory is being copied. */
async function watchCopying(connection: OpenConnection): Promise<{ begun: Promise<void> }> {
  const { promise, resolve } = Promise.withResolvers<void>()
  await connection.on('DOMAIN_EVENT_CALLBACK_MIGRATION_ITERATION', () => resolve())
  return { begun: promise }
}

describe('migration between simulated hosts', () => {
  test('takes the time of memory over bandwidth, and tells how far it is', () =>
    withGuest({ migrationMiBps: 320 }, async ({ fleet, h2, connection, dom }) => {
      const started = Date.now()
      const begun = arriving(fleet)
      const migrated = migrate(connection, dom, h2)
      await begun
      const job = await connection.call('DOMAIN_GET_JOB_INFO', { dom })
      expect(job).toMatchObject({ type: 2, memTotal: 67_108_864n })
      expect(job.memProcessed + job.memRemaining).toBe(67_108_864n)
      await migrated
      expect(Date.now() - started).toBeGreaterThanOrEqual(195)
      expect(stateOf(h2, dom)).toBe(running('MIGRATED'))
    }))

  test('takes the guest along as it behaves: one that ignores the power button does so at the target', () =>
    withGuest({}, async ({ h1, h2, connection, dom }) => {
      Object.assign(h1.domainByName('guest')!.guest, { obeysShutdown: false, dirtyMiBps: 7 })
      await migrate(connection, dom, h2)
      expect(h2.domainByName('guest')?.guest).toMatchObject({ obeysShutdown: false, dirtyMiBps: 7 })
    }))

  test('is aborted on request: the guest runs on where it was, and nothing is left of it at the target', () =>
    withGuest({ migrationMs: 60_000 }, async ({ fleet, h1, h2, connection, dom }) => {
      const begun = arriving(fleet)
      const migrated = migrate(connection, dom, h2)
      await begun
      expect(stateOf(h2, dom)).toBe(paused('MIGRATION'))
      await connection.call('DOMAIN_ABORT_JOB', { dom })
      await expect(migrated).rejects.toMatchObject({ codeName: 'OPERATION_ABORTED' })
      expect([stateOf(h1, dom), stateOf(h2, dom)]).toEqual([running('BOOTED'), 'absent'])
      expect(fleet.journal.entries({ kind: 'migration_failed' })).toHaveLength(1)
    }))

  test('does not end while the guest changes its memory faster than it is copied, unless it is slowed down', () =>
    withGuest({ migrationMiBps: 2000 }, async ({ fleet, h1, h2, connection, dom }) => {
      h1.domainByName('guest')!.guest.dirtyMiBps = 4000
      const begun = arriving(fleet)
      const migrated = migrate(connection, dom, h2)
      await begun
      let iterations = 0
      await new Promise<void>((resolve) => {
        void connection.on('DOMAIN_EVENT_CALLBACK_MIGRATION_ITERATION', () => ++iterations === 3 && resolve())
      })
      await connection.call('DOMAIN_ABORT_JOB', { dom })
      await expect(migrated).rejects.toMatchObject({ codeName: 'OPERATION_ABORTED' })
      await migrate(connection, dom, h2, DomainMigrateFlags.AUTO_CONVERGE)
      expect(stateOf(h2, dom)).toBe(running('MIGRATED'))
    }))

  test('goes on as post-copy on request, after which the guest runs at the target at once', () =>
    withGuest({ migrationMiBps: 500 }, async ({ fleet, h1, h2, connection, dom }) => {
      h1.domainByName('guest')!.guest.dirtyMiBps = 4000
      const begun = arriving(fleet)
      const migrated = migrate(connection, dom, h2, DomainMigrateFlags.POSTCOPY)
      await begun
      await connection.call('DOMAIN_MIGRATE_START_POST_COPY', { dom, flags: 0 })
      await migrated
      expect([stateOf(h1, dom), stateOf(h2, dom)]).toEqual(['absent', running('MIGRATED')])
    }))

  test.each(['partition', 'power'])('fails when the target is lost (%s), and the guest runs on', (how) =>
    withGuest({ migrationMs: 60_000 }, async ({ fleet, h1, h2, connection, dom }) => {
      const { begun } = await watchCopying(connection)
      const migrated = migrate(connection, dom, h2)
      await begun
      if (how === 'partition') fleet.partition('h1', 'h2')
      else await fleet.powerOff('h2')
      await expect(migrated).rejects.toMatchObject({ codeName: 'OPERATION_FAILED' })
      expect([stateOf(h1, dom), stateOf(h2, dom)]).toEqual([running('BOOTED'), 'absent'])
    })
  )

  test('ends with the source’s power: what was arriving is discarded, and the guest runs nowhere', () =>
    withGuest({ migrationMs: 60_000 }, async ({ fleet, h1, h2, connection, dom }) => {
      const { begun } = await watchCopying(connection)
      const migrated = migrate(connection, dom, h2)
      await begun
      expect(stateOf(h2, dom)).toBe(paused('MIGRATION'))
      await fleet.powerOff('h1')
      await expect(migrated).rejects.toMatchObject({ code: 'unknown_outcome' })
      expect([stateOf(h1, dom), stateOf(h2, dom)]).toEqual([`${DomainState.SHUTOFF}/0`, 'absent'])
    }))

  test('whose last answer is lost leaves the source paused on a file disk: the image lock saves it from two writers', () =>
    withGuest({}, async ({ fleet, h1, h2, connection, dom }) => {
      h2.faults.add({ on: 'DOMAIN_MIGRATE_FINISH3_PARAMS', fault: { kind: 'lose_reply' }, times: 1 })
      await expect(migrate(connection, dom, h2)).rejects.toMatchObject({ name: 'LibvirtError' })
      expect([stateOf(h1, dom), stateOf(h2, dom)]).toEqual([paused('MIGRATION'), running('MIGRATED')])
      await expect(connection.call('DOMAIN_RESUME', { dom })).rejects.toThrow('"write" lock')
      expect(fleet.journal.twoWriters).toBe(0)
    }))

  test('whose last answer is lost leaves a block disk with two writers, which the journal shows', () =>
    withGuest(
      {},
      async ({ fleet, h1, h2, connection, dom }) => {
        h2.faults.add({ on: 'DOMAIN_MIGRATE_FINISH3_PARAMS', fault: { kind: 'lose_reply' }, times: 1 })
        await expect(migrate(connection, dom, h2)).rejects.toMatchObject({ name: 'LibvirtError' })
        expect([stateOf(h1, dom), stateOf(h2, dom)]).toEqual([running('MIGRATION_CANCELED'), running('MIGRATED')])
        expect(fleet.journal.twoWriters).toBe(1)
      },
      'block'
    ))

  test('is refused where the UUID runs, where the disk is missing, with snapshots, and from a disk that is not shared', () =>
    withGuest({}, async ({ fleet, h2, connection, dom }) => {
      const h1 = fleet.host('h1')
      const { xml } = await connection.call('DOMAIN_GET_XML_DESC', { dom, flags: 2 })
      await withConnection(h2, async (other) => {
        await other.call('DOMAIN_CREATE_XML', { xml_desc: domainXml('guest', { uuid: dom.uuid }), flags: 0 })
        await expect(migrate(connection, dom, h2)).rejects.toThrow("domain 'guest' is already active")
        await other.call('DOMAIN_DESTROY', { dom })
      })
      h2.unmount('/shared')
      await expect(migrate(connection, dom, h2)).rejects.toThrow("Cannot access storage file '/shared/disk'")
      h1.localStore.create('/local', { format: 'raw', capacityBytes: 1n })
      const local = await define(connection, domainXml('local', { devices: diskXml('/local') }))
      await connection.call('DOMAIN_CREATE', { dom: local })
      await expect(migrate(connection, local, h2)).rejects.toMatchObject({ codeName: 'MIGRATE_UNSAFE' })
      expect(xml).toContain('/shared/disk')
    }))

  test('of a shut-off guest does not look for its disk, and leaves the old definition only if asked', () =>
    withFleet({}, async (fleet) => {
      const [h1, h2] = [fleet.host('h1'), fleet.host('h2')]
      await withConnection(h1, async (connection) => {
        const dom = await define(connection, domainXml('off', { devices: diskXml('/nowhere') }))
        const { OFFLINE, PEER2PEER, PERSIST_DEST } = DomainMigrateFlags
        const args = {
          dom,
          dconnuri: h2.uri,
          params: [],
          cookie_in: new Uint8Array(),
          flags: OFFLINE | PEER2PEER | PERSIST_DEST
        }
        await connection.call('DOMAIN_MIGRATE_PERFORM3_PARAMS', args)
        expect([h1, h2].map((host) => host.domains.has(dom.uuid))).toEqual([true, true])
      })
    }))
})

// Migrations that are carried through from here, on a store without a lock: whatever is lost, no two copies ever write.
import { expect, test } from 'vitest'
import { vmCreate } from '../../src/actions/vm-create.ts'
import { vmMigrate } from '../../src/actions/vm-migrate.ts'
import { vmStart } from '../../src/actions/vm-start.ts'
import type { ProcedureName } from '../../src/libvirt/wire.gen.ts'
import { errorIn, textOf, withStage, type Stage } from './stage.ts'

/** As shared LUNs are: nothing keeps a second guest from writing. */
const unlocked = { sharedStores: [{ name: 'lun', path: '/shared', kind: 'block' as const }] }
const engine = { to: 'h2', managed: true }

async function running(stage: Stage): Promise<string> {
  const disks = [{ store: 'nfs1', sizeMiB: 8 }]
  const uuid = textOf((await stage.done(vmCreate, { name: 'web1', memoryMiB: 64, host: 'h1', disks }))['uuid'])
  await stage.done(vmStart, { vm: uuid })
  return uuid
}

const seen = async (stage: Stage, uuid: string) =>
  Promise.all(
    ['h1', 'h2'].map(async (host) => {
      const vm = await stage.hosts.host(host).vm(uuid)
      return vm ? `${vm.power} (${vm.reason})` : 'absent'
    })
  )

const lose = (stage: Stage, host: string, on: ProcedureName, kind: 'drop_before' | 'drop_after') =>
  stage.fleet.host(host).faults.add({ on, fault: { kind }, times: 1 })

test('a good one goes through all phases, and nothing is left at the source', () =>
  withStage({ ...unlocked, migrationMs: 600 }, async (stage) => {
    const uuid = await running(stage)
    const { outcome, progress } = await stage.run(vmMigrate, { vm: uuid, ...engine })
    expect(outcome).toMatchObject({ outcome: 'complete', result: { from: 'h1', to: 'h2', power: 'running' } })
    expect(progress.length).toBeGreaterThan(0)
    expect(await seen(stage, uuid)).toEqual(['absent', 'running (migrated)'])
    expect(stage.fleet.journal.entries({ kind: 'migrated', subject: uuid })).toHaveLength(1)
    expect(stage.fleet.journal.twoWriters).toBe(0)
  }))

test('peer-to-peer, the same lost answer makes two writers: why it is carried through from here', () =>
  withStage(unlocked, async (stage) => {
    const uuid = await running(stage)
    stage.fleet.host('h2').faults.add({ on: 'DOMAIN_MIGRATE_FINISH3_PARAMS', fault: { kind: 'lose_reply' }, times: 1 })
    await stage.run(vmMigrate, { vm: uuid, to: 'h2' })
    expect(stage.fleet.journal.twoWriters).toBeGreaterThan(0)
    return 'two writers'
  }))

test('the answer that the target runs it is lost: the source stays paused, then goes', () =>
  withStage(unlocked, async (stage) => {
    const uuid = await running(stage)
    lose(stage, 'h2', 'DOMAIN_MIGRATE_FINISH3_PARAMS', 'drop_after')
    const { outcome, steps } = await stage.run(vmMigrate, { vm: uuid, ...engine })
    expect(outcome).toMatchObject({ outcome: 'complete', result: { to: 'h2' } })
    expect(steps).toContain('remove the copy at the source')
    expect(await seen(stage, uuid)).toEqual(['absent', 'running (migrated)'])
    expect(stage.fleet.journal.twoWriters).toBe(0)
  }))

test('it is never known whether the target was told to run it: the guest stays paused, and nobody decides', () =>
  withStage(unlocked, async (stage) => {
    const uuid = await running(stage)
    lose(stage, 'h2', 'DOMAIN_MIGRATE_FINISH3_PARAMS', 'drop_before')
    const task = stage.task(vmMigrate, { vm: uuid, ...engine })
    expect((await task.run()).outcome).toMatchObject({ outcome: 'uncertain', error: { code: 'migration_unclear' } })
    expect(await seen(stage, uuid)).toEqual(['paused (migrating)', 'absent'])
    // However often it is looked for.
    expect(await task.probe()).toMatchObject({ happened: 'unknown' })
    expect(await seen(stage, uuid)).toEqual(['paused (migrating)', 'absent'])
    expect(stage.fleet.journal.twoWriters).toBe(0)
  }))

test('a target that says that it cannot run it leaves it at the source', () =>
  withStage(unlocked, async (stage) => {
    const uuid = await running(stage)
    const fault = { kind: 'error', code: 'OPERATION_FAILED', domain: 'QEMU', message: 'guest quit' } as const
    stage.fleet.host('h2').faults.add({ on: 'DOMAIN_MIGRATE_FINISH3_PARAMS', fault, times: 1 })
    const error = errorIn(await stage.run(vmMigrate, { vm: uuid, ...engine }))
    expect(error).toMatchObject({ message: expect.stringContaining('web1 stays on h1') })
    expect((await seen(stage, uuid))[0]).toMatch(/^running/)
    expect(stage.fleet.journal.twoWriters).toBe(0)
  }))

test.each([
  'DOMAIN_MIGRATE_PREPARE3_PARAMS',
  'DOMAIN_MIGRATE_PERFORM3_PARAMS',
  'DOMAIN_MIGRATE_BEGIN3_PARAMS'
] as const)('the answer to %s is lost: it runs at the source, and only there', (on) =>
  withStage(unlocked, async (stage) => {
    const uuid = await running(stage)
    lose(stage, on === 'DOMAIN_MIGRATE_PREPARE3_PARAMS' ? 'h2' : 'h1', on, 'drop_after')
    const ran = await stage.run(vmMigrate, { vm: uuid, ...engine })
    expect(errorIn(ran).message, JSON.stringify(ran)).toContain('web1 stays on h1')
    const [source, target] = await seen(stage, uuid)
    expect(source).toMatch(/^running/)
    expect(target).toBe('absent')
    expect(stage.fleet.journal.twoWriters).toBe(0)
    // And the next one goes through.
    expect((await stage.run(vmMigrate, { vm: uuid, ...engine })).outcome).toMatchObject({ outcome: 'complete' })
  })
)

test('the confirmation is lost: it runs at the target, and the source is tidied up', () =>
  withStage(unlocked, async (stage) => {
    const uuid = await running(stage)
    lose(stage, 'h1', 'DOMAIN_MIGRATE_CONFIRM3_PARAMS', 'drop_before')
    expect((await stage.run(vmMigrate, { vm: uuid, ...engine })).outcome).toMatchObject({ outcome: 'complete' })
    expect(await seen(stage, uuid)).toEqual(['absent', 'running (migrated)'])
    expect(stage.fleet.journal.twoWriters).toBe(0)
  }))

test.each(['the link is cut', 'the target loses its power', 'it is cancelled'])(
  '%s while the memory is copied: it runs on at the source',
  (what) =>
    withStage({ ...unlocked, migrationMs: 5_000 }, async (stage) => {
      const uuid = await running(stage)
      const task = stage.task(vmMigrate, { vm: uuid, ...engine })
      const ran = task.run()
      await stage.fleet.journal.next(({ kind, host }) => kind === 'started' && host === 'h2')
      if (what === 'the link is cut') stage.fleet.partition('h1', 'h2')
      else if (what === 'it is cancelled') task.cancel()
      else {
        await stage.fleet.powerOff('h2')
        await stage.fleet.boot('h2')
      }
      const { outcome } = await ran
      expect(['failed', 'cancelled'], JSON.stringify(outcome)).toContain(outcome.outcome)
      await stage.reachable('h2')
      const [source, target] = await seen(stage, uuid)
      expect(source).toMatch(/^running/)
      expect(target).toBe('absent')
      expect(stage.fleet.journal.twoWriters).toBe(0)
    })
)

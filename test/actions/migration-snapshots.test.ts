// Snapshots of a VM that moves: libvirt moves none that has any, and none is lost, whatever breaks in between.
import { expect, test, vi } from 'vitest'
import { vmCreate } from '../../src/actions/vm-create.ts'
import { vmMigrate } from '../../src/actions/vm-migrate.ts'
import { vmSnapshotCreate } from '../../src/actions/vm-snapshot-create.ts'
import { vmStart } from '../../src/actions/vm-start.ts'
import { vmStop } from '../../src/actions/vm-stop.ts'
import { HostError } from '../../src/host/error.ts'
import { errorIn, textOf, withStage, type Stage } from './stage.ts'

/** A running VM with a root, two children of it, and the second one current. */
async function made(stage: Stage): Promise<string> {
  const disks = [{ store: 'nfs1', sizeMiB: 8 }]
  const uuid = textOf((await stage.done(vmCreate, { name: 'web1', memoryMiB: 64, host: 'h1', disks }))['uuid'])
  await stage.done(vmSnapshotCreate, { vm: uuid, name: 'root' })
  await stage.done(vmStart, { vm: uuid })
  await stage.done(vmSnapshotCreate, { vm: uuid, name: 'leaf', description: 'why' })
  await stage.done(vmSnapshotCreate, { vm: uuid, name: 'tip' })
  return uuid
}

const all = [
  ['root', null, false],
  ['leaf', 'root', false],
  ['tip', 'leaf', true]
]

const on = async (stage: Stage, host: string, uuid: string) =>
  (await stage.hosts.host(host).snapshots(uuid)).map(({ name, parent, current }) => [name, parent, current])

const kept = (stage: Stage, uuid: string) => stage.memory.keptSnapshots.get(uuid)?.length ?? 0

test('they go along, with parents and the current one, and their secrets', () =>
  withStage({}, async (stage) => {
    const uuid = await made(stage)
    const { outcome, steps } = await stage.run(vmMigrate, { vm: uuid, to: 'h2' })
    expect(outcome).toMatchObject({ outcome: 'complete', result: { to: 'h2' } })
    expect(steps.filter((step) => step.includes('snapshots'))).toEqual([
      'keep its snapshots',
      'take its snapshots off the source',
      'tell h2 of its snapshots'
    ])
    expect(await on(stage, 'h2', uuid)).toEqual(all)
    expect(kept(stage, uuid)).toBe(0)
    const facts = stage.memory.facts(`vm/${uuid}`) as { snapshots: { name: string; description: string | null }[] }
    expect(facts.snapshots.find(({ name }) => name === 'leaf')).toMatchObject({ description: 'why', state: 'running' })
    // And back.
    expect(await stage.done(vmMigrate, { vm: uuid, to: 'h1' })).toMatchObject({ to: 'h1' })
    expect(await on(stage, 'h1', uuid)).toEqual(all)
  }))

test('a migration that fails leaves them where they were', () =>
  withStage({}, async (stage) => {
    const uuid = await made(stage)
    const fault = { kind: 'error', code: 'CPU_INCOMPATIBLE', domain: 'CPU', message: 'no avx' } as const
    stage.fleet.host('h2').faults.add({ on: 'DOMAIN_MIGRATE_PREPARE3_PARAMS', fault, times: 1 })
    expect(errorIn(await stage.run(vmMigrate, { vm: uuid, to: 'h2' })).code).toBe('libvirt_cpu_incompatible')
    expect(await on(stage, 'h1', uuid)).toEqual(all)
    expect(kept(stage, uuid)).toBe(0)
  }))

test.each([
  ['live', 'openMigration', { managed: true }],
  ['offline', 'defineVm', { offline: true }]
] as const)(
  'moved %s to a host that goes away at %s they are back where they were while the task waits',
  (_, at, how) =>
    withStage({}, async (stage) => {
      const uuid = await made(stage)
      if ('offline' in how) await stage.done(vmStop, { vm: uuid, timeoutSeconds: 0, force: true })
      const task = stage.task(vmMigrate, { vm: uuid, to: 'h2', ...how })
      const gone = new HostError('unreachable', 'h2', 'h2 is not connected')
      vi.spyOn(stage.hosts.host('h2'), at).mockRejectedValueOnce(gone)
      // Its next attempt is parked where the host is still down; what this one did is written with it.
      expect((await task.run()).outcome).toMatchObject({ outcome: 'retry', error: { code: 'host_unreachable' } })
      expect(await on(stage, 'h1', uuid)).toEqual(all)
      expect(kept(stage, uuid)).toBe(0)
      expect((await task.run()).outcome).toMatchObject({ outcome: 'complete', result: { to: 'h2' } })
      expect(await on(stage, 'h2', uuid)).toEqual(all)
    })
)

test.each(['keep its snapshots', 'take its snapshots off the source', 'migrate', 'tell h2 of its snapshots'])(
  'whoever dies at "%s" loses none: the next attempt brings them along',
  (where) =>
    withStage({}, async (stage) => {
      const uuid = await made(stage)
      const task = stage.task(vmMigrate, { vm: uuid, to: 'h2' })
      class Died extends Error {}
      // Half of them are off the host when it dies there.
      const host = stage.hosts.host('h1')
      const half = where === 'take its snapshots off the source'
      const spied = vi.spyOn(host, 'forgetSnapshots')
      if (half) {
        spied.mockImplementationOnce(async () => {
          // The current one goes first; then its parent counts as the current one.
          await host.deleteSnapshot(uuid, 'tip', { withChildren: false })
          throw new Died()
        })
      }
      const dies = half ? '' : where
      const onStep = (step: string) => {
        if (step === dies) throw new Died()
      }
      await expect(task.run({ onStep })).rejects.toThrow(Died)
      await stage.relist()
      expect(await task.probe()).toMatchObject({ happened: 'no' })
      expect((await task.run()).outcome).toMatchObject({ outcome: 'complete', result: { to: 'h2' } })
      expect(await on(stage, 'h2', uuid)).toEqual(all)
      expect(kept(stage, uuid)).toBe(0)
    })
)

test('a migration that died and is not tried again: the next snapshot brings them back first', () =>
  withStage({}, async (stage) => {
    const uuid = await made(stage)
    const onStep = (step: string) => {
      if (step === 'migrate') throw new Error('died')
    }
    await expect(stage.task(vmMigrate, { vm: uuid, to: 'h2' }).run({ onStep })).rejects.toThrow('died')
    await stage.relist()
    expect(await on(stage, 'h1', uuid)).toEqual([])
    expect(await stage.done(vmSnapshotCreate, { vm: uuid, name: 'more' })).toMatchObject({ parent: 'tip' })
    expect((await on(stage, 'h1', uuid)).map(([name]) => name)).toEqual(['root', 'leaf', 'tip', 'more'])
    expect(kept(stage, uuid)).toBe(0)
  }))

test('a target that refuses them has the VM, and they stay kept until another attempt', () =>
  withStage({}, async (stage) => {
    const uuid = await made(stage)
    const task = stage.task(vmMigrate, { vm: uuid, to: 'h2' })
    const fault = { kind: 'error', code: 'OPERATION_UNSUPPORTED', domain: 'QEMU', message: 'not here' } as const
    stage.fleet.host('h2').faults.add({ on: 'DOMAIN_SNAPSHOT_CREATE_XML', fault, times: 1 })
    expect(errorIn(await task.run())).toMatchObject({
      code: 'snapshots_not_told',
      message: expect.stringContaining('root, leaf, tip'),
      causes: [{ message: expect.stringContaining('not here') }]
    })
    expect((await stage.hosts.host('h2').vm(uuid))?.power).toBe('running')
    expect(kept(stage, uuid)).toBe(3)
    expect((await task.run()).outcome).toMatchObject({ outcome: 'complete' })
    expect(await on(stage, 'h2', uuid)).toEqual(all)
    expect(kept(stage, uuid)).toBe(0)
  }))

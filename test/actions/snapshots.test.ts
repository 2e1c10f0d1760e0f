// Snapshots on simulated hosts: kept, gone back to and deleted, each once however often the task runs.
import { expect, test } from 'vitest'
import { vmCreate } from '../../src/actions/vm-create.ts'
import { vmSnapshotCreate } from '../../src/actions/vm-snapshot-create.ts'
import { vmSnapshotDelete } from '../../src/actions/vm-snapshot-delete.ts'
import { vmSnapshotRevert } from '../../src/actions/vm-snapshot-revert.ts'
import { vmStart } from '../../src/actions/vm-start.ts'
import { vmStop } from '../../src/actions/vm-stop.ts'
import type { VmSnapshot } from '../../src/model/vm.ts'
import { disk, Fleet, running, uuidOf } from './fleet.ts'
import { errorIn, textOf, withStage, type Stage } from './stage.ts'

async function made(stage: Stage): Promise<string> {
  const disks = [{ store: 'nfs1', sizeMiB: 8 }]
  return textOf((await stage.done(vmCreate, { name: 'web1', memoryMiB: 64, host: 'h1', disks }))['uuid'])
}

const listed = async (stage: Stage, uuid: string) =>
  (await stage.hosts.host('h1').snapshots(uuid)).map(({ name, parent, current }) => [name, parent, current])

const power = async (stage: Stage, uuid: string) => (await stage.hosts.host('h1').vm(uuid))?.power

test('a snapshot of a running and of a resting VM, with parent, state and who made it', () =>
  withStage({}, async (stage) => {
    const uuid = await made(stage)
    await stage.done(vmSnapshotCreate, { vm: uuid, name: 'resting' })
    await stage.done(vmStart, { vm: uuid })
    expect(
      await stage.done(vmSnapshotCreate, { vm: uuid, name: 'live', description: 'before the <upgrade>' })
    ).toMatchObject({ host: 'h1', snapshot: 'live', parent: 'resting', state: 'running' })
    expect(await listed(stage, uuid)).toEqual([
      ['resting', null, false],
      ['live', 'resting', true]
    ])
    // The inventory has them as facts.
    const { snapshots } = stage.memory.facts(`vm/${uuid}`) as { snapshots: VmSnapshot[] }
    expect(snapshots).toMatchObject([
      { name: 'resting', state: 'off', description: null },
      { name: 'live', state: 'running', description: 'before the <upgrade>', mark: { task: expect.any(Number) } }
    ])
    expect(Date.now() - Date.parse(snapshots[1]?.createdAt ?? '')).toBeLessThan(60_000)
  }))

test('going back keeps what was, and going back to that undoes it', () =>
  withStage({}, async (stage) => {
    const uuid = await made(stage)
    await stage.done(vmSnapshotCreate, { vm: uuid, name: 'resting' })
    await stage.done(vmStart, { vm: uuid })
    const task = stage.task(vmSnapshotRevert, { vm: uuid, snapshot: 'resting', before: 'kept' })
    expect((await task.run()).outcome).toMatchObject({ outcome: 'complete', result: { before: 'kept', power: 'off' } })
    expect(await listed(stage, uuid)).toEqual([
      ['resting', null, true],
      ['kept', 'resting', false]
    ])
    const undo = vmSnapshotRevert.undo?.(task.args as never, stage.observed('h1'))
    expect(undo).toEqual({ action: 'vm.snapshot.revert', args: { vm: uuid, snapshot: 'kept' } })
    await stage.done(vmSnapshotRevert, { vm: uuid, snapshot: 'kept' })
    expect(await power(stage, uuid)).toBe('running')
  }))

test('a deleted snapshot leaves its children to its parent; with them, they go too', () =>
  withStage({}, async (stage) => {
    const uuid = await made(stage)
    for (const name of ['a', 'b', 'c']) await stage.done(vmSnapshotCreate, { vm: uuid, name })
    expect(await stage.done(vmSnapshotDelete, { vm: uuid, snapshot: 'b' })).toMatchObject({
      left: ['a', 'c'],
      disks: [{ volume: 'nfs1/web1.qcow2', allocationBytes: expect.any(Number) }]
    })
    expect(await listed(stage, uuid)).toEqual([
      ['a', null, false],
      ['c', 'a', true]
    ])
    await stage.done(vmSnapshotDelete, { vm: uuid, snapshot: 'a', children: true })
    expect(await listed(stage, uuid)).toEqual([])
  }))

test.each([
  ['a created snapshot', vmSnapshotCreate, { name: 'new' }, 'DOMAIN_SNAPSHOT_CREATE_XML', 'created new'],
  ['going back', vmSnapshotRevert, { snapshot: 'old', before: 'kept' }, 'DOMAIN_REVERT_TO_SNAPSHOT', 'reverted to old'],
  ['a deleted snapshot', vmSnapshotDelete, { snapshot: 'old' }, 'DOMAIN_SNAPSHOT_DELETE', 'deleted old']
] as const)('%s whose answer was lost is looked for, and done once', (_, action, args, on, detail) =>
  withStage({}, async (stage) => {
    const uuid = await made(stage)
    await stage.done(vmSnapshotCreate, { vm: uuid, name: 'old' })
    await stage.done(vmStart, { vm: uuid })
    stage.fleet.host('h1').faults.add({ on, fault: { kind: 'drop_after' }, times: 1 })
    const task = stage.task(action, { vm: uuid, ...args })
    let { outcome } = await task.run()
    // The answer of the snapshot before going back may be what was lost: then the next attempt goes on from there.
    if (outcome.outcome === 'retry') ({ outcome } = await task.run())
    expect(outcome).toMatchObject({ outcome: 'complete' })
    expect((await task.run()).outcome).toMatchObject({ outcome: 'complete' })
    expect(await task.probe()).toMatchObject({ happened: 'yes' })
    const entries = stage.fleet.journal.entries({ kind: 'snapshot', subject: uuid })
    expect(entries.filter((entry) => entry.detail === detail)).toHaveLength(1)
  })
)

test('what was never done is told so, and a refusal says why', () =>
  withStage({}, async (stage) => {
    const uuid = await made(stage)
    await stage.done(vmSnapshotCreate, { vm: uuid, name: 'old' })
    expect(await stage.task(vmSnapshotCreate, { vm: uuid, name: 'new' }).probe()).toMatchObject({ happened: 'no' })
    expect(await stage.task(vmSnapshotRevert, { vm: uuid, snapshot: 'old' }).probe()).toMatchObject({ happened: 'no' })
    expect(await stage.task(vmSnapshotDelete, { vm: uuid, snapshot: 'old' }).probe()).toMatchObject({ happened: 'no' })
    // Another task's snapshot of that name is not taken for our own.
    expect(errorIn(await stage.run(vmSnapshotCreate, { vm: uuid, name: 'old' }))).toMatchObject({
      code: 'snapshot_exists'
    })
    const fault = { kind: 'error', code: 'CONFIG_UNSUPPORTED', domain: 'QEMU', message: 'no room for it' } as const
    stage.fleet.host('h1').faults.add({ on: 'DOMAIN_SNAPSHOT_CREATE_XML', fault, times: 1 })
    expect(errorIn(await stage.run(vmSnapshotRevert, { vm: uuid, snapshot: 'old' }))).toMatchObject({
      step: 'keep what it is now',
      message: expect.stringContaining('no room for it')
    })
    expect(await listed(stage, uuid)).toEqual([['old', null, true]])
  }))

test('going back to a running state never starts a second copy', () =>
  withStage({}, async (stage) => {
    const uuid = await made(stage)
    await stage.done(vmStart, { vm: uuid })
    await stage.done(vmSnapshotCreate, { vm: uuid, name: 'live' })
    await stage.done(vmStop, { vm: uuid, force: true, timeoutSeconds: 0 })
    const xml = await stage.hosts.host('h1').vmXml(uuid, { inactive: true, secure: true })
    await stage.hosts.host('h2').defineVm(xml)
    await stage.hosts.host('h2').startVm(uuid, { freshBoot: true, paused: false })
    await stage.observer.bindWhereabouts(uuid, 'h2')
    const task = stage.task(vmSnapshotRevert, { vm: uuid, snapshot: 'live' })
    expect(errorIn(await task.run())).toMatchObject({ code: 'vm_active_elsewhere' })
    expect(await power(stage, uuid)).toBe('off')
  }))

const snapshot = (name: string, more: Partial<VmSnapshot> = {}): VmSnapshot => ({
  name,
  parent: null,
  current: false,
  createdAt: '2030-01-01T00:00:00.000Z',
  state: 'off',
  external: false,
  description: null,
  mark: null,
  ...more
})

test('what is impossible is refused when it is asked for', () => {
  const fleet = (more: object) =>
    new Fleet()
      .host('h1')
      .vm(1, { ...running, snapshots: [snapshot('old', { current: true })], ...more })
      .queued()
  const code = (verdict: object) => ('code' in verdict ? verdict.code : 'possible')
  const create = (more: object, name = 'new') => code(vmSnapshotCreate.check({ vm: uuidOf(1), name }, fleet(more)))
  const revert = (more: object, name = 'old') =>
    code(vmSnapshotRevert.check({ vm: uuidOf(1), snapshot: name, before: 'kept' }, fleet(more)))
  expect(create({})).toBe('possible')
  expect(create({}, 'old')).toBe('snapshot_exists')
  expect(create({ disks: [disk('nfs1', 'a', { format: 'raw' })] })).toBe('disk_not_qcow2')
  expect(create({ power: 'stopping' })).toBe('vm_stopping')
  expect(create({ persistent: false })).toBe('vm_transient')
  expect(create({ owner: 'foreign' })).toBe('vm_foreign')
  expect(revert({})).toBe('possible')
  expect(revert({}, 'none')).toBe('snapshot_not_found')
  expect(revert({ snapshots: [snapshot('old', { external: true })] })).toBe('snapshot_external')
  expect(revert({ snapshots: [snapshot('old'), snapshot('kept')] })).toBe('snapshot_exists')
  expect(revert({ elsewhere: { h2: 'active' } })).toBe('vm_active_elsewhere')
  expect(code(vmSnapshotDelete.check({ vm: uuidOf(1), snapshot: 'none' }, fleet({})))).toBe('snapshot_not_found')
})

test('effects fold: create, go back, delete are accepted in one plan, in this order', () => {
  const fleet = new Fleet().host('h1').vm(1, { ...running })
  const create = { vm: uuidOf(1), name: 'a' }
  const revert = { vm: uuidOf(1), snapshot: 'a', before: 'kept' }
  const named = (effects: { subject: string; facts: object | null }[], task: number) =>
    effects.map((effect) => ({ task, title: '', ...effect })) as never[]
  const one = named(vmSnapshotCreate.effect(create, fleet.queued()), 1)
  const two = named(vmSnapshotRevert.effect(revert, fleet.queued(...one)), 2)
  const state = fleet.queued(...one, ...two)
  expect(state.vm(uuidOf(1))?.snapshots.map(({ name, parent, current }) => [name, parent, current])).toEqual([
    ['a', null, true],
    ['kept', 'a', false]
  ])
  expect(state.vm(uuidOf(1))).toMatchObject({ power: 'running', activeOn: 'h1' })
  expect(vmSnapshotDelete.check({ vm: uuidOf(1), snapshot: 'a' }, state)).toEqual({ verdict: 'possible' })
  const gone = vmSnapshotDelete.effect({ vm: uuidOf(1), snapshot: 'a' }, state)
  expect(gone).toMatchObject([{ facts: { snapshots: [{ name: 'kept', parent: null }] } }])
})

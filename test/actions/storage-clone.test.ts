// Copies of volumes on simulated hosts: whole or not there at all.
import { describe, expect, test } from 'vitest'
import type { Verdict } from '../../src/actions/action.ts'
import { poolCreate } from '../../src/actions/pool-create.ts'
import { vmCreate } from '../../src/actions/vm-create.ts'
import { vmStart } from '../../src/actions/vm-start.ts'
import { volumeClone } from '../../src/actions/volume-clone.ts'
import { volumeCreate } from '../../src/actions/volume-create.ts'
import { Fleet, running, uuidOf } from './fleet.ts'
import { errorIn, textOf, withStage, type Stage } from './stage.ts'

const mebibyte = 1024 ** 2
const files = (stage: Stage) => [...(stage.fleet.stores.get('nfs')?.files.keys() ?? [])].toSorted()
const original = { store: 'nfs1', name: 'a.qcow2', sizeMiB: 10 }
const asked = { volume: 'nfs1/a.qcow2', store: 'nfs1', name: 'b.qcow2' }
const code = (verdict: Verdict): string => (verdict.verdict === 'impossible' ? verdict.code : verdict.verdict)

test('a volume is copied within its store, and every host that has the store sees the copy', () =>
  withStage({}, async (stage) => {
    await stage.done(volumeCreate, original)
    const copy = stage.task(volumeClone, { ...asked, sizeMiB: 20 })
    expect((await copy.run()).outcome).toMatchObject({
      outcome: 'complete',
      result: { volume: 'nfs1/b.qcow2', path: '/shared/b.qcow2', capacityBytes: 20 * mebibyte, format: 'qcow2' }
    })
    expect(files(stage)).toEqual(['/a.qcow2', '/b.qcow2'])
    expect(await stage.hosts.host('h2').volume('nfs1', 'b.qcow2')).toBeDefined()
    expect(await copy.probe()).toMatchObject({ happened: 'unknown', evidence: { there: true, marked: false } })
    expect(errorIn(await stage.run(volumeClone, asked))).toMatchObject({ code: 'volume_exists' })
  }))

test('a volume is copied to a local store, through the host that has both', () =>
  withStage({}, async (stage) => {
    await stage.done(poolCreate, { host: 'h2', pool: 'fast', target: '/srv/fast' })
    await stage.done(volumeCreate, original)
    expect(await stage.done(volumeClone, { ...asked, store: 'h2/fast', format: 'raw' })).toMatchObject({
      path: '/srv/fast/b.qcow2',
      format: 'raw'
    })
    expect(stage.memory.facts('volume/h2/fast/b.qcow2')).toMatchObject({ capacityBytes: 10 * mebibyte })
  }))

test.each(['half_copy', 'drop_after'] as const)('a copy whose reply was not seen (%s) is made again', (kind) =>
  withStage({}, async (stage) => {
    await stage.done(volumeCreate, original)
    stage.fleet.host('h1').faults.add({ on: 'STORAGE_VOL_CREATE_XML_FROM', fault: { kind }, times: 1 })
    const copy = stage.task(volumeClone, asked)
    expect((await copy.run()).outcome.outcome).toBe('retry')
    await stage.reachable('h1')
    expect(files(stage)).toContain('/b.qcow2')
    expect(await copy.probe()).toMatchObject({ happened: 'no', evidence: { there: true, marked: true } })
    expect((await copy.run()).outcome.outcome).toBe('complete')
    expect(files(stage)).toEqual(['/a.qcow2', '/b.qcow2'])
    expect(stage.fleet.stores.get('nfs')?.files.get('/b.qcow2')).toMatchObject({ partial: false })
    const made = stage.fleet.journal.entries({ kind: 'volume_created', name: 'b.qcow2' })
    expect(made).toHaveLength(2)
  })
)

test('a refused copy leaves nothing, and says why', () =>
  withStage({}, async (stage) => {
    await stage.done(volumeCreate, original)
    const fault = {
      kind: 'error',
      code: 'SYSTEM_ERROR',
      domain: 'STORAGE',
      message: 'No space left on device'
    } as const
    stage.fleet.host('h1').faults.add({ on: 'STORAGE_VOL_CREATE_XML_FROM', fault, times: 1 })
    expect(errorIn(await stage.run(volumeClone, asked))).toMatchObject({
      message: expect.stringContaining('No space left')
    })
    expect(files(stage)).toEqual(['/a.qcow2'])
  }))

test('a copy that is cancelled while it is made is taken away again', () =>
  withStage({}, async (stage) => {
    await stage.done(volumeCreate, original)
    const copy = stage.task(volumeClone, asked)
    const made = stage.fleet.journal.next((entry) => entry.name === 'b.qcow2')
    const ran = copy.run()
    await made
    copy.cancel()
    expect((await ran).outcome.outcome).toBe('cancelled')
    expect(files(stage)).toEqual(['/a.qcow2'])
  }))

test("a running VM's disk is not copied, however it came to run", () =>
  withStage({}, async (stage) => {
    const disks = [{ store: 'nfs1', sizeMiB: 1, name: 'a.qcow2' }]
    const { uuid } = await stage.done(vmCreate, { name: 'web1', memoryMiB: 64, host: 'h2', disks })
    await stage.hosts.host('h2').startVm(textOf(uuid), { freshBoot: true, paused: false })
    expect(errorIn(await stage.run(volumeClone, asked))).toMatchObject({
      code: 'volume_in_use',
      step: 'look at the volume',
      message: expect.stringContaining('"web1" on h2')
    })
    await stage.done(vmStart, { vm: uuid })
    expect(errorIn(await stage.run(volumeClone, asked))).toMatchObject({ code: 'volume_in_use', step: 'check' })
    expect(files(stage)).toEqual(['/a.qcow2'])
  }))

describe('a copy', () => {
  const fleet = (type = 'dir') =>
    new Fleet()
      .host('h1')
      .host('h2')
      .pool('h1', 'nfs1', { store: 'nfs1', type })
      .pool('h2', 'nfs1', { store: 'nfs1', type })
      .pool('h2', 'fast')
  const claims = (fleetOf: Fleet, more: object = {}) =>
    volumeClone.claims({ ...asked, ...more }, fleetOf.queued()).map(({ resource, mode }) => `${mode} ${resource}`)

  test('lets others copy an image meanwhile, and nobody start a VM on its disk', () => {
    const image = claims(fleet().volume('nfs1', 'a.qcow2'))
    expect(image).toEqual([
      'shared store/nfs1',
      'shared volume/nfs1/a.qcow2',
      'shared store/nfs1',
      'exclusive volume/nfs1/b.qcow2'
    ])
    const disk = fleet()
      .volume('nfs1', 'a.qcow2', { usedBy: [uuidOf(1)] })
      .vm(1)
    expect(claims(disk)).toContain('exclusive volume/nfs1/a.qcow2')
  })

  test('into a volume group that several hosts see has it alone', () => {
    expect(claims(fleet('logical').volume('nfs1', 'a.qcow2'))).toContain('exclusive store/nfs1')
  })

  test('is bound to a host that has both stores, and refused where none has', () => {
    const state = fleet().volume('nfs1', 'a.qcow2').pool('h1', 'slow')
    expect(volumeClone.bindTo?.({ ...asked, store: 'h2/fast' }, state.starting(null))).toEqual({ host: 'h2' })
    const apart = state.volume('h2/fast', 'a')
    expect(code(volumeClone.check({ volume: 'h2/fast/a', store: 'h1/slow', name: 'b' }, apart.queued()))).toBe(
      'no_common_host'
    )
  })

  test.each([
    ['smaller than the original', { sizeMiB: 1 }, 'cannot_shrink'],
    ['under a name that is taken', { name: 'a.qcow2' }, 'volume_exists'],
    ['in a store that is not there', { store: 'none' }, 'store_not_found']
  ])('is not made %s', (_, more, refused) => {
    const state = fleet()
      .volume('nfs1', 'a.qcow2', { capacityBytes: 10 * mebibyte })
      .queued()
    expect(code(volumeClone.check({ ...asked, ...more }, state))).toBe(refused)
  })

  test('of a disk is not made while it is predicted that the VM runs', () => {
    const state = fleet()
      .volume('nfs1', 'a.qcow2', { usedBy: [uuidOf(1)] })
      .vm(1, running)
      .queued()
    expect(code(volumeClone.check(asked, state))).toBe('volume_in_use')
  })
})

// Volumes that lie over others, and volumes that do not fit.
import { describe, expect, test } from 'vitest'
import type { Verdict } from '../../src/actions/action.ts'
import { volumeCreate } from '../../src/actions/volume-create.ts'
import { volumeDelete } from '../../src/actions/volume-delete.ts'
import { disk, Fleet, uuidOf } from './fleet.ts'
import { errorIn, withStage } from './stage.ts'

const gibibyte = 1024 ** 3
const code = (verdict: Verdict): string => (verdict.verdict === 'impossible' ? verdict.code : verdict.verdict)
const over = { store: 'nfs1', name: 'over.qcow2', backing: 'nfs1/base.qcow2' }

test('a volume is made over another one, which then stays', () =>
  withStage({}, async (stage) => {
    await stage.done(volumeCreate, { store: 'nfs1', name: 'base.qcow2', sizeMiB: 10 })
    const create = stage.task(volumeCreate, over)
    expect((await create.run()).outcome).toMatchObject({
      outcome: 'complete',
      result: { capacityBytes: 10 * 1024 ** 2 }
    })
    expect(await create.probe()).toMatchObject({ happened: 'unknown' })
    expect(stage.fleet.stores.get('nfs')?.files.get('/over.qcow2')?.backing).toEqual({
      path: '/shared/base.qcow2',
      format: 'qcow2'
    })
    expect(errorIn(await stage.run(volumeDelete, { volume: 'nfs1/base.qcow2' }))).toMatchObject({
      code: 'volume_in_use',
      message: expect.stringContaining('"over.qcow2"')
    })
  }))

describe('a volume over another one', () => {
  const base = { capacityBytes: 10 * 1024 ** 2 }
  const fleet = () => new Fleet().host('h1').pool('h1', 'nfs1', { store: 'nfs1' }).volume('nfs1', 'base.qcow2', base)

  test.each([
    ['over what is not there', { backing: 'nfs1/none' }, 'volume_not_found'],
    ['smaller than that', { sizeMiB: 1 }, 'cannot_shrink'],
    ['raw', { format: 'raw' as const }, 'bad_format'],
    ['larger than that', { sizeMiB: 20 }, 'possible']
  ])('%s', (_, more, expected) => {
    expect(code(volumeCreate.check({ ...over, ...more }, fleet().queued()))).toBe(expected)
  })

  test('is refused where a VM would change what it lies over', () => {
    const state = fleet()
      .volume('nfs1', 'base.qcow2', { ...base, usedBy: [uuidOf(1)] })
      .vm(1, { disks: [disk('nfs1', 'base.qcow2')] })
      .queued()
    expect(code(volumeCreate.check(over, state))).toBe('volume_in_use')
  })

  test('keeps others from what it lies over while it is made', () => {
    const claims = volumeCreate.claims(over, fleet().queued())
    expect(claims).toContainEqual({ resource: 'volume/nfs1/base.qcow2', mode: 'exclusive' })
  })
})

test.each([
  ['raw, larger than its store', { format: 'raw' as const, sizeMiB: 101 * 1024 }, 'store_too_small'],
  ['raw, larger than what is free just now', { format: 'raw' as const, sizeMiB: 11 * 1024 }, 'possible'],
  ['qcow2, a quarter of which its store has', { sizeMiB: 400 * 1024 }, 'possible'],
  ['qcow2, of which it has less', { sizeMiB: 401 * 1024 }, 'store_too_small']
])('a volume that is %s', (_, more, expected) => {
  const sizes = { capacityBytes: 100 * gibibyte, availableBytes: 10 * gibibyte }
  const state = new Fleet()
    .host('h1')
    .pool('h1', 'nfs1', { store: 'nfs1', ...sizes })
    .queued()
  const verdict = volumeCreate.check({ store: 'nfs1', name: 'a', ...more }, state)
  expect(code(verdict)).toBe(expected)
  if (verdict.verdict === 'impossible') expect(verdict.message).toContain('100 GiB in all')
})

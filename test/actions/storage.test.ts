// Pools and volumes: what is possible, what is claimed, what will be true.
import { describe, expect, test } from 'vitest'
import type { Verdict } from '../../src/actions/action.ts'
import { markerName } from '../../src/actions/new-volume.ts'
import { poolCreate } from '../../src/actions/pool-create.ts'
import { poolDelete } from '../../src/actions/pool-delete.ts'
import { poolRefresh } from '../../src/actions/pool-refresh.ts'
import { poolStart } from '../../src/actions/pool-start.ts'
import { poolStop } from '../../src/actions/pool-stop.ts'
import { isIn } from '../../src/actions/pool-use.ts'
import { volumeCreate } from '../../src/actions/volume-create.ts'
import { volumeDelete } from '../../src/actions/volume-delete.ts'
import { volumeResize } from '../../src/actions/volume-resize.ts'
import type { Claim, Effect } from '../../src/queue/task.ts'
import { disk, Fleet, running, uuidOf } from './fleet.ts'

const code = (verdict: Verdict): string => (verdict.verdict === 'impossible' ? verdict.code : verdict.verdict)
const overlays = (effects: Effect[]) => effects.map((effect) => ({ task: 7, title: 'Task 7', ...effect }))
const spelt = (claims: Claim[]) => claims.map(({ resource, mode }) => `${mode} ${resource}`)

describe('pools', () => {
  const made = { host: 'h1', pool: 'nfs1', target: '/srv/nfs1' }

  test('a new pool is a store of its own, on which volumes and VMs can be queued', () => {
    const fleet = new Fleet().host('h1')
    const after = fleet.queued(...overlays(poolCreate.effect(made, fleet.queued())))
    expect(after.pool('h1', 'nfs1')).toMatchObject({ active: true, store: 'h1/nfs1' })
    expect(after.store('h1/nfs1')).toMatchObject({ shared: false, pools: { h1: { pool: 'nfs1', active: true } } })
    expect(code(volumeCreate.check({ store: 'h1/nfs1', name: 'a', sizeMiB: 1 }, after))).toBe('possible')
  })

  test('the same pool again is nothing to do, another under its name is refused', () => {
    const fleet = new Fleet().host('h1').pool('h1', 'nfs1')
    expect(code(poolCreate.check(made, fleet.queued()))).toBe('nothing_to_do')
    expect(code(poolCreate.check({ ...made, target: '/srv/other' }, fleet.queued()))).toBe('pool_exists')
    expect(code(poolCreate.check(made, new Fleet().host('h1').pool('h1', 'nfs1', { active: false }).queued()))).toBe(
      'possible'
    )
  })

  test('undoing takes away what was made, stops what was started, and leaves what was there', () => {
    const undo = (fleet: Fleet) => poolCreate.undo?.(made, fleet.starting('h1'))
    const host = () => new Fleet().host('h1')
    const pool = { host: 'h1', pool: 'nfs1' }
    expect(undo(host())).toEqual({ action: 'pool.delete', args: pool })
    expect(undo(host().pool('h1', 'nfs1', { active: false }))).toEqual({ action: 'pool.stop', args: pool })
    expect(undo(host().pool('h1', 'nfs1'))).toEqual({ impossible: 'it was there before' })
  })

  test('a target is written plainly, on a known host', () => {
    expect(code(poolCreate.check({ ...made, target: '/srv/../etc' }, new Fleet().host('h1').queued()))).toBe('bad_path')
    expect(code(poolCreate.check(made, new Fleet().queued()))).toBe('host_not_found')
  })

  test('making and stopping claim the store exclusively, starting shares it, a refresh runs beside everything', () => {
    const state = new Fleet().host('h1').pool('h1', 'nfs1', { store: 'nfs1' }).queued()
    const own = ['shared host/h1', 'exclusive pool/h1/nfs1']
    expect(spelt(poolCreate.claims(made, state))).toEqual([...own, 'exclusive store/nfs1'])
    expect(spelt(poolStop.claims(made, state))).toEqual([...own, 'exclusive store/nfs1'])
    expect(spelt(poolStop.claims({ ...made, onlyThisHost: true }, state))).toEqual([...own, 'shared store/nfs1'])
    expect(spelt(poolStart.claims(made, state))).toEqual([...own, 'shared store/nfs1'])
    expect(spelt(poolRefresh.claims(made, state))).toEqual(['exclusive pool/h1/nfs1/refresh'])
  })

  test('a stopped pool is no place for new volumes until it is started', () => {
    const fleet = new Fleet().host('h1').pool('h1', 'nfs1')
    const stopped = overlays(poolStop.effect(made, fleet.queued()))
    const volume = { store: 'h1/nfs1', name: 'a', sizeMiB: 1 }
    expect(code(volumeCreate.check(volume, fleet.queued(...stopped)))).toBe('store_inactive')
    expect(code(poolStart.check(made, fleet.queued(...stopped)))).toBe('possible')
    const started = overlays(poolStart.effect(made, fleet.queued(...stopped)))
    expect(code(volumeCreate.check(volume, fleet.queued(...stopped, ...started)))).toBe('possible')
    expect(code(poolStart.check(made, fleet.queued(...stopped, ...started)))).toBe('nothing_to_do')
  })

  test('a deleted pool takes a local store with it, and leaves a shared one to the others', () => {
    const local = new Fleet().host('h1').pool('h1', 'nfs1')
    expect(local.queued(...overlays(poolDelete.effect(made, local.queued()))).store('h1/nfs1')).toBeUndefined()
    const two = new Fleet()
      .host('h1')
      .host('h2')
      .pool('h1', 'nfs1', { store: 'nfs1' })
      .pool('h2', 'nfs1', { store: 'nfs1' })
    const after = two.queued(...overlays(poolDelete.effect(made, two.queued())))
    expect(Object.keys(after.store('nfs1')?.pools ?? {})).toEqual(['h2'])
    expect(code(poolStop.check(made, after))).toBe('pool_not_found')
  })

  test.each([
    ['a file below the target', disk('nfs1', 'a'), true],
    ['a file of a longer path', disk('nfs1', 'a', { source: '/srv/nfs10/a' }), false],
    ['a volume by pool', disk('nfs1', 'a', { kind: 'volume', source: 'nfs1/a' }), true],
    ['a volume of another pool', disk('nfs1', 'a', { kind: 'volume', source: 'nfs10/a' }), false],
    ['an empty drive', disk('nfs1', 'a', { source: null }), false]
  ])('%s is told from what is elsewhere', (_, of, inside) => {
    expect(isIn(of, { name: 'nfs1', target: '/srv/nfs1' })).toBe(inside)
  })
})

describe('volumes', () => {
  const fleet = () =>
    new Fleet()
      .host('h1', { connection: 'down' })
      .host('h2')
      .pool('h1', 'nfs1', { store: 'nfs1' })
      .pool('h2', 'nfs1', { store: 'nfs1' })
  const blank = { store: 'nfs1', name: 'a.qcow2', sizeMiB: 10 }
  const id = 'nfs1/a.qcow2'

  test('are worked on through a host that is up', () => {
    expect(volumeCreate.bindTo?.(blank, fleet().starting(null))).toEqual({ host: 'h2' })
  })

  test('can be resized and deleted before they exist', () => {
    const after = fleet().queued(...overlays(volumeCreate.effect(blank, fleet().queued())))
    expect(code(volumeCreate.check(blank, after))).toBe('volume_exists')
    expect(code(volumeResize.check({ volume: id, sizeMiB: 20 }, after))).toBe('possible')
    expect(code(volumeDelete.check({ volume: id }, after))).toBe('possible')
  })

  test('claim themselves exclusively and their store shared, and a host once it is bound', () => {
    const claims = ['shared store/nfs1', 'exclusive volume/nfs1/a.qcow2']
    expect(spelt(volumeCreate.claims(blank, fleet().queued()))).toEqual(claims)
    expect(spelt(volumeDelete.claims({ volume: id }, fleet().starting('h2')))).toEqual([
      ...claims,
      'shared host/h2',
      'shared pool/h2/nfs1'
    ])
    expect(spelt(volumeResize.claims({ volume: id, sizeMiB: 9 }, fleet().queued()))).toEqual(claims)
  })

  test('in use by a VM, running or not, on whichever host, are not deleted', () => {
    const state = fleet()
      .volume('nfs1', 'a.qcow2', { usedBy: [uuidOf(1)] })
      .vm(1, { home: 'h2' })
      .queued()
    const verdict = volumeDelete.check({ volume: id }, state)
    expect(verdict).toMatchObject({ code: 'volume_in_use', message: expect.stringContaining('"web1" on h2') })
  })

  test.each([
    ['larger', 2048, 'possible'],
    ['to the size that it has', 1024, 'nothing_to_do'],
    ['smaller', 512, 'cannot_shrink']
  ])('are made %s', (_, sizeMiB, verdict) => {
    const state = fleet()
      .volume('nfs1', 'a.qcow2', { usedBy: [uuidOf(1)] })
      .vm(1)
      .queued()
    expect(code(volumeResize.check({ volume: id, sizeMiB }, state))).toBe(verdict)
  })

  test('are not resized under a running VM', () => {
    const state = fleet()
      .volume('nfs1', 'a.qcow2', { usedBy: [uuidOf(1)] })
      .vm(1, running)
      .queued()
    expect(code(volumeResize.check({ volume: id, sizeMiB: 2048 }, state))).toBe('volume_in_use')
  })

  test('carry a marker that names installation and task, and fits a file name for the longest volume', () => {
    const marker = markerName('v'.repeat(127), { instance: '1f0c93ab-5555', id: 9_007_199_254_740_991 })
    expect(marker).toMatch(/^v{127}\.task-9007199254740991-1f0c93ab$/)
    expect(marker.length).toBeLessThan(255)
    expect(markerName('a', { instance: 'x', id: 4 })).not.toBe(markerName('a', { instance: 'x', id: 41 }))
  })
})

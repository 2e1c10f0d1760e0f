// Moving a VM: the preflight, claims and effects.
import { describe, expect, test } from 'vitest'
import type { Verdict } from '../../src/actions/action.ts'
import { whyNotMovable } from '../../src/actions/vm-migrate-check.ts'
import { needsEngine } from '../../src/actions/vm-migrate-disks.ts'
import { vmMigrate } from '../../src/actions/vm-migrate.ts'
import type { VmFacts } from '../../src/inventory/facts.ts'
import type { VmSnapshot } from '../../src/model/vm.ts'
import { disk, Fleet, running, uuidOf } from './fleet.ts'

const code = (verdict: Verdict): string => (verdict.verdict === 'impossible' ? verdict.code : verdict.verdict)

const snapshot = (name: string): VmSnapshot => ({
  name,
  parent: null,
  current: false,
  createdAt: '2030-01-01T00:00:00.000Z',
  state: 'off',
  external: false,
  description: null,
  mark: null
})

describe('vm.migrate', () => {
  const move = { vm: uuidOf(1), to: 'h2' }
  const onShared = { ...running, disks: [disk('nfs1', 'web1.qcow2')] }
  const fleet = (vm: Partial<VmFacts> = onShared) =>
    new Fleet()
      .host('h1')
      .host('h2')
      .pool('h1', 'nfs1', { store: 'nfs1' })
      .pool('h2', 'nfs1', { store: 'nfs1' })
      .pool('h1', 'default')
      .network('h2', 'lan')
      .network('h2', 'idle', { active: false })
      .vm(1, vm)

  test.each<[string, Partial<VmFacts>, object, string]>([
    ['a running VM on a shared store', onShared, {}, 'possible'],
    ['a paused VM', { ...onShared, power: 'paused', reason: 'user' }, {}, 'possible'],
    ['a VM that is there already', { ...onShared, activeOn: 'h2' }, {}, 'nothing_to_do'],
    ['a VM that is off', { disks: [] }, {}, 'vm_not_running'],
    ['a VM that shuts down', { ...onShared, power: 'stopping' }, {}, 'vm_not_running'],
    ['a VM that another migration paused', { ...onShared, power: 'paused', reason: 'migrating' }, {}, 'vm_not_running'],
    ["another manager's VM", { ...onShared, owner: 'foreign' }, {}, 'vm_foreign'],
    ['a VM with snapshots', { ...onShared, snapshots: [snapshot('a'), snapshot('b')] }, {}, 'possible'],
    [
      'snapshots inside disks that are copied',
      { ...running, snapshots: [snapshot('a')], disks: [disk('h1/default', 'a')] },
      { copyStorage: true },
      'has_snapshots'
    ],
    ['a VM defined on the target', { ...onShared, elsewhere: { h2: 'defined' } }, {}, 'defined_on_target'],
    ['a VM active on the target', { ...onShared, elsewhere: { h2: 'active' } }, {}, 'vm_active_elsewhere'],
    ['a disk in a local store', { ...running, disks: [disk('h1/default', 'a')] }, {}, 'store_not_on_target'],
    [
      'a disk in a local store, copied',
      { ...running, disks: [disk('h1/default', 'a')] },
      { copyStorage: true },
      'possible'
    ],
    ['a disk that both have, copied', onShared, { copyStorage: true }, 'copy_onto_itself'],
    [
      'a disk in no pool',
      { ...running, disks: [disk('nfs1', 'a', { store: null, volume: null })] },
      {},
      'disk_in_no_pool'
    ],
    ['a block disk', { ...running, disks: [disk('nfs1', 'a', { kind: 'block' })] }, {}, 'possible'],
    [
      'a block disk that is local',
      { ...running, disks: [disk('h1/default', 'a', { kind: 'block' })] },
      {},
      'store_not_on_target'
    ],
    ['a network disk', { ...running, disks: [disk('nfs1', 'a', { kind: 'network' })] }, {}, 'possible'],
    ['a shareable disk', { ...running, disks: [disk('nfs1', 'a', { shareable: true })] }, {}, 'possible'],
    [
      'a local image in a drive',
      { ...running, disks: [disk('h1/default', 'cd.iso', { device: 'cdrom', readOnly: true })] },
      {},
      'local_image'
    ],
    [
      'a shared image in a drive',
      { ...running, disks: [disk('nfs1', 'cd.iso', { device: 'cdrom', readOnly: true })] },
      {},
      'possible'
    ],
    [
      'an empty drive',
      { ...running, disks: [disk('nfs1', '', { device: 'cdrom', kind: 'none', source: null, store: null })] },
      {},
      'possible'
    ],
    [
      'a network that the target has',
      { ...running, nics: [{ mac: '', kind: 'network', source: 'lan', model: null }] },
      {},
      'possible'
    ],
    [
      'a network that the target lacks',
      { ...running, nics: [{ mac: '', kind: 'network', source: 'dmz', model: null }] },
      {},
      'network_not_on_target'
    ],
    [
      'a network that the target stopped',
      { ...running, nics: [{ mac: '', kind: 'network', source: 'idle', model: null }] },
      {},
      'network_not_on_target'
    ],
    [
      'a passed-through device',
      { ...onShared, pins: [{ kind: 'device', what: 'host pci device' }] },
      {},
      'passthrough_device'
    ],
    [
      'firmware of its own, live',
      { ...onShared, pins: [{ kind: 'firmware', what: '/var/lib/x_VARS.fd' }] },
      {},
      'possible'
    ],
    ['a running VM, offline', onShared, { offline: true }, 'vm_running'],
    ['a VM that is off, offline', { disks: onShared.disks }, { offline: true }, 'possible'],
    [
      'a VM that is off at the target, offline',
      { disks: onShared.disks, home: 'h2' },
      { offline: true },
      'nothing_to_do'
    ],
    ['a saved image, offline', { disks: onShared.disks, hasSavedImage: true }, { offline: true }, 'vm_has_saved_image'],
    [
      'firmware that would stay behind, offline',
      { disks: onShared.disks, pins: [{ kind: 'firmware', what: '/var/lib/x_VARS.fd' }] },
      { offline: true },
      'vm_pinned'
    ],
    [
      'firmware beside a shared disk, offline',
      { disks: onShared.disks, pins: [{ kind: 'firmware', what: '/srv/nfs1/web1_VARS.fd' }] },
      { offline: true },
      'possible'
    ],
    ['a local disk, offline', { disks: [disk('h1/default', 'a')] }, { offline: true }, 'disk_is_local'],
    [
      'a display at an address of one host, offline',
      { disks: onShared.disks, pins: [{ kind: 'display', what: 'its display at 10.0.0.5' }] },
      { offline: true },
      'vm_pinned'
    ],
    [
      'offline with what only a running guest has',
      { disks: onShared.disks },
      { offline: true, postCopy: true },
      'offline_and_live'
    ],
    ['more memory than the target has', { ...onShared, maxMemoryMiB: 99_999 }, {}, 'does_not_fit']
  ])('%s', (_, vm, more, verdict) => {
    expect(code(vmMigrate.check({ ...move, ...more }, fleet(vm).queued()))).toBe(verdict)
  })

  test('needs the store at the same path and active, and says what it found', () => {
    const moved = fleet().pool('h2', 'nfs1', { store: 'nfs1', target: '/mnt/nfs1' }).queued()
    expect(vmMigrate.check(move, moved)).toMatchObject({
      code: 'store_not_on_target',
      message: expect.stringContaining('at /srv/nfs1 on h1 and at /mnt/nfs1 on h2')
    })
    const stopped = fleet().pool('h2', 'nfs1', { store: 'nfs1', active: false }).queued()
    expect(vmMigrate.check(move, stopped)).toMatchObject({
      code: 'store_not_on_target',
      message: expect.stringContaining('is not active')
    })
  })

  test('needs a target that is known, open, reachable for its peers and of the same kind', () => {
    expect(code(vmMigrate.check({ ...move, to: 'h9' }, fleet().queued()))).toBe('host_not_found')
    expect(code(vmMigrate.check(move, fleet().host('h2', { cordoned: true }).queued()))).toBe('host_cordoned')
    expect(code(vmMigrate.check(move, fleet().host('h2', { peerUri: null }).queued()))).toBe('no_peer_uri')
    const managed = { ...move, managed: true }
    expect(code(vmMigrate.check(managed, fleet().host('h2', { peerUri: null }).queued()))).toBe('possible')
    expect(code(vmMigrate.check(move, fleet().host('h2', { arch: 'aarch64' }).queued()))).toBe('other_arch')
    expect(code(vmMigrate.check(move, fleet().vm(2, { name: 'web1', home: 'h2' }).queued()))).toBe('name_taken')
  })

  test('an attempt that joins what an earlier one began is not refused for it', () => {
    const half = { ...onShared, power: 'paused', reason: 'migrating', elsewhere: { h2: 'active' } } as const
    expect(code(vmMigrate.check(move, fleet(half).queued()))).toBe('vm_not_running')
    expect(code(vmMigrate.check(move, fleet(half).starting('h1')))).toBe('possible')
  })

  test('claims the VM, its storage and the target at once, and the host that it leaves as it starts', () => {
    const hosts = (claims: { resource: string }[]) =>
      claims
        .map(({ resource }) => resource)
        .filter((name) => name.startsWith('host/'))
        .toSorted()
    expect(hosts(vmMigrate.claims(move, fleet().queued()))).toEqual(['host/h2'])
    expect(hosts(vmMigrate.claims(move, fleet().starting('h1')))).toEqual(['host/h1', 'host/h2'])
    expect(vmMigrate.claims(move, fleet().queued())).toContainEqual({
      resource: 'volume/nfs1/web1.qcow2',
      mode: 'shared'
    })
  })

  test('without a target it is placed as it starts, where its stores and networks are, and not where it is', () => {
    const placed = { vm: uuidOf(1) }
    const vm = { ...onShared, nics: [{ mac: '', kind: 'network', source: 'lan', model: null }] }
    expect(code(vmMigrate.check(placed, fleet(vm).queued()))).toBe('possible')
    expect(vmMigrate.claims(placed, fleet(vm).queued()).map(({ resource }) => resource)).not.toContain('host/h2')
    expect(vmMigrate.bindTo?.(placed, fleet(vm).starting(null))).toMatchObject({
      host: 'h1',
      target: {
        memoryMiB: 1024,
        stores: ['nfs1'],
        networks: ['lan'],
        arch: 'x86_64',
        peerUri: true,
        without: { h1: expect.any(String) }
      }
    })
    expect(vmMigrate.effect(placed, fleet(vm).queued())[0]).toMatchObject({ facts: { home: '', activeOn: '' } })
  })

  test('anyone may ask why a VM cannot move, running or off', () => {
    expect(whyNotMovable(uuidOf(1), 'h2', fleet().queued())).toBeUndefined()
    expect(whyNotMovable(uuidOf(1), 'h2', fleet({ disks: onShared.disks }).queued())).toBeUndefined()
    expect(whyNotMovable(uuidOf(1), 'h1', fleet().queued())).toContain('is on h1 already')
    expect(whyNotMovable(uuidOf(1), 'h1', fleet({ disks: onShared.disks }).queued())).toContain('is on h1 already')
    const local = { disks: [disk('h1/default', 'a')] }
    expect(whyNotMovable(uuidOf(1), 'h2', fleet({ ...running, ...local }).queued())).toContain('h1/default')
    expect(whyNotMovable(uuidOf(1), 'h2', fleet(local).queued())).toContain('on h1 alone')
    expect(
      whyNotMovable(uuidOf(1), 'h2', fleet({ ...running, ...local }).queued(), { copyStorage: true })
    ).toBeUndefined()
  })

  test('everything that stands in the way is said at once', () => {
    const vm = {
      ...running,
      disks: [
        disk('h1/default', 'a'),
        disk('h1/default', 'cd.iso', { device: 'cdrom', readOnly: true, target: 'sda' })
      ],
      nics: [{ mac: '', kind: 'network', source: 'dmz', model: null }],
      pins: [{ kind: 'device', what: 'host pci device' } as const]
    }
    const verdict = vmMigrate.check(move, fleet(vm).vm(2, { name: 'web1', home: 'h2' }).queued())
    expect(verdict).toMatchObject({ verdict: 'impossible', code: 'passthrough_device' })
    for (const part of ['host pci device', 'another VM', 'disk vda', 'cdrom sda', 'network "dmz"'])
      expect((verdict as { message: string }).message).toContain(part)
  })

  test('disks without a lock are never moved by the hosts among themselves', () => {
    const by = (more: object) => {
      const state = fleet({ ...running, disks: [disk('nfs1', 'a', more)] }).queued()
      return needsEngine(state.vm(uuidOf(1))!, state)
    }
    expect(by({})).toBe(false)
    expect(by({ kind: 'volume' })).toBe(false)
    for (const more of [{ kind: 'block' }, { kind: 'network' }, { shareable: true }, { kind: 'volume', store: null }])
      expect(by(more), JSON.stringify(more)).toBe(true)
    // What is only read needs no lock.
    expect(by({ kind: 'block', readOnly: true })).toBe(false)
  })

  test('moves the home, so that a chain of moves can be queued', () => {
    const before = fleet().queued()
    const after = fleet().queued(
      ...vmMigrate.effect(move, before).map((effect) => ({ task: 1, title: 'first', ...effect }))
    )
    expect(after.vm(uuidOf(1))).toMatchObject({ home: 'h2', activeOn: 'h2', power: 'running' })
    expect(code(vmMigrate.check(move, after))).toBe('nothing_to_do')
    expect(code(vmMigrate.check({ ...move, to: 'h1' }, after))).toBe('possible')
    expect(vmMigrate.undo?.(move, before)).toEqual({ action: 'vm.migrate', args: { vm: uuidOf(1), to: 'h1' } })
  })
})

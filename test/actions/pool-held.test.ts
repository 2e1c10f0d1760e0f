// Whoever works on a volume holds the pool that it is reached through: none is stopped under it. Which VMs keep a pool is storage-use.test.ts.
import { expect, test } from 'vitest'
import { vmCdromInsert } from '../../src/actions/vm-cdrom-insert.ts'
import { vmDiskAdd } from '../../src/actions/vm-disk-add.ts'
import { vmDiskMove } from '../../src/actions/vm-disk-move.ts'
import { vmDiskResize } from '../../src/actions/vm-disk-resize.ts'
import { volumeCreate } from '../../src/actions/volume-create.ts'
import { volumeDelete } from '../../src/actions/volume-delete.ts'
import { volumeResize } from '../../src/actions/volume-resize.ts'
import type { FleetState } from '../../src/inventory/fleet-state.ts'
import type { Claim } from '../../src/queue/task.ts'
import { disk, Fleet, uuidOf } from './fleet.ts'

const vm = uuidOf(1)
const fleet = new Fleet()
  .host('h1')
  .pool('h1', 'nfs1', { store: 'nfs1' })
  .pool('h1', 'nfs2', { store: 'nfs2' })
  .volume('nfs1', 'a.qcow2')
  .volume('nfs1', 'b.qcow2')
  .vm(1, { disks: [disk('nfs1', 'a.qcow2')] })

const move = { vm, disk: 'vda', store: 'nfs2', name: 'a.qcow2', format: 'qcow2' as const, volume: 'nfs1/a.qcow2' }
const held: [string, (state: FleetState) => Claim[], string[]][] = [
  ['a disk that moves', (state) => vmDiskMove.claims(move, state), ['nfs1', 'nfs2']],
  ['an image that is inserted', (state) => vmCdromInsert.claims({ vm, volume: 'nfs1/b.qcow2' }, state), ['nfs1']],
  [
    'a disk that is added',
    (state) => vmDiskAdd.claims({ vm, volume: 'nfs1/b.qcow2', target: 'vdb', format: 'qcow2' }, state),
    ['nfs1']
  ],
  [
    'a disk that grows',
    (state) => vmDiskResize.claims({ vm, disk: 'vda', volume: 'nfs1/a.qcow2', sizeMiB: 4096 }, state),
    ['nfs1']
  ],
  ['a volume that is made', (state) => volumeCreate.claims({ store: 'nfs1', name: 'c', sizeMiB: 1 }, state), ['nfs1']],
  ['a volume that grows', (state) => volumeResize.claims({ volume: 'nfs1/b.qcow2', sizeMiB: 4096 }, state), ['nfs1']],
  ['a volume that is deleted', (state) => volumeDelete.claims({ volume: 'nfs1/b.qcow2' }, state), ['nfs1']]
]

test.each(held)('%s holds its pools', (_, claims, pools) => {
  for (const pool of pools)
    expect(claims(fleet.starting('h1'))).toContainEqual({ resource: `pool/h1/${pool}`, mode: 'shared' })
})

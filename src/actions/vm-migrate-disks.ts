// A VM's disks when it moves: whether the target has them at the same path, and how they decide who carries the migration through.
import type { PlacedDisk, StoreFacts, VmFacts } from '../inventory/facts.ts'
import type { FleetState } from '../inventory/fleet-state.ts'
import { quote } from '../model/name.ts'
import { impossible, type Verdict } from './action.ts'
import type { VmMigrateArgs } from './vm-migrate-args.ts'
import { named } from './vm-refusal.ts'

/** The host that it moves from; '' where an open task decides that. */
export const placeOf = (vm: VmFacts): string => vm.activeOn ?? vm.home

export const isWritable = (disk: PlacedDisk): boolean =>
  !disk.readOnly && disk.device !== 'cdrom' && disk.device !== 'floppy' && disk.source !== null

/** Pools of these types keep a volume as a file, which QEMU locks. */
const fileStores: ReadonlySet<string> = new Set(['dir', 'fs', 'netfs', 'gluster'])

/**
 * Must the migration be carried through from here? QEMU's lock on an image file keeps a second copy from running after a lost
 * answer; block devices, network disks and disks that are meant for several writers have no such lock.
 */
export const needsEngine = (vm: VmFacts, state: FleetState): boolean =>
  vm.disks.some((disk) => isWritable(disk) && (disk.shareable || !isFile(disk, state)))

function isFile(disk: PlacedDisk, state: FleetState): boolean {
  if (disk.kind !== 'volume') return disk.kind === 'file' || disk.kind === 'none'
  return disk.store !== null && fileStores.has(state.store(disk.store)?.type ?? '')
}

export function refuseDisks(
  vm: VmFacts,
  to: string,
  how: Pick<VmMigrateArgs, 'copyStorage'>,
  state: FleetState
): (Verdict | undefined)[] {
  const there = vm.disks.filter((disk) => disk.kind !== 'none' && disk.source !== null)
  return there.map((disk) =>
    isWritable(disk) ? refuseWritable(vm, disk, to, how, state) : refuseDrive(vm, disk, to, state)
  )
}

function refuseWritable(
  vm: VmFacts,
  disk: PlacedDisk,
  to: string,
  how: Pick<VmMigrateArgs, 'copyStorage'>,
  state: FleetState
): Verdict | undefined {
  const of = `disk ${disk.target} of ${named(vm)}`
  // A remote disk is at the same place from everywhere.
  if (disk.kind === 'network') return undefined
  if (disk.store === null) {
    if (how.copyStorage) return undefined
    return impossible(
      'disk_in_no_pool',
      `${of} (${disk.source}) is in no pool of ${placeOf(vm)}: whether ${to} has it is not known`,
      'make pools on its directory on both hosts and share them: `taskomatic store share`, or copy it: `--copy-storage`'
    )
  }
  const store = state.store(disk.store)
  const same = store !== undefined && samePath(store, placeOf(vm), to)
  if (how.copyStorage && store?.pools[to]) {
    return impossible(
      'copy_onto_itself',
      `${of} is in store ${quote(disk.store)}, which ${to} has too: a copy would be written over the disk itself`,
      'migrate without `--copy-storage`'
    )
  }
  if (same || how.copyStorage) return undefined
  return impossible(
    'store_not_on_target',
    `${of} is in store ${quote(disk.store)}, ${whyNot(store, placeOf(vm), to)}`,
    `give ${to} the store at the same path, or copy the disk: \`--copy-storage\``
  )
}

function samePath(store: StoreFacts, source: string, target: string): boolean {
  const [from, to] = [store.pools[source], store.pools[target]]
  if (to?.active !== true) return false
  return source === '' || from?.target === to.target
}

function whyNot(store: StoreFacts | undefined, source: string, target: string): string {
  const pool = store?.pools[target]
  if (!pool) return `which ${target} has no pool on`
  if (!pool.active) return `whose pool ${quote(pool.pool)} on ${target} is not active`
  return `which is at ${store?.pools[source]?.target ?? 'no path'} on ${source} and at ${pool.target ?? 'no path'} on ${target}`
}

function refuseDrive(vm: VmFacts, disk: PlacedDisk, to: string, state: FleetState): Verdict | undefined {
  if (disk.kind === 'network') return undefined
  const store = disk.store === null ? undefined : state.store(disk.store)
  if (store && samePath(store, placeOf(vm), to)) return undefined
  return impossible(
    'local_image',
    `${disk.device} ${disk.target} of ${named(vm)} has ${disk.source}, which ${to} does not have`,
    'eject it, or put it into a store that both hosts have at the same path'
  )
}

// Moves one disk of a VM to another store, or into another format. While the VM runs its guest writes to both until it is switched
// over; of a VM that is off the volume is copied and the definition pointed at the copy. The VM never has a disk that is not whole:
// it keeps the old one until the new one is.
import { Type, type Static } from 'typebox'
import type { FleetState } from '../inventory/fleet-state.ts'
import type { PlacedDisk, VmFacts } from '../inventory/facts.ts'
import { quote } from '../model/name.ts'
import { resource } from '../model/resource.ts'
import { isActive } from '../model/vm.ts'
import type { Effect } from '../queue/task.ts'
import { action, impossible, possible, type Verdict } from './action.ts'
import { attempt } from './attempt.ts'
import { refuseChangeOfImage } from './image-use.ts'
import { limit, oneOf } from './limits.ts'
import { newName, splitVolume, StoreRef, VmRef, VolumeRef } from './refs.ts'
import { changeableVm, diskNamed, refuseUnknownDisk, volumeName, volumeOf } from './vm-devices.ts'
import { DiskRef } from './vm-disk-args.ts'
import { moveDisk, probeMoved } from './vm-disk-move-run.ts'
import { bindToVm, exclusive, poolClaimsOn, vmClaims, vmTitle } from './vm-place.ts'
import { named } from './vm-refusal.ts'
import { refuseStore, storeWork, volumeUsers } from './volume-place.ts'
import { readHostsOf } from './volume-use.ts'

const args = Type.Object(
  {
    vm: VmRef,
    disk: DiskRef,
    store: StoreRef,
    name: Type.Optional(newName('volume', 'Name of the new volume; default as it is named now')),
    format: Type.Optional(
      Type.Union([Type.Literal('qcow2'), Type.Literal('raw')], {
        description: 'Format of the new volume; default as it is'
      })
    ),
    deleteSource: Type.Optional(
      Type.Boolean({ description: 'Delete the old volume once the VM has the new one; default false', default: false })
    ),
    volume: Type.Optional({
      ...VolumeRef,
      description: 'The volume that the disk must be, STORE/NAME; default whatever it is when this is asked'
    })
  },
  { additionalProperties: false }
)

export type DiskMoveArgs = Static<typeof args>

export const vmDiskMove = action({
  name: 'vm.disk.move',
  summary: "Move a VM's disk to another store, also while it runs",
  args,
  fillIn(given, state) {
    const disk = diskNamed(state.vm(given.vm), given.disk)
    if (!disk) return given
    const volume = volumeOf(disk)
    return {
      ...given,
      disk: disk.target,
      format: given.format ?? (disk.format === 'raw' ? 'raw' : 'qcow2'),
      ...(given.name || !volume ? {} : { name: volume.volume }),
      ...(given.volume || !volume ? {} : { volume: volumeName(volume) })
    }
  },
  title: ({ vm, disk, store }, state) => `${vmTitle('Move disk', vm, state)}:${disk} to ${store}`,
  claims(given, state) {
    const source = given.volume === undefined ? undefined : splitVolume(given.volume)
    for (const store of [given.store, ...(source ? [source.store] : [])]) readHostsOf(state, store)
    return [
      ...vmClaims(given.vm, state),
      ...poolClaimsOn(state, [given.store, ...(source ? [source.store] : [])], state.boundHost),
      storeWork(state, given.store),
      ...(given.name === undefined ? [] : [exclusive(resource.volume(given.store, given.name))]),
      ...(source ? [storeWork(state, source.store), exclusive(resource.volume(source.store, source.volume))] : [])
    ]
  },
  limits: ({ store }) => oneOf(limit.storage(store)),
  check: (given, state) => check(given, state),
  effect: (given, state) => effects(given, state),
  bindTo: ({ vm }, state) => bindToVm(vm, state),
  makesVolumes(given, state) {
    const source = given.volume === undefined ? undefined : splitVolume(given.volume)
    const facts = source && state.volume(source.store, source.volume)
    if (!facts || given.name === undefined) return []
    const format = given.format ?? 'qcow2'
    return [{ store: given.store, volume: given.name, format, capacityBytes: facts.capacityBytes }]
  },
  run: (ctx, given) => attempt(ctx, (step) => moveDisk(ctx, given, step), { probe: () => probeMoved(ctx, given) }),
  probe: (ctx, given) => probeMoved(ctx, given),
  undo(given) {
    if (given.volume === undefined) return { impossible: 'where it came from is not known any more' }
    if (!given.deleteSource)
      return {
        impossible: `its old volume ${given.volume} is still there, and older than the disk: move it back under another name`
      }
    const { store, volume } = splitVolume(given.volume)
    return { action: 'vm.disk.move', args: { vm: given.vm, disk: given.disk, store, name: volume, deleteSource: true } }
  }
})

function check(given: DiskMoveArgs, state: FleetState): Verdict {
  const { vm, refusal } = changeableVm(given.vm, state)
  if (refusal) return refusal
  const disk = diskNamed(vm, given.disk)
  if (!disk) return refuseUnknownDisk(vm, given.disk)
  return (
    refuseDisk(vm, disk) ??
    refuseStore(state, given.store, state.boundHost ?? (vm.activeOn || vm.home || undefined)) ??
    refuseVolumes(given, vm, disk, state) ??
    possible
  )
}

function refuseDisk(vm: VmFacts, disk: PlacedDisk): Verdict | undefined {
  const what = `disk ${disk.target} of ${named(vm)}`
  if (disk.device !== 'disk') return impossible('not_movable', `${what} is a drive`, '`taskomatic vm cdrom insert`')
  if (disk.shareable)
    return impossible(
      'not_movable',
      `${what} is written to by other VMs as well: a copy would be torn`,
      'stop all of them, and copy the volume'
    )
  if (disk.readOnly && isActive(vm.power))
    return impossible('not_movable', `${what} is read-only: it moves only while the VM is off`, 'stop the VM first')
  if (vm.snapshots.length > 0)
    return impossible(
      'vm_has_snapshots',
      `${named(vm)} has snapshots, which a copy of ${disk.target} would not have`,
      'delete its snapshots first'
    )
  return undefined
}

function refuseVolumes(given: DiskMoveArgs, vm: VmFacts, disk: PlacedDisk, state: FleetState): Verdict | undefined {
  const source = volumeOf(disk)
  const target = { store: given.store, volume: given.name ?? '' }
  // An earlier attempt may have switched over, and the old volume is still to be deleted.
  const switched = source !== undefined && volumeName(source) === volumeName(target)
  if (switched && state.phase === 'starting' && given.volume !== volumeName(target)) {
    const old = splitVolume(given.volume ?? '')
    state.store(old.store)
    return undefined
  }
  if (!source)
    return impossible(
      'no_volume',
      `disk ${disk.target} of ${named(vm)} is no volume of a known store`,
      'put its file into a pool first'
    )
  if (given.volume !== undefined && volumeName(source) !== given.volume)
    return impossible(
      'other_volume',
      `disk ${disk.target} of ${named(vm)} is ${volumeName(source)}, not ${given.volume}`,
      'look at the VM: `taskomatic vm show`, then ask again'
    )
  if (switched)
    return impossible(
      'same_volume',
      `disk ${disk.target} of ${named(vm)} is ${given.volume} already`,
      'name another store, or another name'
    )
  state.store(source.store)
  if (state.phase === 'queued' && state.volume(target.store, target.volume))
    return impossible(
      'volume_exists',
      `there is a volume ${quote(volumeName(target))} already`,
      'choose another name (`name=`), or delete it'
    )
  if (!state.volume(source.store, source.volume))
    return impossible(
      'volume_not_found',
      `there is no volume ${quote(volumeName(source))}`,
      '`taskomatic pool refresh`'
    )
  const image = given.deleteSource ? refuseChangeOfImage(state, source.store, source.volume) : undefined
  if (image) return image
  const [other] = volumeUsers(state, source.store, source.volume, vm.uuid)
  if (other === undefined || !given.deleteSource) return undefined
  return impossible(
    'volume_in_use',
    `volume ${quote(volumeName(source))} is a disk of ${other} too, or lies under one: it cannot be deleted`,
    'move the disk without deleting its old volume'
  )
}

function effects(given: DiskMoveArgs, state: FleetState): Effect[] {
  const vm = state.vm(given.vm)
  const disk = diskNamed(vm, given.disk)
  const source = volumeOf(disk)
  if (!vm || !disk || !source || given.name === undefined) return []
  const before = state.volume(source.store, source.volume)
  const target = state.store(given.store)?.pools[vm.activeOn || vm.home]?.target
  const path = target ? `${target}/${given.name}` : null
  const format = given.format ?? 'qcow2'
  const moved = { ...disk, source: path, format, store: given.store, volume: given.name }
  return [
    { subject: resource.vm(vm.uuid), facts: { disks: vm.disks.map((known) => (known === disk ? moved : known)) } },
    {
      subject: resource.volume(given.store, given.name),
      facts: {
        store: given.store,
        name: given.name,
        path: path ?? '',
        format,
        capacityBytes: before?.capacityBytes ?? 0,
        allocationBytes: before?.allocationBytes ?? 0,
        backing: null,
        usedBy: [vm.uuid]
      }
    },
    {
      subject: resource.volume(source.store, source.volume),
      facts: given.deleteSource ? null : { usedBy: (before?.usedBy ?? []).filter((user) => user !== vm.uuid) }
    }
  ]
}

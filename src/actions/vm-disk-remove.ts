// Takes a disk away from a VM, running or not, and deletes its volume if asked. libvirt says yes to an unplugging as soon as the
// guest was asked: it is done when the guest has let go, and a guest that does not is an error that says so.
import { Type, type Static } from 'typebox'
import { resource } from '../model/resource.ts'
import type { FleetState } from '../inventory/fleet-state.ts'
import { splitVolume } from './refs.ts'
import {
  action,
  complete,
  failed,
  impossible,
  nothingToDo,
  possible,
  type ActionContext,
  type Outcome,
  type Probe,
  type Verdict
} from './action.ts'
import { attempt, type Step } from './attempt.ts'
import { ownError } from './error.ts'
import { VmRef, VolumeRef } from './refs.ts'
import {
  changeableVm,
  diskNamed,
  keeps,
  lookAtDevices,
  placesOf,
  refuseUnknownDisk,
  refuseUnpluggable,
  releaseSeconds,
  releaseTimeout,
  untilReleased,
  volumeName,
  volumeOf,
  type Devices
} from './vm-devices.ts'
import { DiskRef } from './vm-disk-args.ts'
import { bindToVm, exclusive, shared, vmClaims, vmTitle } from './vm-place.ts'
import { named } from './vm-refusal.ts'
import { deletePlaced, storeWork, volumeUsers } from './volume-place.ts'
import { readHostsOf, VolumeInUse } from './volume-use.ts'

const args = Type.Object(
  {
    vm: VmRef,
    disk: DiskRef,
    volume: Type.Optional({
      ...VolumeRef,
      description: 'The volume that the disk must be, STORE/NAME; default whatever it is when this is asked'
    }),
    deleteVolume: Type.Optional(
      Type.Boolean({ description: 'Delete its volume as well; default false', default: false })
    ),
    timeoutSeconds: releaseTimeout
  },
  { additionalProperties: false }
)

type Args = Static<typeof args>

export const vmDiskRemove = action({
  name: 'vm.disk.remove',
  summary: 'Take a disk away from a VM, with its volume if asked',
  args,
  fillIn(given, state) {
    const disk = diskNamed(state.vm(given.vm), given.disk)
    const volume = volumeOf(disk)
    if (!disk) return given
    return { ...given, disk: disk.target, ...(given.volume || !volume ? {} : { volume: volumeName(volume) }) }
  },
  title: ({ vm, disk, deleteVolume }, state) =>
    `${vmTitle('Remove disk', vm, state)}:${disk}${deleteVolume ? ' with its volume' : ''}`,
  claims: (given, state) => [...vmClaims(given.vm, state), ...volumeClaims(given, state)],
  check: (given, state) => check(given, state),
  effect(given, state) {
    const vm = state.vm(given.vm)
    if (!vm) return []
    const disks = vm.disks.filter(({ target }) => target !== given.disk)
    const effects = [{ subject: resource.vm(vm.uuid), facts: { disks } }]
    if (given.volume === undefined) return effects
    const { store, volume } = splitVolume(given.volume)
    const usedBy = (state.volume(store, volume)?.usedBy ?? []).filter((user) => user !== vm.uuid)
    return [...effects, { subject: resource.volume(store, volume), facts: given.deleteVolume ? null : { usedBy } }]
  },
  bindTo: ({ vm }, state) => bindToVm(vm, state),
  run: (ctx, given) => attempt(ctx, (step) => remove(ctx, given, step), { probe: () => probe(ctx, given) }),
  probe: (ctx, given) => probe(ctx, given),
  undoesHalf: true,
  undo(given, state) {
    if (given.deleteVolume) return { impossible: 'its volume was deleted' }
    if (given.volume === undefined) return { impossible: 'it was no volume of a known store' }
    const disk = diskNamed(state.vm(given.vm), given.disk)
    return {
      action: 'vm.disk.add',
      args: {
        vm: given.vm,
        volume: given.volume,
        target: given.disk,
        ...(disk?.bus === 'scsi' || disk?.bus === 'sata' || disk?.bus === 'ide' ? { bus: disk.bus } : {}),
        ...(disk?.readOnly ? { readOnly: true } : {}),
        ...(disk?.shareable ? { shareable: true } : {})
      }
    }
  }
})

function volumeClaims({ volume: id, deleteVolume }: Args, state: FleetState) {
  if (id === undefined) return []
  const { store, volume } = splitVolume(id)
  // Also without deletion: who uses a volume changes.
  if (!deleteVolume) return [shared(resource.store(store)), shared(resource.volume(store, volume))]
  readHostsOf(state, store)
  return [storeWork(state, store), exclusive(resource.volume(store, volume))]
}

function check(given: Args, state: FleetState): Verdict {
  const { vm, refusal } = changeableVm(given.vm, state)
  if (refusal) return refusal
  const disk = diskNamed(vm, given.disk)
  if (!disk) {
    // Another attempt may have removed it and still have to delete its volume.
    return state.phase === 'starting' ? nothingToDo('it is gone already') : refuseUnknownDisk(vm, given.disk)
  }
  const volume = volumeOf(disk)
  if (given.volume !== undefined && (!volume || volumeName(volume) !== given.volume)) {
    return impossible(
      'other_volume',
      `disk ${given.disk} of ${named(vm)} is ${volume ? volumeName(volume) : (disk.source ?? 'empty')}, not ${given.volume}`,
      'look at the VM: `taskomatic vm show`, then ask again'
    )
  }
  const unpluggable = refuseUnpluggable(vm, disk.bus ?? '', `disk ${disk.target}`)
  if (unpluggable) return unpluggable
  if (!given.deleteVolume) return possible
  if (!volume)
    return impossible(
      'no_volume',
      `disk ${disk.target} of ${named(vm)} is no volume of a known store`,
      'remove the disk without its volume, and delete the file on its host'
    )
  if (vm.snapshots.length > 0)
    return impossible(
      'vm_has_snapshots',
      `${named(vm)} has snapshots, which need the volume of ${disk.target}`,
      'delete its snapshots first, or remove the disk without its volume'
    )
  return refuseDeletion(vm.uuid, volume.store, volume.volume, state) ?? possible
}

function refuseDeletion(vm: string, store: string, volume: string, state: FleetState): Verdict | undefined {
  // Read here so that the run finds the pools of the store.
  state.store(store)
  const [other] = volumeUsers(state, store, volume, vm)
  if (other === undefined) return undefined
  return impossible(
    'volume_in_use',
    `volume "${store}/${volume}" is a disk of ${other} too: it is not deleted`,
    'remove the disk without its volume'
  )
}

const has = (devices: Devices, target: string): boolean =>
  placesOf(devices).some((place) => devices[place]?.disks.some((disk) => disk.target === target))

async function remove(ctx: ActionContext, given: Args, step: Step): Promise<Outcome> {
  const target = given.disk
  step('look at the disks')
  const { host, name, devices } = await lookAtDevices(ctx, given.vm)
  if (devices.running?.disks.some((disk) => disk.target === target)) {
    const seconds = given.timeoutSeconds ?? releaseSeconds
    step('ask the guest to let go of the disk')
    await host.removeDisk(given.vm, target, 'running')
    step('wait until the guest lets go of the disk')
    const isThere = (vm: { disks: { target: string }[] }) => vm.disks.some((disk) => disk.target === target)
    const released = await untilReleased(ctx, host, given.vm, isThere, seconds * 1000)
    if (!released) return failed(keeps(name, host.name, target, seconds))
  }
  if (devices.definition) {
    step('remove the disk from the definition')
    await host.removeDisk(given.vm, target, 'definition')
  }
  step('look whether it is gone')
  const after = await host.vmDevices(given.vm)
  await ctx.observe.vm(host.name, given.vm)
  if (after && has(after, target)) return failed(stillThere(name, host.name, target))
  return complete({
    host: host.name,
    target,
    volume: given.volume ?? null,
    ...(await deleteItsVolume(ctx, given, step))
  })
}

async function deleteItsVolume(
  ctx: ActionContext,
  given: Args,
  step: Step
): Promise<{ deleted: boolean; kept?: string }> {
  if (!given.deleteVolume || given.volume === undefined) return { deleted: false }
  step(`delete volume ${given.volume}`)
  const { store, volume } = splitVolume(given.volume)
  try {
    await deletePlaced(ctx, store, volume)
    return { deleted: true }
  } catch (error) {
    if (!(error instanceof VolumeInUse)) throw error
    // The disk is gone as asked; that somebody else has come to need its bytes is told with it.
    ctx.log('warn', error.message, { volume: given.volume })
    return { deleted: false, kept: error.message }
  }
}

async function probe(ctx: ActionContext, given: Args): Promise<Probe> {
  const { host, devices } = await lookAtDevices(ctx, given.vm)
  const evidence = {
    host: host.name,
    running: devices.running?.disks.map(({ target }) => target) ?? null,
    definition: devices.definition?.disks.map(({ target }) => target) ?? null
  }
  // What is left to delete is deleted by another run.
  if (has(devices, given.disk) || given.deleteVolume) return { happened: 'no', evidence }
  await ctx.observe.vm(host.name, given.vm)
  return {
    happened: 'yes',
    evidence,
    result: { host: host.name, target: given.disk, volume: given.volume ?? null, deleted: false }
  }
}

const stillThere = (name: string, host: string, target: string) =>
  ownError(
    'disk_still_there',
    `${host} accepted that ${name} loses disk ${target} and still shows it`,
    'look whether it is gone',
    'look at the VM on its host, then retry the task',
    { host, target }
  )

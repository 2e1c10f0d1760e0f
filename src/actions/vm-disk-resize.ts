// Makes a VM's disk larger. A running guest is told and sees the new size at once; of one that is off the volume grows.
import { Type, type Static } from 'typebox'
import { HostError } from '../host/error.ts'
import type { FleetState } from '../inventory/fleet-state.ts'
import { memoryText } from '../model/memory-text.ts'
import { resource } from '../model/resource.ts'
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
import { refuseTooLarge } from './store-room.ts'
import { splitVolume, VmRef, VolumeRef } from './refs.ts'
import { volumeSizeMiB } from './vm-create-args.ts'
import { changeableVm, diskNamed, lookAtDevices, refuseUnknownDisk, volumeName, volumeOf } from './vm-devices.ts'
import { DiskRef } from './vm-disk-args.ts'
import { bindToVm, exclusive, poolClaimsOn, vmClaims, vmTitle } from './vm-place.ts'
import { named } from './vm-refusal.ts'
import { findVolume, poolFor, refuseOverlaid, storeWork, tellPools, volumeUsers } from './volume-place.ts'
import { readHostsOf, refuseUsedVolume, VolumeInUse } from './volume-use.ts'

const mebibyte = 1024 * 1024

const args = Type.Object(
  {
    vm: VmRef,
    disk: DiskRef,
    sizeMiB: volumeSizeMiB('New size in MiB; never smaller than it is'),
    volume: Type.Optional({
      ...VolumeRef,
      description: 'The volume that the disk must be, STORE/NAME; default whatever it is when this is asked'
    })
  },
  { additionalProperties: false }
)

type Args = Static<typeof args>

export const vmDiskResize = action({
  name: 'vm.disk.resize',
  summary: "Make a VM's disk larger, also while it runs",
  args,
  irreversible: true,
  fillIn(given, state) {
    const disk = diskNamed(state.vm(given.vm), given.disk)
    const volume = volumeOf(disk)
    if (!disk) return given
    return { ...given, disk: disk.target, ...(given.volume || !volume ? {} : { volume: volumeName(volume) }) }
  },
  title: ({ vm, disk, sizeMiB }, state) => `${vmTitle('Resize disk', vm, state)}:${disk} to ${memoryText(sizeMiB)}`,
  claims(given, state) {
    if (given.volume === undefined) return vmClaims(given.vm, state)
    const { store, volume } = splitVolume(given.volume)
    readHostsOf(state, store)
    return [
      ...vmClaims(given.vm, state),
      ...poolClaimsOn(state, [store], state.boundHost),
      storeWork(state, store),
      exclusive(resource.volume(store, volume))
    ]
  },
  check: (given, state) => check(given, state),
  effect(given) {
    if (given.volume === undefined) return []
    const { store, volume } = splitVolume(given.volume)
    return [{ subject: resource.volume(store, volume), facts: { capacityBytes: given.sizeMiB * mebibyte } }]
  },
  bindTo: ({ vm }, state) => bindToVm(vm, state),
  makesVolumes(given, state) {
    if (given.volume === undefined) return []
    const { store, volume } = splitVolume(given.volume)
    const format = state.volume(store, volume)?.format ?? 'raw'
    return [{ store, volume, format, capacityBytes: given.sizeMiB * mebibyte }]
  },
  run: (ctx, given) => attempt(ctx, (step) => resize(ctx, given, step), { probe: () => probe(ctx, given) }),
  probe: (ctx, given) => probe(ctx, given),
  undo: () => ({ impossible: 'a disk is never made smaller: that would cut data off' })
})

function check(given: Args, state: FleetState): Verdict {
  const { vm, refusal } = changeableVm(given.vm, state)
  if (refusal) return refusal
  const disk = diskNamed(vm, given.disk)
  if (!disk) return refuseUnknownDisk(vm, given.disk)
  const volume = volumeOf(disk)
  const facts = volume && state.volume(volume.store, volume.volume)
  if (!volume || !facts || disk.device !== 'disk' || disk.readOnly)
    return impossible(
      'not_resizable',
      `disk ${disk.target} of ${named(vm)} is no volume of a known store that it writes to`,
      'resize it on its host'
    )
  if (given.volume !== undefined && volumeName(volume) !== given.volume)
    return impossible(
      'other_volume',
      `disk ${disk.target} of ${named(vm)} is ${volumeName(volume)}, not ${given.volume}`,
      'look at the VM: `taskomatic vm show`, then ask again'
    )
  state.store(volume.store)
  const [other] = volumeUsers(state, volume.store, volume.volume, vm.uuid)
  if (other !== undefined)
    return impossible(
      'volume_in_use',
      `volume "${volumeName(volume)}" is a disk of ${other} too, or lies under one: it would not notice the new size`,
      'detach it there first'
    )
  const wanted = given.sizeMiB * mebibyte
  if (facts.capacityBytes === wanted) return nothingToDo(`disk ${disk.target} of ${named(vm)} has that size already`)
  if (facts.capacityBytes < wanted)
    return refuseTooLarge(state, volume.store, { format: facts.format ?? 'raw', capacityBytes: wanted }) ?? possible
  return impossible('cannot_shrink', shrinks(vm.name, given, facts.capacityBytes), 'ask for a larger size')
}

const shrinks = (vm: string, { disk, sizeMiB }: Args, bytes: number): string =>
  `disk ${disk} of ${vm} has ${memoryText(bytes / mebibyte)}: making it smaller (${memoryText(sizeMiB)}) would cut data off`

async function resize(ctx: ActionContext, given: Args, step: Step): Promise<Outcome> {
  if (given.volume === undefined) throw new Error('vm.disk.resize is checked before it runs')
  const { store, volume } = splitVolume(given.volume)
  const wanted = given.sizeMiB * mebibyte
  step('look at the disk')
  const { host, name, devices } = await lookAtDevices(ctx, given.vm)
  const pool = poolFor(ctx, store, host.name)
  const before = await findVolume(host, pool, volume)
  if (!before)
    throw new HostError('bad_input', host.name, `volume ${given.volume} is not in pool ${pool} on ${host.name}`)
  if (before.capacityBytes > wanted)
    return failed(
      ownError('cannot_shrink', shrinks(name, given, before.capacityBytes), 'look at the disk', 'ask for a larger size')
    )
  if (before.capacityBytes < wanted) {
    try {
      await refuseOverlaid(host, pool, before)
      if (!devices.running) await refuseUsedVolume(ctx, store, volume, { defined: false })
    } catch (error) {
      if (!(error instanceof VolumeInUse)) throw error
      return failed(
        ownError('volume_in_use', error.message, 'look at the disk', 'resize what uses it, or detach it there first')
      )
    }
    step(devices.running ? 'tell the guest that its disk is larger' : 'resize the volume')
    if (devices.running) await host.resizeDisk(given.vm, given.disk, wanted)
    else await host.resizeVolume(pool, volume, wanted)
  }
  step('look at its size')
  await host.refreshPool(pool)
  const after = await host.volume(pool, volume)
  await tellPools(ctx, store, host.name)
  if (after && after.capacityBytes >= wanted)
    return complete({ host: host.name, target: given.disk, volume: given.volume, capacityBytes: after.capacityBytes })
  return failed(
    ownError(
      'not_resized',
      `disk ${given.disk} of ${name} has ${after?.capacityBytes ?? 0} bytes after it was made larger`,
      'look at its size',
      'look at the host, then retry the task',
      { host: host.name }
    )
  )
}

async function probe(ctx: ActionContext, given: Args): Promise<Probe> {
  if (given.volume === undefined) throw new Error('vm.disk.resize is checked before it runs')
  const { store, volume } = splitVolume(given.volume)
  const { host } = await lookAtDevices(ctx, given.vm)
  const pool = poolFor(ctx, store, host.name)
  await host.refreshPool(pool)
  const found = await host.volume(pool, volume)
  const evidence = { host: host.name, pool, capacityBytes: found?.capacityBytes ?? null }
  if (!found || found.capacityBytes < given.sizeMiB * mebibyte) return { happened: 'no', evidence }
  await ctx.observe.pool(host.name, pool)
  const result = { host: host.name, target: given.disk, volume: given.volume, capacityBytes: found.capacityBytes }
  return { happened: 'yes', evidence, result }
}

// Gives a VM another disk, running or not: a blank volume, a copy, or a volume that exists. Its definition changes with it.
import { resource } from '../model/resource.ts'
import { quote } from '../model/name.ts'
import type { ObservedVolume } from '../model/storage.ts'
import type { NewDisk } from '../host/vm-devices.ts'
import { HostError } from '../host/error.ts'
import type { Host } from '../host/host.ts'
import type { FleetState } from '../inventory/fleet-state.ts'
import type { PlacedDisk, VmFacts } from '../inventory/facts.ts'
import type { Effect } from '../queue/task.ts'
import {
  action,
  complete,
  failed,
  impossible,
  possible,
  type ActionContext,
  type Outcome,
  type Probe,
  type Verdict
} from './action.ts'
import { attempt, type Step } from './attempt.ts'
import { ownError } from './error.ts'
import { limit, oneOf } from './limits.ts'
import { isMarked, letGo, makeVolume, unmakeVolume, VolumeTaken } from './new-volume.ts'
import { belowEffects } from './vm-create.ts'
import { refuseExisting, refuseNew } from './vm-create-check.ts'
import { diskProblem } from './vm-create-disks.ts'
import {
  changeableVm,
  diskNamed,
  lookAtDevices,
  placesOf,
  refuseUnpluggable,
  volumeName,
  type Devices
} from './vm-devices.ts'
import { addedDisk, diskAddArgs, fillInDisk, type AddedDisk, type DiskAddArgs } from './vm-disk-args.ts'
import { volumesOf } from './store-room.ts'
import { bindToVm, exclusive, poolClaimsOn, shared, vmClaims, vmTitle } from './vm-place.ts'
import { named } from './vm-refusal.ts'
import { findVolume, poolFor, refuseStore, storeWork, tellPools } from './volume-place.ts'
import { isRefused } from './put-back.ts'

const appearsMs = 30_000

export const vmDiskAdd = action({
  name: 'vm.disk.add',
  summary: 'Give a VM another disk: a new volume, a copy, or a volume that exists',
  args: diskAddArgs,
  fillIn: fillInDisk,
  title: ({ vm, target }, state) => `${vmTitle('Add disk', vm, state)}:${target ?? ''}`,
  claims: (args, state) => [...vmClaims(args.vm, state), ...diskClaims(addedDisk(args), state)],
  // A copy keeps its store busy.
  limits: ({ from, linked, store }) => (from === undefined || linked ? [] : oneOf(limit.storage(store ?? ''))),
  check: (args, state) => check(args, state),
  effect: (args, state) => effects(args, state),
  bindTo: ({ vm }, state) => bindToVm(vm, state),
  makesVolumes(args, state) {
    const disk = addedDisk(args)
    return disk ? volumesOf([disk], state) : []
  },
  run: (ctx, args) => attempt(ctx, (step) => add(ctx, args, step), { probe: () => probe(ctx, args) }),
  probe: (ctx, args) => probe(ctx, args),
  undoesHalf: true,
  undo(args) {
    const disk = addedDisk(args)
    if (!disk) return { impossible: 'it is not clear what was added' }
    // Named, so that no other volume goes that is the target later.
    const volume = volumeName(disk)
    return {
      action: 'vm.disk.remove',
      args: { vm: args.vm, disk: disk.target, volume, deleteVolume: args.volume === undefined }
    }
  }
})

const diskClaims = (disk: AddedDisk | undefined, state: FleetState) =>
  disk
    ? [
        ...poolClaimsOn(state, [disk.store, ...(disk.from ? [disk.from.store] : [])], state.boundHost),
        disk.origin === 'existing' ? shared(resource.store(disk.store)) : storeWork(state, disk.store),
        (disk.readOnly || disk.shareable ? shared : exclusive)(resource.volume(disk.store, disk.volume)),
        ...(disk.from
          ? [shared(resource.store(disk.from.store)), shared(resource.volume(disk.from.store, disk.from.volume))]
          : [])
      ]
    : []

function check(args: DiskAddArgs, state: FleetState): Verdict {
  const problem = diskProblem(args)
  if (problem) return impossible('bad_disk', problem.message, problem.next)
  const { vm, refusal } = changeableVm(args.vm, state)
  if (refusal) return refusal
  const disk = addedDisk(args)
  if (!disk) throw new Error('a disk without a problem is planned')
  const host = state.boundHost ?? (vm.activeOn || vm.home || undefined)
  const stores = [disk.store, ...(disk.from ? [disk.from.store] : [])]
  return (
    refuseTarget(vm, disk) ??
    refuseUnpluggable(vm, disk.bus, 'a disk') ??
    stores.map((store) => refuseStore(state, store, host)).find((verdict) => verdict !== undefined) ??
    refuseVolume(vm, disk, state) ??
    possible
  )
}

function refuseTarget(vm: VmFacts, disk: AddedDisk): Verdict | undefined {
  const taken = diskNamed(vm, disk.target)
  // An earlier attempt may have added it.
  if (!taken || isSame(taken, disk)) return undefined
  return impossible(
    'target_taken',
    `${named(vm)} has a disk ${disk.target} already (${taken.source ?? 'empty'})`,
    'leave the target out, or name a free one'
  )
}

const isSame = (known: PlacedDisk, disk: AddedDisk): boolean =>
  known.store === disk.store && known.volume === disk.volume

function refuseVolume(vm: VmFacts, disk: AddedDisk, state: FleetState): Verdict | undefined {
  const own = diskNamed(vm, volumeName(disk))
  if (own && own.target !== disk.target)
    return impossible(
      'volume_twice',
      `volume ${quote(volumeName(disk))} is disk ${own.target} of ${named(vm)} already`,
      'use another volume'
    )
  if (disk.origin !== 'existing') return refuseNew(disk, state)
  if (disk.shareable && sharedByAll(vm, disk, state)) return refuseExisting({ ...disk, readOnly: true }, vm.uuid, state)
  return refuseExisting(disk, vm.uuid, state)
}

/** Every other VM that uses the volume has it as shareable, or only reads it. */
const sharedByAll = (vm: VmFacts, disk: AddedDisk, state: FleetState): boolean =>
  (state.volume(disk.store, disk.volume)?.usedBy ?? [])
    .filter((user) => user !== vm.uuid)
    .every((user) => {
      const theirs = diskNamed(state.vm(user), volumeName(disk))
      return theirs !== undefined && (theirs.shareable || theirs.readOnly)
    })

function effects(args: DiskAddArgs, state: FleetState): Effect[] {
  const vm = state.vm(args.vm)
  const disk = addedDisk(args)
  if (!vm || !disk) return []
  const target = state.store(disk.store)?.pools[vm.activeOn || vm.home]?.target
  const path = target ? `${target}/${disk.volume}` : null
  const added: PlacedDisk = {
    target: disk.target,
    device: 'disk',
    kind: 'file',
    source: path,
    format: disk.format,
    bus: disk.bus,
    readOnly: disk.readOnly,
    shareable: disk.shareable,
    store: disk.store,
    volume: disk.volume
  }
  const others = vm.disks.filter((known) => known.target !== disk.target)
  const subject = resource.volume(disk.store, disk.volume)
  const usedBy = [...new Set([...(state.volume(disk.store, disk.volume)?.usedBy ?? []), vm.uuid])]
  const made = {
    store: disk.store,
    name: disk.volume,
    path: path ?? '',
    format: disk.format,
    capacityBytes:
      disk.capacityBytes ?? state.volume(disk.from?.store ?? '', disk.from?.volume ?? '')?.capacityBytes ?? 0,
    allocationBytes: 0,
    backing: disk.linked && disk.from ? (state.volume(disk.from.store, disk.from.volume)?.path ?? null) : null
  }
  return [
    { subject: resource.vm(vm.uuid), facts: { disks: [...others, added] } },
    { subject, facts: disk.origin === 'existing' ? { usedBy } : { ...made, usedBy } },
    ...belowEffects(disk, vm.uuid, state)
  ]
}

async function add(ctx: ActionContext, args: DiskAddArgs, step: Step): Promise<Outcome> {
  const disk = addedDisk(args)
  if (!disk) throw new Error('vm.disk.add is checked before it runs')
  step('look at the disks')
  const { host, name, devices } = await lookAtDevices(ctx, args.vm)
  const pool = poolFor(ctx, disk.store, host.name)
  const before = await findVolume(host, pool, disk.volume)
  const taken = placesOf(devices)
    .map((place) => onTarget(devices, place, disk.target))
    .find(Boolean)
  if (taken && taken.source !== before?.path) return failed(targetTaken(name, disk, taken.source, host.name))
  try {
    const volume = taken && before ? before : await provide(ctx, host, pool, disk, before, step)
    const spec = specOf(disk, volume)
    for (const place of placesOf(devices)) {
      if (onTarget(devices, place, disk.target)) continue
      step(place === 'running' ? 'plug the disk in' : 'add the disk to the definition')
      await host.addDisk(args.vm, spec, place)
    }
  } catch (error) {
    await takeBack(ctx, host, pool, args, disk, error, step)
    if (error instanceof VolumeTaken) return failed(volumeTaken(error, host.name))
    throw error
  }
  step('look whether it is there')
  await host.untilVm(args.vm, (vm) => vm === undefined || vm.disks.some(({ target }) => target === disk.target), {
    timeoutMs: appearsMs,
    signal: ctx.signal
  })
  return finish(ctx, host, pool, args, disk)
}

const onTarget = (devices: Devices, place: 'running' | 'definition', target: string) =>
  devices[place]?.disks.find((disk) => disk.target === target)

/** The volume, made anew where it is to be new. */
async function provide(
  ctx: ActionContext,
  host: Host,
  pool: string,
  disk: AddedDisk,
  before: ObservedVolume | undefined,
  step: Step
): Promise<ObservedVolume> {
  const id = volumeName(disk)
  if (disk.origin === 'existing') {
    if (before) return before
    throw new HostError('bad_input', host.name, `volume ${quote(id)} is not in pool ${pool} on ${host.name}`)
  }
  step(`${disk.origin === 'copy' ? 'copy' : 'create'} volume ${id}`)
  const from = disk.from && { pool: poolFor(ctx, disk.from.store, host.name), name: disk.from.volume }
  const { format, capacityBytes } = disk
  return makeVolume(ctx, host, { pool, name: disk.volume, format, capacityBytes, from, linked: disk.linked })
}

const specOf = ({ format, bus, readOnly, shareable, target }: AddedDisk, { path }: ObservedVolume): NewDisk => ({
  path,
  format,
  bus,
  device: 'disk',
  readOnly,
  shareable,
  target
})

/** A refusal leaves nothing: neither in the definition nor a volume that nobody uses. */
async function takeBack(
  ctx: ActionContext,
  host: Host,
  pool: string,
  args: DiskAddArgs,
  disk: AddedDisk,
  error: unknown,
  step: Step
): Promise<void> {
  const refused = error instanceof VolumeTaken || isRefused(error)
  if (!refused) return
  try {
    const devices = await host.vmDevices(args.vm)
    // Plugged in all the same: then it stays, and the volume with it.
    if (devices && onTarget(devices, 'running', disk.target)) return
    if (devices?.running && !(error instanceof VolumeTaken)) await host.removeDisk(args.vm, disk.target, 'definition')
    if (disk.origin !== 'existing') await unmakeVolume(ctx, host, { pool, name: disk.volume })
    await ctx.observe.pool(host.name, pool)
  } catch (second) {
    if (!(second instanceof HostError)) throw second
    ctx.log('warn', `what was made for the disk was not all taken back: ${second.message}`, { host: host.name })
    step('take back what was made for the disk')
  }
}

async function finish(
  ctx: ActionContext,
  host: Host,
  pool: string,
  args: DiskAddArgs,
  disk: AddedDisk
): Promise<Outcome> {
  if (disk.origin !== 'existing') await letGo(ctx, host, { pool, name: disk.volume })
  await ctx.observe.vm(host.name, args.vm)
  await tellPools(ctx, disk.store, host.name)
  return complete({ host: host.name, target: disk.target, volume: volumeName(disk) })
}

/** Added = in all that there is of the VM, with this volume, and no marker left. */
async function probe(ctx: ActionContext, args: DiskAddArgs): Promise<Probe> {
  const disk = addedDisk(args)
  if (!disk) throw new Error('vm.disk.add is checked before it runs')
  const { host, devices } = await lookAtDevices(ctx, args.vm)
  const pool = poolFor(ctx, disk.store, host.name)
  const volume = await host.volume(pool, disk.volume)
  const sources = placesOf(devices).map((place) => onTarget(devices, place, disk.target)?.source ?? null)
  const evidence = { host: host.name, target: disk.target, volume: volume?.path ?? null, sources }
  const added = volume !== undefined && sources.length > 0 && sources.every((source) => source === volume.path)
  const marked = disk.origin !== 'existing' && (await isMarked(ctx, host, { pool, name: disk.volume }))
  if (!added || marked) return { happened: 'no', evidence }
  await ctx.observe.vm(host.name, args.vm)
  await ctx.observe.pool(host.name, pool)
  const result = { host: host.name, target: disk.target, volume: volumeName(disk) }
  return { happened: 'yes', evidence, result }
}

const targetTaken = (name: string, disk: AddedDisk, source: string | null, host: string) =>
  ownError(
    'target_taken',
    `${name} has a disk ${disk.target} on ${host} already (${source ?? 'empty'})`,
    'look at the disks',
    'leave the target out, or name a free one',
    { host, target: disk.target }
  )

const volumeTaken = (error: VolumeTaken, host: string) =>
  ownError(
    'volume_exists',
    error.message,
    'create the volume',
    'choose another name, use it as it is (`volume=`), or delete it',
    { host, pool: error.pool, volume: error.volume }
  )

// Carries a disk to another volume and lets the VM go on with it. What an earlier attempt began is found by the new volume's marker:
// a copy that still runs is waited for, one that is gone is made again, a guest that was switched over stays so.
import { HostError } from '../host/error.ts'
import type { Host } from '../host/host.ts'
import type { ObservedVolume } from '../model/storage.ts'
import { complete, failed, retry, type ActionContext, type Outcome, type Probe } from './action.ts'
import { maxAttempts, retryDelayMs, type Step } from './attempt.ts'
import { ownError } from './error.ts'
import { dropMarker, isMarked, makeVolume, unmakeVolume, VolumeTaken } from './new-volume.ts'
import { splitVolume } from './refs.ts'
import { lookAtDevices, placesOf, type Devices } from './vm-devices.ts'
import type { DiskMoveArgs } from './vm-disk-move.ts'
import { deletePlaced, findVolume, poolFor, tellPools } from './volume-place.ts'
import { VolumeInUse } from './volume-use.ts'
import { isRefused } from './put-back.ts'

const pollMs = 500

type Move = {
  uuid: string
  name: string
  host: Host
  target: string
  format: string
  from: { store: string; pool: string; volume: string }
  to: { store: string; pool: string; volume: string }
}

async function moveOf(ctx: ActionContext, given: DiskMoveArgs): Promise<{ move: Move; devices: Devices }> {
  if (given.volume === undefined || given.name === undefined)
    throw new Error('vm.disk.move is filled in before it runs')
  const { host, name, devices } = await lookAtDevices(ctx, given.vm)
  const place = (store: string, volume: string) => ({ store, pool: poolFor(ctx, store, host.name), volume })
  const from = splitVolume(given.volume)
  const move = {
    uuid: given.vm,
    name,
    host,
    target: given.disk,
    format: given.format ?? 'qcow2',
    from: place(from.store, from.volume),
    to: place(given.store, given.name)
  }
  return { move, devices }
}

const sourceIn = (devices: Devices, place: 'running' | 'definition', target: string): string | null | undefined =>
  devices[place]?.disks.find((disk) => disk.target === target)?.source

export async function moveDisk(ctx: ActionContext, given: DiskMoveArgs, step: Step): Promise<Outcome> {
  step('look at the disks')
  const { move, devices } = await moveOf(ctx, given)
  const { host, uuid, target, to } = move
  const there = await host.volume(to.pool, to.volume)
  const isMoved = (place: 'running' | 'definition') =>
    there !== undefined && sourceIn(devices, place, target) === there.path
  try {
    if (devices.running && !isMoved('running')) {
      const ended = await moveRunning(ctx, move, step)
      if (ended) return ended
    } else if (!devices.running && !isMoved('definition')) {
      step(`copy the volume to ${to.store}`)
      const copy = await make(ctx, move, { pool: move.from.pool, name: move.from.volume })
      step('point the definition at the copy')
      await host.setDiskSource(uuid, target, { path: copy.path, format: move.format }, 'definition')
    }
  } catch (error) {
    if (error instanceof VolumeTaken) return failed(volumeTaken(error, host.name))
    if (isRefused(error)) await tidy(ctx, move, step)
    throw error
  }
  return finish(ctx, given, move, step)
}

const make = (
  ctx: ActionContext,
  move: Move,
  from: { pool: string; name: string } | null,
  capacityBytes: number | null = null
) => makeVolume(ctx, move.host, { pool: move.to.pool, name: move.to.volume, format: move.format, capacityBytes, from })

/** Undefined once the guest uses the new volume. */
async function moveRunning(ctx: ActionContext, move: Move, step: Step): Promise<Outcome | undefined> {
  const { host, uuid, target, from, to } = move
  if (await host.diskCopy(uuid, target)) {
    // Ours if our marker is there: the VM has been claimed since.
    if (!(await isMarked(ctx, host, { pool: to.pool, name: to.volume }))) return failed(busy(move))
  } else {
    const source = await findVolume(host, from.pool, from.volume)
    if (!source)
      throw new HostError('bad_input', host.name, `volume ${from.store}/${from.volume} is not on ${host.name}`)
    step(`make the volume in ${to.store}`)
    const made = await make(ctx, move, null, source.capacityBytes)
    step('copy the disk while the guest runs')
    await host.copyDisk(uuid, target, { path: made.path, format: move.format })
  }
  step('wait until the copy has caught up')
  const copied = await untilSwitched(ctx, move)
  if (copied === 'switched') return undefined
  if (copied === 'cancelled') {
    step('stop copying')
    await host.abortCopy(uuid, target)
    await tidy(ctx, move, step)
    throw new HostError('aborted', host.name, `${host.name}: stopped copying ${target} of ${move.name}`)
  }
  // The copy is gone: switched over by an attempt whose answer was lost, the guest is off, or it failed.
  const made = await host.volume(to.pool, to.volume)
  const devices = await host.vmDevices(uuid)
  if (made && devices && sourceIn(devices, 'running', target) === made.path) return undefined
  const error = copyEnded(move, devices?.running == null)
  if (devices?.running == null && ctx.task.attempt < maxAttempts) return retry(retryDelayMs(ctx.task.attempt), error)
  await tidy(ctx, move, step)
  return failed(error)
}

/** Tries to switch over as soon as everything was copied once; woken by the host's events and by a timer. */
async function untilSwitched(
  ctx: ActionContext,
  { host, uuid, target }: Move
): Promise<'switched' | 'cancelled' | 'gone'> {
  let wake = () => {}
  const stop = host.onChange((change) => {
    if (change.kind === 'vm' && change.uuid === uuid) wake()
  })
  const woken = () => wake()
  ctx.signal.addEventListener('abort', woken)
  try {
    for (;;) {
      if (ctx.signal.aborted) return 'cancelled'
      const { promise, resolve } = Promise.withResolvers<void>()
      wake = resolve
      const copy = await host.diskCopy(uuid, target)
      if (!copy) return 'gone'
      ctx.progress({ done: copy.doneBytes, total: copy.totalBytes, unit: 'bytes' })
      if (copy.doneBytes === copy.totalBytes && (await host.switchToCopy(uuid, target))) return 'switched'
      const timer = setTimeout(resolve, pollMs)
      await promise
      clearTimeout(timer)
    }
  } finally {
    ctx.signal.removeEventListener('abort', woken)
    stop()
  }
}

async function finish(ctx: ActionContext, given: DiskMoveArgs, move: Move, step: Step): Promise<Outcome> {
  const { host, uuid, target, to, from } = move
  step('look at the disks again')
  const volume = await host.volume(to.pool, to.volume)
  let devices = await host.vmDevices(uuid)
  if (volume && devices?.definition && sourceIn(devices, 'definition', target) !== volume.path) {
    step('point the definition at the copy')
    await host.setDiskSource(uuid, target, { path: volume.path, format: move.format }, 'definition')
    devices = await host.vmDevices(uuid)
  }
  await ctx.observe.vm(host.name, uuid)
  if (!volume || !devices || !isWhole(devices, target, volume)) return failed(notMoved(move))
  await dropMarker(ctx, host, { pool: to.pool, name: to.volume })
  await tellPools(ctx, to.store, host.name)
  const result = { host: host.name, target, from: `${from.store}/${from.volume}`, to: `${to.store}/${to.volume}` }
  if (!given.deleteSource) return complete({ ...result, deleted: false })
  step(`delete volume ${result.from}`)
  try {
    await deletePlaced(ctx, from.store, from.volume, uuid)
    return complete({ ...result, deleted: true })
  } catch (error) {
    if (!(error instanceof VolumeInUse)) throw error
    ctx.log('warn', error.message, { volume: result.from })
    return complete({ ...result, deleted: false, kept: error.message })
  }
}

const isWhole = (devices: Devices, target: string, volume: ObservedVolume): boolean =>
  placesOf(devices).every((place) => sourceIn(devices, place, target) === volume.path)

/** What was copied so far is no use to anybody. That tidying fails must not hide why it was needed. */
async function tidy(ctx: ActionContext, { host, uuid, target, to }: Move, step: Step): Promise<void> {
  try {
    const made = await host.volume(to.pool, to.volume)
    const devices = await host.vmDevices(uuid)
    const used = made && devices && placesOf(devices).some((place) => sourceIn(devices, place, target) === made.path)
    if (used || (await host.diskCopy(uuid, target))) return
    await unmakeVolume(ctx, host, { pool: to.pool, name: to.volume })
    await ctx.observe.pool(host.name, to.pool)
  } catch (error) {
    if (!(error instanceof HostError) || error.code === 'fenced') throw error
    ctx.log('warn', `the unfinished copy was not deleted: ${error.message}`, { host: host.name, volume: to.volume })
    step('delete the unfinished copy')
  }
}

/** `no` = not all of it: another run goes on from what there is. */
export async function probeMoved(ctx: ActionContext, given: DiskMoveArgs): Promise<Probe> {
  const { move, devices } = await moveOf(ctx, given)
  const { host, target, to, from } = move
  const volume = await host.volume(to.pool, to.volume)
  const evidence = {
    host: host.name,
    running: sourceIn(devices, 'running', target) ?? null,
    definition: sourceIn(devices, 'definition', target) ?? null,
    volume: volume?.path ?? null
  }
  if (!volume || !isWhole(devices, target, volume)) return { happened: 'no', evidence }
  if (await isMarked(ctx, host, { pool: to.pool, name: to.volume })) return { happened: 'no', evidence }
  if (given.deleteSource && (await host.volume(from.pool, from.volume))) return { happened: 'no', evidence }
  await ctx.observe.vm(host.name, given.vm)
  await ctx.observe.pool(host.name, to.pool)
  const result = { host: host.name, target, from: `${from.store}/${from.volume}`, to: `${to.store}/${to.volume}` }
  return { happened: 'yes', evidence, result: { ...result, deleted: given.deleteSource ?? false } }
}

const volumeTaken = (error: VolumeTaken, host: string) =>
  ownError('volume_exists', error.message, 'make the volume', 'choose another name, or delete it', {
    host,
    pool: error.pool,
    volume: error.volume
  })

const busy = ({ name, target, host }: Move) =>
  ownError(
    'disk_busy',
    `disk ${target} of ${name} on ${host.name} is being copied by somebody else`,
    'look at the disks',
    'wait until that copy has ended, or end it on the host, then retry the task',
    { host: host.name, target }
  )

const copyEnded = ({ name, target, host, to }: Move, isOff: boolean) =>
  ownError(
    'copy_ended',
    `the copy of disk ${target} of ${name} to ${to.store} ended before it was whole${isOff ? ': the VM is off' : ''}; it keeps its old volume`,
    'wait until the copy has caught up',
    `see that ${to.store} has room, and the log of the VM on ${host.name}; then retry the task`,
    { host: host.name, target }
  )

const notMoved = ({ name, target, host, to }: Move) =>
  ownError(
    'disk_not_moved',
    `${host.name} does not show ${to.store}/${to.volume} as disk ${target} of ${name}`,
    'look at the disks again',
    'look at the VM on its host, then retry the task',
    { host: host.name, target }
  )

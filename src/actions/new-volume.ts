// Makes volumes that are known to be this task's, also after a crash. libvirt's volumes carry no metadata, and a half-copied one
// shows its full size. So a marker volume is made first, whose name tells the task; while it is there, the volume beside it is
// ours and not to be trusted. The marker goes once the volume is used by what the task was to make.
// Whoever finds the volume without the marker cannot tell whose it is, unless it saw it with the marker before.
// Rejected: trusting a look-up (a half copy looks whole); the task's log (the host may outlive the database's last word).
import type { Json } from '../db/json.ts'
import { HostError } from '../host/error.ts'
import type { Host } from '../host/host.ts'
import { quote } from '../model/name.ts'
import type { ObservedVolume } from '../model/storage.ts'
import type { ActionContext, Probe } from './action.ts'

export type NewVolume = {
  pool: string
  name: string
  format: string
  /** Null: as large as what it is copied from. */
  capacityBytes: number | null
  from: { pool: string; name: string } | null
  /** Lies over `from` instead of being a copy of it; what lies below must not change any more. */
  linked?: boolean
}

export class VolumeTaken extends Error {
  override readonly name = 'VolumeTaken'
  readonly pool: string
  readonly volume: string
  constructor(pool: string, volume: string, host: string) {
    super(`pool ${quote(pool)} on ${host} has a volume ${quote(volume)} already`)
    this.pool = pool
    this.volume = volume
  }
}

const markerBytes = 512

/** `web1.qcow2` → `web1.qcow2.task-41-1f0c93ab`; within the 255 bytes of a file's name for every volume name that is allowed. */
export function markerName(volume: string, task: { instance: string; id: number }): string {
  const instance = task.instance.replaceAll(/[^A-Za-z0-9]/g, '').slice(0, 8)
  return `${volume}.task-${task.id}-${instance}`
}

const markerOf = (ctx: ActionContext, volume: string): string =>
  markerName(volume, { instance: ctx.instance, id: ctx.task.id })

/**
 * Makes the volume anew; what an earlier attempt of this task left of it is deleted first.
 * @throws VolumeTaken when somebody else's volume has the name; HostError
 */
export async function makeVolume(ctx: ActionContext, host: Host, wanted: NewVolume): Promise<ObservedVolume> {
  const { pool, name } = wanted
  const marker = markerOf(ctx, name)
  if (await host.volume(pool, marker)) {
    if (await host.volume(pool, name)) {
      ctx.log('info', `volume ${name} of an earlier attempt is made again`, { host: host.name, pool, volume: name })
      await host.deleteVolume(pool, name)
    }
  } else {
    if (await host.volume(pool, name)) throw new VolumeTaken(pool, name, host.name)
    await host.createVolume(pool, { name: marker, format: 'raw', capacityBytes: markerBytes })
  }
  try {
    await fill(host, wanted)
  } catch (error) {
    if (!isTaken(error)) throw error
    // Somebody else was faster: it is not ours, and must not be taken for it.
    await dropMarker(ctx, host, { pool, name })
    throw new VolumeTaken(pool, name, host.name)
  }
  const made = await host.volume(pool, name)
  if (!made)
    throw new HostError(
      'timeout',
      host.name,
      `volume ${quote(name)} was made in pool ${quote(pool)} on ${host.name} and is not there`
    )
  return made
}

async function fill(host: Host, wanted: NewVolume): Promise<void> {
  const { pool, name, format, capacityBytes, from } = wanted
  if (from && wanted.linked) await makeOverlay(host, wanted, from)
  else if (from) await host.copyVolume(pool, { name, format, capacityBytes }, from)
  else await host.createVolume(pool, { name, format, capacityBytes: capacityBytes ?? markerBytes })
}

// libvirt: include/libvirt/virterror.h, VIR_ERR_STORAGE_VOL_EXIST.
const isTaken = (error: unknown): boolean => error instanceof HostError && error.libvirt?.code === 90

async function makeOverlay(host: Host, wanted: NewVolume, from: { pool: string; name: string }): Promise<void> {
  const below = await host.volume(from.pool, from.name)
  if (!below)
    throw new HostError(
      'bad_input',
      host.name,
      `volume ${quote(from.name)} is not in pool ${quote(from.pool)} on ${host.name}`
    )
  await host.createVolume(wanted.pool, {
    name: wanted.name,
    format: 'qcow2',
    capacityBytes: wanted.capacityBytes ?? below.capacityBytes,
    backing: { path: below.path, format: below.format === 'qcow2' ? 'qcow2' : 'raw' }
  })
}

/** Says of a volume that is there that this task makes it anew, or deletes it: what is in it cannot be trusted from now on. */
export async function markVolume(
  ctx: ActionContext,
  host: Host,
  volume: { pool: string; name: string }
): Promise<void> {
  const marker = { name: markerOf(ctx, volume.name), format: 'raw', capacityBytes: markerBytes }
  if (!(await isMarked(ctx, host, volume))) await host.createVolume(volume.pool, marker)
}

/** Was it made by this task, and not yet said to be good? */
export const isMarked = async (
  ctx: ActionContext,
  host: Host,
  volume: { pool: string; name: string }
): Promise<boolean> => (await host.volume(volume.pool, markerOf(ctx, volume.name))) !== undefined

/** The volume is used now: it is no longer only this task's. */
export async function dropMarker(
  ctx: ActionContext,
  host: Host,
  volume: { pool: string; name: string }
): Promise<void> {
  const marker = markerOf(ctx, volume.name)
  if (await host.volume(volume.pool, marker)) await host.deleteVolume(volume.pool, marker)
}

/** As `dropMarker`, of a volume that is in use: a host that refuses to delete the marker keeps it, and the task's log names it. */
export async function letGo(ctx: ActionContext, host: Host, volume: { pool: string; name: string }): Promise<void> {
  try {
    await dropMarker(ctx, host, volume)
  } catch (error) {
    if (!(error instanceof HostError) || error.code !== 'refused') throw error
    const marker = markerOf(ctx, volume.name)
    ctx.log('warn', `volume ${marker} in pool ${volume.pool} on ${host.name} may be deleted by hand: ${error.message}`)
  }
}

/**
 * Deletes what this task made and nothing uses: only a volume with this task's marker beside it. The marker goes last. The inventory is
 * told: it may have seen them.
 */
export async function unmakeVolume(
  ctx: ActionContext,
  host: Host,
  volume: { pool: string; name: string }
): Promise<void> {
  if (!(await isMarked(ctx, host, volume))) return
  if (await host.volume(volume.pool, volume.name)) await host.deleteVolume(volume.pool, volume.name)
  await dropMarker(ctx, host, volume)
  await ctx.observe.pool(host.name, volume.pool)
}

/** Was it seen with the marker beside it, by whoever asks? */
export type Sight = { made: boolean }

/**
 * Of a volume that is there, and as asked for: whether this task made it. With the marker it is ours and not whole; without, it is ours
 * only if it was seen before with the marker.
 */
export function whoseVolume(
  sight: Sight,
  { marked, evidence }: { marked: boolean; evidence: Json }
): Exclude<Probe, { happened: 'yes' }> | 'ours' {
  if (marked) return { happened: 'no', evidence }
  if (sight.made) return 'ours'
  const why = 'the volume is there, and whether this task made it or somebody else did cannot be told'
  return { happened: 'unknown', evidence, why }
}

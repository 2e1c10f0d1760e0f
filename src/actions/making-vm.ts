// What making a VM has in common, whether it is created or cloned: tidying up after a refusal, and the errors of a run.
import { HostError } from '../host/error.ts'
import type { Host } from '../host/host.ts'
import type { ActionContext } from './action.ts'
import { ownError } from './error.ts'
import { unmakeVolume, VolumeTaken } from './new-volume.ts'
import { poolFor } from './volume-place.ts'
import { isRefused } from './put-back.ts'

export type MadeVolume = { store: string; volume: string }

/** Deletes what was made, the last first. `told` hears of each store that changed. @throws HostError */
export async function unmakeVolumes(
  ctx: ActionContext,
  host: Host,
  made: readonly MadeVolume[],
  told: (store: string) => Promise<void>
): Promise<void> {
  for (const { store, volume } of made.toReversed()) {
    await unmakeVolume(ctx, host, { pool: poolFor(ctx, store, host.name), name: volume })
    await told(store)
  }
}

/**
 * After a refusal nothing is to be left. After a lost answer everything is left: the next attempt finds it by its markers. That tidying
 * fails must not hide why it was needed: false then, and it is logged.
 */
export async function tidyVolumes(
  ctx: ActionContext,
  host: Host,
  error: unknown,
  made: readonly MadeVolume[],
  of: { what: string; told: (store: string) => Promise<void> }
): Promise<boolean> {
  const refused = error instanceof VolumeTaken || isRefused(error)
  if (!refused) return true
  try {
    await unmakeVolumes(ctx, host, made, of.told)
    return true
  } catch (second) {
    if (!(second instanceof HostError)) throw second
    const volumes = made.map(({ store, volume }) => `${store}/${volume}`)
    ctx.log('warn', `volumes of the failed ${of.what} were not all deleted: ${second.message}`, {
      host: host.name,
      volumes
    })
    return false
  }
}

export const uuidTaken = (uuid: string, name: string, host: string, step: string, next: string) =>
  ownError('uuid_taken', `UUID ${uuid} is that of ${name} on ${host}, which this task did not make`, step, next, {
    host
  })

export const nameTaken = (name: string, uuid: string, host: string, step: string) =>
  ownError(
    'name_taken',
    `${host} has a VM ${name} already (${uuid})`,
    step,
    'choose another name, or delete that VM first',
    { host, uuid }
  )

export const volumeTaken = (error: VolumeTaken, host: string, step: string, next: string) =>
  ownError('volume_exists', error.message, step, next, { host, pool: error.pool, volume: error.volume })

export const notDefined = (name: string, host: string, step: string) =>
  ownError(
    'vm_not_found',
    `${host} accepted the definition of ${name} and does not show it`,
    step,
    'look at the host and retry the task',
    { host }
  )

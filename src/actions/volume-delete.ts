// Deletes a volume that no VM of any host uses and that no other volume lies over.
import { Type, type Static } from 'typebox'
import { resource } from '../model/resource.ts'
import { quote } from '../model/name.ts'
import {
  action,
  complete,
  failed,
  impossible,
  nothingToDo,
  possible,
  type ActionContext,
  type Outcome,
  type Probe
} from './action.ts'
import { attempt, type Step } from './attempt.ts'
import { ownError } from './error.ts'
import { refuseChangeOfImage } from './image-use.ts'
import { splitVolume, VolumeRef } from './refs.ts'
import { exclusive, hostClaim, poolClaimsOn } from './vm-place.ts'
import { deletePlaced, findVolume, handleOn, refuseStore, storeWork, volumeUsers, workingHost } from './volume-place.ts'
import { readHostsOf, VolumeInUse } from './volume-use.ts'

const args = Type.Object({ volume: VolumeRef }, { additionalProperties: false })

type Args = Static<typeof args>

export const volumeDelete = action({
  name: 'volume.delete',
  summary: 'Delete a volume',
  args,
  irreversible: true,
  title: ({ volume }) => `Delete volume ${volume}`,
  claims({ volume: id }, state) {
    const { store, volume } = splitVolume(id)
    readHostsOf(state, store)
    return [
      storeWork(state, store),
      exclusive(resource.volume(store, volume)),
      ...hostClaim(state),
      ...poolClaimsOn(state, [store], state.boundHost)
    ]
  },
  check({ volume: id }, state) {
    const { store, volume } = splitVolume(id)
    const refusal = refuseStore(state, store, state.boundHost ?? undefined) ?? refuseChangeOfImage(state, store, volume)
    if (refusal) return refusal
    if (!state.volume(store, volume)) {
      // The inventory may not have seen it yet, and another attempt may have deleted it: the host knows.
      if (state.phase === 'starting') return nothingToDo(`volume ${quote(id)} is gone already`)
      return impossible(
        'volume_not_found',
        `there is no volume ${quote(id)}`,
        `see \`taskomatic volume list --store ${store}\``
      )
    }
    const [user] = volumeUsers(state, store, volume)
    if (user === undefined) return possible
    return impossible(
      'volume_in_use',
      `volume ${quote(id)} is a disk of ${user}, or lies under one`,
      'delete the VM with its volumes, or detach the disk first'
    )
  },
  effect({ volume: id }) {
    const { store, volume } = splitVolume(id)
    return [{ subject: resource.volume(store, volume), facts: null }]
  },
  bindTo({ volume }, state) {
    const host = workingHost(state, splitVolume(volume).store)
    return host === undefined ? null : { host }
  },
  run: (ctx, given) => attempt(ctx, (step) => remove(ctx, given, step), { probe: () => probe(ctx, given) }),
  probe,
  undo: () => ({ impossible: 'a deleted volume is gone' })
})

async function remove(ctx: ActionContext, { volume: id }: Args, step: Step): Promise<Outcome> {
  const { store, volume } = splitVolume(id)
  step('delete the volume')
  try {
    const gone = await deletePlaced(ctx, store, volume)
    return complete({ volume: id, capacityBytes: gone?.capacityBytes ?? null, already: gone === undefined })
  } catch (error) {
    if (!(error instanceof VolumeInUse)) throw error
    return failed(
      ownError(
        'volume_in_use',
        error.message,
        'delete the volume',
        'delete what uses it first, or detach the disk: VMs, and volumes that lie over it'
      )
    )
  }
}

async function probe(ctx: ActionContext, { volume: id }: Args): Promise<Probe> {
  const { store, volume } = splitVolume(id)
  const { host, pool } = handleOn(ctx, store)
  const found = await findVolume(host, pool, volume)
  const evidence = { host: host.name, pool, there: found !== undefined }
  if (found) return { happened: 'no', evidence }
  await ctx.observe.pool(host.name, pool)
  return { happened: 'yes', evidence, result: { volume: id, capacityBytes: null, already: false } }
}

// Makes a blank volume. Whether it was made is told by looking it up: a blank volume is whole as soon as it is there.
import { Type, type Static } from 'typebox'
import { resource } from '../model/resource.ts'
import { quote } from '../model/name.ts'
import type { ObservedVolume } from '../model/storage.ts'
import {
  action,
  complete,
  failed,
  impossible,
  possible,
  type ActionContext,
  type Outcome,
  type Probe
} from './action.ts'
import { attempt, type Step } from './attempt.ts'
import { ownError } from './error.ts'
import { newName, StoreRef } from './refs.ts'
import { volumeSizeMiB } from './vm-create-args.ts'
import { exclusive, hostClaim } from './vm-place.ts'
import { findVolume, handleOn, refuseStore, storeWork, tellPools, workingHost } from './volume-place.ts'

const mebibyte = 1024 * 1024

const args = Type.Object(
  {
    store: StoreRef,
    name: newName('volume', 'Name of the new volume'),
    sizeMiB: volumeSizeMiB('Size in MiB'),
    format: Type.Optional(
      Type.Union([Type.Literal('qcow2'), Type.Literal('raw')], {
        description: 'How the bytes are kept; default qcow2',
        default: 'qcow2'
      })
    )
  },
  { additionalProperties: false }
)

type Args = Static<typeof args>

export const volumeCreate = action({
  name: 'volume.create',
  summary: 'Make a blank volume',
  args,
  title: ({ store, name }) => `Create volume ${store}/${name}`,
  claims: ({ store, name }, state) => [
    storeWork(state, store),
    exclusive(resource.volume(store, name)),
    ...hostClaim(state)
  ],
  check({ store, name }, state) {
    const refusal = refuseStore(state, store, state.boundHost ?? undefined)
    if (refusal) return refusal
    // When it starts, another attempt may find what the first one made.
    if (state.phase === 'queued' && state.volume(store, name)) {
      return impossible(
        'volume_exists',
        `there is a volume ${quote(`${store}/${name}`)} already`,
        'choose another name, or delete it'
      )
    }
    return possible
  },
  effect: (given, state) => [
    {
      subject: resource.volume(given.store, given.name),
      facts: {
        store: given.store,
        name: given.name,
        path: targetOf(given, state.store(given.store)?.pools ?? {}),
        format: given.format ?? 'qcow2',
        capacityBytes: given.sizeMiB * mebibyte,
        allocationBytes: 0,
        backing: null,
        usedBy: []
      }
    }
  ],
  bindTo({ store }, state) {
    const host = workingHost(state, store)
    return host === undefined ? null : { host }
  },
  run: (ctx, given) => attempt(ctx, (step) => create(ctx, given, step), { probe: () => probe(ctx, given) }),
  probe,
  undo: ({ store, name }) => ({ action: 'volume.delete', args: { volume: `${store}/${name}` } })
})

const targetOf = ({ name }: Args, pools: Record<string, { target: string | null } | null>): string => {
  const target = Object.values(pools).find((pool) => pool?.target)?.target
  return target ? `${target}/${name}` : ''
}

const isAsAsked = (volume: ObservedVolume, given: Args): boolean =>
  volume.capacityBytes === given.sizeMiB * mebibyte && volume.format === (given.format ?? 'qcow2')

async function create(ctx: ActionContext, given: Args, step: Step): Promise<Outcome> {
  const { host, pool } = handleOn(ctx, given.store)
  step('look at the volume')
  const before = await findVolume(host, pool, given.name)
  // The first attempt found none, or it would have failed: what is there and as asked was made by it.
  if (before && !(ctx.task.attempt > 1 && isAsAsked(before, given))) return failed(taken(given, host.name))
  if (!before) {
    step('create the volume')
    await host.createVolume(pool, {
      name: given.name,
      format: given.format ?? 'qcow2',
      capacityBytes: given.sizeMiB * mebibyte
    })
  }
  step('look whether it is there')
  const volume = await host.volume(pool, given.name)
  if (!volume) return failed(missing(given, host.name))
  await tellPools(ctx, given.store, host.name)
  return complete({ volume: `${given.store}/${given.name}`, path: volume.path, capacityBytes: volume.capacityBytes })
}

async function probe(ctx: ActionContext, given: Args): Promise<Probe> {
  const { host, pool } = handleOn(ctx, given.store)
  const volume = await findVolume(host, pool, given.name)
  if (!volume) return { happened: 'no', evidence: { host: host.name, pool } }
  const evidence = { host: host.name, pool, capacityBytes: volume.capacityBytes, format: volume.format }
  if (!isAsAsked(volume, given)) return { happened: 'no', evidence }
  await ctx.observe.pool(host.name, pool)
  return {
    happened: 'yes',
    evidence,
    result: { volume: `${given.store}/${given.name}`, path: volume.path, capacityBytes: volume.capacityBytes }
  }
}

const taken = ({ store, name }: Args, host: string) =>
  ownError(
    'volume_exists',
    `there is a volume ${quote(`${store}/${name}`)} on ${host} already`,
    'look at the volume',
    'choose another name, or delete it',
    { host }
  )

const missing = ({ store, name }: Args, host: string) =>
  ownError(
    'volume_not_found',
    `volume ${quote(`${store}/${name}`)} was made on ${host} and is not there`,
    'look whether it is there',
    'look at the host, then retry the task',
    { host }
  )

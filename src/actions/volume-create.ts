// Makes a blank volume, or one that lies over another. It is whole as soon as it is there; whose it is, its marker tells (new-volume.ts).
import { Type, type Static } from 'typebox'
import { HostError } from '../host/error.ts'
import type { Host } from '../host/host.ts'
import type { FleetState } from '../inventory/fleet-state.ts'
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
  type Probe,
  type Verdict
} from './action.ts'
import { attempt, type Step } from './attempt.ts'
import { ownError } from './error.ts'
import {
  dropMarker,
  isMarked,
  makeVolume,
  unmakeVolume,
  VolumeTaken,
  whoseVolume,
  type NewVolume,
  type Sight
} from './new-volume.ts'
import { refuseTooLarge } from './store-room.ts'
import { newName, splitVolume, StoreRef, VolumeRef } from './refs.ts'
import { volumeSizeMiB } from './vm-create-args.ts'
import { exclusive, hostClaim, poolClaimsOn, shared } from './vm-place.ts'
import { findVolume, handleOn, poolFor, refuseStore, storeWork, tellPools, workingHost } from './volume-place.ts'
import { readHostsOf } from './volume-use.ts'
import { putBack } from './put-back.ts'

const mebibyte = 1024 * 1024

const args = Type.Object(
  {
    store: StoreRef,
    name: newName('volume', 'Name of the new volume'),
    sizeMiB: Type.Optional(volumeSizeMiB('Size in MiB; default: that of the volume that it lies over')),
    backing: Type.Optional({
      ...VolumeRef,
      description: 'Lie over this volume, STORE/NAME: only what differs is kept; qcow2 only'
    }),
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
  summary: 'Make a blank volume, or one that lies over another',
  args,
  title: ({ store, name }) => `Create volume ${store}/${name}`,
  claims({ store, name, backing }, state) {
    const below = backing === undefined ? undefined : splitVolume(backing)
    if (below) readHostsOf(state, below.store)
    return [
      storeWork(state, store),
      exclusive(resource.volume(store, name)),
      // Nobody writes to it from now on: a VM that is started with it meanwhile would.
      ...(below ? [shared(resource.store(below.store)), exclusive(resource.volume(below.store, below.volume))] : []),
      ...hostClaim(state),
      ...poolClaimsOn(state, below ? [store, below.store] : [store], state.boundHost)
    ]
  },
  check(given, state) {
    const { store, name } = given
    const refusal = refuseStore(state, store, state.boundHost ?? undefined) ?? refuseBacking(given, state)
    if (refusal) return refusal
    if (given.sizeMiB === undefined && given.backing === undefined)
      return impossible('missing_field', 'a blank volume needs "sizeMiB"', 'give its size')
    const tooLarge = refuseTooLarge(state, store, sizeOf(given, state))
    if (tooLarge) return tooLarge
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
        capacityBytes: wantedBytes(given, belowOf(given, state)?.capacityBytes ?? 0),
        allocationBytes: 0,
        backing: belowOf(given, state)?.path ?? null,
        usedBy: []
      }
    }
  ],
  bindTo({ store, backing }, state) {
    const host =
      backing === undefined ? workingHost(state, store) : workingHost(state, store, splitVolume(backing).store)
    return host === undefined ? null : { host }
  },
  makesVolumes: (given, state) => [{ store: given.store, volume: given.name, ...sizeOf(given, state) }],
  run(ctx, given) {
    const sight: Sight = { made: false }
    return attempt(ctx, (step) => create(ctx, given, step, sight), { probe: () => probe(ctx, given, sight) })
  },
  probe: (ctx, given) => probe(ctx, given, { made: false }),
  undo: ({ store, name }) => ({ action: 'volume.delete', args: { volume: `${store}/${name}` } })
})

const targetOf = ({ name }: Args, pools: Record<string, { target: string | null } | null>): string => {
  const target = Object.values(pools).find((pool) => pool?.target)?.target
  return target ? `${target}/${name}` : ''
}

const sizeOf = (given: Args, state: FleetState) => ({
  format: given.format ?? 'qcow2',
  capacityBytes: wantedBytes(given, belowOf(given, state)?.capacityBytes ?? 0)
})

const belowOf = ({ backing }: Args, state: FleetState) => {
  if (backing === undefined) return undefined
  const { store, volume } = splitVolume(backing)
  return state.volume(store, volume)
}

const wantedBytes = ({ sizeMiB }: Args, belowBytes: number): number =>
  sizeMiB === undefined ? belowBytes : sizeMiB * mebibyte

const isAsAsked = (volume: ObservedVolume, given: Args, below: ObservedVolume | undefined): boolean =>
  volume.capacityBytes === wantedBytes(given, below?.capacityBytes ?? 0) &&
  volume.format === (given.format ?? 'qcow2') &&
  volume.backing === (below?.path ?? null)

/** What others lie over must not change: neither may a VM write to it, nor may it be smaller than it looks. */
function refuseBacking(given: Args, state: FleetState): Verdict | undefined {
  const { backing, store, sizeMiB, format } = given
  if (backing === undefined) return undefined
  if (format === 'raw') return impossible('bad_format', 'only a qcow2 volume lies over another', 'leave out the format')
  const below = splitVolume(backing)
  if (workingHost(state, store, below.store) === undefined)
    return impossible(
      'no_common_host',
      `no host has both store ${quote(store)} and store ${quote(below.store)}`,
      'choose a store of a host that has the volume below'
    )
  const facts = belowOf(given, state)
  if (!facts)
    return impossible(
      'volume_not_found',
      `there is no volume ${quote(backing)}`,
      `see \`taskomatic volume list --store ${below.store}\``
    )
  if (sizeMiB !== undefined && sizeMiB * mebibyte < facts.capacityBytes)
    return impossible(
      'cannot_shrink',
      `volume ${quote(backing)} has ${facts.capacityBytes / mebibyte} MiB: over it ${sizeMiB} MiB would cut data off`,
      'ask for a larger size, or leave it out'
    )
  const writer = facts.usedBy
    .map((uuid) => state.vm(uuid))
    .find((vm) =>
      vm?.disks.some((disk) => disk.store === below.store && disk.volume === below.volume && !disk.readOnly)
    )
  if (!writer) return undefined
  return impossible(
    'volume_in_use',
    `volume ${quote(backing)} is a disk of ${quote(writer.name)}, which would change it under what lies over it`,
    'copy it: `taskomatic volume clone`'
  )
}

async function placesOf(
  ctx: ActionContext,
  { store, backing }: Args
): Promise<{ host: Host; pool: string; below: Below | undefined }> {
  if (backing === undefined) return { ...handleOn(ctx, store), below: undefined }
  const at = splitVolume(backing)
  const { host, pool } = handleOn(ctx, store, at.store)
  const poolBelow = poolFor(ctx, at.store, host.name)
  const volume = await findVolume(host, poolBelow, at.volume)
  return { host, pool, below: volume && { ...volume, pool: poolBelow } }
}

type Below = ObservedVolume & { pool: string }

async function create(ctx: ActionContext, given: Args, step: Step, sight: Sight): Promise<Outcome> {
  const { host, pool, below } = await placesOf(ctx, given)
  const place = { pool, name: given.name }
  step('look at the volume')
  if (given.backing !== undefined && !below) return failed(missing(given.backing, host.name, 'look at the volume'))
  const before = await findVolume(host, pool, given.name)
  if (before && !(await isMarked(ctx, host, place))) return failed(taken(given, host.name))
  step('create the volume')
  try {
    await makeVolume(ctx, host, wantedVolume(given, place, below))
    sight.made = true
    step('give it free')
    await dropMarker(ctx, host, place)
  } catch (error) {
    if (error instanceof VolumeTaken) return failed(taken(given, host.name))
    await tidy(ctx, host, place, error)
    throw error
  }
  step('look whether it is there')
  const volume = await host.volume(pool, given.name)
  if (!volume) return failed(missing(`${given.store}/${given.name}`, host.name, 'look whether it is there'))
  await tellPools(ctx, given.store, host.name)
  return complete({ volume: `${given.store}/${given.name}`, path: volume.path, capacityBytes: volume.capacityBytes })
}

const wantedVolume = (given: Args, place: { pool: string; name: string }, below: Below | undefined): NewVolume => ({
  ...place,
  format: given.format ?? 'qcow2',
  capacityBytes: wantedBytes(given, below?.capacityBytes ?? 0),
  from: below ? { pool: below.pool, name: below.name } : null,
  linked: below !== undefined
})

/** After a refusal nothing is to be left. After a lost answer the marker tells the next attempt what it finds. */
async function tidy(
  ctx: ActionContext,
  host: Host,
  place: { pool: string; name: string },
  error: unknown
): Promise<void> {
  if (!(error instanceof HostError) || (error.code !== 'refused' && error.code !== 'aborted')) return
  await putBack(ctx, `volume ${place.name} may be left`, () => unmakeVolume(ctx, host, place))
}

async function probe(ctx: ActionContext, given: Args, sight: Sight): Promise<Probe> {
  const { host, pool, below } = await placesOf(ctx, given)
  const volume = await findVolume(host, pool, given.name)
  if (!volume) return { happened: 'no', evidence: { host: host.name, pool } }
  const marked = await isMarked(ctx, host, { pool, name: given.name })
  const evidence = { host: host.name, pool, capacityBytes: volume.capacityBytes, format: volume.format, marked }
  if (!isAsAsked(volume, given, below)) return { happened: 'no', evidence }
  const whose = whoseVolume(sight, { marked, evidence })
  if (whose !== 'ours') return whose
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

const missing = (volume: string, host: string, step: string) =>
  ownError(
    'volume_not_found',
    `volume ${quote(volume)} is not on ${host}`,
    step,
    'look at the host, then retry the task',
    { host }
  )

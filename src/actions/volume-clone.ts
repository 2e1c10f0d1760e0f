// Copies a volume within its store or to another store of the same host; layers below it are copied into one. A half-made copy shows
// its full size, so that only the reply proves it: the copy carries this task's marker until then, and is made again otherwise.
import { Type, type Static } from 'typebox'
import { HostError } from '../host/error.ts'
import type { Host } from '../host/host.ts'
import type { FleetState } from '../inventory/fleet-state.ts'
import { memoryText } from '../model/memory-text.ts'
import { quote } from '../model/name.ts'
import { resource } from '../model/resource.ts'
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
import { limit, oneOf } from './limits.ts'
import { dropMarker, isMarked, makeVolume, unmakeVolume, VolumeTaken, whoseVolume, type Sight } from './new-volume.ts'
import { newName, splitVolume, StoreRef, VolumeRef } from './refs.ts'
import { refuseTooLarge } from './store-room.ts'
import { volumeSizeMiB } from './vm-create-args.ts'
import { exclusive, hostClaim, poolClaimsOn } from './vm-place.ts'
import { findVolume, handleOn, poolFor, refuseStore, storeWork, tellPools, workingHost } from './volume-place.ts'
import { namesOf, readHostsOf, volumeUsersNow } from './volume-use.ts'
import { putBack } from './put-back.ts'

const mebibyte = 1024 * 1024

const args = Type.Object(
  {
    volume: VolumeRef,
    store: StoreRef,
    name: newName('volume', 'Name of the copy'),
    sizeMiB: Type.Optional(volumeSizeMiB('Size in MiB, not smaller than the original; default: its size')),
    format: Type.Optional(
      Type.Union([Type.Literal('qcow2'), Type.Literal('raw')], {
        description: "How the copy's bytes are kept; default: as those of the original"
      })
    )
  },
  { additionalProperties: false }
)

type Args = Static<typeof args>

export const volumeClone = action({
  name: 'volume.clone',
  summary: 'Copy a volume',
  args,
  title: ({ volume, store, name }) => `Copy volume ${volume} to ${store}/${name}`,
  claims(given, state) {
    const from = splitVolume(given.volume)
    readHostsOf(state, from.store)
    // Of a VM's disk nobody may start to write while it is copied; an image that no VM has is copied by many at once.
    const isUsed = (state.volume(from.store, from.volume)?.usedBy ?? []).length > 0
    return [
      { resource: resource.store(from.store), mode: 'shared' },
      { resource: resource.volume(from.store, from.volume), mode: isUsed ? 'exclusive' : 'shared' },
      storeWork(state, given.store),
      exclusive(resource.volume(given.store, given.name)),
      ...hostClaim(state),
      ...poolClaimsOn(state, [from.store, given.store], state.boundHost)
    ]
  },
  limits: ({ store }) => oneOf(limit.storage(store)),
  check(given, state) {
    const from = splitVolume(given.volume)
    const host = state.boundHost ?? workingHost(state, from.store, given.store)
    const refusal =
      refuseStore(state, from.store, state.boundHost ?? undefined) ??
      refuseStore(state, given.store, state.boundHost ?? undefined)
    if (refusal) return refusal
    if (host === undefined) {
      return impossible(
        'no_common_host',
        `no host has both store ${quote(from.store)} and store ${quote(given.store)}`,
        'copy to a store of a host that has the volume, or download and upload it'
      )
    }
    const facts = state.volume(from.store, from.volume)
    if (!facts) return notFound(given)
    if (given.sizeMiB !== undefined && given.sizeMiB * mebibyte < facts.capacityBytes) {
      return impossible(
        'cannot_shrink',
        `volume ${quote(given.volume)} has ${memoryText(facts.capacityBytes / mebibyte)}: a copy of ${memoryText(given.sizeMiB)} would cut data off`,
        'ask for a larger size, or leave it out'
      )
    }
    // When it starts, another attempt may find what the first one made.
    if (state.phase === 'queued' && state.volume(given.store, given.name)) {
      return impossible(
        'volume_exists',
        `there is a volume ${quote(`${given.store}/${given.name}`)} already`,
        'choose another name, or delete it'
      )
    }
    return refuseRunning(given, state) ?? refuseTooLarge(state, given.store, sizeOf(given, facts)) ?? possible
  },
  effect(given, state) {
    const from = splitVolume(given.volume)
    const facts = state.volume(from.store, from.volume)
    const target = Object.values(state.store(given.store)?.pools ?? {}).find((pool) => pool?.target)?.target
    return [
      {
        subject: resource.volume(given.store, given.name),
        facts: {
          store: given.store,
          name: given.name,
          path: target ? `${target}/${given.name}` : '',
          format: given.format ?? facts?.format ?? null,
          capacityBytes: wantedBytes(given, facts?.capacityBytes ?? 0),
          allocationBytes: facts?.allocationBytes ?? 0,
          backing: null,
          usedBy: []
        }
      }
    ]
  },
  bindTo(given, state) {
    const host = workingHost(state, splitVolume(given.volume).store, given.store)
    return host === undefined ? null : { host }
  },
  makesVolumes(given, state) {
    const from = splitVolume(given.volume)
    const facts = state.volume(from.store, from.volume)
    return facts ? [{ store: given.store, volume: given.name, ...sizeOf(given, facts) }] : []
  },
  run(ctx, given) {
    const sight: Sight = { made: false }
    return attempt(ctx, (step) => clone(ctx, given, step, sight), { probe: () => probe(ctx, given, sight) })
  },
  probe: (ctx, given) => probe(ctx, given, { made: false }),
  undo: ({ store, name }) => ({ action: 'volume.delete', args: { volume: `${store}/${name}` } })
})

const sizeOf = (given: Args, source: { format: string | null; capacityBytes: number }) => ({
  format: given.format ?? source.format ?? 'raw',
  capacityBytes: wantedBytes(given, source.capacityBytes)
})

const wantedBytes = ({ sizeMiB }: Args, bytes: number): number =>
  sizeMiB === undefined ? bytes : Math.max(bytes, sizeMiB * mebibyte)

const notFound = ({ volume }: Args) =>
  impossible(
    'volume_not_found',
    `there is no volume ${quote(volume)}`,
    `see \`taskomatic volume list --store ${splitVolume(volume).store}\``
  )

function refuseRunning({ volume: id }: Args, state: FleetState) {
  const { store, volume } = splitVolume(id)
  const users = (state.volume(store, volume)?.usedBy ?? []).map((uuid) => state.vm(uuid))
  const running = users.find((vm) => vm !== undefined && vm.activeOn !== null)
  return running && impossible('volume_in_use', inUse(id, quote(running.name)), 'stop the VM first')
}

const inUse = (volume: string, by: string) =>
  `volume ${quote(volume)} is written to by ${by}: a copy made meanwhile would be of no moment`

type Places = { host: Host; pool: string; from: { pool: string; name: string } }

function placesOf(ctx: ActionContext, given: Args): Places {
  const from = splitVolume(given.volume)
  const { host, pool } = handleOn(ctx, given.store, from.store)
  return { host, pool, from: { pool: poolFor(ctx, from.store, host.name), name: from.volume } }
}

async function clone(ctx: ActionContext, given: Args, step: Step, sight: Sight): Promise<Outcome> {
  const places = placesOf(ctx, given)
  const { host, pool, from } = places
  step('look at the volume')
  const source = await findVolume(host, from.pool, from.name)
  if (!source) return failed(gone(given, host.name))
  const at = splitVolume(given.volume)
  const users = await volumeUsersNow(ctx, at.store, at.volume, { defined: false })
  if (users.length > 0)
    return failed(
      ownError('volume_in_use', inUse(given.volume, namesOf(users)), 'look at the volume', 'stop the VM first')
    )
  step('copy the volume')
  try {
    await makeVolume(ctx, host, {
      pool,
      name: given.name,
      format: given.format ?? source.format ?? 'raw',
      capacityBytes: wantedBytes(given, source.capacityBytes),
      from
    })
    sight.made = true
    // libvirt cannot be told to stop copying: who asked meanwhile is heard now.
    if (ctx.signal.aborted) throw new HostError('aborted', host.name, 'the copy was not wanted any more')
    step('give the copy free')
    await dropMarker(ctx, host, { pool, name: given.name })
  } catch (error) {
    if (error instanceof VolumeTaken) return failed(taken(given, host.name))
    await tidy(ctx, places, given, error)
    throw error
  }
  return finish(ctx, places, given, step)
}

/** After a refusal nothing is to be left. After a lost reply the marker tells the next attempt what it finds. */
async function tidy(ctx: ActionContext, { host, pool }: Places, given: Args, error: unknown): Promise<void> {
  if (!(error instanceof HostError) || (error.code !== 'refused' && error.code !== 'aborted')) return
  const copy = { pool, name: given.name }
  await putBack(ctx, `the copy ${given.store}/${given.name} may be left`, () => unmakeVolume(ctx, host, copy))
}

async function finish(ctx: ActionContext, { host, pool }: Places, given: Args, step: Step): Promise<Outcome> {
  step('look whether it is there')
  const copy = await host.volume(pool, given.name)
  await tellPools(ctx, given.store, host.name)
  return copy ? complete(resultOf(given, copy)) : failed(lost(given, host.name))
}

const resultOf = ({ store, name }: Args, copy: ObservedVolume) => ({
  volume: `${store}/${name}`,
  path: copy.path,
  capacityBytes: copy.capacityBytes,
  format: copy.format
})

/** While the marker is there the copy was not seen to be whole. */
async function probe(ctx: ActionContext, given: Args, sight: Sight): Promise<Probe> {
  const { host, pool } = placesOf(ctx, given)
  const copy = await findVolume(host, pool, given.name)
  const marked = await isMarked(ctx, host, { pool, name: given.name })
  const evidence = { host: host.name, pool, there: copy !== undefined, marked }
  if (!copy) return { happened: 'no', evidence }
  const whose = whoseVolume(sight, { marked, evidence })
  if (whose !== 'ours') return whose
  await ctx.observe.pool(host.name, pool)
  return { happened: 'yes', evidence, result: resultOf(given, copy) }
}

const gone = ({ volume }: Args, host: string) =>
  ownError(
    'volume_not_found',
    `there is no volume ${quote(volume)} on ${host}`,
    'look at the volume',
    '`taskomatic pool refresh`, then look at its volumes',
    { host }
  )

const taken = ({ store, name }: Args, host: string) =>
  ownError(
    'volume_exists',
    `there is a volume ${quote(`${store}/${name}`)} on ${host} already`,
    'copy the volume',
    'choose another name, or delete it',
    { host }
  )

const lost = ({ store, name }: Args, host: string) =>
  ownError(
    'volume_not_found',
    `volume ${quote(`${store}/${name}`)} was made on ${host} and is not there`,
    'look whether it is there',
    'look at the host, then retry the task',
    { host }
  )

// Makes a volume larger. Never smaller, since that cuts data off, and never under a running VM, which would not notice.
import { Type, type Static } from 'typebox'
import { resource } from '../model/resource.ts'
import { memoryText } from '../model/memory-text.ts'
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
import { refuseTooLarge } from './store-room.ts'
import { splitVolume, VolumeRef } from './refs.ts'
import { volumeSizeMiB } from './vm-create-args.ts'
import { exclusive, hostClaim, poolClaimsOn } from './vm-place.ts'
import { findVolume, handleOn, refuseOverlaid, refuseStore, storeWork, tellPools, workingHost } from './volume-place.ts'
import { readHostsOf, refuseSavedUser, refuseSavedUserNow, refuseUsedVolume, VolumeInUse } from './volume-use.ts'

const mebibyte = 1024 * 1024

const args = Type.Object(
  { volume: VolumeRef, sizeMiB: volumeSizeMiB('New size in MiB, larger than now') },
  { additionalProperties: false }
)

type Args = Static<typeof args>

export const volumeResize = action({
  name: 'volume.resize',
  summary: 'Make a volume larger',
  args,
  irreversible: true,
  title: ({ volume, sizeMiB }) => `Resize volume ${volume} to ${memoryText(sizeMiB)}`,
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
  check(given, state) {
    const { store, volume } = splitVolume(given.volume)
    const refusal = refuseStore(state, store, state.boundHost ?? undefined) ?? refuseChangeOfImage(state, store, volume)
    if (refusal) return refusal
    const facts = state.volume(store, volume)
    if (!facts) {
      return impossible(
        'volume_not_found',
        `there is no volume ${quote(given.volume)}`,
        `see \`taskomatic volume list --store ${store}\``
      )
    }
    const wanted = given.sizeMiB * mebibyte
    if (facts.capacityBytes === wanted) return nothingToDo(`volume ${quote(given.volume)} has that size already`)
    if (facts.capacityBytes > wanted)
      return impossible(
        'cannot_shrink',
        shrinks(given, facts.capacityBytes),
        'make a smaller volume and copy the data inside a VM'
      )
    const tooLarge = refuseTooLarge(state, store, { format: facts.format ?? 'raw', capacityBytes: wanted })
    if (tooLarge) return tooLarge
    const running = facts.usedBy.map((uuid) => state.vm(uuid)).find((vm) => vm !== undefined && vm.activeOn !== null)
    if (!running) return refuseSavedUser(state, store, volume) ?? possible
    return impossible(
      'volume_in_use',
      `${quote(running.name)} runs with volume ${quote(given.volume)}: it would not notice the new size`,
      'stop the VM first'
    )
  },
  effect(given) {
    const { store, volume } = splitVolume(given.volume)
    return [{ subject: resource.volume(store, volume), facts: { capacityBytes: given.sizeMiB * mebibyte } }]
  },
  bindTo({ volume }, state) {
    const host = workingHost(state, splitVolume(volume).store)
    return host === undefined ? null : { host }
  },
  makesVolumes(given, state) {
    const { store, volume } = splitVolume(given.volume)
    const format = state.volume(store, volume)?.format ?? 'raw'
    return [{ store, volume, format, capacityBytes: given.sizeMiB * mebibyte }]
  },
  run: (ctx, given) => attempt(ctx, (step) => resize(ctx, given, step), { probe: () => probe(ctx, given) }),
  probe,
  undo: () => ({ impossible: 'a volume is never made smaller: that would cut data off' })
})

const shrinks = ({ volume, sizeMiB }: Args, bytes: number): string =>
  `volume ${quote(volume)} has ${memoryText(bytes / mebibyte)}: making it smaller (${memoryText(sizeMiB)}) would cut data off`

async function resize(ctx: ActionContext, given: Args, step: Step): Promise<Outcome> {
  const { store, volume } = splitVolume(given.volume)
  const { host, pool } = handleOn(ctx, store)
  const wanted = given.sizeMiB * mebibyte
  step('look at the volume')
  const before = await findVolume(host, pool, volume)
  if (!before)
    return failed(
      ownError(
        'volume_not_found',
        `there is no volume ${quote(given.volume)} on ${host.name}`,
        'look at the volume',
        '`taskomatic pool refresh`, then look at its volumes'
      )
    )
  if (before.capacityBytes > wanted)
    return failed(
      ownError('cannot_shrink', shrinks(given, before.capacityBytes), 'look at the volume', 'ask for a larger size')
    )
  if (before.capacityBytes < wanted) {
    try {
      await refuseOverlaid(host, pool, before)
      const saved = await refuseSavedUserNow(ctx, store, volume)
      if (saved) return saved
      await refuseUsedVolume(ctx, store, volume, { defined: false })
    } catch (error) {
      if (!(error instanceof VolumeInUse)) throw error
      return failed(
        ownError(
          'volume_in_use',
          error.message,
          'look at the volume',
          'stop the VM first, or resize the uppermost layer'
        )
      )
    }
    step('resize the volume')
    await host.resizeVolume(pool, volume, wanted)
  }
  step('look at its size')
  const after = await host.volume(pool, volume)
  await tellPools(ctx, store, host.name)
  if (after && after.capacityBytes >= wanted)
    return complete({ volume: given.volume, capacityBytes: after.capacityBytes })
  return failed(
    ownError(
      'not_resized',
      `volume ${quote(given.volume)} has ${after?.capacityBytes ?? 0} bytes after it was made larger`,
      'look at its size',
      'look at the host, then retry the task'
    )
  )
}

async function probe(ctx: ActionContext, given: Args): Promise<Probe> {
  const { store, volume } = splitVolume(given.volume)
  const { host, pool } = handleOn(ctx, store)
  const found = await findVolume(host, pool, volume)
  const evidence = { host: host.name, pool, capacityBytes: found?.capacityBytes ?? null }
  if (!found || found.capacityBytes < given.sizeMiB * mebibyte) return { happened: 'no', evidence }
  await ctx.observe.pool(host.name, pool)
  return { happened: 'yes', evidence, result: { volume: given.volume, capacityBytes: found.capacityBytes } }
}

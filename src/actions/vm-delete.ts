// Deletes a VM on every host that has it, with its volumes where asked. Volumes go first and the definition last: until then
// another attempt still knows what belongs to the VM. Lower layers of a disk (a shared image) are never deleted, and named.
import { Type, type Static } from 'typebox'
import type { VmFacts } from '../inventory/facts.ts'
import { resource } from '../model/resource.ts'
import { isActive, type ObservedVm } from '../model/vm.ts'
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
import { seedsOf } from './cloud-init.ts'
import { ownError } from './error.ts'
import { VmRef, VolumeRef } from './refs.ts'
import { deletePlaced, ownVolumes, volumeUsers, type PlacedVolume } from './volume-place.ts'
import { volumeName } from './vm-devices.ts'
import { readHostsOf, VolumeInUse } from './volume-use.ts'
import {
  bindToVm,
  evidenceOf,
  exclusive,
  lookEverywhere,
  parkForSilent,
  shared,
  vmClaims,
  vmTitle
} from './vm-place.ts'
import { named, ownVm } from './vm-refusal.ts'

const offMs = 30_000
const goneMs = 30_000

const args = Type.Object(
  {
    vm: VmRef,
    volumes: Type.Optional(
      Type.Boolean({
        description: 'Delete its disks as well; images below them and disks of other VMs stay; default false',
        default: false
      })
    ),
    onlyVolumes: Type.Optional(
      Type.Array(VolumeRef, {
        description: 'With `volumes`: of its disks, delete only these, STORE/NAME; default all',
        maxItems: 256
      })
    ),
    force: Type.Optional(Type.Boolean({ description: 'Switch it off first if it runs; default false', default: false }))
  },
  { additionalProperties: false }
)

type Args = Static<typeof args>

/** Its disks that are to be deleted with it. */
const doomed = ({ volumes, onlyVolumes }: Args, vm: VmFacts | undefined): PlacedVolume[] =>
  volumes
    ? ownVolumes(vm).filter((volume) => onlyVolumes === undefined || onlyVolumes.includes(volumeName(volume)))
    : []

export const vmDelete = action({
  name: 'vm.delete',
  summary: 'Delete a VM, with its volumes if asked',
  args,
  irreversible: true,
  title: ({ vm, volumes }, state) => vmTitle('Delete', vm, state) + (volumes ? ' with its volumes' : ''),
  claims(given, state) {
    const vm = state.vm(given.vm)
    const elsewhere = state.phase === 'starting' ? Object.keys(vm?.elsewhere ?? {}) : []
    return [
      ...vmClaims(given.vm, state),
      ...elsewhere.map((host) => shared(resource.host(host))),
      // Also without `volumes`: who uses a volume changes.
      ...[...ownVolumes(vm), ...seedsOf(vm, state)].flatMap(({ store, volume }) => {
        readHostsOf(state, store)
        return [shared(resource.store(store)), exclusive(resource.volume(store, volume))]
      })
    ]
  },
  check(given, state) {
    // A second attempt finds what the first one left; nothing left is what was asked for.
    if (state.phase === 'starting' && !state.vm(given.vm)) return nothingToDo('it is gone already')
    const { vm, refusal } = ownVm(given.vm, state)
    if (refusal) return refusal
    if (isActive(vm.power) && !given.force) {
      return impossible(
        'vm_running',
        `${named(vm)} is ${vm.power}: only a VM that is off is deleted`,
        'stop it first, or switch it off with `--force`'
      )
    }
    for (const { store, volume } of doomed(given, vm)) {
      state.store(store)
      const [other] = volumeUsers(state, store, volume, vm.uuid)
      if (other !== undefined) {
        return impossible(
          'volume_in_use',
          `volume "${store}/${volume}" of ${named(vm)} is a disk of ${other} too: it is not deleted`,
          'delete without `--volumes`, or detach it from the other VM first'
        )
      }
    }
    return possible
  },
  effect(given, state) {
    const vm = state.vm(given.vm)
    if (!vm) return []
    const gone = new Set(doomed(given, vm).map(volumeName))
    return [
      { subject: resource.vm(vm.uuid), facts: null },
      { subject: resource.vmName(vm.name), facts: { [vm.uuid]: null } },
      ...vm.nics.map(({ mac }) => ({ subject: resource.mac(mac.toLowerCase()), facts: { [vm.uuid]: null } })),
      ...ownVolumes(vm).map(({ store, volume }) => ({
        subject: resource.volume(store, volume),
        facts: gone.has(volumeName({ store, volume }))
          ? null
          : { usedBy: (state.volume(store, volume)?.usedBy ?? []).filter((user) => user !== vm.uuid) }
      })),
      ...seedsOf(vm, state).map(({ store, volume }) => ({ subject: resource.volume(store, volume), facts: null }))
    ]
  },
  bindTo: (given, state) => bindToVm(given.vm, state),
  run: (ctx, given) => attempt(ctx, (step) => remove(ctx, given, step), { probe: () => probe(ctx, given) }),
  probe,
  undo: () => ({ impossible: 'a deleted VM is gone; its last definition is kept' })
})

async function remove(ctx: ActionContext, given: Args, step: Step): Promise<Outcome> {
  const uuid = given.vm
  step('look where the VM is')
  const sightings = await lookEverywhere(ctx, uuid, ctx.boundHost === null ? [] : [ctx.boundHost])
  const name = sightings.seen[0]?.vm.name ?? uuid
  const silent = parkForSilent(name, sightings)
  if (silent) return silent
  for (const { host, vm } of sightings.seen) {
    if (!isActive(vm.power)) continue
    if (!given.force) return failed(runs(vm, host))
    step(`switch off on ${host}`)
    await ctx.host(host).powerOffVm(uuid)
    await ctx.host(host).untilVm(uuid, (now) => !now || !isActive(now.power), { timeoutMs: offMs, signal: ctx.signal })
  }
  // The last definition is kept before anything that it speaks of goes away.
  for (const { host, vm } of sightings.seen) if (vm.persistent) await keep(ctx, host, uuid, step)
  const volumes = await deleteVolumes(ctx, given, step)
  if ('outcome' in volumes) return volumes
  volumes.deleted.push(...(await deleteSeeds(ctx, uuid, step)))
  for (const { host } of sightings.seen) await undefine(ctx, host, uuid, step)
  for (const host of [...sightings.absent, ...sightings.seen.map((sighting) => sighting.host)])
    await ctx.observe.vm(host, uuid)
  return complete({ uuid, hosts: sightings.seen.map(({ host }) => host), volumes: volumes.deleted, kept: volumes.kept })
}

async function keep(ctx: ActionContext, host: string, uuid: string, step: Step): Promise<void> {
  step(`keep the definition of ${host}`)
  const xml = await ctx.host(host).vmXml(uuid, { inactive: true, secure: true })
  await ctx.observe.keepDefinition(uuid, host, xml)
}

async function deleteVolumes(
  ctx: ActionContext,
  given: Args,
  step: Step
): Promise<{ deleted: string[]; kept: string[] } | Outcome> {
  const deleted: string[] = []
  const kept: string[] = []
  for (const { store, volume } of doomed(given, ctx.state.vm(given.vm))) {
    step(`delete volume ${store}/${volume}`)
    try {
      const gone = await deletePlaced(ctx, store, volume, given.vm)
      deleted.push(`${store}/${volume}`)
      if (gone?.backing) kept.push(gone.backing)
    } catch (error) {
      if (!(error instanceof VolumeInUse)) throw error
      return failed(
        ownError(
          'volume_in_use',
          error.message,
          `delete volume ${store}/${volume}`,
          'delete the VM without its volumes'
        )
      )
    }
  }
  return { deleted, kept }
}

/** What it was told at its first boot is of no use to anybody else, and may hold secrets. */
async function deleteSeeds(ctx: ActionContext, uuid: string, step: Step): Promise<string[]> {
  const deleted: string[] = []
  for (const { store, volume } of seedsOf(ctx.state.vm(uuid), ctx.state)) {
    step(`delete the cloud-init disc ${store}/${volume}`)
    try {
      if (await deletePlaced(ctx, store, volume, uuid)) deleted.push(`${store}/${volume}`)
    } catch (error) {
      if (!(error instanceof VolumeInUse)) throw error
      ctx.log('warn', error.message, { volume: `${store}/${volume}` })
    }
  }
  return deleted
}

async function undefine(ctx: ActionContext, host: string, uuid: string, step: Step): Promise<void> {
  step(`undefine on ${host}`)
  const handle = ctx.host(host)
  // A transient VM is gone with its process, and undefining nothing is refused.
  if (!(await handle.vm(uuid))) return
  await handle.undefineVm(uuid, { savedImage: true, snapshots: true, firmwareState: true })
  step(`wait until it is gone from ${host}`)
  await handle.untilVm(uuid, (vm) => vm === undefined, { timeoutMs: goneMs, signal: ctx.signal })
}

async function probe(ctx: ActionContext, given: Args): Promise<Probe> {
  const sightings = await lookEverywhere(ctx, given.vm, ctx.boundHost === null ? [] : [ctx.boundHost])
  const evidence = evidenceOf(sightings)
  if (sightings.seen.length > 0) return { happened: 'no', evidence }
  const [silent] = sightings.unknown
  if (silent) return { happened: 'unknown', evidence, why: `${silent.host} cannot be asked: ${silent.reason}` }
  for (const host of sightings.absent) await ctx.observe.vm(host, given.vm)
  return { happened: 'yes', evidence, result: { uuid: given.vm, hosts: sightings.absent } }
}

const runs = (vm: ObservedVm, host: string) =>
  ownError(
    'vm_running',
    `${vm.name} is ${vm.power} on ${host}: it is not deleted`,
    'look where the VM is',
    'stop it first, or delete it with `--force`',
    { host }
  )

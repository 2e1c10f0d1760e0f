// Makes a clone on the host of the VM that it is made of: volumes first, each with this task's marker until all is well, then the
// definition. Whatever an earlier attempt left is found again; what was copied half is made anew.
import { dirname } from 'node:path/posix'
import { cloneXml, variablesOf } from '../host/clone-xml.ts'
import type { Host } from '../host/host.ts'
import { isActive } from '../model/vm.ts'
import { complete, failed, type ActionContext, type Outcome, type Probe } from './action.ts'
import type { Step } from './attempt.ts'
import { ownError } from './error.ts'
import { parkIfCordoned } from './host-refusal.ts'
import { nameTaken, notDefined, tidyVolumes, unmakeVolumes, uuidTaken, volumeTaken } from './making-vm.ts'
import { isMarked, letGo, makeVolume, VolumeTaken } from './new-volume.ts'
import { isOurs, markOf } from './task-mark.ts'
import { clonedDisks, cloneUuid, type ClonedDisk, type VmCloneArgs } from './vm-clone-check.ts'
import { evidenceOf, lookEverywhere, parkForSilent } from './vm-place.ts'
import { findVolume, poolFor, tellPools } from './volume-place.ts'

const lookFirst = 'look whether the clone exists'

export async function cloneVm(ctx: ActionContext, args: VmCloneArgs, step: Step): Promise<Outcome> {
  if (ctx.boundHost === null) throw new Error('vm.clone runs on a host')
  const host = ctx.host(ctx.boundHost)
  const uuid = cloneUuid(args)
  const disks = clonedDisks(args, ctx.state.vm(args.vm))
  step(lookFirst)
  const sightings = await lookEverywhere(ctx, uuid, [host.name])
  const [seen] = sightings.seen
  if (seen) {
    if (!isOurs(ctx, seen.vm)) return failed(uuidTaken(uuid, seen.vm.name, seen.host, lookFirst, 'leave the UUID out'))
    return finish(ctx, ctx.host(seen.host), args, disks, step)
  }
  const closed = parkIfCordoned(ctx, host.name)
  if (closed) return closed
  const silent = parkForSilent(args.name, sightings)
  if (silent) return silent
  const namesake = await host.vmByName(args.name)
  if (namesake) return failed(nameTaken(args.name, namesake.uuid, host.name, lookFirst))
  const awake = await refuseAwake(host, args.vm)
  if (awake) return failed(awake)
  await ctx.observe.bindWhereabouts(uuid, host.name)
  const made: ClonedDisk[] = []
  const told = (store: string) => tellPools(ctx, store, host.name)
  try {
    const paths = await makeDisks(ctx, host, args, disks, made, step)
    // Whoever started it meanwhile wrote to what was being copied.
    const woken = await refuseAwake(host, args.vm)
    if (woken) {
      await unmakeVolumes(ctx, host, made, told)
      return failed(woken)
    }
    step('define the clone')
    const xml = await host.vmXml(args.vm, { inactive: true, secure: true })
    const [first] = disks
    const beside =
      first && paths[first.target] ? `${dirname(paths[first.target]?.path ?? '')}/${args.name}_VARS.fd` : null
    const changed = cloneXml(xml, {
      uuid,
      name: args.name,
      disks: paths,
      macs: args.macs ?? [],
      variables: variablesOf(xml) === null ? null : beside
    })
    await host.defineVm(host.markXml(changed, { uuid, name: args.name }, markOf(ctx)))
  } catch (error) {
    await tidyVolumes(ctx, host, error, made, { what: 'clone', told })
    if (error instanceof VolumeTaken)
      return failed(volumeTaken(error, host.name, 'make the volumes', 'choose another name, or delete the volume'))
    throw error
  }
  return finish(ctx, host, args, disks, step)
}

async function makeDisks(
  ctx: ActionContext,
  host: Host,
  args: VmCloneArgs,
  disks: readonly ClonedDisk[],
  made: ClonedDisk[],
  step: Step
): Promise<Record<string, { path: string; format: string }>> {
  const paths: Record<string, { path: string; format: string }> = {}
  for (const [index, disk] of disks.entries()) {
    const { store, volume, format, from } = disk
    step(
      `${args.linked ? 'lay' : 'copy'} ${from.store}/${from.volume} ${args.linked ? 'under' : 'to'} ${store}/${volume}`
    )
    const below = { pool: poolFor(ctx, from.store, host.name), name: from.volume }
    await findVolume(host, below.pool, below.name)
    made.push(disk)
    const wanted = { pool: poolFor(ctx, store, host.name), name: volume, format, capacityBytes: null, from: below }
    const { path } = await makeVolume(ctx, host, { ...wanted, linked: args.linked ?? false })
    paths[disk.target] = { path, format }
    ctx.progress({ done: index + 1, total: disks.length + 1, unit: 'steps' })
  }
  return paths
}

/** The clone is complete once the host shows it with our mark; then its volumes need no marker any more. */
async function finish(
  ctx: ActionContext,
  host: Host,
  args: VmCloneArgs,
  disks: readonly ClonedDisk[],
  step: Step
): Promise<Outcome> {
  step('look at the clone')
  const uuid = cloneUuid(args)
  const vm = await host.vm(uuid)
  if (!vm || !isOurs(ctx, vm)) return failed(notDefined(args.name, host.name, 'look at the clone'))
  await ctx.observe.vm(host.name, uuid)
  for (const { store, volume } of disks) await letGo(ctx, host, { pool: poolFor(ctx, store, host.name), name: volume })
  for (const store of new Set(disks.map((disk) => disk.store))) await tellPools(ctx, store, host.name)
  await ctx.observe.vm(host.name, args.vm)
  return complete(resultOf(args, host.name, disks))
}

const resultOf = (args: VmCloneArgs, host: string, disks: readonly ClonedDisk[]) => ({
  uuid: cloneUuid(args),
  name: args.name,
  host,
  linked: args.linked ?? false,
  volumes: disks.map(({ store, volume }) => `${store}/${volume}`)
})

/** Made = defined with this task's mark, and no marker left. Anything less is made or tidied up by another attempt. */
export async function probeClone(ctx: ActionContext, args: VmCloneArgs): Promise<Probe> {
  const uuid = cloneUuid(args)
  const sightings = await lookEverywhere(ctx, uuid, ctx.boundHost === null ? [] : [ctx.boundHost])
  const evidence = evidenceOf(sightings)
  const ours = sightings.seen.find(({ vm }) => isOurs(ctx, vm))
  if (ours) {
    const disks = clonedDisks(args, ctx.state.vm(args.vm))
    const host = ctx.host(ours.host)
    for (const { store, volume } of disks) {
      const at = { pool: poolFor(ctx, store, host.name), name: volume }
      if (await isMarked(ctx, host, at)) return { happened: 'no', evidence }
    }
    await ctx.observe.vm(ours.host, uuid)
    return { happened: 'yes', evidence, result: resultOf(args, ours.host, disks) }
  }
  const [silent] = sightings.unknown
  if (silent) return { happened: 'unknown', evidence, why: `${silent.host} cannot be asked: ${silent.reason}` }
  return { happened: 'no', evidence }
}

async function refuseAwake(host: Host, uuid: string) {
  const vm = await host.vm(uuid)
  if (vm && !isActive(vm.power)) return undefined
  const [code, what] = vm
    ? ['vm_running', `${vm.name} is ${vm.power} on ${host.name}`]
    : ['vm_not_found', `${host.name} has no VM ${uuid}`]
  return ownError(code ?? '', `${what}: its disks are not at rest`, 'look at the VM', 'stop it first', {
    host: host.name
  })
}

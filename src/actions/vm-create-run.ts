// Makes the VM on its host: volumes first, then the definition, then a look. Whatever an earlier attempt left is found again.
import { HostError } from '../host/error.ts'
import type { Host } from '../host/host.ts'
import type { VmSpec } from '../model/vm.ts'
import { complete, failed, type ActionContext, type Outcome, type Probe } from './action.ts'
import type { Step } from './attempt.ts'
import { seedImage } from './cloud-init.ts'
import { parkIfCordoned } from './host-refusal.ts'
import { nameTaken, notDefined, tidyVolumes, uuidTaken, volumeTaken } from './making-vm.ts'
import { isMarked, letGo, makeVolume, VolumeTaken } from './new-volume.ts'
import { isOurs, markOf } from './task-mark.ts'
import type { VmCreateArgs } from './vm-create-args.ts'
import { plannedDisks, type PlannedDisk } from './vm-create-disks.ts'
import { evidenceOf, lookEverywhere, parkForSilent } from './vm-place.ts'
import { poolFor } from './volume-place.ts'

const lookFirst = 'look whether the VM exists'
const volumeNext = 'choose another name, use it as it is (`volume=`), or delete it'

export async function createVm(ctx: ActionContext, args: VmCreateArgs, uuid: string, step: Step): Promise<Outcome> {
  if (ctx.boundHost === null) throw new Error('vm.create runs on a host')
  const host = ctx.host(ctx.boundHost)
  step(lookFirst)
  const sightings = await lookEverywhere(ctx, uuid, [host.name])
  const [seen] = sightings.seen
  if (seen) {
    if (!isOurs(ctx, seen.vm))
      return failed(uuidTaken(uuid, seen.vm.name, seen.host, lookFirst, 'leave the UUID out, or delete that VM'))
    return finish(ctx, ctx.host(seen.host), args, uuid, step)
  }
  const closed = parkIfCordoned(ctx, host.name)
  if (closed) return closed
  // An earlier attempt was bound to a host that is silent now: it may have made the VM there.
  const silent = parkForSilent(args.name, sightings)
  if (silent) return silent
  const namesake = await host.vmByName(args.name)
  if (namesake) return failed(nameTaken(args.name, namesake.uuid, host.name, lookFirst))
  await ctx.observe.bindWhereabouts(uuid, host.name)
  const made: PlannedDisk[] = []
  try {
    const paths = await makeDisks(ctx, host, args, made, step)
    step('define the VM')
    const xml =
      args.xml === undefined
        ? await host.vmXmlFor(specOf(args, uuid, paths), markOf(ctx))
        : host.markXml(args.xml, { uuid, name: args.name }, markOf(ctx))
    await host.defineVm(xml)
  } catch (error) {
    const told = (store: string) => ctx.observe.pool(host.name, poolFor(ctx, store, host.name))
    if (!(await tidyVolumes(ctx, host, error, made, { what: 'VM', told }))) step('delete the volumes of the failed VM')
    if (error instanceof VolumeTaken) return failed(volumeTaken(error, host.name, 'create the volumes', volumeNext))
    throw error
  }
  return finish(ctx, host, args, uuid, step)
}

/** Paths of all disks in order. `made` tells what there is to tidy up, also when it throws in between. */
async function makeDisks(
  ctx: ActionContext,
  host: Host,
  args: VmCreateArgs,
  made: PlannedDisk[],
  step: Step
): Promise<string[]> {
  const paths: string[] = []
  const disks = plannedDisks(args)
  for (const [index, disk] of disks.entries()) {
    const pool = poolFor(ctx, disk.store, host.name)
    step(
      `${disk.origin === 'existing' ? 'find' : disk.origin === 'copy' ? 'copy' : 'create'} volume ${disk.store}/${disk.volume}`
    )
    if (disk.origin === 'existing') {
      const volume = await host.volume(pool, disk.volume)
      if (!volume)
        throw new HostError(
          'bad_input',
          host.name,
          `volume "${disk.store}/${disk.volume}" is not in pool ${pool} on ${host.name}`
        )
      paths.push(volume.path)
    } else {
      made.push(disk)
      const from = disk.from && { pool: poolFor(ctx, disk.from.store, host.name), name: disk.from.volume }
      const seed = disk.origin === 'seed' ? seedOf(args) : undefined
      const volume = await makeVolume(ctx, host, {
        pool,
        name: disk.volume,
        format: disk.format,
        capacityBytes: seed?.length ?? disk.capacityBytes,
        from,
        linked: disk.linked
      })
      if (seed) await host.uploadVolume(pool, disk.volume, oneChunk(seed), { size: seed.length, signal: ctx.signal })
      paths.push(volume.path)
    }
    ctx.progress({ done: index + 1, total: disks.length + 1, unit: 'steps' })
  }
  return paths
}

function seedOf({ uuid, name, cloudInit }: VmCreateArgs): Buffer {
  if (uuid === undefined || !cloudInit) throw new Error('a disc for the first boot is only planned for what it says')
  return seedImage({ uuid, name }, cloudInit)
}

async function* oneChunk(bytes: Buffer): AsyncGenerator<Buffer> {
  yield bytes
}

function specOf(args: VmCreateArgs, uuid: string, paths: readonly string[]): VmSpec {
  return {
    uuid,
    name: args.name,
    memoryMiB: args.memoryMiB ?? 0,
    vcpus: args.vcpus ?? 1,
    disks: plannedDisks(args).map(({ format, bus, device, readOnly }, index) => ({
      path: paths[index] ?? '',
      format,
      bus,
      device,
      readOnly
    })),
    nics: (args.nics ?? []).map(({ mac, network, bridge, model }) => ({
      mac: mac ?? '',
      model: model ?? 'virtio',
      ...(network === undefined ? {} : { network }),
      ...(bridge === undefined ? {} : { bridge })
    })),
    firmware: args.firmware ?? 'bios',
    graphics: args.graphics ?? 'none'
  }
}

/** The VM is complete once the host shows it with our mark; then its volumes need no marker any more. */
async function finish(ctx: ActionContext, host: Host, args: VmCreateArgs, uuid: string, step: Step): Promise<Outcome> {
  step('look at the VM')
  const vm = await host.vm(uuid)
  if (!vm || !isOurs(ctx, vm)) return failed(notDefined(args.name, host.name, 'look at the VM'))
  await ctx.observe.vm(host.name, uuid)
  const pools = new Set<string>()
  for (const disk of plannedDisks(args)) {
    if (disk.origin === 'existing') continue
    const pool = poolFor(ctx, disk.store, host.name)
    await letGo(ctx, host, { pool, name: disk.volume })
    pools.add(pool)
  }
  for (const pool of pools) await ctx.observe.pool(host.name, pool)
  return complete({ uuid, name: vm.name, host: host.name, volumes: volumesOf(args) })
}

const volumesOf = (args: VmCreateArgs): string[] =>
  plannedDisks(args).flatMap((disk) => (disk.origin === 'existing' ? [] : [`${disk.store}/${disk.volume}`]))

/** Made = defined with this task's mark, and no marker left. Anything less is made or tidied up by another attempt. */
export async function probeCreated(ctx: ActionContext, args: VmCreateArgs, uuid: string): Promise<Probe> {
  const sightings = await lookEverywhere(ctx, uuid, ctx.boundHost === null ? [] : [ctx.boundHost])
  const evidence = evidenceOf(sightings)
  const ours = sightings.seen.find(({ vm }) => isOurs(ctx, vm))
  if (ours) {
    if (await hasMarkers(ctx, ctx.host(ours.host), args)) return { happened: 'no', evidence }
    await ctx.observe.vm(ours.host, uuid)
    return {
      happened: 'yes',
      evidence,
      result: { uuid, name: ours.vm.name, host: ours.host, volumes: volumesOf(args) }
    }
  }
  const [silent] = sightings.unknown
  if (silent) return { happened: 'unknown', evidence, why: `${silent.host} cannot be asked: ${silent.reason}` }
  return { happened: 'no', evidence }
}

async function hasMarkers(ctx: ActionContext, host: Host, args: VmCreateArgs): Promise<boolean> {
  for (const disk of plannedDisks(args)) {
    if (disk.origin === 'existing') continue
    if (await isMarked(ctx, host, { pool: poolFor(ctx, disk.store, host.name), name: disk.volume })) return true
  }
  return false
}

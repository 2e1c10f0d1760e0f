// Makes a VM: its volumes, then its definition, which carries our mark (installation, task). Not started: that is another task.
// Where it is made is decided late, by placement, unless a host is named.
import { randomUUID } from 'node:crypto'
import type { FleetState } from '../inventory/fleet-state.ts'
import type { VmFacts } from '../inventory/facts.ts'
import { resource } from '../model/resource.ts'
import type { Effect } from '../queue/task.ts'
import { action } from './action.ts'
import { attempt } from './attempt.ts'
import { withoutPassword } from './cloud-init.ts'
import { plannedDisks, plannedStores, plannedTarget, type PlannedDisk } from './vm-create-disks.ts'
import { checkCreate } from './vm-create-check.ts'
import { fillInImage } from './image-use.ts'
import { macsOf } from './vm-nic-mac.ts'
import { createVm, probeCreated } from './vm-create-run.ts'
import { readGivenXml } from './vm-create-xml.ts'
import { vmCreateArgs, type VmCreateArgs } from './vm-create-args.ts'
import { volumeName } from './vm-devices.ts'
import { volumesOf } from './store-room.ts'
import { exclusive, hostClaim, poolClaimsOn, shared } from './vm-place.ts'

export const vmCreate = action({
  name: 'vm.create',
  summary: 'Create a VM with new, copied or existing volumes, or from given XML',
  args: vmCreateArgs,
  freshMacs: ({ nics = [] }) => nics.filter(({ mac }) => mac === undefined).length,
  prepare(args, { macs }) {
    const left = [...macs]
    return {
      ...args,
      uuid: args.uuid ?? randomUUID(),
      ...(args.cloudInit ? { cloudInit: withoutPassword(args.cloudInit) } : {}),
      ...(args.nics ? { nics: args.nics.map((nic) => ({ ...nic, mac: nic.mac ?? left.shift() ?? '' })) } : {})
    }
  },
  fillIn: fillInImage,
  title: ({ name }) => `Create ${name}`,
  claims: (args, state) => [
    exclusive(resource.vm(uuidOf(args))),
    exclusive(resource.vmName(args.name)),
    // A host that is named is kept from the start: nobody removes it before, and who clears it finds the task.
    ...(args.host === undefined ? [] : [shared(resource.host(args.host))]),
    ...hostClaim(state),
    ...plannedStores(args).map((store) => shared(resource.store(store))),
    ...poolClaimsOn(state, plannedStores(args), state.boundHost),
    ...plannedDisks(args).flatMap((disk) => diskClaims(disk)),
    ...networkClaims(args, state),
    ...(args.image === undefined ? [] : [shared(resource.image(args.image))]),
    ...macsOf(args).map((mac) => exclusive(resource.mac(mac)))
  ],
  check: checkCreate,
  effect: (args, state) => createEffects(args, state),
  bringsVmTo: 'host',
  bindTo(args, state) {
    // An attempt that came as far as the definition decided the host.
    const made = state.vm(uuidOf(args))?.home
    const host = made || args.host
    if (host) return { host }
    return {
      place: {
        vm: uuidOf(args),
        memoryMiB: args.memoryMiB ?? 0,
        vcpus: args.vcpus ?? 1,
        stores: plannedStores(args),
        networks: (args.nics ?? []).flatMap((nic) => nic.network ?? [])
      }
    }
  },
  makesVolumes: (args, state) => volumesOf(plannedDisks(args), state),
  run: (ctx, args) =>
    attempt(ctx, (step) => createVm(ctx, args, uuidOf(args), step), {
      probe: () => probeCreated(ctx, args, uuidOf(args))
    }),
  probe: (ctx, args) => probeCreated(ctx, args, uuidOf(args)),
  undo: (args) => ({
    action: 'vm.delete',
    // Neither what was there before nor what it is given later goes with it.
    args: {
      vm: uuidOf(args),
      volumes: true,
      onlyVolumes: plannedDisks(args).flatMap((disk) => (disk.origin === 'existing' ? [] : [volumeName(disk)]))
    }
  })
})

/** @throws Error before `prepare` */
function uuidOf(args: VmCreateArgs): string {
  if (args.uuid === undefined) throw new Error('vm.create is prepared before it is asked anything')
  return args.uuid.toLowerCase()
}

const diskClaims = (disk: PlannedDisk) => [
  (disk.origin === 'existing' && disk.readOnly ? shared : exclusive)(resource.volume(disk.store, disk.volume)),
  ...(disk.from ? [shared(resource.volume(disk.from.store, disk.from.volume))] : [])
]

const networkClaims = (args: VmCreateArgs, state: FleetState) => {
  const host = state.boundHost ?? args.host
  return host === undefined
    ? []
    : (args.nics ?? []).flatMap(({ network }) => (network ? [shared(resource.network(host, network))] : []))
}

function createEffects(args: VmCreateArgs, state: FleetState): Effect[] {
  const uuid = uuidOf(args)
  const home = args.host ?? ''
  const disks = plannedDisks(args)
  const given = args.xml === undefined ? undefined : readGivenXml(args.xml).vm
  const facts: VmFacts = {
    uuid,
    name: args.name,
    home,
    activeOn: null,
    power: 'off',
    reason: 'unknown',
    persistent: true,
    autostart: false,
    hasSavedImage: false,
    memoryMiB: given?.memoryMiB ?? args.memoryMiB ?? 0,
    maxMemoryMiB: given?.maxMemoryMiB ?? args.memoryMiB ?? 0,
    vcpus: given?.vcpus ?? args.vcpus ?? 1,
    disks:
      given?.disks.map((disk) => ({ ...disk, store: null, volume: null })) ??
      disks.map((disk, index) => ({
        target: plannedTarget(disks, index),
        device: disk.device,
        kind: 'file',
        source: pathOf(disk, state, home),
        format: disk.format,
        bus: disk.bus,
        readOnly: disk.readOnly,
        shareable: false,
        store: disk.store,
        volume: disk.volume
      })),
    nics:
      given?.nics ??
      (args.nics ?? []).map(({ mac, network, bridge, model }) => ({
        mac: mac ?? '',
        kind: network === undefined ? 'bridge' : 'network',
        source: network ?? bridge ?? null,
        model: model ?? 'virtio'
      })),
    snapshots: [],
    owner: 'ours',
    elsewhere: {},
    job: null,
    observedAt: null
  }
  return [
    { subject: resource.vm(uuid), facts },
    { subject: resource.vmName(args.name), facts: { [uuid]: home } },
    ...disks.map((disk) => volumeEffect(disk, uuid, state, home)),
    ...disks.flatMap((disk) => belowEffects(disk, uuid, state)),
    ...macsOf(args).map((mac) => ({ subject: resource.mac(mac), facts: { [uuid]: args.name } }))
  ]
}

const pathOf = (disk: PlannedDisk, state: FleetState, host: string): string | null => {
  const target = state.store(disk.store)?.pools[host]?.target
  return target ? `${target}/${disk.volume}` : null
}

/** Of a copy without a size that of its source; how large the disc for the first boot is nobody needs to know. */
const capacityOf = (disk: PlannedDisk, state: FleetState): { capacityBytes?: number } => {
  const source = disk.from && state.volume(disk.from.store, disk.from.volume)
  const capacityBytes = disk.capacityBytes ?? source?.capacityBytes
  return capacityBytes === undefined ? {} : { capacityBytes }
}

const backingOf = (disk: PlannedDisk, state: FleetState): string | null =>
  disk.linked && disk.from ? (state.volume(disk.from.store, disk.from.volume)?.path ?? null) : null

/** A VM uses what its disk lies over: that can be neither deleted nor resized any more. */
export function belowEffects(disk: PlannedDisk, uuid: string, state: FleetState): Effect[] {
  if (!disk.linked || !disk.from) return []
  const { store, volume } = disk.from
  const usedBy = state.volume(store, volume)?.usedBy ?? []
  return [{ subject: resource.volume(store, volume), facts: { usedBy: [...new Set([...usedBy, uuid])] } }]
}

function volumeEffect(disk: PlannedDisk, uuid: string, state: FleetState, home: string): Effect {
  const subject = resource.volume(disk.store, disk.volume)
  if (disk.origin === 'existing') {
    const usedBy = state.volume(disk.store, disk.volume)?.usedBy ?? []
    return { subject, facts: { usedBy: [...usedBy, uuid] } }
  }
  return {
    subject,
    facts: {
      store: disk.store,
      name: disk.volume,
      path: pathOf(disk, state, home) ?? '',
      format: disk.format,
      ...capacityOf(disk, state),
      allocationBytes: 0,
      backing: backingOf(disk, state),
      usedBy: [uuid]
    }
  }
}

// Puts a volume into a VM's drive, running or not. A VM that is off and has no drive gets one.
import { Type, type Static } from 'typebox'
import { HostError } from '../host/error.ts'
import type { FleetState } from '../inventory/fleet-state.ts'
import { resource } from '../model/resource.ts'
import { isActive } from '../model/vm.ts'
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
import { splitVolume, VmRef, VolumeRef } from './refs.ts'
import { changeMedium, driveArg, driveNamed, drivesOf, forceArg, mediaIn, refuseNoDrive } from './vm-cdrom-medium.ts'
import { changeableVm, freeTarget, lookAtDevices, placesOf } from './vm-devices.ts'
import { bindToVm, poolClaimsOn, shared, vmClaims, vmTitle } from './vm-place.ts'
import { named } from './vm-refusal.ts'
import { findVolume, poolFor, refuseStore } from './volume-place.ts'

const args = Type.Object(
  {
    vm: VmRef,
    volume: { ...VolumeRef, description: 'Image to insert, STORE/NAME' },
    drive: Type.Optional(driveArg),
    force: Type.Optional(forceArg)
  },
  { additionalProperties: false }
)

type Args = Static<typeof args>

export const vmCdromInsert = action({
  name: 'vm.cdrom.insert',
  summary: "Put a volume into a VM's drive",
  args,
  fillIn(given, state) {
    const vm = state.vm(given.vm)
    const drive = driveNamed(vm, given.drive, 'empty')?.target ?? given.drive ?? freeTarget(vm?.disks ?? [], 'sata')
    return { ...given, drive }
  },
  title: ({ vm, volume }, state) => `${vmTitle('Insert into', vm, state)}: ${volume}`,
  claims(given, state) {
    const { store, volume } = splitVolume(given.volume)
    return [
      ...vmClaims(given.vm, state),
      ...poolClaimsOn(state, [store], state.boundHost),
      shared(resource.store(store)),
      shared(resource.volume(store, volume))
    ]
  },
  check: (given, state) => check(given, state),
  effect: (given, state) => effects(given, state),
  bindTo: ({ vm }, state) => bindToVm(vm, state),
  run: (ctx, given) => attempt(ctx, (step) => insert(ctx, given, step), { probe: () => probe(ctx, given) }),
  probe: (ctx, given) => probe(ctx, given),
  undoesHalf: true,
  undo(given, state) {
    const before = driveNamed(state.vm(given.vm), given.drive, 'full')
    const drive = given.drive === undefined ? {} : { drive: given.drive }
    if (!before?.source) return { action: 'vm.cdrom.eject', args: { vm: given.vm, ...drive } }
    if (before.store === null || before.volume === null)
      return { impossible: 'what was in the drive is no volume of a known store' }
    return { action: 'vm.cdrom.insert', args: { vm: given.vm, ...drive, volume: `${before.store}/${before.volume}` } }
  }
})

function check(given: Args, state: FleetState): Verdict {
  const { vm, refusal } = changeableVm(given.vm, state)
  if (refusal) return refusal
  const { store, volume } = splitVolume(given.volume)
  const drive = driveNamed(vm, given.drive, 'empty')
  const taken = vm.disks.find(({ target }) => target === given.drive)
  if (!drive && (isActive(vm.power) || drivesOf(vm).length > 0))
    return refuseNoDrive(vm, given.drive, 'stop the VM: then inserting gives it a drive')
  if (!drive && taken)
    return impossible('target_taken', `${given.drive} of ${named(vm)} is no drive`, 'name another drive')
  if (drive?.source && !given.force && !holds(drive, given.volume))
    return impossible(
      'drive_full',
      `drive ${drive.target} of ${named(vm)} holds ${drive.source}`,
      `\`taskomatic vm cdrom eject ${vm.name}\` first`
    )
  const closed = refuseStore(state, store, state.boundHost ?? (vm.activeOn || vm.home || undefined))
  if (closed) return closed
  if (state.volume(store, volume)) return possible
  return impossible(
    'volume_not_found',
    `there is no volume "${given.volume}"`,
    `see \`taskomatic volume list --store ${store}\``
  )
}

const holds = (drive: { store: string | null; volume: string | null }, volume: string): boolean =>
  drive.store !== null && `${drive.store}/${drive.volume}` === volume

function effects(given: Args, state: FleetState) {
  const vm = state.vm(given.vm)
  if (!vm || given.drive === undefined) return []
  const { store, volume } = splitVolume(given.volume)
  const facts = state.volume(store, volume)
  const others = vm.disks.filter(({ target }) => target !== given.drive)
  const drive = {
    target: given.drive,
    device: 'cdrom' as const,
    bus: vm.disks.find(({ target }) => target === given.drive)?.bus ?? 'sata',
    kind: 'file' as const,
    source: facts?.path ?? null,
    format: formatOf(facts?.format),
    readOnly: true,
    shareable: false,
    store,
    volume
  }
  return [
    { subject: resource.vm(vm.uuid), facts: { disks: [...others, drive] } },
    { subject: resource.volume(store, volume), facts: { usedBy: [...new Set([...(facts?.usedBy ?? []), vm.uuid])] } }
  ]
}

/** Images of discs are called `iso` in a pool, and are raw to QEMU. */
const formatOf = (format: string | null | undefined): string => (format === 'qcow2' ? 'qcow2' : 'raw')

async function insert(ctx: ActionContext, given: Args, step: Step): Promise<Outcome> {
  const target = given.drive ?? ''
  const { store, volume } = splitVolume(given.volume)
  step('look at the drive')
  const { host, name, devices } = await lookAtDevices(ctx, given.vm)
  const pool = poolFor(ctx, store, host.name)
  const found = await findVolume(host, pool, volume)
  if (!found)
    throw new HostError('bad_input', host.name, `volume ${given.volume} is not in pool ${pool} on ${host.name}`)
  const other = mediaIn(devices, target).find((medium) => medium !== null && medium !== found.path)
  if (other && !given.force) return failed(full(name, host.name, target, other))
  const medium = { path: found.path, format: formatOf(found.format) }
  if (placesOf(devices).every((place) => !devices[place]?.disks.some((disk) => disk.target === target))) {
    step('add a drive to the definition')
    const drive = { ...medium, bus: 'sata', device: 'cdrom' as const, readOnly: true, target }
    await host.addDisk(given.vm, drive, 'definition')
  } else await changeMedium(host, given.vm, target, devices, medium, { force: given.force ?? false }, step)
  step('look what is in the drive')
  const after = await host.vmDevices(given.vm)
  await ctx.observe.vm(host.name, given.vm)
  const media = after ? mediaIn(after, target) : []
  if (media.length > 0 && media.every((one) => one === found.path))
    return complete({ host: host.name, drive: target, volume: given.volume })
  return failed(notIn(name, host.name, target))
}

async function probe(ctx: ActionContext, given: Args): Promise<Probe> {
  const { store, volume } = splitVolume(given.volume)
  const { host, devices } = await lookAtDevices(ctx, given.vm)
  const found = await host.volume(poolFor(ctx, store, host.name), volume)
  const media = mediaIn(devices, given.drive ?? '')
  const evidence = { host: host.name, media, volume: found?.path ?? null }
  if (!found || media.length < placesOf(devices).length || media.some((one) => one !== found.path))
    return { happened: 'no', evidence }
  await ctx.observe.vm(host.name, given.vm)
  return { happened: 'yes', evidence, result: { host: host.name, drive: given.drive ?? '', volume: given.volume } }
}

const full = (name: string, host: string, drive: string, source: string) =>
  ownError(
    'drive_full',
    `drive ${drive} of ${name} on ${host} holds ${source}`,
    'look at the drive',
    `\`taskomatic vm cdrom eject ${name}\` first`,
    {
      host,
      drive
    }
  )

const notIn = (name: string, host: string, drive: string) =>
  ownError(
    'medium_not_in',
    `${host} accepted the medium and does not show it in drive ${drive} of ${name}`,
    'look what is in the drive',
    'look at the VM on its host, then retry the task',
    { host, drive }
  )

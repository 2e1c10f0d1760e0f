// What the actions on a VM's disks, cards and drives share: finding a device, what may be done to it now, and how its end is seen.
// The guest as it runs and its definition are two things; an action is complete when all of them that exist are as asked.
import { Type } from 'typebox'
import type { DevicePlace, VmDevices } from '../host/vm-devices.ts'
import type { Host } from '../host/host.ts'
import { HostError } from '../host/error.ts'
import type { FleetState } from '../inventory/fleet-state.ts'
import type { PlacedDisk, VmFacts } from '../inventory/facts.ts'
import { quote } from '../model/name.ts'
import { isActive, type ObservedVm } from '../model/vm.ts'
import type { TaskError } from '../queue/task.ts'
import { impossible, type ActionContext, type Verdict } from './action.ts'
import { ownError } from './error.ts'
import { named, ownVm, refuseActiveElsewhere } from './vm-refusal.ts'
import type { PlacedVolume } from './volume-place.ts'

/** How long a guest may take to let go of a device; a guest that can does it within a second. */
export const releaseSeconds = 30

export const releaseTimeout = Type.Optional(
  Type.Integer({
    description: `How long a running guest may take to let go of it; default ${releaseSeconds}`,
    minimum: 1,
    maximum: 3600
  })
)

/** A device of a guest that runs comes and goes on these buses only. */
const pluggable = new Set(['virtio', 'scsi', 'usb'])

const prefixes: Record<string, string> = { virtio: 'vd', ide: 'hd' }

/** The first free name on a bus: vda, vdb … */
export function freeTarget(disks: readonly { target: string }[], bus: string): string {
  const prefix = prefixes[bus] ?? 'sd'
  const taken = new Set(disks.map((disk) => disk.target))
  for (let index = 0; ; index++) {
    const target = prefix + letters(index)
    if (!taken.has(target)) return target
  }
}

/** 0 → a, 25 → z, 26 → aa. */
function letters(index: number): string {
  const last = String.fromCodePoint(97 + (index % 26))
  return index < 26 ? last : letters(Math.floor(index / 26) - 1) + last
}

/** A disk by its name on the bus, or by its volume. */
export const diskNamed = (vm: VmFacts | undefined, disk: string): PlacedDisk | undefined =>
  vm?.disks.find(({ target, store, volume }) => target === disk || (store !== null && `${store}/${volume}` === disk))

/** The volume that a disk is; undefined for a path in no known pool, and for an empty drive. */
export const volumeOf = (disk: PlacedDisk | undefined): PlacedVolume | undefined =>
  disk === undefined || disk.store === null || disk.volume === null
    ? undefined
    : { store: disk.store, volume: disk.volume }

export const volumeName = ({ store, volume }: PlacedVolume): string => `${store}/${volume}`

/** The VM, or why none of its devices can be changed. */
export function changeableVm(
  uuid: string,
  state: FleetState
): { vm: VmFacts; refusal?: never } | { vm?: never; refusal: Verdict } {
  const { vm, refusal } = ownVm(uuid, state)
  if (refusal) return { refusal }
  const elsewhere = refuseActiveElsewhere(vm)
  if (elsewhere) return { refusal: elsewhere }
  if (vm.hasSavedImage && !isActive(vm.power)) {
    return {
      refusal: impossible(
        'vm_has_saved_image',
        `${named(vm)} has a saved image, which knows only the devices that it had`,
        'start it first; it goes on from there'
      )
    }
  }
  if (vm.power !== 'stopping' && vm.power !== 'suspended') return { vm }
  return {
    refusal: impossible(
      `vm_${vm.power}`,
      `${named(vm)} is ${vm.power === 'stopping' ? 'shutting down' : 'suspended'}: its devices stay as they are`,
      vm.power === 'stopping' ? 'wait until it is off' : 'wake it up, or stop it first'
    )
  }
}

export function refuseUnknownDisk(vm: VmFacts, disk: string): Verdict {
  const known = vm.disks.map(({ target }) => target).join(', ')
  return impossible(
    'disk_not_found',
    `${named(vm)} has no disk ${quote(disk)}`,
    known === '' ? 'it has no disks' : `one of ${known}`
  )
}

export function refuseUnpluggable(vm: VmFacts, bus: string, what: string): Verdict | undefined {
  if (!isActive(vm.power) || pluggable.has(bus)) return undefined
  return impossible(
    'not_pluggable',
    `${named(vm)} is ${vm.power}, and ${what} on bus ${bus} can be neither plugged in nor pulled out then`,
    'stop the VM first, or use bus virtio or scsi'
  )
}

export type Devices = Record<DevicePlace, VmDevices | null>

/** Both of a VM's sets of devices, from the host that the task is bound to. @throws HostError `bad_input` when it is not there */
export async function lookAtDevices(
  ctx: ActionContext,
  uuid: string
): Promise<{ host: Host; name: string; devices: Devices }> {
  const bound = ctx.boundHost
  const name = ctx.state.vm(uuid)?.name ?? uuid
  if (bound === null) throw new HostError('unknown_host', '', `nobody knows where VM ${uuid} is`)
  const host = ctx.host(bound)
  const devices = await host.vmDevices(uuid)
  if (!devices) throw new HostError('bad_input', bound, `${bound} has no VM ${name}`)
  return { host, name, devices }
}

/** Those that exist, the definition first: what a running guest refuses is taken back there without asking the guest. */
export const placesOf = (devices: Devices): DevicePlace[] =>
  (['definition', 'running'] as const).filter((place) => devices[place] !== null)

/** The facts of a running guest's devices are those of the guest: it is looked at until they are as asked. */
export async function untilReleased(
  ctx: ActionContext,
  host: Host,
  uuid: string,
  has: (vm: ObservedVm) => boolean,
  timeoutMs: number
): Promise<boolean> {
  try {
    await host.untilVm(uuid, (vm) => vm === undefined || !isActive(vm.power) || !has(vm), {
      timeoutMs,
      signal: ctx.signal
    })
    return true
  } catch (error) {
    if (error instanceof HostError && error.code === 'timeout') return false
    throw error
  }
}

export const keeps = (name: string, host: string, device: string, seconds: number): TaskError =>
  ownError(
    'guest_keeps_device',
    `${name} was asked to let go of ${device} and still has it after ${seconds} s: it is attached as before`,
    `wait until the guest lets go of ${device}`,
    'release it inside the guest and retry the task, or stop the VM and remove it then; the guest may still let go by itself',
    { host, device }
  )

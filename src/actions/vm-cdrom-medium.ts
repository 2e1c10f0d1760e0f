// What inserting and ejecting share: which drive is meant, and changing its medium in all that there is of the VM.
import { Type } from 'typebox'
import type { VmFacts, PlacedDisk } from '../inventory/facts.ts'
import type { Host } from '../host/host.ts'
import { quote } from '../model/name.ts'
import { impossible, type Verdict } from './action.ts'
import type { Step } from './attempt.ts'
import { placesOf, type Devices } from './vm-devices.ts'
import { TargetName } from './vm-disk-args.ts'
import { named } from './vm-refusal.ts'

export const driveArg = { ...TargetName, description: 'Drive, e.g. sda; default the first one' }

export const forceArg = Type.Boolean({
  description: 'Although the guest has locked the drive: it loses the medium while it reads it; default false',
  default: false
})

export const drivesOf = (vm: VmFacts | undefined): PlacedDisk[] =>
  (vm?.disks ?? []).filter(({ device }) => device === 'cdrom')

/** The drive of that name; else the first with (or without) a medium, else the first. */
export function driveNamed(
  vm: VmFacts | undefined,
  drive: string | undefined,
  prefer: 'full' | 'empty'
): PlacedDisk | undefined {
  const drives = drivesOf(vm)
  if (drive !== undefined) return drives.find(({ target }) => target === drive)
  return drives.find(({ source }) => (source !== null) === (prefer === 'full')) ?? drives[0]
}

export function refuseNoDrive(vm: VmFacts, drive: string | undefined, next: string): Verdict {
  const known = drivesOf(vm).map(({ target }) => target)
  if (drive === undefined || known.length === 0) return impossible('no_drive', `${named(vm)} has no drive`, next)
  return impossible('no_drive', `${named(vm)} has no drive ${quote(drive)}`, `one of ${known.join(', ')}`)
}

/** What is in the drive, by place; places without the drive are left out. */
export const mediaIn = (devices: Devices, target: string): (string | null)[] =>
  placesOf(devices).flatMap((place) => {
    const drive = devices[place]?.disks.find((disk) => disk.target === target)
    return drive ? [drive.source] : []
  })

/** The running guest first: what it refuses is not in the definition either. */
export async function changeMedium(
  host: Host,
  vm: string,
  target: string,
  devices: Devices,
  medium: { path: string; format: string } | null,
  options: { force: boolean },
  step: Step
): Promise<void> {
  for (const place of placesOf(devices).toReversed()) {
    const drive = devices[place]?.disks.find((disk) => disk.target === target)
    if (!drive || drive.source === (medium?.path ?? null)) continue
    step(place === 'running' ? 'change the medium' : 'change the medium in the definition')
    await host.setDiskSource(vm, target, medium, place, place === 'running' ? options : { force: false })
  }
}

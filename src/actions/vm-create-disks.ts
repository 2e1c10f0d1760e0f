// Which volumes a vm.create makes, copies or uses: the same answer however often it is asked.
import type { DiskArgs, VmCreateArgs } from './vm-create-args.ts'
import { seedName } from './cloud-init.ts'
import { splitVolume } from './refs.ts'

const mebibyte = 1024 * 1024

export type PlannedDisk = {
  /** `seed`: the disc for its first boot. */
  origin: 'blank' | 'copy' | 'existing' | 'seed'
  store: string
  volume: string
  from: { store: string; volume: string } | null
  /** Lies over `from` instead of being a copy of it. */
  linked: boolean
  format: string
  /** Null: as large as what it is copied from, or as it is. */
  capacityBytes: number | null
  device: 'disk' | 'cdrom'
  readOnly: boolean
  bus: string
}

/** A disk of which it is not clear what is wanted is left out: the check says so. */
export function plannedDisks(args: VmCreateArgs): PlannedDisk[] {
  let made = 0
  const disks = (args.disks ?? []).flatMap((disk) => {
    if (diskProblem(disk)) return []
    const planned = disk.volume === undefined ? newDisk(args.name, disk, made) : existingDisk(disk, disk.volume)
    if (planned.origin !== 'existing') made++
    return [planned]
  })
  const seed = seedDisk(args, disks)
  return seed ? [...disks, seed] : disks
}

/** Last, so that the other disks keep their names whether it is there or not. */
function seedDisk({ cloudInit, uuid }: VmCreateArgs, disks: readonly PlannedDisk[]): PlannedDisk | undefined {
  const store = cloudInit?.store ?? disks[0]?.store
  if (!cloudInit || uuid === undefined || store === undefined) return undefined
  return {
    origin: 'seed',
    store,
    volume: seedName(uuid),
    from: null,
    linked: false,
    format: 'raw',
    capacityBytes: null,
    device: 'cdrom',
    readOnly: true,
    bus: 'sata'
  }
}

/** One disk whose volume's name is given; undefined when it is not clear what is wanted. */
export function plannedDisk(disk: DiskArgs): PlannedDisk | undefined {
  if (diskProblem(disk)) return undefined
  return disk.volume === undefined ? newDisk('', disk, 0) : existingDisk(disk, disk.volume)
}

function newDisk(vm: string, disk: DiskArgs, made: number): PlannedDisk {
  const format = disk.format ?? 'qcow2'
  return {
    origin: disk.from === undefined ? 'blank' : 'copy',
    store: disk.store ?? '',
    volume: disk.name ?? `${vm}${made === 0 ? '' : `-${made}`}.${format}`,
    from: disk.from === undefined ? null : splitVolume(disk.from),
    linked: disk.linked ?? false,
    format,
    capacityBytes: disk.sizeMiB === undefined ? null : disk.sizeMiB * mebibyte,
    device: 'disk',
    readOnly: false,
    bus: disk.bus ?? 'virtio'
  }
}

function existingDisk(disk: DiskArgs, volume: string): PlannedDisk {
  const cdrom = disk.cdrom ?? false
  return {
    origin: 'existing',
    ...splitVolume(volume),
    from: null,
    linked: false,
    format: disk.format ?? (cdrom ? 'raw' : 'qcow2'),
    capacityBytes: null,
    device: cdrom ? 'cdrom' : 'disk',
    readOnly: cdrom,
    bus: disk.bus ?? (cdrom ? 'sata' : 'virtio')
  }
}

/** Why the fields of a disk do not go together; undefined when they do. */
export function diskProblem(disk: DiskArgs): { message: string; next: string } | undefined {
  if (disk.volume !== undefined) {
    const made = (['store', 'name', 'sizeMiB', 'from'] as const).find((field) => disk[field] !== undefined)
    return (
      made && {
        message: `a disk with "volume" exists already, so that "${made}" says nothing`,
        next: 'give either, not both'
      }
    )
  }
  if (disk.linked && disk.from === undefined)
    return { message: 'a linked disk lies over another volume', next: 'say over which: `from=STORE/VOLUME`' }
  if (disk.linked && disk.format === 'raw')
    return { message: 'a raw volume cannot lie over another', next: 'leave the format out, or copy instead' }
  if (disk.cdrom) return { message: 'a drive needs a "volume" that exists', next: 'give the volume, STORE/NAME' }
  if (disk.store === undefined) return { message: 'a new disk needs a "store"', next: 'see `taskomatic store list`' }
  if (disk.from === undefined && disk.sizeMiB === undefined) {
    return { message: 'a new disk needs "sizeMiB", or "from" to be a copy', next: 'give its size' }
  }
  return undefined
}

/** Every store that the VM's host must have: of new and existing volumes, and of what is copied. */
export function plannedStores(args: VmCreateArgs): string[] {
  const stores = plannedDisks(args).flatMap((disk) => (disk.from ? [disk.store, disk.from.store] : [disk.store]))
  return [...new Set(stores)].toSorted()
}

const prefixes: Record<string, string> = { virtio: 'vd', scsi: 'sd', sata: 'sd', ide: 'hd' }

/** `vda`, `sda` …: counted over the disks with the same prefix. */
export function plannedTarget(disks: readonly PlannedDisk[], index: number): string {
  const prefix = prefixes[disks[index]?.bus ?? 'virtio'] ?? 'vd'
  const before = disks.slice(0, index).filter((disk) => (prefixes[disk.bus] ?? 'vd') === prefix).length
  return `${prefix}${String.fromCodePoint(97 + before)}`
}

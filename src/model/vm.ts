// What a VM is to us, as data: what a host says of it, and what we hold to be true of it. No libvirt words here.

/** `off` covers libvirt's shut off; `crashed` has stopped by itself; `stopping` has been told to shut down. */
export type PowerState = 'running' | 'paused' | 'stopping' | 'suspended' | 'crashed' | 'off'

/** Active = there is a process for it somewhere: everything but `off` and `crashed`. */
export const isActive = (power: PowerState): boolean => power !== 'off' && power !== 'crashed'

export type VmDisk = {
  target: string
  device: 'disk' | 'cdrom' | 'floppy' | 'lun'
  /** `file` is saved from two writers by QEMU's image lock; `block` and `network` are not. */
  kind: 'file' | 'block' | 'network' | 'volume' | 'none'
  /** Path, device or pool/volume, as the host's XML says. */
  source: string | null
  format: string | null
  bus: string | null
  readOnly: boolean
  shareable: boolean
}

export type VmNic = { mac: string; kind: string; source: string | null; model: string | null }

/** Our own mark in the VM's metadata: who made it, for which task. */
export type VmMark = { instance: string; task: number; generation: number }

/** A state of a VM that it can be brought back to. */
export type VmSnapshot = {
  name: string
  parent: string | null
  /** What the VM was made or brought back to last: the next snapshot is this one's child. */
  current: boolean
  createdAt: string
  /** How the VM was then, and will be after going back: with its memory where it was active. */
  state: 'running' | 'paused' | 'off'
  /** In files of its own beside the disks, not inside them. */
  external: boolean
  description: string | null
  /** Which task made it; null for anybody else's. */
  mark: VmMark | null
}

/** What one host said of one VM at one moment. */
export type ObservedVm = {
  uuid: string
  name: string
  power: PowerState
  /** The host's reason in its own words, lower case, e.g. `booted`, `migrated`, `user`, `io error`, `post-copy failed`. */
  reason: string
  /** Has a definition on this host (not only a process). */
  persistent: boolean
  autostart: boolean
  hasSavedImage: boolean
  memoryMiB: number
  maxMemoryMiB: number
  vcpus: number
  disks: VmDisk[]
  nics: VmNic[]
  /** Parents before their children. */
  snapshots: VmSnapshot[]
  mark: VmMark | null
  /** Element names' namespaces of foreign metadata, e.g. another manager's. */
  foreignMetadata: string[]
  /** What ties it to this host beside its disks; left out: nothing. */
  pins?: VmPin[]
  /** A job (migration, save, block copy) runs on it, as far as the host tells without waiting. */
  job: string | null
}

/**
 * A device of the host that was given to the VM, its firmware's variables at a path, the state of an emulated TPM, or a display that
 * listens at an address which only that host has.
 */
export type VmPin = { kind: 'device' | 'firmware' | 'tpm' | 'display'; what: string }

/** What is asked for when a VM is created. */
export type VmSpec = {
  uuid: string
  name: string
  memoryMiB: number
  vcpus: number
  disks: {
    path: string
    format: string
    bus: string
    device: 'disk' | 'cdrom'
    readOnly: boolean
    shareable?: boolean
  }[]
  nics: { mac: string; network?: string; bridge?: string; model: string }[]
  firmware: 'bios' | 'uefi'
  /** Guest display; listening on the host's default address. */
  graphics: 'none' | 'vnc'
}

// Facts: what is held true of a subject (a VM, a host, a pool …), one flat record each, observed or predicted.
// A subject is spelt like a resource (src/model/resource.ts). Effects of open tasks are folded over observed facts:
// keys overwrite, null ends the subject.
import type { PowerState, VmDisk, VmNic, VmPin, VmSnapshot } from '../model/vm.ts'

/** A disk with the store and volume that its source was recognised as on the VM's host; null for a path in no known pool. */
export type PlacedDisk = VmDisk & { store: string | null; volume: string | null }

/** Smaller orders first; those that follow wait for the delay, in seconds. */
export type StartsWithHost = { order: number; delaySeconds: number }

/** `vm/UUID` */
export type VmFacts = {
  uuid: string
  name: string
  /** The host that has its definition. */
  home: string
  /** The host that it is active on; null while off. */
  activeOn: string | null
  power: PowerState
  reason: string
  persistent: boolean
  autostart: boolean
  hasSavedImage: boolean
  /** A task of ours made the saved image, and the VM has not run anywhere since: it may be restored. Left out: no. */
  restorable?: boolean
  /** Started by us when its host has booted. Left out or null: no. */
  startsWithHost?: StartsWithHost | null
  memoryMiB: number
  maxMemoryMiB: number
  vcpus: number
  disks: PlacedDisk[]
  nics: VmNic[]
  snapshots: VmSnapshot[]
  /** `ours` made or adopted by us; `foreign` has another manager's metadata; `plain` is anybody's. */
  owner: 'ours' | 'foreign' | 'plain'
  /** Other hosts where it is defined or was seen in a state that is not known to be over: host → state. */
  elsewhere: Record<string, 'active' | 'defined' | 'unknown'>
  /** Disks (vda …) that other volumes lie over: they may only be read. Left out: none. */
  overlaid?: string[]
  /** What ties it to its host beside its disks. Left out: nothing. */
  pins?: VmPin[]
  job: string | null
  /** Ours: no host knows of them. */
  labels?: Record<string, string>
  observedAt: string | null
}

/** `vm-name/NAME`: every VM of that name, as UUID → home; a null value is one that is going away. */
export type VmNameFacts = Record<string, string | null>

/** `host/NAME` */
export type HostFacts = {
  name: string
  uuid: string | null
  controlUri: string
  peerUri: string | null
  migrationUri: string | null
  connection: 'up' | 'down' | 'unknown'
  connectionReason: string | null
  cordoned: boolean
  cordonReason: string | null
  /** Cleared, with nothing active there and nothing arriving: safe to reboot. */
  inMaintenance: boolean
  /** When a clear ended well; since then something may have been started there behind our back. */
  maintenanceSince: string | null
  /** What an operator said when they stated that it is off; null once it answers again. */
  confirmedOff: string | null
  /** It answers again after it was said to be off: what it left behind is looked through before it is opened. */
  unreconciled: boolean
  arch: string | null
  domainType: string | null
  emulator: string | null
  machine: string | null
  cpus: number
  memoryMiB: number
  /** Home to this many definitions, host to this many active VMs. */
  definitions: number
  activeVms: number
  labels?: Record<string, string>
  committedMiB: number
}

/** `pool/HOST/NAME` */
export type PoolFacts = {
  host: string
  name: string
  uuid: string | null
  type: string
  store: string
  target: string | null
  active: boolean
  autostart: boolean
  capacityBytes: number
  availableBytes: number
}

/** `store/NAME` */
export type StoreFacts = {
  name: string
  shared: boolean
  type: string
  /** Of a volume's size this part counts, however little of it is written: of raw ones, and of those that grow as they are filled. */
  rawPercent: number
  thinPercent: number
  /** Hosts that have a pool on it: host → pool's name, target path and whether it is active. */
  pools: Record<string, { pool: string; target: string | null; active: boolean } | null>
}

/** `volume/STORE/NAME` */
export type VolumeFacts = {
  store: string
  name: string
  path: string
  format: string | null
  capacityBytes: number
  allocationBytes: number
  backing: string | null
  /** UUIDs of VMs, on any host, that have it as a disk or under a disk. */
  usedBy: string[]
  /** The image that it is; nothing writes to it then. */
  image?: string | null
}

/** `mac/ADDRESS`: VMs that have a card with it, as UUID → name; a null value is one that loses it. */
export type MacFacts = Record<string, string | null>

/** `image/NAME` */
export type ImageFacts = {
  name: string
  store: string
  volume: string
  description: string | null
  /** What a VM of it gets where its request says nothing; null: nothing is said here either. */
  memoryMiB: number | null
  vcpus: number | null
  firmware: 'bios' | 'uefi' | null
  bus: string | null
  /** A VM of it gets a cloud-init disc. */
  cloudInit: boolean
  /** Null for one that a task will add. */
  addedAt: string | null
  addedBy: string
}

/** `network/HOST/NAME` */
export type NetworkFacts = { host: string; name: string; active: boolean; bridge: string | null }

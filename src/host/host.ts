// What can be asked of a host, in our words. Whoever asks need not know whether libvirt is reached directly or through an agent.
import type { HostIdentity } from '../model/host.ts'
import type { ObservedNetwork, ObservedPool, ObservedVolume } from '../model/storage.ts'
import type { ObservedVm, VmMark, VmSpec } from '../model/vm.ts'
import type { DiskUsers } from './disk-users.ts'
import type { Networks } from './networks.ts'
import type { PoolSpec } from './pool-xml.ts'
import type { VmDeviceCalls } from './vm-devices.ts'
import type { VmSettingsCalls } from './vm-settings.ts'
import type { ManagedMigration } from './managed-migration.ts'
import type { MigrationNeeds } from './migration-needs.ts'
import type { Snapshots } from './snapshots.ts'
import type { VolumeStreams } from './volume-streams.ts'

export type HostListing = { vms: ObservedVm[]; pools: ObservedPool[]; networks: ObservedNetwork[] }

/** Something on the host may have changed: look it up. Never proof by itself. */
export type HostChange =
  | { kind: 'vm'; uuid: string; name: string; event: string; detail: string }
  | { kind: 'pool'; name: string; event: string }
  | { kind: 'network'; name: string; event: string }
  | { kind: 'job'; uuid: string; name: string; progress: Partial<VmJob> }

export type VmJob = {
  kind: string
  elapsedMs: number
  totalBytes: number
  processedBytes: number
  remainingBytes: number
  /** Downtime so far or expected, if the host says. */
  downtimeMs: number | null
}

export type MigrateOptions = {
  /** The other host's libvirtd, as this host reaches it. */
  peerUri: string
  migrationUri: string | null
  live: boolean
  persistent: boolean
  tls: boolean
  unsafe: boolean
  autoConverge: boolean
  postCopy: boolean
  copyStorage: boolean
  bandwidthMiBps: number | null
}

export type NewVolumeSpec = {
  name: string
  format: string
  capacityBytes: number
  backing?: { path: string; format: string }
}

export type UndefineOptions = { savedImage: boolean; snapshots: boolean; firmwareState: boolean }

export type VmXmlOptions = {
  /** The definition rather than what runs. */
  inactive: boolean
  /** With secrets such as the display's password: needed to define it again as it was. */
  secure: boolean
  migratable?: boolean
}

export interface Host
  extends
    VolumeStreams,
    Snapshots,
    ManagedMigration,
    MigrationNeeds,
    DiskUsers,
    Networks,
    VmDeviceCalls,
    VmSettingsCalls {
  readonly name: string

  identify(): Promise<HostIdentity>
  list(): Promise<HostListing>
  /** Calls back for every change; returns a function that stops it. Events are lost over reconnects: list again then. */
  onChange(callback: (change: HostChange) => void): () => void

  // VMs. undefined = the host says that there is no such VM, which is knowledge; not being able to ask throws.
  vm(uuid: string): Promise<ObservedVm | undefined>
  vmByName(name: string): Promise<ObservedVm | undefined>
  vmXml(uuid: string, options: VmXmlOptions): Promise<string>
  /** The XML that `defineVm` would be given for a spec on this host (its domain type, emulator, machine). */
  vmXmlFor(spec: VmSpec, mark: VmMark): Promise<string>
  /** Adds our mark to given XML and sets its UUID and name; refuses DOCTYPE and what is no domain. */
  markXml(xml: string, set: { uuid: string; name: string }, mark: VmMark): string
  /**
   * An edited definition as it is to be defined: with our mark, and with the display's passwords that whoever edited it was not shown.
   * @param secure as the host has it, with its secrets; @param shown the same as it was shown. Refuses another UUID or name.
   */
  editedXml(edited: string, current: { secure: string; shown: string }, mark: VmMark): string
  /** Defines, validated by the host's own parser. */
  defineVm(xml: string): Promise<ObservedVm>
  undefineVm(uuid: string, options: UndefineOptions): Promise<void>
  startVm(uuid: string, options: { freshBoot: boolean; paused: boolean }): Promise<void>
  /** Asks the guest to shut down: through its agent when it has one, else ACPI. */
  shutDownVm(uuid: string): Promise<void>
  powerOffVm(uuid: string): Promise<void>
  rebootVm(uuid: string): Promise<void>
  pauseVm(uuid: string): Promise<void>
  resumeVm(uuid: string): Promise<void>
  setAutostart(uuid: string, on: boolean): Promise<void>
  /** Peer-to-peer migration; resolves when the source says that it is over. Rejects with HostError. */
  migrateVm(uuid: string, options: MigrateOptions): Promise<void>
  /** Goes on with a post-copy whose link was cut; resolves when all of the memory is at the target. */
  resumePostCopy(uuid: string, options: MigrateOptions): Promise<void>
  vmJob(uuid: string): Promise<VmJob | undefined>
  abortVmJob(uuid: string): Promise<void>
  /** A harmless call that waits behind whatever job the VM has: after it, what was sent before has been done or refused. */
  settleVm(uuid: string, mark: VmMark | null): Promise<void>
  /**
   * Resolves with the VM (undefined = gone) once `holds` is true of a fresh look-up; looked up at once, at every change of
   * this VM, and every `pollMs` (default 1000) as a guard. Rejects with HostError `timeout` or when `signal` aborts.
   */
  untilVm(
    uuid: string,
    holds: (vm: ObservedVm | undefined) => boolean,
    options: { timeoutMs: number; signal?: AbortSignal; pollMs?: number }
  ): Promise<ObservedVm | undefined>

  // Storage.
  pool(name: string): Promise<ObservedPool | undefined>
  /** Defines, builds where asked (never over existing data) and starts a pool; every step is skipped where it is already so. */
  definePool(spec: PoolSpec): Promise<void>
  buildPool(name: string): Promise<void>
  startPool(name: string): Promise<void>
  stopPool(name: string): Promise<void>
  setPoolAutostart(name: string, on: boolean): Promise<void>
  refreshPool(name: string): Promise<void>
  undefinePool(name: string): Promise<void>
  volume(pool: string, name: string): Promise<ObservedVolume | undefined>
  /** `backing`: it lies over that volume, and holds only what differs. */
  createVolume(pool: string, spec: NewVolumeSpec): Promise<ObservedVolume>
  /** A full copy made by the host; until the reply is seen the copy cannot be trusted. */
  copyVolume(
    pool: string,
    spec: { name: string; format: string; capacityBytes: number | null },
    from: { pool: string; name: string }
  ): Promise<ObservedVolume>
  resizeVolume(pool: string, name: string, capacityBytes: number): Promise<ObservedVolume>
  deleteVolume(pool: string, name: string): Promise<void>
}

/** Finds hosts by name. */
export interface Hosts {
  /** The host's handle. Throws HostError `unknown_host`; a host that is down has a handle whose calls are refused. */
  host(name: string): Host
}

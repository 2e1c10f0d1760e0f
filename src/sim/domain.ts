// One domain of one simulated host: its definitions, state and what it is busy with. What happens to it is in lifecycle.ts.

import { DomainShutoffReason, DomainState, type DomainJobOperation } from '../libvirt/constants.gen.ts'
import type { Domain } from '../libvirt/wire.gen.ts'
import type { DomainDef } from './domain-xml.ts'
import { JobLock } from './job.ts'
import type { Cookie } from './migration.ts'

/** How the pretended guest behaves; tests change it. */
export type GuestBehaviour = {
  /** false: it ignores the power button, so that only force stops it. */
  obeysShutdown: boolean
  /** From the request to the end; the host's default where undefined. */
  shutdownMs?: number
  /** Memory that it changes while it is copied, in MiB/s: at or above the bandwidth a migration never converges. */
  dirtyMiBps: number
  /** Whether the agent inside answers (it needs the channel, too). */
  agent: boolean
  /** false: a device is never given up, and only a reset completes its removal. */
  releasesDevices: boolean
}

export type SavedImage = { def: DomainDef; path: string; paused: boolean; savedAt: number }

export type Snapshot = {
  name: string
  parent: string | null
  description: string | null
  createdAt: number
  state: 'running' | 'paused' | 'shutoff' | 'disk-snapshot'
  def: DomainDef
  external: boolean
}

export type RunningJob = {
  operation: (typeof DomainJobOperation)[keyof typeof DomainJobOperation]
  startedAt: number
  totalBytes: number
  /** Bytes copied by now. */
  progress: () => number
  dirtyMiBps: number
  iteration: number
  throttle: number
  abort: (() => void) | null
  /** Ends the job with an error of its own: the other host has gone. */
  fail: (error: Error) => void
  /** Switches a migration to post-copy where it was allowed. */
  postCopy: (() => void) | null
}

/** A job on one disk; `whole` makes its result the guest's disk. */
export type BlockJob = {
  type: number
  total: bigint
  startedAt: number
  ms: number
  /** Everything is copied; it waits to be pivoted. */
  ready: boolean
  timer: NodeJS.Timeout | null
  whole: () => void
}

export type FinishedJob = { operation: number; elapsedMs: number; totalBytes: number; downtimeMs: number; ok: boolean }

export class SimDomain {
  readonly uuid: string
  name: string
  /** The definition that stays; null for a transient domain. */
  persistent: DomainDef | null = null
  /** What runs; null when shut off. */
  live: DomainDef | null = null
  id = -1
  state: number = DomainState.SHUTOFF
  reason: number = DomainShutoffReason.UNKNOWN
  autostart = false
  saved: SavedImage | null = null
  readonly snapshots = new Map<string, Snapshot>()
  currentSnapshot: string | null = null
  job: RunningJob | null = null
  finishedJob: FinishedJob | null = null
  /** By the disk's target. */
  readonly blockJobs = new Map<string, BlockJob>()
  lock = new JobLock()
  /** Disks are open here: given up at a migration's switch-over, before the process ends. */
  holdsDisks = false
  /** The guest was asked to shut down; a second request does not begin again. */
  shutdownTimer: NodeJS.Timeout | null = null
  pendingReboot = false
  /** Removals that the guest has not completed: a reset does. */
  atReset: (() => void)[] = []
  startedAt = 0
  /** The host that its memory goes to now. */
  migratingTo: string | null = null
  /** The host that its memory came from last. */
  arrivedFrom: string | null = null
  /** A migration that a client conducts, from begin to confirm. */
  departure: { cookie: Cookie; release: () => void } | null = null
  guest: GuestBehaviour = { obeysShutdown: true, dirtyMiBps: 0, agent: true, releasesDevices: true }

  constructor(uuid: string, name: string) {
    this.uuid = uuid
    this.name = name
  }

  get active(): boolean {
    return this.live !== null
  }

  /** The live definition of a running domain, else the kept one. */
  get current(): DomainDef {
    const def = this.live ?? this.persistent
    if (!def) throw new Error(`domain ${this.uuid} has no definition`)
    return def
  }

  get ref(): Domain {
    return { name: this.name, uuid: this.uuid, id: this.id }
  }
}

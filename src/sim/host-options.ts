// What a simulated host is made of and how fast things go on it.

export type SimHostOptions = {
  name: string
  /** Unix socket that the host listens on. */
  socketPath: string
  /** The host's UUID in its capabilities; derived from the name where not given. */
  uuid?: string
  memoryMiB?: number
  cpus?: number
  /** Added before every call is looked at. */
  latencyMs?: number
  /** How long a start takes. */
  startMs?: number
  /** From a shutdown request to the guest's end. */
  shutdownMs?: number
  /** Bandwidth of the migration network; the time of a migration is memory over bandwidth. */
  migrationMiBps?: number
  /** A migration takes at least this long. */
  migrationMs?: number
  /** How long a copy of a volume takes a GiB. */
  copyMsPerGiB?: number
  /** How long a call waits for a busy domain before it is refused. */
  jobWaitMs?: number
  /** libvirtd's limits; calls beyond them stay unread, keepalive with them. */
  maxClientRequests?: number
  storeBytes?: bigint
  /** Networks that exist and run from the start. */
  networks?: string[]
}

export const hostDefaults = {
  memoryMiB: 65_536,
  cpus: 16,
  latencyMs: 0,
  startMs: 0,
  shutdownMs: 20,
  migrationMiBps: 65_536,
  migrationMs: 0,
  copyMsPerGiB: 0,
  jobWaitMs: 30_000,
  maxClientRequests: 5,
  storeBytes: 1024n ** 4n,
  networks: ['default']
} satisfies Partial<SimHostOptions>

export type HostSettings = Required<SimHostOptions>

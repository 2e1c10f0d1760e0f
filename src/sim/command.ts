// `taskomatic simhost`: simulated hosts that stay up until they are told to stop, for a person with virsh, a demo or a load test.

import type { SimFleet } from './fleet.ts'
import { startSimFleet } from './fleet.ts'
import { populate } from './populate.ts'

export type RunSimHostsOptions = {
  /** For the sockets, one a host: `DIR/NAME.sock`. */
  dir: string
  /** Their number (h1, h2 …) or their names. */
  hosts: number | string[]
  /** Guests to begin with, spread evenly. Default 0. */
  vms?: number
  vmMemoryMiB?: number
  /** Whether those guests run. Default false. */
  running?: boolean
  memoryMiB?: number
  latencyMs?: number
  startMs?: number
  shutdownMs?: number
  migrationMiBps?: number
  seed?: number
  /** A store that all hosts share, and where it appears; the guests' disks are on it. Default `shared` at /srv/shared. */
  store?: { name: string; path: string } | null
  /** Where the addresses are told. */
  print: (line: string) => void
  /** Ends it. */
  signal: AbortSignal
}

/** How many addresses are printed one by one. */
const shownHosts = 20

/** Resolves when `signal` has aborted and everything is down. Rejects when a socket cannot be had. */
export async function runSimHosts(options: RunSimHostsOptions): Promise<void> {
  const {
    dir,
    hosts,
    vms = 0,
    vmMemoryMiB,
    running,
    store = { name: 'shared', path: '/srv/shared' },
    print,
    signal,
    ...rest
  } = options
  const fleet = await startSimFleet({ dir, hosts, sharedStores: store ? [store] : [], ...rest })
  try {
    await populate(fleet, {
      vms,
      ...(vmMemoryMiB === undefined ? {} : { memoryMiB: vmMemoryMiB }),
      ...(store ? { store } : {}),
      ...(running === undefined ? {} : { running })
    })
    tell(fleet, print)
    if (!signal.aborted) await new Promise((resolve) => signal.addEventListener('abort', resolve, { once: true }))
  } finally {
    await fleet.stop()
  }
}

function tell(fleet: SimFleet, print: (line: string) => void): void {
  for (const host of fleet.hosts.slice(0, shownHosts)) print(`${host.name} ${host.uri}`)
  const more = fleet.hosts.length - shownHosts
  if (more > 0) print(`… and ${more} more, named alike`)
}

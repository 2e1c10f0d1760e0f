// The demo's hosts: simulated ones in this process, with a shared store, taking a moment for everything as real ones do.
import { ownDirectory } from '../sim/owned-directory.ts'
import { startSimFleet } from '../sim/fleet.ts'
import { needMiB, sharedStore, type DemoHost } from './scenario.ts'

export type DemoFleet = {
  hosts: DemoHost[]
  /** VMs that run on a host: what is so, not what is believed. */
  running: (host: string) => number
  /** From now on these guests take so long to shut down. */
  slowDown(vms: readonly string[], shutdownMs: number): void
  /** What must never happen, counted from the journal of what really happened. */
  harm(): { overCommitted: number; twoWriters: number }
  /** May be called twice. */
  stop(): Promise<void>
}

/** What the host keeps for itself, roughly; libvirtd, the page cache. */
const RESERVED_MIB = 4096
const MEMORY_MIB = 16_384

/** @param options.quick for scripts, which need not see anything happen */
export async function startDemoFleet(options: {
  hosts: number
  vms: number
  quick: boolean
  seed: number
}): Promise<DemoFleet> {
  // In the temporary directory: paths of unix sockets are short, and a clone may lie deep.
  const directory = await ownDirectory('taskomatic-sim-')
  const pace = options.quick
    ? { startMs: 20, shutdownMs: 20, migrationMs: 50 }
    : { latencyMs: 5, startMs: 800, shutdownMs: 1500, migrationMs: 2500 }
  // Room for all, and half as much again, when one host is cleared: else nothing could move.
  const room = Math.ceil((options.vms * needMiB * 1.5) / Math.max(1, options.hosts - 1)) + RESERVED_MIB
  const fleet = await startSimFleet({
    dir: directory.path,
    hosts: options.hosts,
    seed: options.seed,
    memoryMiB: Math.max(MEMORY_MIB, room),
    sharedStores: [{ name: sharedStore.name, path: sharedStore.path }],
    ...pace
  })
  let stopping: Promise<void> | undefined
  const stop = async () => {
    await fleet.stop()
    await directory.remove()
  }
  return {
    hosts: Object.entries(fleet.uris).map(([name, uri]) => ({ name, uri })),
    running: (host) => [...fleet.host(host).domains.values()].filter((domain) => domain.active).length,
    slowDown(vms, shutdownMs) {
      for (const { domains } of fleet.hosts)
        for (const { name, guest } of domains.values()) if (vms.includes(name)) guest.shutdownMs = shutdownMs
    },
    harm: () => ({ overCommitted: fleet.journal.overCommitted, twoWriters: fleet.journal.twoWriters }),
    stop: () => (stopping ??= stop())
  }
}

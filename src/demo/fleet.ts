// The demo's hosts: simulated ones in this process, with a shared store, taking a moment for everything as real ones do.
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { startSimFleet } from '../sim/fleet.ts'
import { sharedStore, type DemoHost } from './scenario.ts'

export type DemoFleet = {
  hosts: DemoHost[]
  /** May be called twice. */
  stop(): Promise<void>
}

/** @param options.quick for scripts, which need not see anything happen */
export async function startDemoFleet(options: { hosts: number; quick: boolean }): Promise<DemoFleet> {
  // In the temporary directory: paths of unix sockets are short, and a clone may lie deep.
  const directory = await mkdtemp(join(tmpdir(), 'taskomatic-sim-'))
  const pace = options.quick
    ? { startMs: 20, shutdownMs: 20, migrationMs: 50 }
    : { startMs: 800, shutdownMs: 1500, migrationMs: 2500 }
  const fleet = await startSimFleet({
    dir: directory,
    hosts: options.hosts,
    sharedStores: [{ name: sharedStore.name, path: sharedStore.path }],
    ...pace
  })
  let stopping: Promise<void> | undefined
  const stop = async () => {
    await fleet.stop()
    await rm(directory, { recursive: true, force: true })
  }
  return {
    hosts: Object.entries(fleet.uris).map(([name, uri]) => ({ name, uri })),
    stop: () => (stopping ??= stop())
  }
}

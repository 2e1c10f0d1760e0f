// Keeps the inventory what the hosts say: one watcher a host, added and removed as hosts are.
import type { Logger } from 'pino'
import type { Database } from '../db/open.ts'
import type { HostConnections } from '../host/connections.ts'
import { HOSTS_CHANNEL, knownHosts } from '../inventory/hosts.ts'
import { forgetGone, setConnection, type VmChange } from '../inventory/observe.ts'
import { HostWatcher } from './watch-host.ts'
import { startRoomKeeper } from './watch-room.ts'

export type WatchOptions = {
  database: Database
  hosts: HostConnections
  log: Logger
  /** The host is up, and the inventory has what is on it: what waits for it may go on. */
  onHostUp: (host: string) => void
  /** A VM may have another definition than before. */
  onDefined?: (host: string, uuid: string) => void
  /** Between two guard lists of a host. Default 300,000. */
  guardMs?: number
  /** How late an event may be. Default 2,000. */
  graceMs?: number
  /** A change that the guard list found and no event had told. */
  onMissed?: (host: string, change: VmChange) => void
}

export type Watchers = {
  /** Ends watching and waits for what is being written. The connections stay with whoever made them. May be called twice. */
  stop(): Promise<void>
  /** Watches the hosts that the inventory has now. */
  refreshHosts(): Promise<void>
  /** Up, and listed since it came up. */
  isUp(host: string): boolean
  /** Lists every host now. */
  relist(): void
  isRoomFreedSince(atMs: number): boolean
}

const FORGET_EVERY_MS = 3_600_000
const FORGET_AFTER_MS = 86_400_000

/** Connects to every host of the inventory and follows it. */
export async function startWatchers(options: WatchOptions): Promise<Watchers> {
  const { database, hosts, log, guardMs = 300_000, graceMs = 2_000 } = options
  const watchers = new Map<string, HostWatcher>()
  let stopped = false
  let refreshing: Promise<void> = Promise.resolve()

  const watch = (name: string) => {
    const watcher = new HostWatcher({
      name,
      host: hosts.host(name),
      database,
      log,
      guardMs,
      graceMs,
      onUp: options.onHostUp,
      onDefined: options.onDefined ?? (() => {}),
      onMissed: options.onMissed ?? (() => {})
    })
    watchers.set(name, watcher)
    watcher.start(hosts.state(name))
  }

  async function refresh(): Promise<void> {
    if (stopped) return
    hosts.setHosts(await knownHosts(database))
    if (stopped) return
    const names = new Set(hosts.names())
    for (const [name, watcher] of watchers) {
      // A host with another address has another handle.
      if (names.has(name) && hosts.host(name) === watcher.host) continue
      watchers.delete(name)
      await watcher.stop()
    }
    for (const name of names) if (!watchers.has(name)) watch(name)
  }

  // One after another, so that each leaves what the last one read.
  const refreshHosts = () => {
    const next = refreshing.then(refresh)
    refreshing = next.catch((error: unknown) => log.warn({ err: error }, 'the list of hosts could not be read'))
    return next
  }

  const endStates = hosts.onState((host, state) => watchers.get(host)?.stateChanged(state))
  const heard = await database.listen(HOSTS_CHANNEL, () => void refreshHosts().catch(() => {}))
  // What an earlier process saw is not known to hold.
  for (const { name } of await knownHosts(database)) await setConnection(database, name, 'unknown', 'connecting')
  await refreshHosts()
  hosts.start()
  const room = await startRoomKeeper({ database, log })
  const forgetting = setInterval(() => {
    forgetGone(database, FORGET_AFTER_MS).catch((error: unknown) =>
      log.warn({ err: error }, 'gone VMs stay remembered')
    )
  }, FORGET_EVERY_MS)
  forgetting.unref()

  return {
    refreshHosts,
    isRoomFreedSince: (atMs) => room.isFreedSince(atMs),
    isUp: (host) => watchers.get(host)?.isListed ?? false,
    relist() {
      for (const watcher of watchers.values()) watcher.relist()
    },
    async stop() {
      if (stopped) return
      stopped = true
      clearInterval(forgetting)
      endStates()
      await Promise.all([heard.stop(), room.stop()])
      await refreshing
      await Promise.all([...watchers.values()].map((watcher) => watcher.stop()))
    }
  }
}

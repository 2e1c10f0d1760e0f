// One process's engine: connections to the hosts, their watchers, the observer and the dispatcher, started and stopped in order.
// The server is this and an API; tests use it without one.
import type { Logger } from 'pino'
import type { Action } from '../actions/action.ts'
import { createSubmitter } from '../actions/submit.ts'
import { internalActions } from '../actions/internal.ts'
import type { Database, Sql } from '../db/open.ts'
import type { Staging } from '../staging/staging.ts'
import { HostConnections, type HostConnectionsOptions } from '../host/connections.ts'
import { startAutostarter, type Autostarter } from './autostart.ts'
import { startDispatcher, type Dispatcher, type DispatcherOptions } from './dispatcher.ts'
import { fenced } from './fenced.ts'
import { startDefinitionKeeper } from './keep-definitions.ts'
import { defaultLeaseMs, Lease } from './lease.ts'
import { readInstance } from '../inventory/installation.ts'
import { createSights } from './sights.ts'
import { createObserver } from './watch-observer.ts'
import { startWatchers, type Watchers, type WatchOptions } from './watch.ts'

export type EngineOptions = Pick<DispatcherOptions, 'workers' | 'drainMs' | 'guardPollMs' | 'listen'> & {
  database: Database
  /** For the lease's beats alone, so that a busy database's pool cannot keep them waiting. Default: the database. */
  beats?: Sql
  /** After this silence others take over. Default 10,000; beaten more than three times as often. */
  leaseMs?: number
  registry: ReadonlyMap<string, Action>
  log: Logger
  /** 32 bytes: encrypts kept definitions. */
  definitionKey: Buffer
  /** How hosts are connected to: certificates, ssh, timeouts. */
  connections?: Omit<HostConnectionsOptions, 'fence'>
  /** Between two guard lists of a host. Default 300,000. */
  guardListMs?: number
  onMissed?: WatchOptions['onMissed']
  /** Where uploads wait and downloads meet; shared with whoever talks to clients. */
  staging?: Staging
}

export type Engine = {
  dispatcher: Dispatcher
  watchers: Watchers
  hosts: HostConnections
  autostarter: Autostarter
  /** Hands its hosts over, drains the dispatcher, then ends watching and the connections. May be called twice. */
  stop(): Promise<void>
}

export async function startEngine(options: EngineOptions): Promise<Engine> {
  const { database, log, definitionKey, beats = database, leaseMs = defaultLeaseMs } = options
  const { workers, drainMs, guardPollMs, listen } = options
  const registry = new Map([...options.registry, ...internalActions])
  const instance = await readInstance(database)
  const lease = new Lease({ beats, name: `${instance}/${process.pid}`, ms: leaseMs })
  await lease.begin()
  let dispatcher: Dispatcher | undefined
  let autostarter: Autostarter | undefined
  const hosts = new HostConnections({ ...options.connections, fence: () => lease.whyFenced() })
  const keeper = startDefinitionKeeper({ database, hosts, definitionKey, log })
  const sights = createSights(database)
  const watchers = await startWatchers({
    database,
    hosts,
    sights,
    log,
    lease,
    onHostUp: (host, watched) => {
      // Once for a host that came up, so by whoever watches it.
      if (watched) autostarter?.look()
      if (watched) keeper.hostUp(host)
      dispatcher
        ?.hostUp(host)
        .catch((error: unknown) => log.error({ err: error, host }, 'what waits for the host was not woken'))
    },
    onDefined: (host, uuid) => keeper.changed(host, uuid),
    ...(listen === undefined ? {} : { listen }),
    ...(options.guardListMs === undefined ? {} : { guardMs: options.guardListMs }),
    ...(options.onMissed ? { onMissed: options.onMissed } : {})
  })
  lease.onBegin(() => void watchers.refreshHosts().catch(() => {}))
  dispatcher = await startDispatcher({
    database,
    registry,
    log,
    instance,
    lease,
    ...(options.staging ? { staging: options.staging } : {}),
    hosts,
    isHostUp: (host) => watchers.isUp(host),
    isRoomFreedSince: (atMs) => watchers.isRoomFreedSince(atMs),
    looksAgainAt: (host) => (host === null ? watchers.isFirst() : watchers.isWatching(host)),
    connect: (address) => hosts.connect(address),
    observer: createObserver({
      database,
      writes: fenced(database, () => lease.takenUnder),
      hosts: {
        host: (name) => hosts.host(name),
        setHosts(list) {
          hosts.setHosts(list)
          // Watched at once, whether or not anything is heard.
          void watchers.refreshHosts().catch(() => {})
        }
      },
      sights,
      definitionKey,
      onConfirmedOff: async (host) => dispatcher?.hostOff(host),
      onSeen: (host, uuid) => keeper.changed(host, uuid)
    }),
    ...(workers === undefined ? {} : { workers }),
    ...(drainMs === undefined ? {} : { drainMs }),
    ...(guardPollMs === undefined ? {} : { guardPollMs }),
    ...(listen === undefined ? {} : { listen })
  })
  const started = dispatcher
  autostarter = startAutostarter({
    database,
    submitter: createSubmitter({ database, registry }),
    log,
    watches: (host) => watchers.isWatching(host),
    wake: () => started.wake()
  })
  autostarter.look()
  let stopping: Promise<void> | undefined
  const stop = async () => {
    await autostarter?.stop()
    // First, so that others watch while what runs here comes to its end.
    await watchers
      .handOver()
      .catch((error: unknown) => log.warn({ err: error }, 'hosts are left to whoever takes them over'))
    await started.stop()
    await watchers.stop()
    await keeper.stop()
    await hosts.stop()
  }
  return { dispatcher: started, watchers, hosts, autostarter, stop: () => (stopping ??= stop()) }
}

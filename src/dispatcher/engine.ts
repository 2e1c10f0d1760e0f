// One process's engine: connections to the hosts, their watchers, the observer and the dispatcher, started and stopped in order.
// The server is this and an API; tests use it without one.
import type { Logger } from 'pino'
import type { Action } from '../actions/action.ts'
import { createSubmitter } from '../actions/submit.ts'
import { internalActions } from '../actions/internal.ts'
import type { Database } from '../db/open.ts'
import type { Staging } from '../staging/staging.ts'
import { HostConnections, type HostConnectionsOptions } from '../host/connections.ts'
import { startAutostarter, type Autostarter } from './autostart.ts'
import { startDispatcher, type Dispatcher, type DispatcherOptions } from './dispatcher.ts'
import { startDefinitionKeeper } from './keep-definitions.ts'
import { readInstance } from '../inventory/installation.ts'
import { createObserver } from './watch-observer.ts'
import { startWatchers, type Watchers, type WatchOptions } from './watch.ts'

export type EngineOptions = Pick<DispatcherOptions, 'workers' | 'drainMs' | 'leaseMs' | 'guardPollMs' | 'listen'> & {
  database: Database
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
  /** Drains the dispatcher, then ends watching and the connections. May be called twice. */
  stop(): Promise<void>
}

export async function startEngine(options: EngineOptions): Promise<Engine> {
  const { database, log, definitionKey } = options
  const registry = new Map([...options.registry, ...internalActions])
  const instance = await readInstance(database)
  let dispatcher: Dispatcher | undefined
  let autostarter: Autostarter | undefined
  const hosts = new HostConnections({
    ...options.connections,
    // Before there is a dispatcher nothing may write.
    fence: () => (dispatcher ? dispatcher.whyFenced() : 'the dispatcher has not started')
  })
  const keeper = startDefinitionKeeper({ database, hosts, definitionKey, log })
  const watchers = await startWatchers({
    database,
    hosts,
    log,
    onHostUp: (host) => {
      autostarter?.look()
      keeper.hostUp(host)
      dispatcher
        ?.hostUp(host)
        .catch((error: unknown) => log.error({ err: error, host }, 'what waits for the host was not woken'))
    },
    onDefined: (host, uuid) => keeper.changed(host, uuid),
    ...(options.guardListMs === undefined ? {} : { guardMs: options.guardListMs }),
    ...(options.onMissed ? { onMissed: options.onMissed } : {})
  })
  const { workers, drainMs, leaseMs, guardPollMs, listen } = options
  dispatcher = await startDispatcher({
    database,
    registry,
    log,
    instance,
    ...(options.staging ? { staging: options.staging } : {}),
    hosts,
    isHostUp: (host) => watchers.isUp(host),
    isRoomFreedSince: (atMs) => watchers.isRoomFreedSince(atMs),
    connect: (address) => hosts.connect(address),
    observer: createObserver({
      database,
      hosts,
      definitionKey,
      onConfirmedOff: async (host) => dispatcher?.hostOff(host),
      onSeen: (host, uuid) => keeper.changed(host, uuid)
    }),
    ...(workers === undefined ? {} : { workers }),
    ...(drainMs === undefined ? {} : { drainMs }),
    ...(leaseMs === undefined ? {} : { leaseMs }),
    ...(guardPollMs === undefined ? {} : { guardPollMs }),
    ...(listen === undefined ? {} : { listen })
  })
  const started = dispatcher
  autostarter = startAutostarter({
    database,
    submitter: createSubmitter({ database, registry }),
    log,
    wake: () => started.wake()
  })
  autostarter.look()
  let stopping: Promise<void> | undefined
  const stop = async () => {
    await autostarter?.stop()
    await started.stop()
    await watchers.stop()
    await keeper.stop()
    await hosts.stop()
  }
  return { dispatcher: started, watchers, hosts, autostarter, stop: () => (stopping ??= stop()) }
}

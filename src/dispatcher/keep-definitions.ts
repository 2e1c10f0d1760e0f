// Keeps the definitions of all VMs, encrypted, so that a VM can be started elsewhere when its home is gone for good. Read from the
// hosts one at a time and slowly: nothing waits for it, and a host has better things to do.
import { setTimeout as delay } from 'node:timers/promises'
import type { Logger } from 'pino'
import type { Database } from '../db/open.ts'
import { HostError } from '../host/error.ts'
import type { Host } from '../host/host.ts'
import { keepDefinition, unkeptVms } from '../inventory/definitions.ts'

export type DefinitionKeeperOptions = {
  database: Database
  hosts: { host(name: string): Host }
  definitionKey: Buffer
  log: Logger
  /** Between two of them. Default 50. */
  pauseMs?: number
}

export type DefinitionKeeper = {
  /** The VM may have another definition than before. */
  changed(host: string, uuid: string): void
  /** A host is up: what is not kept of its VMs, or not lately, is read. */
  hostUp(host: string): void
  /** Resolves once nothing more is asked. May be called twice. */
  stop(): Promise<void>
}

/** More than this waiting: what is left out is found when its host is listed again. */
const MOST_WAITING = 20_000

export function startDefinitionKeeper(options: DefinitionKeeperOptions): DefinitionKeeper {
  const { database, hosts, definitionKey, log, pauseMs = 50 } = options
  const stopping = new AbortController()
  const stopped = new Promise<void>((resolve) => stopping.signal.addEventListener('abort', () => resolve()))
  const waiting = new Map<string, string>()
  let working: Promise<void> | undefined

  async function work(): Promise<void> {
    for (const [uuid, host] of waiting) {
      waiting.delete(uuid)
      // First, so that what changes in a burst is read once.
      await delay(pauseMs, undefined, { signal: stopping.signal })
      // A host that hangs does not hold up whoever stops us.
      await Promise.race([keep(host, uuid), stopped])
    }
  }

  async function keep(host: string, uuid: string): Promise<void> {
    try {
      const xml = await hosts.host(host).vmXml(uuid, { inactive: true, secure: true })
      if (!stopping.signal.aborted) await keepDefinition(database, definitionKey, { uuid, host, xml })
    } catch (error) {
      // It went away, or its host did: it is read again when that is back.
      if (!(error instanceof HostError) && !stopping.signal.aborted)
        log.warn({ err: error, host, vm: uuid }, 'a definition was not kept')
    }
  }

  function changed(host: string, uuid: string): void {
    if (stopping.signal.aborted || waiting.size >= MOST_WAITING) return
    waiting.set(uuid, host)
    working ??= work()
      .catch(() => undefined)
      .finally(() => {
        working = undefined
      })
  }

  const listing = new Set<Promise<void>>()
  return {
    changed,
    hostUp(host) {
      const listed = unkeptVms(database, host)
        .then((vms) => vms.forEach((uuid) => changed(host, uuid)))
        .catch((error: unknown) => {
          if (!stopping.signal.aborted) log.warn({ err: error, host }, 'its definitions are not kept')
        })
        .finally(() => listing.delete(listed))
      listing.add(listed)
    },
    async stop() {
      stopping.abort()
      await Promise.all([...listing, working])
    }
  }
}

// Starts what starts with its host, once the host has booted: by ordinary tasks, in order, each order followed by its delay. A start
// looks for its VM everywhere first, and waits while a host that may run it is silent; the next order does not wait for that.
// Whoever comes second, another process or this one after it died, asks for the same tasks again and is answered with them.
import { setTimeout as delay } from 'node:timers/promises'
import type { Logger } from 'pino'
import { RequestError } from '../actions/request-error.ts'
import type { Submitter } from '../actions/submit.ts'
import type { Database } from '../db/open.ts'
import { autostartsOf, bootedHosts, noteAutostarted, type Autostart, type BootedHost } from '../inventory/vm-life.ts'
import { QueueError } from '../queue/error.ts'
import { getTask } from '../queue/read.ts'

export type AutostartOptions = {
  database: Database
  submitter: Submitter
  log: Logger
  /** Of several processes the one that watches the host starts what starts with it, so that each order is waited for by one. */
  watches: (host: string) => boolean
  /** Something was submitted. */
  wake: () => void
  /** Between two looks for hosts that have booted, e.g. while they were cordoned. Default 10,000. */
  everyMs?: number
}

export type Autostarter = {
  /** A host is up: it may have booted. */
  look(): void
  /** May be called twice. */
  stop(): Promise<void>
}

/** Who asks for the starts. */
const by = 'system'
/** How long an order may take before the next one begins. */
const longestMs = 120_000
const pollMs = 500
/** Going on without us: they wait for something, or for somebody. */
const standing: ReadonlySet<string> = new Set(['parked', 'held', 'uncertain', 'complete', 'failed', 'cancelled'])

export function startAutostarter(options: AutostartOptions): Autostarter {
  const { database, submitter, log, watches, wake, everyMs = 10_000 } = options
  const stopping = new AbortController()
  const { signal } = stopping
  const underWay = new Map<string, Promise<void>>()
  let looking: Promise<void> = Promise.resolve()

  async function lookForBooted(): Promise<void> {
    if (signal.aborted) return
    for (const booted of await bootedHosts(database)) {
      if (underWay.has(booted.host) || !watches(booted.host)) continue
      const done = startAll(booted)
        .catch((error: unknown) => {
          if (!signal.aborted)
            log.warn({ err: error, host: booted.host }, 'what starts with the host is asked for again')
        })
        .finally(() => underWay.delete(booted.host))
      underWay.set(booted.host, done)
    }
  }

  async function startAll(booted: BootedHost): Promise<void> {
    const all = await autostartsOf(database, booted.host)
    log.info({ host: booted.host, vms: all.length }, 'a host has booted')
    for (const same of Map.groupBy(all, ({ order }) => order).values()) {
      // Whoever took the host over goes on from here.
      if (!watches(booted.host)) return
      const tasks: number[] = []
      for (const vm of same) tasks.push(...(await start(booted, vm)))
      wake()
      await untilStanding(tasks)
      await delay(Math.max(...same.map(({ delaySeconds }) => delaySeconds)) * 1000, undefined, { signal })
    }
    await noteAutostarted(database, booted)
  }

  async function start({ host, rebootedAt }: BootedHost, { vm, name }: Autostart): Promise<number[]> {
    try {
      const { tasks } = await submitter.submit({
        tasks: [{ action: 'vm.start', args: { vm } }],
        by,
        reason: `${host} has booted`,
        idempotencyKey: `autostart ${host} ${rebootedAt.toISOString()} ${vm}`
      })
      return tasks.map(({ id }) => id)
    } catch (error) {
      // One that cannot start is no reason for the others not to.
      if (!(error instanceof RequestError) && !(error instanceof QueueError)) throw error
      log.warn({ vm, name, host, reason: error.message }, 'a VM does not start with its host')
      return []
    }
  }

  async function untilStanding(tasks: readonly number[]): Promise<void> {
    const deadline = performance.now() + longestMs
    for (const id of tasks) {
      while (performance.now() < deadline) {
        const task = await getTask(database, id)
        if (!task || standing.has(task.state)) break
        await delay(pollMs, undefined, { signal })
      }
    }
  }

  const look = () => {
    looking = looking.then(lookForBooted).catch((error: unknown) => {
      if (!signal.aborted) log.warn({ err: error }, 'hosts that have booted could not be looked for')
    })
  }
  const timer = setInterval(look, everyMs)
  timer.unref()
  return {
    look,
    async stop() {
      clearInterval(timer)
      stopping.abort()
      await looking
      await Promise.all(underWay.values())
    }
  }
}

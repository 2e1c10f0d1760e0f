// The dispatcher: takes runnable tasks as slots are free, runs each, records its end. It is woken by submissions, by ends and by
// notifications of other processes; the guard poll looks for what all of these missed and says so loudly.
import { performance } from 'node:perf_hooks'
import type { Logger } from 'pino'
import type { Action } from '../actions/action.ts'
import { resource } from '../model/resource.ts'
import { unpark, type ClaimedTask, type End } from '../queue/dispatch.ts'
import { QueueError } from '../queue/error.ts'
import { channels } from '../queue/notify.ts'
import { cancelRequests } from '../queue/requests.ts'
import { stopFailing } from '../queue/undo.ts'
import { anyRoom, roomKey } from './choose-host.ts'
import { createContexts, type ContextParts } from './context.ts'
import { Exchange } from './exchange.ts'
import { executeTask, isPassing, later, type Execution } from './execute.ts'
import { faultOf } from './fault.ts'
import { Guard, lookForReadyMs } from './guard.ts'
import type { Lease } from './lease.ts'
import { LookAgain } from './look-again.ts'
import { createTogether } from './start-together.ts'
import { wakeParkedInVain, type ParkingParts } from './parking.ts'

export type DispatcherOptions = ContextParts &
  ParkingParts & {
    registry: ReadonlyMap<string, Action>
    log: Logger
    /** Begun. The dispatcher beats it, begins another when it is lost, and ends it. */
    lease: Lease
    /** Of several processes one looks again for what nobody could tell of tasks on that host; null: on none. Default: this one. */
    looksAgainAt?: (host: string | null) => boolean
    /** Tasks at once. Default 256: a slot is a promise, not a thread. */
    workers?: number
    /** How long running work may go on after `stop`. Default 30,000. */
    drainMs?: number
    /** Default 5,000; 0 = no guard poll (tests that prove that events suffice). */
    guardPollMs?: number
    /** Listen for other processes' notifications. Default true. */
    listen?: boolean
  }

export interface Dispatcher {
  /** Something may have become runnable. */
  wake(): void
  /** A host is up: what was parked for it may go on. */
  hostUp(host: string): Promise<void>
  /** A host was confirmed off: what nobody could tell of tasks on it is settled, by a look or by the statement. */
  hostOff(host: string): Promise<void>
  /** Tasks that only the guard poll found; 0 on a healthy run. */
  guardPollFound(): number
  /** Tasks in progress that nobody had taken over two leases after their dispatcher's, at the last guard poll; 0 on a healthy run. */
  forgotten(): number
  running(): number
  /** Why this process may not write to hosts now, if so: its lease is too old. HostConnections asks before every writing call. */
  whyFenced(): string | undefined
  /** Takes nothing more, lets running work finish for `drainMs`, hands over the rest. May be called twice. */
  stop(): Promise<void>
}

export async function startDispatcher(options: DispatcherOptions): Promise<Dispatcher> {
  const dispatcher = new RunningDispatcher(options)
  await dispatcher.start()
  return dispatcher
}

/** How often what nobody can tell is looked for again; beside that, whenever a host comes up. */
const lookAgainMs = 15_000

type Slot = { task: ClaimedTask; abort: AbortController; done: Promise<void> }

class RunningDispatcher implements Dispatcher {
  readonly #options: DispatcherOptions
  readonly #workers: number
  readonly #lease: Lease
  readonly #contexts: ReturnType<typeof createContexts>
  readonly #slots = new Map<number, Slot>()
  readonly #timers = new Set<NodeJS.Timeout>()
  readonly #exchange: Exchange
  /** Asked to stop before there was a slot to tell it to. */
  #askedEarly: ReadonlySet<number> = new Set()
  #woken = false
  readonly #lookAgain: LookAgain
  /** When the attempts whose ends are to be recorded began. */
  readonly #begun = new WeakMap<End, number>()
  /** Of a part of a complex task, and bad: its plan may have to stop. */
  readonly #badParts = new WeakSet<End>()
  #pumping: Promise<void> | undefined
  #due: NodeJS.Timeout | undefined
  readonly #guard: Guard
  #stopping: Promise<void> | undefined
  #beating: Promise<void> | undefined
  #listening: { stop(): Promise<void> }[] = []
  #execution: Execution | undefined

  constructor(options: DispatcherOptions) {
    this.#options = options
    this.#workers = options.workers ?? 256
    const { database, log, lease } = options
    this.#lease = lease
    this.#exchange = new Exchange({
      database,
      lease,
      log,
      running: () => [...this.#slots.values()].map(({ task: { id, attempt } }) => ({ task: id, attempt })),
      take: (task) => this.#takeOrGiveBack(task)
    })
    this.#contexts = createContexts(options)
    this.#guard = new Guard({
      database,
      log,
      leaseMs: this.#lease.ms,
      isIdle: () => !this.#stopping && !this.#pumping && this.#slots.size < this.#workers,
      isListening: () => this.#listening.length > 0,
      wake: () => this.wake()
    })
    const looking = () => (this.#stopping ? undefined : this.#execution)
    this.#lookAgain = new LookAgain({
      looking,
      log,
      looksAt: options.looksAgainAt ?? (() => true),
      onEnd: (end) => this.#record(end)
    })
  }

  async start(): Promise<void> {
    const { database, log } = this.#options
    this.#prepareExecution()
    if (this.#options.listen ?? true) {
      this.#listening.push(await database.listen(channels.ready, () => this.#heard()))
      this.#listening.push(await database.listen(channels.left, () => void this.#takeOver().catch(() => {})))
    }
    this.#every(this.#lease.ms / 3.5, () => this.#beat())
    this.#every(this.#lease.ms / 3, () => this.#takeOver())
    this.#every(lookAgainMs, () => this.#lookAgain.round())
    this.#every(lookForReadyMs, () => this.#lookForReady())
    const guardPollMs = this.#options.guardPollMs ?? 5000
    if (guardPollMs > 0) this.#every(guardPollMs, () => this.#guard.poll())
    log.info({ dispatcher: this.#lease.id, workers: this.#workers, leaseMs: this.#lease.ms }, 'dispatcher started')
    this.wake()
  }

  wake(): void {
    this.#woken = true
    this.#pumping ??= this.#pump().finally(() => {
      this.#pumping = undefined
      if (this.#woken && !this.#stopping) this.wake()
    })
  }

  async hostUp(host: string): Promise<void> {
    for (const key of [resource.host(host), roomKey(host), anyRoom])
      if ((await unpark(this.#options.database, key)) > 0) this.wake()
    await this.#lookAgain.round()
  }

  hostOff(host: string): Promise<void> {
    return this.#lookAgain.hostOff(host)
  }

  guardPollFound(): number {
    return this.#guard.found
  }

  forgotten(): number {
    return this.#guard.forgotten
  }

  running(): number {
    return this.#slots.size
  }

  whyFenced(): string | undefined {
    return this.#lease.whyFenced()
  }

  stop(): Promise<void> {
    this.#stopping ??= this.#drain()
    return this.#stopping
  }

  #prepareExecution(): void {
    const { database, registry } = this.#options
    const signalOf = (task: number) => this.#slots.get(task)?.abort.signal ?? AbortSignal.abort()
    this.#execution = {
      database,
      dispatcher: this.#lease.id,
      together: createTogether(database, this.#lease.id),
      registry,
      contextFor: (task, state, place) => this.#contexts.contextFor(task, state, place, signalOf(task.id)),
      refresh: (claims, host) => this.#contexts.refresh(claims, host)
    }
  }

  #free(): number {
    return this.#stopping ? 0 : this.#workers - this.#slots.size
  }

  /** Records ends and takes tasks until there is neither an end to record nor anything to take. */
  async #pump(): Promise<void> {
    this.#guard.clearSuspects()
    while (this.#woken || this.#exchange.hasEnds) {
      this.#woken = false
      try {
        // Who hears of an end finds in its log what was said before.
        if (this.#exchange.hasEnds) await this.#contexts.flush()
        if (this.#exchange.isUnsure) await this.#takeOver()
        const wanted = this.#free()
        const { ends, claimed, nextDueMs } = await this.#exchange.settle(() => this.#free())
        if (wanted > 0 && claimed >= wanted) this.#woken = true
        this.#wakeAt(nextDueMs)
        await this.#followUp(ends)
      } catch (error) {
        await this.#notSettled(error)
        if (this.#stopping && !this.#lease.mayWrite) return
        this.#woken = true
      }
    }
  }

  async #notSettled(error: unknown): Promise<void> {
    this.#options.log.error({ err: error }, 'ends could not be recorded; trying again')
    await this.#pause(Math.min(1000, this.#lease.ms / 10))
    // The sooner there is another lease, the sooner it goes on.
    if (error instanceof QueueError && error.code === 'lease_lost') await this.#beatNow()
  }

  /** What recorded ends ask for beside what the queue does by itself. Should it fail, timers and the guard make good for it. */
  async #followUp(ends: readonly End[]): Promise<void> {
    try {
      if (ends.some((end) => this.#badParts.has(end))) await stopFailing(this.#options.database)
      if ((await wakeParkedInVain(this.#options, ends, (end) => this.#begun.get(end) ?? 0)) > 0) this.#woken = true
    } catch (error) {
      this.#options.log.error({ err: error }, 'what follows from ends was not done yet')
    }
  }

  /** What was asked for before the drain began and came after it is not begun: whoever is left takes it. */
  #takeOrGiveBack(task: ClaimedTask): void {
    if (!this.#stopping) return this.#take(task)
    const error = { code: 'draining', message: 'the dispatcher that took it was stopping: it was not begun' }
    this.#exchange.add({ task: task.id, attempt: task.attempt, outcome: 'retry', afterMs: 0, error })
  }

  #take(task: ClaimedTask): void {
    const abort = new AbortController()
    const slot: Slot = { task, abort, done: Promise.resolve() }
    this.#slots.set(task.id, slot)
    if (this.#askedEarly.has(task.id)) abort.abort()
    slot.done = this.#fill(task)
  }

  /** Holds the slot until the task has an end to record, or is no longer ours. */
  async #fill(task: ClaimedTask): Promise<void> {
    const slot = this.#slots.get(task.id)
    const begun = performance.now()
    const end = await this.#execute(task)
    // After a lost lease the task may have come back to us, with a slot of its own.
    if (this.#slots.get(task.id) === slot) this.#slots.delete(task.id)
    if (end) this.#begun.set(end, begun)
    if (end?.outcome === 'uncertain') this.#lookAgain.soon(task.id)
    if (end && task.parent !== null && (end.outcome === 'failed' || end.outcome === 'cancelled'))
      this.#badParts.add(end)
    this.#record(end)
  }

  #record(end: End | null): void {
    if (end) this.#exchange.add(end)
    this.wake()
  }

  async #execute(task: ClaimedTask): Promise<End | null> {
    const execution = this.#execution
    if (!execution) throw new Error('not started')
    try {
      return await this.#lease.cover(() => executeTask(execution, task))
    } catch (error) {
      if (isPassing(error)) return { task: task.id, attempt: task.attempt, ...later(error, undefined) }
      this.#options.log.error({ err: error, task: task.id, action: task.action }, 'task ended by a fault')
      return { task: task.id, attempt: task.attempt, outcome: 'failed', error: faultOf(error, undefined) }
    }
  }

  #heard(): void {
    this.wake()
    this.#cancelAsked().catch((error: unknown) =>
      this.#options.log.error({ err: error }, 'cancel requests could not be read')
    )
  }

  async #cancelAsked(): Promise<void> {
    if (this.#slots.size === 0 && !this.#pumping) return
    const asked = await cancelRequests(this.#options.database, this.#lease.id)
    for (const task of asked) this.#slots.get(task)?.abort.abort()
    // Such as were just taken, of which we hear in a moment.
    this.#askedEarly = new Set(asked.filter((task) => !this.#slots.has(task)))
  }

  async #beatNow(): Promise<void> {
    try {
      await this.#beat()
    } catch (cause) {
      this.#options.log.error({ err: cause }, 'the dispatcher could not reach the database')
    }
  }

  /** One at a time: two that find the lease lost would begin two. */
  #beat(): Promise<void> {
    this.#beating ??= this.#beatOnce().finally(() => (this.#beating = undefined))
    return this.#beating
  }

  async #beatOnce(): Promise<void> {
    if ((await this.#lease.beat()) === 'alive') return
    this.#options.log.error({ dispatcher: this.#lease.id }, 'the lease was lost; what ran is left to whoever took over')
    for (const slot of this.#slots.values()) slot.abort.abort()
    if (this.#stopping) return
    await this.#lease.begin()
    this.#prepareExecution()
    this.wake()
  }

  /**
   * Tasks whose dispatcher is gone, and such as were given to us unheard, go on here: each is looked for before anything is done. They
   * do not wait for a free slot: whoever is gone has left as many as he had, so that over all dispatchers no more run than before.
   */
  async #takeOver(): Promise<void> {
    if (this.#stopping || !this.#lease.mayWrite) return
    const taken = await this.#exchange.takeOver(() => (this.#stopping ? 0 : 2 * this.#workers - this.#slots.size))
    for (const { id, action } of taken)
      this.#options.log.warn({ task: id, action }, 'taken over: the dispatcher that ran it is gone')
    if (taken.length > 0) await this.#cancelAsked()
  }

  async #lookForReady(): Promise<void> {
    await this.#cancelAsked()
    await this.#lookAgain.recent()
    await this.#guard.lookForReady()
  }

  #every(ms: number, work: () => Promise<void>): void {
    const timer = setInterval(() => {
      work().catch((error: unknown) =>
        this.#options.log.error({ err: error }, 'the dispatcher could not reach the database')
      )
    }, ms)
    this.#timers.add(timer)
  }

  #wakeAt(dueMs: number | null): void {
    clearTimeout(this.#due)
    if (dueMs !== null && !this.#stopping) this.#due = setTimeout(() => this.wake(), Math.min(dueMs, 2 ** 31 - 1))
  }

  #pause(ms: number): Promise<void> {
    return new Promise((resolve) => setTimeout(resolve, ms))
  }

  async #drain(): Promise<void> {
    const { log } = this.#options
    clearTimeout(this.#due)
    await Promise.all(this.#listening.map((each) => each.stop()))
    await this.#pumping
    const drained = Promise.all([...this.#slots.values()].map((slot) => slot.done))
    await Promise.race([drained, this.#pause(this.#options.drainMs ?? 30_000)])
    this.wake()
    await this.#pumping
    for (const timer of this.#timers) clearInterval(timer)
    if (this.#slots.size > 0) log.warn({ tasks: [...this.#slots.keys()] }, 'left running work to whoever takes over')
    await this.#lease.end()
    log.info({ dispatcher: this.#lease.id }, 'dispatcher stopped')
  }
}

// The tie to one host: kept up for as long as it is started, with connections apart for questions, events and long calls.
// Up means: the right machine answers, and its events are heard. Whoever hears `up` lists then, and misses nothing.
import { setTimeout as sleep } from 'node:timers/promises'
import type { Connection } from '../libvirt/connection.ts'
import { openDataStream, type StreamProcedure } from '../libvirt/data-stream.ts'
import type { ArgsOf, ReplyOf } from '../libvirt/payload.ts'
import type { ProcedureName } from '../libvirt/wire.gen.ts'
import { toHostError, type DedicatedCalls, type HostBasics, type HostCalls, type HostStream } from './calls.ts'
import { hearChanges } from './changes.ts'
import { HostError } from './error.ts'
import type { HostChange } from './host.ts'
import { hostStream } from './host-stream.ts'
import { JobConnections } from './job-connections.ts'
import { openConnection, type ConnectSettings, type Opened } from './open-connection.ts'

export type LinkState = { state: 'up' } | { state: 'down'; code: 'unreachable' | 'wrong_identity'; reason: string }

export type LinkOptions = ConnectSettings & {
  /** Why this process may not write any more; undefined while it may. Asked before every writing call. */
  fence?: () => string | undefined
  /** First wait between attempts to connect; it doubles up to `lastRetryMs`. Defaults 500 and 7,500: with its spread, a host is back within
   * 10 s of the end of what kept it away. */
  firstRetryMs?: number
  lastRetryMs?: number
  onState?: (state: LinkState) => void
  onError?: (error: unknown, what: string) => void
}

type Session = { control: Connection; events: Connection; basics: HostBasics }

export class HostLink implements HostCalls {
  readonly name: string
  readonly #address: { name: string; controlUri: string }
  #machine: string | null
  readonly #options: LinkOptions
  readonly #stopped = new AbortController()
  readonly #changes = new Set<(change: HostChange) => void>()
  readonly #jobs: JobConnections
  #session: Session | undefined
  #lastReason = new HostError('unreachable', '', 'not connected yet')
  #attempted = Promise.withResolvers<void>()
  #running: Promise<void> | undefined

  constructor(address: { name: string; controlUri: string; uuid: string | null }, options: LinkOptions) {
    this.name = address.name
    this.#address = address
    this.#machine = address.uuid
    this.#options = options
    this.#lastReason = this.#unreachable('not connected yet')
    this.#jobs = new JobConnections(() => this.#open())
  }

  /** Connects, and connects again whenever it is lost, until `stop`. May be called twice. */
  start(): void {
    this.#running ??= this.#run()
  }

  /** Ends every connection. Calls under way end as lost. May be called twice. */
  async stop(): Promise<void> {
    this.#stopped.abort()
    this.#drop()
    this.#jobs.destroy()
    this.#attempted.resolve()
    await this.#running
  }

  get isUp(): boolean {
    return this.#session !== undefined
  }

  onChange(callback: (change: HostChange) => void): () => void {
    // A function of its own, so that one callback given twice is two.
    const own = (change: HostChange) => callback(change)
    this.#changes.add(own)
    return () => this.#changes.delete(own)
  }

  async basics(): Promise<HostBasics> {
    return (await this.#up()).basics
  }

  async read<Name extends ProcedureName>(
    name: Name,
    args: ArgsOf<Name>,
    options: { signal?: AbortSignal } = {}
  ): Promise<ReplyOf<Name>> {
    const { control } = await this.#up()
    const timeoutMs = this.#options.readTimeoutMs ?? 60_000
    return this.#ours(control.call(name, args, { ...options, timeoutMs }), true)
  }

  async write<Name extends ProcedureName>(
    name: Name,
    args: ArgsOf<Name>,
    options: { signal?: AbortSignal } = {}
  ): Promise<ReplyOf<Name>> {
    const { control } = await this.#up()
    this.#checkFence()
    return this.#ours(control.call(name, args, options), false)
  }

  async long<Name extends ProcedureName>(
    name: Name,
    args: ArgsOf<Name>,
    options: { signal?: AbortSignal } = {}
  ): Promise<ReplyOf<Name>> {
    await this.#up()
    return this.#jobs.with(({ connection }) => {
      this.#checkFence()
      return this.#ours(connection.call(name, args, options), false)
    })
  }

  async ask<Name extends ProcedureName>(
    name: Name,
    args: ArgsOf<Name>,
    options: { signal?: AbortSignal } = {}
  ): Promise<ReplyOf<Name>> {
    await this.#up()
    const timeoutMs = this.#options.readTimeoutMs ?? 60_000
    return this.#jobs.with(({ connection }) => this.#ours(connection.call(name, args, { ...options, timeoutMs }), true))
  }

  async stream<Name extends StreamProcedure>(
    name: Name,
    args: ArgsOf<Name>,
    { reads, signal }: { reads: boolean; signal?: AbortSignal }
  ): Promise<HostStream> {
    await this.#up()
    const ended = signal ? AbortSignal.any([signal, this.#stopped.signal]) : this.#stopped.signal
    const check = () => (reads ? undefined : this.#checkFence())
    const opening = this.#jobs.with(({ connection }) => {
      check()
      return openDataStream(connection, name, args, { signal: ended })
    })
    return hostStream(this.name, await this.#ours(opening, reads), { reads, check, signal })
  }

  async dedicated(): Promise<DedicatedCalls> {
    await this.#up()
    const { connection } = await this.#ours(this.#open(), true)
    return {
      call: (name, args, options = {}) => {
        this.#checkFence()
        return this.#ours(connection.call(name, args, options), false)
      },
      close: () => connection.destroy()
    }
  }

  async #run(): Promise<void> {
    const first = this.#options.firstRetryMs ?? 500
    const last = this.#options.lastRetryMs ?? 7_500
    let waitMs = first
    while (!this.#stopped.signal.aborted) {
      const error = await this.#hold()
      if (this.#stopped.signal.aborted) return
      // A session that had come up starts the waits anew.
      if (error.wasUp) waitMs = first
      this.#lastReason = error.error
      this.#attempted.resolve()
      this.#tell({
        state: 'down',
        code: error.error.code === 'wrong_identity' ? 'wrong_identity' : 'unreachable',
        reason: error.error.message
      })
      // Spread, so that hundreds of hosts behind one switch do not come back in one instant.
      await sleep(waitMs * (0.8 + Math.random() * 0.4), undefined, { signal: this.#stopped.signal }).catch(() => {})
      waitMs = Math.min(waitMs * 2, last)
    }
  }

  /** One session from connecting to its end; resolves with why it ended. */
  async #hold(): Promise<{ error: HostError; wasUp: boolean }> {
    const opening: Connection[] = []
    try {
      const { connection: control, basics } = await this.#open()
      opening.push(control)
      this.#machine ??= basics.uuid
      const { connection: events } = await this.#open(() => events.destroy())
      opening.push(events)
      await hearChanges(events, (change) => this.#emit(change))
      if (this.#stopped.signal.aborted || !control.isOpen || !events.isOpen) throw this.#unreachable('lost at once')
      this.#session = { control, events, basics }
    } catch (error) {
      for (const connection of opening) connection.destroy()
      return { error: toHostError(error, this.name, true), wasUp: false }
    }
    const { control, events } = this.#session
    this.#attempted.resolve()
    this.#tell({ state: 'up' })
    const why = await Promise.race([control.closed, events.closed])
    this.#drop()
    return { error: this.#unreachable(why.message, why.cause), wasUp: true }
  }

  #open(onEventsLost?: () => void): Promise<Opened> {
    const options = { signal: this.#stopped.signal, ...(onEventsLost ? { onEventsLost } : {}) }
    return openConnection(this.#address, this.#machine, this.#options, options)
  }

  // Waits for the first attempt only: later, whoever asks while it is down should hear so at once.
  async #up(): Promise<Session> {
    if (!this.#session) {
      if (this.#running) await this.#attempted.promise
      if (this.#stopped.signal.aborted) throw this.#unreachable('it is not connected to any more')
      if (!this.#session) throw this.#down()
    }
    return this.#session
  }

  #down(): HostError {
    const { code, message } = this.#lastReason
    return new HostError(code === 'unknown_outcome' ? 'unreachable' : code, this.name, message, {
      cause: this.#lastReason
    })
  }

  #drop(): void {
    const session = this.#session
    this.#session = undefined
    session?.control.destroy()
    session?.events.destroy()
  }

  #checkFence(): void {
    const why = this.#options.fence?.()
    if (why !== undefined) throw new HostError('fenced', this.name, `${this.name}: not asked, since ${why}`)
  }

  async #ours<T>(call: Promise<T>, reads: boolean): Promise<T> {
    try {
      return await call
    } catch (error) {
      throw toHostError(error, this.name, reads)
    }
  }

  #emit(change: HostChange): void {
    for (const callback of this.#changes) this.#guard(() => callback(change), 'a change')
  }

  #tell(state: LinkState): void {
    this.#guard(() => this.#options.onState?.(state), `the state ${state.state}`)
  }

  #guard(act: () => void, what: string): void {
    try {
      act()
    } catch (error) {
      if (this.#options.onError) this.#options.onError(error, what)
      else process.emitWarning(`${this.name}: whoever heard of ${what} threw: ${String(error)}`)
    }
  }

  #unreachable(why: string, cause?: unknown): HostError {
    return new HostError('unreachable', this.name, `${this.name}: ${why}`, { cause })
  }
}

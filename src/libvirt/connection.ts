// One connection to a libvirt daemon: calls by the window, events in order, keepalive both ways, data streams.
// It is used once: when it is lost it stays lost, and whoever needs another makes another (connect.ts).

import type { Duplex } from 'node:stream'
import { type CallOptions, CallWindow, type PendingCall } from './call-window.ts'
import type { DataStreamSink, StreamLink } from './data-stream.ts'
import { ConnectionError, type ConnectionErrorReason, LibvirtError } from './errors.ts'
import { type EventHandler, EventQueue } from './event-queue.ts'
import { EventRegistrations } from './event-registrations.ts'
import { type Frame, FrameSplitter } from './frame.ts'
import { Keepalive, type KeepaliveOptions } from './keepalive.ts'
import { Outgoing } from './outgoing.ts'
import { type ArgsOf, decodeError, decodeReply, type ReplyOf } from './payload.ts'
import {
  KeepaliveProcedure,
  keepaliveProgram,
  maxFrameBytes,
  MessageStatus,
  MessageType,
  remoteProgram
} from './protocol.ts'
import type { Transport } from './transport.ts'
import type { EventName, ProcedureName } from './wire.gen.ts'

export interface ConnectionOptions {
  /** Calls on the wire at a time. Default 4: libvirtd's default limit is 5, and a connection at its limit is deaf. */
  readonly window?: number
  /** Calls waiting for the window, beyond which calls are refused (`not_sent`, `queue_full`). Default 1000. */
  readonly maxQueued?: number
  /** Default for calls that name none. Default 0: a migration may take hours, and keepalive notices a dead host. */
  readonly callTimeoutMs?: number
  /** false: never ask whether the peer is there. */
  readonly keepalive?: KeepaliveOptions | false
  /** Longest message taken, in bytes. Default: the protocol's 32 MiB. */
  readonly maxFrameBytes?: number
  /** Events waiting for their consumers, beyond which they are dropped and `onEventsLost` is told. Default 10,000. */
  readonly maxQueuedEvents?: number
  /** What an event's consumer threw. Default: a process warning. */
  readonly onEventError?: (error: unknown, event: string) => void
  readonly onEventsLost?: (count: number) => void
}

/** Why a connection ended. */
export interface CloseReason {
  readonly reason: ConnectionErrorReason
  readonly message: string
  readonly cause?: unknown
}

// Above every call's: the answer to a goodbye is of no interest.
const lastSerial = 0xffffffff

type State = 'open' | 'closing' | 'ended'

export class Connection {
  /** Where it goes, for messages. */
  readonly address: string
  /** Resolves, never rejects, when the connection has ended and every call on it is settled. */
  readonly closed: Promise<CloseReason>

  readonly #stream: Duplex
  readonly #window: CallWindow
  readonly #events: EventQueue
  readonly #registrations: EventRegistrations
  readonly #splitter: FrameSplitter
  readonly #keepalive: Keepalive | undefined
  readonly #callTimeoutMs: number
  readonly #outgoing: Outgoing
  readonly #streams = new Map<number, { name: string; sink: DataStreamSink }>()
  readonly #resolveClosed: (reason: CloseReason) => void
  #state: State = 'open'
  #closing: Promise<CloseReason> | undefined

  constructor(transport: Transport, options: ConnectionOptions = {}) {
    this.address = transport.address
    this.#stream = transport.stream
    this.#outgoing = new Outgoing(transport)
    this.#window = new CallWindow(options.window ?? 4, options.maxQueued ?? 1000)
    this.#events = new EventQueue({
      maxQueued: options.maxQueuedEvents ?? 10_000,
      onError:
        options.onEventError ?? ((error, event) => process.emitWarning(`consumer of ${event}: ${String(error)}`)),
      onLost:
        options.onEventsLost ?? ((count) => process.emitWarning(`${count} events of ${this.address} were dropped`))
    })
    this.#registrations = new EventRegistrations(this)
    this.#splitter = new FrameSplitter(options.maxFrameBytes ?? maxFrameBytes)
    this.#callTimeoutMs = options.callTimeoutMs ?? 0
    const { promise, resolve } = Promise.withResolvers<CloseReason>()
    this.closed = promise
    this.#resolveClosed = resolve
    if (options.keepalive !== false)
      this.#keepalive = new Keepalive(
        options.keepalive ?? {},
        () => this.#outgoing.keepalive(KeepaliveProcedure.PING),
        () => this.#silent()
      )
    this.#listen()
  }

  /** Calls on the wire without an answer. */
  get inFlight(): number {
    return this.#window.inFlight
  }

  /** Calls waiting for the window. */
  get queued(): number {
    return this.#window.queued
  }

  /** False as soon as no call can be sent any more. */
  get isOpen(): boolean {
    return this.#state === 'open'
  }

  /**
   * Calls a procedure. Rejects with LibvirtError when the host refused; with ConnectionError `not_sent` when nothing
   * happened, `unknown_outcome` when the call was sent and no answer was seen (lost, timed out, aborted).
   */
  call<Name extends ProcedureName>(name: Name, args: ArgsOf<Name>, options: CallOptions = {}): Promise<ReplyOf<Name>> {
    const { promise, resolve, reject } = Promise.withResolvers<ReplyOf<Name>>()
    const send = (serial: number): void => this.#outgoing.call(name, args, serial)
    this.#window.submit(
      { name, send, resolve: resolve as (reply: unknown) => void, reject },
      options.timeoutMs ?? this.#callTimeoutMs,
      options.signal
    )
    return promise
  }

  /**
   * Hands every event of a kind to `handler`, in order, once the host has registered us. Resolves with a function that
   * ends it. Events are hints: those that happen while there is no connection are lost, so list after registering.
   */
  async on<Name extends EventName>(name: Name, handler: EventHandler<Name>): Promise<() => Promise<void>> {
    const own: EventHandler<Name> = (message) => handler(message)
    this.#events.add(name, own)
    const off = async (): Promise<void> => {
      this.#events.delete(name, own)
      await this.#registrations.settle(name, this.#events.handlerCount(name) > 0)
    }
    try {
      await this.#registrations.settle(name, true)
    } catch (error) {
      this.#events.delete(name, own)
      throw error
    }
    return off
  }

  /** Begins to ask whether the peer is there; `connect` does it. */
  startKeepalive(): void {
    if (this.#state === 'open') this.#keepalive?.start()
  }

  /**
   * Calls a procedure after whose reply data flows, and hands that data to the sink. The socket may be paused through the
   * link, which stops everything on this connection: use one of its own (data-stream.ts).
   */
  async startStream<Name extends ProcedureName>(
    name: Name,
    args: ArgsOf<Name>,
    sink: DataStreamSink,
    options: CallOptions = {}
  ): Promise<{ reply: ReplyOf<Name>; link: StreamLink }> {
    let serial = 0
    const { promise, resolve, reject } = Promise.withResolvers<ReplyOf<Name>>()
    const send = (chosen: number): void => {
      this.#outgoing.call(name, args, chosen)
      serial = chosen
      this.#streams.set(serial, { name, sink })
    }
    this.#window.submit(
      { name, send, resolve: resolve as (reply: unknown) => void, reject },
      options.timeoutMs ?? this.#callTimeoutMs,
      options.signal
    )
    try {
      return { reply: await promise, link: this.#link(name, serial) }
    } catch (error) {
      this.#streams.delete(serial)
      throw error
    }
  }

  /**
   * Ends the connection in order: no new calls, queued ones are not sent, those on the wire may still be answered within
   * `timeoutMs` (default 5000). May be called twice.
   */
  close(timeoutMs = 5000): Promise<CloseReason> {
    this.#closing ??= this.#close(timeoutMs)
    return this.#closing
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close().then(() => undefined)
  }

  /** Ends the connection at once. What is on the wire has an unknown outcome. */
  destroy(): void {
    this.#end({ reason: 'closed', message: 'the connection was closed' })
  }

  async #close(timeoutMs: number): Promise<CloseReason> {
    if (this.#state === 'open') {
      this.#state = 'closing'
      const timer = setTimeout(() => this.destroy(), timeoutMs)
      this.#window.refuse('closed', 'the connection is being closed')
      await this.#window.idle()
      // Good manners; a daemon that does not answer is left by the timer.
      if (!this.#ended) this.#sayGoodbye()
      void this.closed.finally(() => clearTimeout(timer))
    }
    return this.closed
  }

  get #ended(): boolean {
    return this.#state === 'ended'
  }

  #sayGoodbye(): void {
    this.#outgoing.call('CONNECT_CLOSE', {}, lastSerial)
    this.#outgoing.flush()
    void this.#outgoing.drained().then(() => this.#stream.end())
  }

  #listen(): void {
    this.#stream.on('data', (chunk: Buffer) => this.#received(chunk))
    this.#stream.on('end', () => this.#peerClosed())
    this.#stream.on('close', () => this.#peerClosed())
    this.#stream.on('error', (error: Error) =>
      this.#gone({ reason: 'socket_error', message: `${this.address}: ${error.message}`, cause: error })
    )
  }

  #peerClosed(): void {
    this.#gone({ reason: 'closed_by_peer', message: `${this.address} closed the connection` })
  }

  // After our goodbye, however the other side goes is the end we asked for.
  #gone(why: CloseReason): void {
    if (this.#state === 'closing' && this.#window.inFlight === 0) this.destroy()
    else this.#end(why)
  }

  #silent(): void {
    const { intervalMs, count } = this.#keepalive!
    const message = `${this.address} gave no sign of life for ${(intervalMs * (count + 1)) / 1000} s`
    this.#end({ reason: 'keepalive_timeout', message })
  }

  // Order: no call is sent any more, then every call is settled and the last events delivered, then `closed` resolves (a turn later):
  // whoever waits for it may connect anew without anything of this connection arriving later.
  #end(why: CloseReason): void {
    if (this.#state === 'ended') return
    this.#state = 'ended'
    this.#keepalive?.stop()
    this.#outgoing.stop()
    this.#window.fail(why.reason, why.message, why.cause)
    const error = new ConnectionError('stream_failed', why.message, { reason: why.reason, cause: why.cause })
    for (const { sink } of this.#streams.values()) sink.failed(error)
    this.#streams.clear()
    this.#stream.destroy()
    setImmediate(() => this.#resolveClosed(why))
  }

  #received(chunk: Buffer): void {
    if (this.#state === 'ended') return
    this.#keepalive?.heard()
    try {
      this.#splitter.push(chunk, (frame) => this.#route(frame))
    } catch (error) {
      const message = `${this.address} sent what is not the protocol: ${error instanceof Error ? error.message : String(error)}`
      this.#end({ reason: 'protocol_error', message, cause: error })
    }
  }

  #route(frame: Frame): void {
    if (frame.program === keepaliveProgram) {
      if (frame.procedure === KeepaliveProcedure.PING) this.#outgoing.keepalive(KeepaliveProcedure.PONG)
    } else if (frame.program === remoteProgram) {
      if (frame.type === MessageType.REPLY) this.#reply(frame)
      else if (frame.type === MessageType.MESSAGE) this.#events.push(frame.procedure, frame.payload)
      else if (frame.type === MessageType.STREAM || frame.type === MessageType.STREAM_HOLE) this.#streamData(frame)
    }
  }

  #reply(frame: Frame): void {
    const call = this.#window.answered(frame.serial)
    if (!call) return
    if (frame.status === MessageStatus.ERROR) call.reject(this.#refusal(call, frame))
    else this.#complete(call, frame)
  }

  #complete(call: PendingCall, frame: Frame): void {
    try {
      call.resolve(decodeReply(call.name as ProcedureName, frame.payload))
    } catch (error) {
      call.reject(badReply(call.name, error))
    }
  }

  #refusal(call: { readonly name: string }, frame: Frame): Error {
    try {
      return new LibvirtError(call.name, decodeError(frame.payload))
    } catch (error) {
      return badReply(call.name, error)
    }
  }

  #streamData(frame: Frame): void {
    const stream = this.#streams.get(frame.serial)
    if (!stream) return
    const { name, sink } = stream
    if (frame.type === MessageType.STREAM && frame.status === MessageStatus.CONTINUE) return sink.data(frame.payload)
    this.#streams.delete(frame.serial)
    if (frame.status === MessageStatus.ERROR) sink.failed(this.#refusal({ name }, frame))
    else if (frame.type === MessageType.STREAM) sink.finished()
    else
      sink.failed(
        new ConnectionError('stream_failed', `${name}: a hole, which was not asked for`, { reason: 'protocol_error' })
      )
  }

  #link(name: ProcedureName, serial: number): StreamLink {
    return {
      send: (status, payload) => this.#outgoing.streamData(name, serial, status, payload),
      // A peer that takes our bytes is alive, even if its PONG is behind a slow disk.
      drained: () => this.#outgoing.drained().then(() => this.#keepalive?.heard()),
      pause: () => {
        this.#keepalive?.stop()
        this.#stream.pause()
      },
      resume: () => {
        this.startKeepalive()
        this.#stream.resume()
      }
    }
  }
}

function badReply(name: string, cause: unknown): ConnectionError {
  const what = cause instanceof Error ? cause.message : String(cause)
  return new ConnectionError('unknown_outcome', `${name} was answered, but the answer cannot be read: ${what}`, {
    reason: 'bad_reply',
    cause
  })
}

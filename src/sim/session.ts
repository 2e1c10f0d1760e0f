// One connection to a simulated host: calls in, replies and events out, with libvirtd's limit of unanswered calls.
// Knows no procedure but those about registering for events; the rest is in the tables of handlers.ts.

import type { Socket } from 'node:net'
import { encodeFrame, type Frame, FrameSplitter, type Header } from '../libvirt/frame.ts'
import { decodeArgs, encodeEvent, encodeReply, procedureName } from '../libvirt/payload.ts'
import {
  KeepaliveProcedure,
  keepaliveProgram,
  keepaliveVersion,
  MessageStatus,
  MessageType,
  remoteProgram,
  remoteVersion
} from '../libvirt/protocol.ts'
import { type EventName, events, type Events, type ProcedureName } from '../libvirt/wire.gen.ts'
import { type Emission, Registrations } from './events.ts'
import type { Fault } from './faults.ts'
import { answer } from './handlers.ts'
import type { EventSink, SimHost } from './host.ts'
import { answerOlder } from './older-procedures.ts'
import { Refusal, refuse } from './refusal.ts'
import { errorPayload } from './remote-error.ts'
import type { SimStream } from './stream.ts'

const keepaliveMs = 5000
const keepaliveCount = 5
/** A client that does not read its events is cut off rather than kept in memory. */
const maxUnsentBytes = 64 * 1024 * 1024

const beforeOpen = new Set<ProcedureName>(['AUTH_LIST', 'CONNECT_OPEN', 'CONNECT_CLOSE', 'CONNECT_SUPPORTS_FEATURE'])

export class Session implements EventSink {
  readonly host: SimHost
  readonly registrations = new Registrations()
  readonly streams = new Map<number, SimStream>()
  opened = false
  closeCallback = false
  readonly #socket: Socket
  readonly #splitter = new FrameSplitter()
  readonly #waiting: Frame[] = []
  readonly #onClose: (() => void)[] = []
  #unanswered = 0
  #unheardPings = 0
  #keepalive: NodeJS.Timeout | null = null
  #closed = false

  constructor(host: SimHost, socket: Socket) {
    this.host = host
    this.#socket = socket
    socket.on('data', (chunk: Buffer) => this.#receive(chunk))
    socket.on('error', () => this.close())
    socket.on('close', () => this.close())
    host.sessions.add(this)
  }

  /** Forgets the connection; calls that are being carried out go on without anybody to answer. */
  close(): void {
    if (this.#closed) return
    this.#closed = true
    if (this.#keepalive) clearInterval(this.#keepalive)
    this.host.sessions.delete(this)
    for (const stream of this.streams.values()) stream.abort()
    this.streams.clear()
    this.#socket.destroy()
    for (const act of this.#onClose) act()
  }

  /** Called once when the connection ends. */
  onClose(act: () => void): void {
    this.#onClose.push(act)
  }

  drop(reset: boolean): void {
    // Only TCP has a reset; a unix socket is just closed.
    if (reset && this.#socket.remoteAddress !== undefined) this.#socket.resetAndDestroy()
    this.close()
  }

  /** Stops reading and answering, as a machine does that has lost its power: the peer is not told. */
  freeze(): void {
    this.#closed = true
    if (this.#keepalive) clearInterval(this.#keepalive)
    this.host.sessions.delete(this)
    this.#socket.pause()
  }

  /** libvirtd pings only clients that have said that they answer. */
  startKeepalive(): void {
    this.#keepalive ??= setInterval(() => {
      if (this.#unheardPings++ >= keepaliveCount) this.close()
      else this.#send({ ...keepaliveHeader, procedure: KeepaliveProcedure.PING })
    }, keepaliveMs).unref()
  }

  emit(emission: Emission): void {
    if (this.registrations.size === 0) return
    for (const callbackID of this.registrations.matching(emission)) {
      const message = { callbackID, ...emission.message } as Events[EventName]
      const header = { ...remoteHeader, procedure: events[emission.name].number, type: MessageType.MESSAGE }
      this.#send(header, encodeEvent(emission.name, message))
    }
  }

  /** One message of a stream; empty with CONTINUE ends a download, OK or ERROR answers an end. */
  sendStream(procedure: number, serial: number, status: number, payload?: Uint8Array): boolean {
    return this.#send({ ...remoteHeader, procedure, type: MessageType.STREAM, serial, status }, payload)
  }

  #receive(chunk: Buffer): void {
    try {
      this.#splitter.push(chunk, (frame) => this.#waiting.push(frame))
    } catch {
      this.close()
      return
    }
    this.#work()
  }

  // At the limit of unanswered calls nothing is read any more, keepalive included: that is how libvirtd does it.
  #work(): void {
    const limit = this.host.settings.maxClientRequests
    while (!this.#closed && this.#unanswered < limit) {
      const frame = this.#waiting.shift()
      if (!frame) break
      this.#handle(frame)
    }
    if (this.#closed) return
    if (this.#unanswered >= limit) this.#socket.pause()
    else this.#socket.resume()
  }

  #handle(frame: Frame): void {
    this.#unheardPings = 0
    if (frame.program === keepaliveProgram) {
      if (frame.procedure === KeepaliveProcedure.PING)
        this.#send({ ...keepaliveHeader, procedure: KeepaliveProcedure.PONG })
      return
    }
    if (frame.type === MessageType.STREAM) {
      this.streams.get(frame.serial)?.receive(frame.status, frame.payload)
      return
    }
    if (frame.type !== MessageType.CALL) return
    this.#unanswered++
    void this.#answer(frame).finally(() => {
      this.#unanswered--
      this.#work()
    })
  }

  async #answer(frame: Frame): Promise<void> {
    const name = frame.program === remoteProgram ? procedureName(frame.procedure) : undefined
    try {
      if (name === undefined) return await this.#answerOlder(frame)
      if (!this.opened && !beforeOpen.has(name)) throw refuse('INTERNAL_ERROR', 'RPC', 'connection not open')
      const args = decodeArgs(name, frame.payload)
      const fault = this.host.faults.next(name, subjectOf(args))
      if (this.host.settings.latencyMs > 0) await this.host.wait(this.host.settings.latencyMs)
      if (fault) await this.#before(fault)
      const halfway = fault?.kind === 'half_copy'
      const reply = await answer(name, args, this.host, { session: this, serial: frame.serial, halfway })
      if (fault) await this.#after(fault)
      this.#reply(frame, MessageStatus.OK, encodeReply(name, reply))
      this.streams.get(frame.serial)?.begin()
    } catch (error) {
      this.#reply(frame, MessageStatus.ERROR, errorPayload(error))
    }
  }

  async #answerOlder(frame: Frame): Promise<void> {
    const call = { session: this, serial: frame.serial, halfway: false }
    const reply =
      frame.program === remoteProgram ? answerOlder(frame.procedure, frame.payload, this.host, call) : undefined
    if (!reply) throw refuse('RPC', 'RPC', `unknown procedure: ${frame.procedure}`)
    this.#reply(frame, MessageStatus.OK, await reply)
  }

  async #before(fault: Fault): Promise<void> {
    if (fault.kind === 'delay') await this.host.wait(fault.ms)
    if (fault.kind === 'error') throw new Refusal(fault.code, fault.domain, fault.message)
    if (fault.kind === 'hang') await never
    if (fault.kind === 'drop_before') await this.cut()
  }

  async #after(fault: Fault): Promise<void> {
    if (fault.kind === 'lose_reply') await never
    if (fault.kind === 'drop_after') await this.cut()
  }

  /** Ends the connection in the middle of a call; what the call has done so far stays. */
  cut(): Promise<never> {
    this.drop(true)
    return never
  }

  #reply(call: Header, status: number, payload: Buffer): void {
    this.#send({ ...call, type: MessageType.REPLY, status }, payload)
  }

  #send(header: Header, payload?: Uint8Array): boolean {
    if (this.#closed || this.#socket.destroyed) return false
    this.#socket.write(encodeFrame(header, payload))
    if (this.#socket.writableLength > maxUnsentBytes) this.close()
    return !this.#socket.writableNeedDrain
  }

  /** Resolves when what was sent has left. */
  drained(): Promise<void> {
    if (this.#closed || !this.#socket.writableNeedDrain) return Promise.resolve()
    return new Promise((resolve) => {
      const done = (): void => {
        this.#socket.off('drain', done)
        this.#socket.off('close', done)
        resolve()
      }
      this.#socket.on('drain', done)
      this.#socket.on('close', done)
    })
  }
}

const never = new Promise<never>(() => {})

const remoteHeader = {
  program: remoteProgram,
  version: remoteVersion,
  procedure: 0,
  type: MessageType.REPLY as number,
  serial: 0,
  status: MessageStatus.OK as number
}

const keepaliveHeader = {
  ...remoteHeader,
  program: keepaliveProgram,
  version: keepaliveVersion,
  type: MessageType.MESSAGE
}

/** The name of what a call is about, for faults that hit only one thing. */
function subjectOf(args: object): string | null {
  const named = args as Record<string, { name?: unknown } | string | undefined>
  for (const key of ['dom', 'vol', 'pool', 'net', 'name']) {
    const value = named[key]
    if (typeof value === 'string') return value
    if (typeof value?.name === 'string') return value.name
  }
  return null
}

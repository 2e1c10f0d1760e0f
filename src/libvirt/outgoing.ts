// The sending side of one connection: calls, keepalive and stream data as messages. Calls made in one turn leave in one write, but over TLS
// each message is a write, and a TLS record, of its own: libvirtd takes one message off a record and then waits for the socket, so that a
// second one in the same record would lie there until something else arrives.

import type { Duplex } from 'node:stream'
import { encodePrefix, type Header, writeFrame } from './frame.ts'
import { type ArgsOf, named } from './payload.ts'
import {
  keepaliveProgram,
  keepaliveVersion,
  MessageStatus,
  MessageType,
  remoteProgram,
  remoteVersion
} from './protocol.ts'
import type { Transport } from './transport.ts'
import { type ProcedureName, procedures } from './wire.gen.ts'
import { XdrWriter } from './xdr.ts'

const slabBytes = 65_536

export class Outgoing {
  readonly #stream: Duplex
  readonly #separately: boolean
  readonly #writer = new XdrWriter(slabBytes)
  #flushing = false
  #stopped = false
  /** Over TLS: what waits for the write before it. */
  readonly #waiting: Uint8Array[] = []
  #writing = false
  #onDrained: (() => void)[] = []

  constructor(transport: Transport) {
    this.#stream = transport.stream
    this.#separately = transport.oneMessagePerWrite === true
  }

  /** Throws when the arguments cannot be encoded; then nothing is sent. */
  call<Name extends ProcedureName>(name: Name, args: ArgsOf<Name>, serial: number): void {
    const procedure = procedures[name]
    const header = remoteHeader(procedure.number, MessageType.CALL, serial, MessageStatus.OK)
    named(name, () => writeFrame(this.#writer, header, (writer) => procedure.args.write(writer, args)))
    this.#flushSoon()
  }

  /** One of KeepaliveProcedure. */
  keepalive(procedure: number): void {
    if (this.#stopped) return
    const header = {
      program: keepaliveProgram,
      version: keepaliveVersion,
      procedure,
      type: MessageType.MESSAGE,
      serial: 0,
      status: MessageStatus.OK
    }
    writeFrame(this.#writer, header, () => {})
    this.#flushSoon()
  }

  /** A stream's message, without copying its payload. False: wait for `drained` before sending more. */
  streamData(name: ProcedureName, serial: number, status: number, payload: Uint8Array): boolean {
    if (this.#stopped) return true
    this.flush()
    const header = remoteHeader(procedures[name].number, MessageType.STREAM, serial, status)
    const prefix = encodePrefix(header, payload.length)
    if (!this.#separately) this.#stream.cork()
    this.#write(prefix)
    if (payload.length > 0) this.#write(payload)
    if (!this.#separately) this.#stream.uncork()
    return this.#waiting.length === 0 && !this.#stream.writableNeedDrain
  }

  /** Resolves when there is room for more, or the connection has ended. */
  async drained(): Promise<void> {
    if (this.#stopped || (this.#waiting.length === 0 && !this.#stream.writableNeedDrain)) return
    const { promise, resolve } = Promise.withResolvers<void>()
    if (this.#separately) this.#onDrained.push(resolve)
    else {
      const done = (): void => {
        this.#stream.off('drain', done).off('close', done)
        resolve()
      }
      this.#stream.on('drain', done).on('close', done)
    }
    await promise
  }

  flush(): void {
    if (this.#writer.length > 0 && !this.#stopped) this.#write(this.#writer.take())
  }

  stop(): void {
    this.#stopped = true
    this.#waiting.length = 0
    this.#tellDrained()
  }

  #flushSoon(): void {
    if (this.#separately) this.flush()
    else if (!this.#flushing) {
      this.#flushing = true
      process.nextTick(() => {
        this.#flushing = false
        this.flush()
      })
    }
  }

  #write(bytes: Uint8Array): void {
    if (!this.#separately) this.#stream.write(bytes)
    else if (this.#writing) this.#waiting.push(bytes)
    else this.#writeAlone(bytes)
  }

  // Writes that wait inside the stream would be joined into one record: so at most one is in there.
  #writeAlone(bytes: Uint8Array): void {
    this.#writing = true
    this.#stream.write(bytes, () => {
      this.#writing = false
      const next = this.#waiting.shift()
      if (next) this.#writeAlone(next)
      else this.#tellDrained()
    })
  }

  #tellDrained(): void {
    const resolves = this.#onDrained
    this.#onDrained = []
    for (const resolve of resolves) resolve()
  }
}

function remoteHeader(procedure: number, type: number, serial: number, status: number): Header {
  return { program: remoteProgram, version: remoteVersion, procedure, type, serial, status }
}

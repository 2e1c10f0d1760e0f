// The sending side of one connection: calls, keepalive and stream data as messages. Calls made in one turn leave in one write.

import type { Duplex } from 'node:stream'
import { encodePrefix, type Header, writeFrame } from './frame.ts'
import { type ArgsOf, named } from './payload.ts'
import { keepaliveProgram, keepaliveVersion, MessageStatus, MessageType, remoteProgram, remoteVersion } from './protocol.ts'
import { type ProcedureName, procedures } from './wire.gen.ts'
import { XdrWriter } from './xdr.ts'

const slabBytes = 65_536

export class Outgoing {
  readonly #stream: Duplex
  readonly #writer = new XdrWriter(slabBytes)
  #flushing = false
  #stopped = false

  constructor(stream: Duplex) {
    this.#stream = stream
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
    this.#stream.cork()
    const room = this.#stream.write(encodePrefix(header, payload.length))
    const more = payload.length > 0 ? this.#stream.write(payload) : room
    this.#stream.uncork()
    return more
  }

  /** Resolves when what was sent has left this process, or the connection has ended. */
  async drained(): Promise<void> {
    const stream = this.#stream
    if (this.#stopped || !stream.writableNeedDrain) return
    const { promise, resolve } = Promise.withResolvers<void>()
    const done = (): void => resolve()
    stream.on('drain', done).on('close', done)
    await promise
    stream.off('drain', done).off('close', done)
  }

  flush(): void {
    if (this.#writer.length > 0 && !this.#stopped) this.#stream.write(this.#writer.take())
  }

  stop(): void {
    this.#stopped = true
  }

  #flushSoon(): void {
    if (this.#flushing) return
    this.#flushing = true
    process.nextTick(() => {
      this.#flushing = false
      this.flush()
    })
  }
}

function remoteHeader(procedure: number, type: number, serial: number, status: number): Header {
  return { program: remoteProgram, version: remoteVersion, procedure, type, serial, status }
}

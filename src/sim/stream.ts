// The data that follows some replies: a volume's bytes down to the client, or up from it.

import { decodeError } from '../libvirt/payload.ts'
import { maxStreamPayloadBytes, MessageStatus } from '../libvirt/protocol.ts'
import { procedures } from '../libvirt/wire.gen.ts'
import type { CallContext, Handlers } from './call.ts'
import type { SimHost } from './host.ts'
import { notValid, refuse } from './refusal.ts'
import { errorPayload } from './remote-error.ts'
import { maxContentBytes, type SimFile } from './store.ts'
import { volumeOf } from './volume-calls.ts'

export interface SimStream {
  /** The reply has been sent: data may flow. */
  begin(): void
  receive(status: number, payload: Buffer): void
  abort(): void
}

/** Sends `length` bytes of a file from `offset`; what was never written reads as zeros. */
class Download implements SimStream {
  readonly #call: CallContext
  readonly #file: SimFile
  #at: bigint
  readonly #end: bigint
  #ended = false

  constructor(call: CallContext, file: SimFile, offset: bigint, length: bigint) {
    this.#call = call
    this.#file = file
    this.#at = offset
    const rest = file.capacityBytes > offset ? file.capacityBytes - offset : 0n
    this.#end = offset + (length > 0n && length < rest ? length : rest)
  }

  begin(): void {
    void this.#pump()
  }

  async #pump(): Promise<void> {
    const { session, serial } = this.#call
    const { number } = procedures.STORAGE_VOL_DOWNLOAD
    while (!this.#ended && this.#at < this.#end) {
      const left = this.#end - this.#at
      const size = left < BigInt(maxStreamPayloadBytes) ? Number(left) : maxStreamPayloadBytes
      const more = session.sendStream(number, serial, MessageStatus.CONTINUE, slice(this.#file, this.#at, size))
      this.#at += BigInt(size)
      if (!more) await session.drained()
    }
    if (!this.#ended) session.sendStream(number, serial, MessageStatus.CONTINUE)
  }

  receive(status: number): void {
    this.#ended = true
    this.#call.session.streams.delete(this.#call.serial)
    if (status === MessageStatus.OK)
      this.#call.session.sendStream(procedures.STORAGE_VOL_DOWNLOAD.number, this.#call.serial, MessageStatus.OK)
  }

  abort(): void {
    this.#ended = true
  }
}

function slice(file: SimFile, offset: bigint, size: number): Buffer {
  const from = Number(offset)
  const known = file.content && from < file.content.length ? file.content.subarray(from, from + size) : Buffer.alloc(0)
  return known.length === size ? known : Buffer.concat([known, Buffer.alloc(size - known.length)])
}

/** Takes bytes into a file until the client ends the stream. A broken one leaves what had come. */
class Upload implements SimStream {
  readonly #call: CallContext
  readonly #host: SimHost
  readonly #file: SimFile
  readonly #name: string
  #at: bigint
  readonly #end: bigint

  constructor(
    call: CallContext,
    host: SimHost,
    found: { file: SimFile; path: string },
    offset: bigint,
    length: bigint
  ) {
    this.#call = call
    this.#host = host
    this.#file = found.file
    this.#name = found.path
    this.#at = offset
    this.#end = length > 0n ? offset + length : found.file.capacityBytes
    found.file.partial = true
  }

  begin(): void {}

  receive(status: number, payload: Buffer): void {
    const { session, serial } = this.#call
    const { number } = procedures.STORAGE_VOL_UPLOAD
    if (status === MessageStatus.CONTINUE) {
      this.#at += BigInt(payload.length)
      if (this.#at <= this.#end) write(this.#file, Number(this.#at) - payload.length, payload)
      else this.#fail()
      return
    }
    session.streams.delete(serial)
    if (status === MessageStatus.ERROR) {
      if (payload.length > 0) decodeError(payload)
      return
    }
    this.#file.partial = false
    this.#host.note(
      'volume_written',
      { uuid: this.#name, name: this.#name.split('/').at(-1) ?? '' },
      { detail: 'uploaded' }
    )
    session.sendStream(number, serial, MessageStatus.OK)
  }

  #fail(): void {
    const { session, serial } = this.#call
    session.streams.delete(serial)
    const error = refuse('SYSTEM_ERROR', 'STREAMS', 'cannot write to stream: No space left on device')
    session.sendStream(procedures.STORAGE_VOL_UPLOAD.number, serial, MessageStatus.ERROR, errorPayload(error))
  }

  abort(): void {}
}

// Content beyond the bound is counted but not kept: the simulator holds no disks.
function write(file: SimFile, at: number, bytes: Buffer): void {
  const end = Math.min(at + bytes.length, maxContentBytes)
  if (at < end) {
    const length = Math.max(end, file.content?.length ?? 0)
    const grown = Buffer.alloc(length)
    file.content?.copy(grown)
    bytes.copy(grown, at, 0, end - at)
    file.content = grown
  }
  const written = BigInt(at + bytes.length)
  if (written > file.capacityBytes) file.capacityBytes = written
  if (written > file.allocationBytes) file.allocationBytes = written
  file.modifiedAt = Date.now()
}

export const streamCalls: Handlers = {
  STORAGE_VOL_DOWNLOAD: ({ vol, offset, length }, host, call) => {
    const { file } = volumeOf(host, vol)
    if (file.partial) throw notValid(`volume '${vol.name}' is still being allocated.`, 'STORAGE')
    call.session.streams.set(call.serial, new Download(call, file, offset, length))
    return {}
  },
  STORAGE_VOL_UPLOAD: ({ vol, offset, length }, host, call) => {
    const found = volumeOf(host, vol)
    const { store, inner } = host.locate(found.path)
    const user = store.lockedBy(inner, { host: '', uuid: '', name: '' })
    if (user) throw refuse('OPERATION_INVALID', 'STORAGE', `volume '${vol.name}' is in use by ${user.name}`)
    call.session.streams.set(call.serial, new Upload(call, host, found, offset, length))
    return {}
  }
}

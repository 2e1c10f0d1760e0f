// Messages as they travel: a length word, a header of six words, a payload. Splits a byte stream into them and builds them;
// what the payload means is payload.ts.

import { headerBytes, lengthBytes, maxFrameBytes, MessageStatus, MessageType } from './protocol.ts'
import type { XdrWriter } from './xdr.ts'

export interface Header {
  readonly program: number
  readonly version: number
  readonly procedure: number
  /** One of MessageType. */
  readonly type: number
  /** Chosen by the caller; the reply and a stream's data repeat it. 0 for events and keepalive. */
  readonly serial: number
  /** One of MessageStatus. */
  readonly status: number
}

export interface Frame extends Header {
  /** A view into received bytes: valid for ever, but it keeps the whole chunk alive. */
  readonly payload: Buffer
}

/** The peer sent something that is no message. Nothing after it can be understood. */
export class FrameError extends Error {
  override readonly name = 'FrameError'
  readonly code: 'bad_length' | 'bad_header'
  constructor(code: FrameError['code'], message: string) {
    super(message)
    this.code = code
  }
}

const empty = Buffer.alloc(0)
const prefixBytes = lengthBytes + headerBytes
const messageTypes = Object.keys(MessageType).length
const messageStatuses = Object.keys(MessageStatus).length

/** One whole message. Throws FrameError when it is longer than the protocol allows. */
export function encodeFrame(header: Header, payload: Uint8Array = empty): Buffer {
  const frame = Buffer.allocUnsafe(prefixBytes + payload.length)
  putPrefix(frame, header, payload.length)
  frame.set(payload, prefixBytes)
  return frame
}

/** Length word and header for a payload of `payloadBytes` that is sent right after. */
export function encodePrefix(header: Header, payloadBytes: number): Buffer {
  const prefix = Buffer.allocUnsafe(prefixBytes)
  putPrefix(prefix, header, payloadBytes)
  return prefix
}

/**
 * Appends a message whose payload `writePayload` writes. Throws what that throws, and FrameError when the message is
 * longer than the protocol allows; then nothing of it is in the writer.
 */
export function writeFrame(writer: XdrWriter, header: Header, writePayload: (writer: XdrWriter) => void): void {
  const start = writer.length
  try {
    writer.uint(0)
    writer.uint(header.program)
    writer.uint(header.version)
    writer.int(header.procedure)
    writer.int(header.type)
    writer.uint(header.serial)
    writer.int(header.status)
    writePayload(writer)
    writer.patchUint(start, checkedLength(writer.length - start))
  } catch (error) {
    writer.truncate(start)
    throw error
  }
}

function putPrefix(frame: Buffer, header: Header, payloadBytes: number): void {
  frame.writeUInt32BE(checkedLength(prefixBytes + payloadBytes), 0)
  frame.writeUInt32BE(header.program, 4)
  frame.writeUInt32BE(header.version, 8)
  frame.writeInt32BE(header.procedure, 12)
  frame.writeInt32BE(header.type, 16)
  frame.writeUInt32BE(header.serial, 20)
  frame.writeInt32BE(header.status, 24)
}

function checkedLength(bytes: number): number {
  if (bytes > maxFrameBytes)
    throw new FrameError('bad_length', `a message of ${bytes} bytes, the limit is ${maxFrameBytes}`)
  return bytes
}

/**
 * Cuts received bytes into messages. Memory grows with what was received, never with what a length word promises,
 * and never beyond twice the frame limit. After an error the splitter takes no more bytes.
 */
export class FrameSplitter {
  readonly #maxBytes: number
  #partial: Buffer = empty
  #filled = 0
  #broken = false

  /** `maxBytes`: longest message taken, length word included. */
  constructor(maxBytes: number = maxFrameBytes) {
    this.#maxBytes = maxBytes
  }

  /** Bytes held of a message that is not complete yet. */
  get pendingBytes(): number {
    return this.#filled
  }

  /** Hands every message that is now complete to `onFrame`, in order. Throws FrameError. */
  push(chunk: Buffer, onFrame: (frame: Frame) => void): void {
    if (this.#broken) throw new FrameError('bad_length', 'bytes after a message that could not be understood')
    try {
      this.#split(chunk, onFrame)
    } catch (error) {
      this.#broken = true
      throw error
    }
  }

  #split(chunk: Buffer, onFrame: (frame: Frame) => void): void {
    let at = this.#filled > 0 ? this.#completePartial(chunk, onFrame) : 0
    while (chunk.length - at >= lengthBytes) {
      const length = this.#checkedLength(chunk.readUInt32BE(at))
      if (chunk.length - at < length) break
      onFrame(parseFrame(chunk, at, at + length))
      at += length
    }
    if (at < chunk.length) this.#keep(chunk, at, chunk.length)
  }

  /** Adds to the unfinished message from `chunk`; returns how many bytes of the chunk it took. */
  #completePartial(chunk: Buffer, onFrame: (frame: Frame) => void): number {
    let at = Math.max(0, Math.min(chunk.length, lengthBytes - this.#filled))
    this.#keep(chunk, 0, at)
    if (this.#filled < lengthBytes) return at
    const length = this.#checkedLength(this.#partial.readUInt32BE(0))
    const taken = Math.min(chunk.length - at, length - this.#filled)
    this.#keep(chunk, at, at + taken)
    at += taken
    if (this.#filled === length) {
      const whole = this.#partial
      this.#partial = empty
      this.#filled = 0
      onFrame(parseFrame(whole, 0, length))
    }
    return at
  }

  #keep(chunk: Buffer, from: number, to: number): void {
    const needed = this.#filled + to - from
    if (needed > this.#partial.length) {
      const grown = Buffer.allocUnsafeSlow(Math.max(256, Math.min(needed * 2, this.#maxBytes + lengthBytes)))
      this.#partial.copy(grown, 0, 0, this.#filled)
      this.#partial = grown
    }
    chunk.copy(this.#partial, this.#filled, from, to)
    this.#filled = needed
  }

  #checkedLength(length: number): number {
    if (length < prefixBytes || length > this.#maxBytes)
      throw new FrameError(
        'bad_length',
        `a message of ${length} bytes; ${prefixBytes} to ${this.#maxBytes} are allowed`
      )
    return length
  }
}

function parseFrame(bytes: Buffer, start: number, end: number): Frame {
  const type = bytes.readInt32BE(start + 16)
  const status = bytes.readInt32BE(start + 24)
  if (type < 0 || type >= messageTypes) throw new FrameError('bad_header', `${type} is not a message type`)
  if (status < 0 || status >= messageStatuses) throw new FrameError('bad_header', `${status} is not a message status`)
  return {
    program: bytes.readUInt32BE(start + 4),
    version: bytes.readUInt32BE(start + 8),
    procedure: bytes.readInt32BE(start + 12),
    type,
    serial: bytes.readUInt32BE(start + 20),
    status,
    payload: bytes.subarray(start + prefixBytes, end)
  }
}

// XDR (RFC 4506) as libvirt uses it: big-endian, everything padded to four bytes.
// Only bytes and values here; what a procedure's arguments look like is in wire.gen.ts, what a message is in frame.ts.
// Every length is checked against its limit and against the bytes at hand before anything is allocated.

import { maxStringBytes } from './protocol.ts'

export type XdrErrorCode =
  | 'too_short' // the value needs more bytes than there are
  | 'trailing_bytes' // bytes are left after the value
  | 'over_limit' // a string, list or opaque is longer than the protocol allows
  | 'bad_value' // not one of the values the type has

/** A value that cannot be put on the wire, or bytes that are no such value. */
export class XdrError extends Error {
  override readonly name = 'XdrError'
  readonly code: XdrErrorCode
  constructor(code: XdrErrorCode, message: string, options?: ErrorOptions) {
    super(message, options)
    this.code = code
  }
}

const hyphen = 45
// A hexadecimal digit's value by its character code; undefined for anything else.
const nibbles: readonly (number | undefined)[] = Array.from({ length: 128 }, (_, code) => {
  const value = Number.parseInt(String.fromCharCode(code), 16)
  return Number.isNaN(value) ? undefined : value
})
const HEX = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, '0'))

/** Appends values to a growing buffer. `bytes()` is a view that later writes may not change: `take()` hands it over. */
export class XdrWriter {
  readonly #slabBytes: number
  #buffer: Buffer
  #start = 0
  #position = 0

  constructor(slabBytes = 1024) {
    this.#slabBytes = slabBytes
    this.#buffer = Buffer.allocUnsafe(slabBytes)
  }

  /** Bytes written since the last `take()`. */
  get length(): number {
    return this.#position - this.#start
  }

  /** Hands over what was written; the memory is never written again. */
  take(): Buffer {
    const bytes = this.#buffer.subarray(this.#start, this.#position)
    this.#start = this.#position
    return bytes
  }

  /** Forgets everything after `length`, as when a value turned out to be unencodable half-way. */
  truncate(length: number): void {
    this.#position = this.#start + length
  }

  /** Overwrites four bytes at `offset` from the last `take()`: a length that is known only afterwards. */
  patchUint(offset: number, value: number): void {
    this.#buffer.writeUInt32BE(value, this.#start + offset)
  }

  int(value: number): void {
    if ((value | 0) !== value) throw new XdrError('bad_value', `${String(value)} is not a 32-bit integer`)
    this.#put32(value)
  }

  uint(value: number): void {
    if (value >>> 0 !== value) throw new XdrError('bad_value', `${String(value)} is not an unsigned 32-bit integer`)
    this.#put32(value)
  }

  hyper(value: bigint): void {
    if (typeof value !== 'bigint' || BigInt.asIntN(64, value) !== value)
      throw new XdrError('bad_value', `${String(value)} is not a 64-bit integer (bigint)`)
    this.#reserve(8)
    this.#buffer.writeBigInt64BE(value, this.#position)
    this.#position += 8
  }

  uhyper(value: bigint): void {
    if (typeof value !== 'bigint' || BigInt.asUintN(64, value) !== value)
      throw new XdrError('bad_value', `${String(value)} is not an unsigned 64-bit integer (bigint)`)
    this.#reserve(8)
    this.#buffer.writeBigUInt64BE(value, this.#position)
    this.#position += 8
  }

  double(value: number): void {
    if (typeof value !== 'number') throw new XdrError('bad_value', `${String(value)} is not a number`)
    this.#reserve(8)
    this.#buffer.writeDoubleBE(value, this.#position)
    this.#position += 8
  }

  /** Says whether an optional value follows. */
  present(value: boolean): void {
    this.#put32(value ? 1 : 0)
  }

  // libvirt's strings end at a NUL: one inside would silently name something else on the other side.
  string(value: string): void {
    if (typeof value !== 'string') throw new XdrError('bad_value', `${typeof value} where a string is needed`)
    if (value.length > maxStringBytes) throw new XdrError('over_limit', `a string of ${value.length} characters`)
    if (value.includes('\0'))
      throw new XdrError('bad_value', `a string with NUL: ${JSON.stringify(value.slice(0, 80))}`)
    this.#reserve(8 + (value.length < 256 ? value.length * 3 : Buffer.byteLength(value)))
    const at = this.#position
    const bytes = this.#buffer.write(value, at + 4, 'utf8')
    if (bytes > maxStringBytes) throw new XdrError('over_limit', `a string of ${bytes} bytes`)
    this.#put32(bytes)
    this.#position += bytes
    this.#pad(bytes)
  }

  uuid(value: string): void {
    if (typeof value !== 'string' || value.length !== 36) throw notUuid(value)
    this.#reserve(16)
    const buffer = this.#buffer
    let to = this.#position
    for (let at = 0; at < 36; at += 2) {
      if (at === 8 || at === 13 || at === 18 || at === 23) {
        if (value.charCodeAt(at++) !== hyphen) throw notUuid(value)
      }
      const high = nibbles[value.charCodeAt(at)]
      const low = nibbles[value.charCodeAt(at + 1)]
      if (high === undefined || low === undefined) throw notUuid(value)
      buffer[to++] = (high << 4) | low
    }
    this.#position = to
  }

  /** Bytes with their length before them. */
  opaque(value: Uint8Array, maxBytes: number): void {
    if (!(value instanceof Uint8Array)) throw new XdrError('bad_value', 'bytes are needed')
    checkLimit(value.length, maxBytes, 'bytes')
    this.#reserve(8 + value.length)
    this.#put32(value.length)
    this.#buffer.set(value, this.#position)
    this.#position += value.length
    this.#pad(value.length)
  }

  /** Bytes as they are: a stream's payload, or what was encoded before. */
  raw(value: Uint8Array): void {
    this.#reserve(value.length)
    this.#buffer.set(value, this.#position)
    this.#position += value.length
  }

  // xdr_char takes four bytes for each character.
  chars(value: Uint8Array, maxCount: number): void {
    if (!(value instanceof Uint8Array)) throw new XdrError('bad_value', 'bytes are needed')
    checkLimit(value.length, maxCount, 'characters')
    this.#put32(value.length)
    for (const byte of value) this.#put32(byte)
  }

  /** A C string kept as counted characters. libvirt counts its NUL, and copies up to it. */
  text(value: string, maxCount: number): void {
    this.chars(textBytes(`${value}\0`), maxCount)
  }

  /** A C string in an array of fixed length, filled up with NUL. */
  fixedText(value: string, count: number): void {
    const bytes = textBytes(`${value}\0`)
    checkLimit(bytes.length, count, 'characters')
    for (let i = 0; i < count; i++) this.#put32(bytes[i] ?? 0)
  }

  /** A list with its count before it. */
  list<T>(values: readonly T[], maxCount: number, write: (writer: XdrWriter, value: T) => void): void {
    if (!Array.isArray(values)) throw new XdrError('bad_value', 'a list is needed')
    checkLimit(values.length, maxCount, 'items')
    this.#put32(values.length)
    for (const value of values) write(this, value)
  }

  #put32(value: number): void {
    if (this.#position + 4 > this.#buffer.length) this.#grow(4)
    const buffer = this.#buffer
    const at = this.#position
    buffer[at] = value >>> 24
    buffer[at + 1] = value >>> 16
    buffer[at + 2] = value >>> 8
    buffer[at + 3] = value
    this.#position = at + 4
  }

  #pad(bytes: number): void {
    for (let rest = -bytes & 3; rest > 0; rest--) this.#buffer[this.#position++] = 0
  }

  #reserve(bytes: number): void {
    if (this.#position + bytes > this.#buffer.length) this.#grow(bytes)
  }

  // What was taken keeps the old buffer; only the unfinished part moves.
  #grow(bytes: number): void {
    const kept = this.#buffer.subarray(this.#start, this.#position)
    const grown = Buffer.allocUnsafe(Math.max(this.#slabBytes, kept.length * 2 + bytes))
    grown.set(kept)
    this.#buffer = grown
    this.#position = kept.length
    this.#start = 0
  }
}

/** Reads values from `bytes`, which it never copies nor changes. Everything handed out is a copy. */
export class XdrReader {
  readonly #buffer: Buffer
  readonly #end: number
  #position: number

  constructor(bytes: Buffer, start = 0, end: number = bytes.length) {
    this.#buffer = bytes
    this.#position = start
    this.#end = end
  }

  get remaining(): number {
    return this.#end - this.#position
  }

  /** Throws unless everything was read. */
  finish(): void {
    if (this.#position !== this.#end) throw new XdrError('trailing_bytes', `${this.remaining} bytes after the value`)
  }

  int(): number {
    const at = this.#advance(4)
    const buffer = this.#buffer
    return (buffer[at]! << 24) | (buffer[at + 1]! << 16) | (buffer[at + 2]! << 8) | buffer[at + 3]!
  }

  uint(): number {
    return this.int() >>> 0
  }

  hyper(): bigint {
    return this.#buffer.readBigInt64BE(this.#advance(8))
  }

  uhyper(): bigint {
    return this.#buffer.readBigUInt64BE(this.#advance(8))
  }

  double(): number {
    return this.#buffer.readDoubleBE(this.#advance(8))
  }

  present(): boolean {
    const value = this.uint()
    if (value > 1) throw new XdrError('bad_value', `${value} where 0 or 1 says whether a value follows`)
    return value === 1
  }

  // Not UTF-8 (a volume's file name may be anything) reads with replacement characters: one bad name must not hide a whole list.
  string(): string {
    const length = this.#length(maxStringBytes, 1)
    const at = this.#advance((length + 3) & ~3)
    const value = this.#buffer.toString('utf8', at, at + length)
    if (value.includes('\0')) throw new XdrError('bad_value', 'a string with NUL')
    return value
  }

  uuid(): string {
    let at = this.#advance(16)
    const buffer = this.#buffer
    const next = (): string => HEX[buffer[at++]!]!
    const pair = (): string => next() + next()
    return `${pair() + pair()}-${pair()}-${pair()}-${pair()}-${pair() + pair() + pair()}`
  }

  opaque(maxBytes: number): Uint8Array {
    const length = this.#length(maxBytes, 1)
    const at = this.#advance((length + 3) & ~3)
    return new Uint8Array(this.#buffer.subarray(at, at + length))
  }

  chars(maxCount: number): Uint8Array {
    const count = this.#length(maxCount, 4)
    const value = new Uint8Array(count)
    for (let i = 0; i < count; i++) value[i] = this.int()
    return value
  }

  text(maxCount: number): string {
    return fromText(this.chars(maxCount))
  }

  fixedText(count: number): string {
    if (this.remaining < count * 4) throw tooShort(count * 4, this.remaining)
    const value = new Uint8Array(count)
    for (let i = 0; i < count; i++) value[i] = this.int()
    return fromText(value)
  }

  /** A list; `minBytes` is the least that one item can take, so that a false count is found before allocation. */
  list<T>(maxCount: number, minBytes: number, read: (reader: XdrReader) => T): T[] {
    const count = this.#length(maxCount, minBytes)
    const values: T[] = []
    for (let i = 0; i < count; i++) values.push(read(this))
    return values
  }

  #length(max: number, minBytes: number): number {
    const length = this.uint()
    checkLimit(length, max, 'items')
    if (length * minBytes > this.remaining) throw tooShort(length * minBytes, this.remaining)
    return length
  }

  #advance(bytes: number): number {
    const at = this.#position
    if (at + bytes > this.#end) throw tooShort(bytes, this.remaining)
    this.#position = at + bytes
    return at
  }
}

/** Writes and reads one type; the same pair serves the client and a server. */
export interface Codec<T> {
  readonly write: (writer: XdrWriter, value: T) => void
  readonly read: (reader: XdrReader) => T
}

/** Bytes of one value. Throws XdrError. */
export function encode<T>(codec: Codec<T>, value: T): Buffer {
  const writer = new XdrWriter(256)
  codec.write(writer, value)
  return writer.take()
}

/** The value that `bytes` are, whole. Throws XdrError. */
export function decode<T>(codec: Codec<T>, bytes: Buffer): T {
  const reader = new XdrReader(bytes)
  const value = codec.read(reader)
  reader.finish()
  return value
}

function checkLimit(length: number, max: number, what: string): void {
  if (length > max) throw new XdrError('over_limit', `${length} ${what}, the limit is ${max}`)
}

function tooShort(needed: number, remaining: number): XdrError {
  return new XdrError('too_short', `${needed} bytes needed, ${remaining} left`)
}

function notUuid(value: unknown): XdrError {
  return new XdrError('bad_value', `${JSON.stringify(value)} is not a UUID`)
}

function textBytes(value: string): Buffer {
  if (value.indexOf('\0') !== value.length - 1) throw new XdrError('bad_value', 'a string with NUL')
  return Buffer.from(value, 'utf8')
}

function fromText(bytes: Uint8Array): string {
  const end = bytes.indexOf(0)
  return Buffer.from(end < 0 ? bytes : bytes.subarray(0, end)).toString('utf8')
}

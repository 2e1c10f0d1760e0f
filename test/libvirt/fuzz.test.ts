// Hostile bytes: whatever a peer sends, decoding gives a value or an error of ours, at once, and takes no memory on the peer's word.
// `FUZZ_SEED=n FUZZ_RUNS=n` repeat or widen a run; a failure prints its seed.

import { Duplex } from 'node:stream'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { Connection } from '../../src/libvirt/connection.ts'
import { ConnectionError, LibvirtError } from '../../src/libvirt/errors.ts'
import { encodeFrame, type Frame, FrameError, FrameSplitter } from '../../src/libvirt/frame.ts'
import {
  decodeCall,
  decodeError,
  decodeHostEvent,
  decodeReply,
  encodeArgs,
  encodeError,
  encodeEvent,
  encodeReply,
  procedureName
} from '../../src/libvirt/payload.ts'
import { maxFrameBytes, MessageStatus, MessageType, remoteProgram, remoteVersion } from '../../src/libvirt/protocol.ts'
import { type EventName, events, type ProcedureName, procedures, type RemoteError } from '../../src/libvirt/wire.gen.ts'
import { XdrError, XdrReader } from '../../src/libvirt/xdr.ts'
import { payloads, remoteErrors } from './arbitrary.ts'

const seed = Number(process.env['FUZZ_SEED'] ?? 20_240_611)
const numRuns = Number(process.env['FUZZ_RUNS'] ?? 100_000)

/** Valid frames of every procedure and event, to be damaged. */
function corpus(): Buffer[] {
  const header = { program: remoteProgram, version: remoteVersion, serial: 1, status: MessageStatus.OK }
  const frames = payloads.flatMap(({ kind, name, values }) =>
    fc.sample(values, { seed, numRuns: 2 }).map((value) => {
      if (kind === 'event') {
        const procedure = events[name as EventName].number
        const payload = encodeEvent(name as EventName, value as never)
        return encodeFrame({ ...header, type: MessageType.MESSAGE, procedure }, payload)
      }
      const procedure = procedures[name as ProcedureName].number
      return kind === 'args'
        ? encodeFrame(
            { ...header, type: MessageType.CALL, procedure },
            encodeArgs(name as ProcedureName, value as never)
          )
        : encodeFrame(
            { ...header, type: MessageType.REPLY, procedure },
            encodeReply(name as ProcedureName, value as never)
          )
    })
  )
  const errors = fc.sample(remoteErrors, { seed, numRuns: 50 }).map((error) => {
    const failed = { ...header, type: MessageType.REPLY, status: MessageStatus.ERROR, procedure: 1 }
    return encodeFrame(failed, encodeError(error as RemoteError))
  })
  return [...frames, ...errors]
}

interface Damage {
  readonly at: number
  readonly how: 'flip' | 'word' | 'cut' | 'insert' | 'repeat'
  readonly value: number
}

const damages = fc.array(
  fc.record<Damage>({
    at: fc.nat(4096),
    how: fc.constantFrom('flip', 'word', 'cut', 'insert', 'repeat'),
    value: fc.oneof(
      fc.nat(255),
      fc.constantFrom(0, 1, 0x7fffffff, 0x80000000, 0xffffffff, 16_384, 4_194_304),
      fc.nat(0xffffffff)
    )
  }),
  { maxLength: 4 }
)

function damage(frame: Buffer, all: readonly Damage[]): Buffer {
  let bytes = Buffer.from(frame)
  for (const { at, how, value } of all) {
    const place = bytes.length === 0 ? 0 : at % bytes.length
    const word = place & ~3
    if (how === 'flip' && bytes.length > 0) bytes[place] = bytes[place]! ^ (1 << (value & 7))
    else if (how === 'word' && word + 4 <= bytes.length) bytes.writeUInt32BE(value >>> 0, word)
    else if (how === 'cut') bytes = bytes.subarray(0, place)
    else if (how === 'insert')
      bytes = Buffer.concat([bytes.subarray(0, place), Buffer.alloc(4, value & 255), bytes.subarray(place)])
    else if (how === 'repeat') bytes = Buffer.concat([bytes, bytes.subarray(place)])
  }
  return bytes
}

function decodeFrame(frame: Frame): void {
  if (frame.status === MessageStatus.ERROR) decodeError(frame.payload)
  else if (frame.type === MessageType.MESSAGE) decodeHostEvent(frame.procedure, frame.payload)
  else if (frame.type === MessageType.CALL) decodeCall(frame.procedure, frame.payload)
  else {
    const name = procedureName(frame.procedure)
    if (name) decodeReply(name, frame.payload)
  }
}

test(`${numRuns} damaged frames: a value or an error, never anything else`, { timeout: 120_000 }, () => {
  const frames = corpus()
  let values = 0
  let errors = 0
  const count = (act: () => void): void => {
    try {
      act()
      values++
    } catch (error) {
      if (!(error instanceof XdrError) && !(error instanceof FrameError)) throw error
      errors++
    }
  }
  fc.assert(
    fc.property(fc.nat(frames.length - 1), damages, fc.nat(64), (index, all, chunk) => {
      const bytes = damage(frames[index]!, all)
      const splitter = new FrameSplitter()
      // Damaged length words are set right now and then, so that payloads are reached.
      if (chunk % 2 === 0 && bytes.length >= 28) bytes.writeUInt32BE(bytes.length, 0)
      const size = chunk === 0 ? bytes.length || 1 : chunk
      count(() => {
        for (let at = 0; at < bytes.length; at += size)
          splitter.push(bytes.subarray(at, at + size), (frame) => count(() => decodeFrame(frame)))
      })
      expect(splitter.pendingBytes).toBeLessThanOrEqual(bytes.length)
    }),
    { seed, numRuns }
  )
  // Both must have been met often, or the damage is of no use.
  expect(values).toBeGreaterThan(numRuns / 10)
  expect(errors).toBeGreaterThan(numRuns / 10)
})

test('lengths and counts on the peer’s word alone allocate nothing', () => {
  const before = process.memoryUsage()
  for (let i = 0; i < 2000; i++) {
    const splitter = new FrameSplitter()
    splitter.push(Buffer.from([0x02, 0, 0, 0]), () => {})
    splitter.push(Buffer.alloc(100), () => {})
    expect(splitter.pendingBytes).toBe(104)
    const claims = Buffer.from('00ffffff', 'hex')
    for (const read of [
      (reader: XdrReader) => reader.string(),
      (reader: XdrReader) => reader.opaque(2 ** 30),
      (reader: XdrReader) => reader.chars(2 ** 30),
      (reader: XdrReader) => reader.list(2 ** 30, 4, (item) => item.int())
    ])
      expect(() => read(new XdrReader(claims))).toThrow(XdrError)
  }
  const after = process.memoryUsage()
  expect(after.arrayBuffers - before.arrayBuffers).toBeLessThan(maxFrameBytes)
  expect(after.heapUsed - before.heapUsed).toBeLessThan(maxFrameBytes)
})

test('a frame that arrives byte by byte takes no more than twice its bytes', () => {
  const splitter = new FrameSplitter()
  const frame = encodeFrame(
    { program: 1, version: 1, procedure: 1, type: 1, serial: 1, status: 0 },
    Buffer.alloc(300_000)
  )
  let seen = 0
  const before = process.memoryUsage().arrayBuffers
  for (let at = 0; at < frame.length; at++) splitter.push(frame.subarray(at, at + 1), () => seen++)
  expect(seen).toBe(1)
  expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(frame.length * 8)
})

test('a connection survives or ends on hostile bytes, and every call on it is settled', async () => {
  const frames = corpus()
  await fc.assert(
    fc.asyncProperty(fc.array(fc.tuple(fc.nat(frames.length - 1), damages), { maxLength: 5 }), async (hostile) => {
      const stream = new Duplex({ read() {}, write: (_chunk, _encoding, done) => done() })
      const connection = new Connection({ stream, address: 'fuzz' }, { keepalive: false, onEventError: () => {} })
      const calls = [
        connection.call('CONNECT_GET_HOSTNAME', {}),
        connection.call('CONNECT_LIST_ALL_DOMAINS', { need_results: 1, flags: 0 }),
        connection.call('NODE_GET_INFO', {})
      ].map((call) =>
        call.catch((error: unknown) => {
          if (!(error instanceof ConnectionError) && !(error instanceof LibvirtError)) throw error
        })
      )
      for (const [index, all] of hostile) stream.push(damage(frames[index]!, all))
      stream.push(null)
      await connection.closed
      await Promise.all(calls)
    }),
    { seed, numRuns: 2000 }
  )
})

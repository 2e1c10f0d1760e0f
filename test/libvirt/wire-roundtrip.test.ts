// Arbitrary values of everything in the wire tables, written and read back.

import fc from 'fast-check'
import { expect, test } from 'vitest'
import {
  decodeArgs,
  decodeError,
  decodeEvent,
  decodeReply,
  encodeArgs,
  encodeError,
  encodeEvent,
  encodeReply
} from '../../src/libvirt/payload.ts'
import { fromTypedParams, toTypedParams, typed } from '../../src/libvirt/typed-params.ts'
import { type EventName, events, type ProcedureName, procedures, type RemoteError } from '../../src/libvirt/wire.gen.ts'
import { XdrError, XdrReader, XdrWriter } from '../../src/libvirt/xdr.ts'
import { type Payload, payloads, remoteErrors } from './arbitrary.ts'

function encodePayload({ kind, name }: Payload, value: object): Buffer {
  if (kind === 'event') return encodeEvent(name as EventName, value as never)
  return kind === 'args'
    ? encodeArgs(name as ProcedureName, value as never)
    : encodeReply(name as ProcedureName, value as never)
}

function decodePayload({ kind, name }: Payload, bytes: Buffer): unknown {
  if (kind === 'event') return decodeEvent(name as EventName, bytes)
  return kind === 'args' ? decodeArgs(name as ProcedureName, bytes) : decodeReply(name as ProcedureName, bytes)
}

test('what any procedure or event can say is read back as it was written, in whole words, and nothing shorter is accepted', () => {
  expect(payloads).toHaveLength(Object.keys(procedures).length * 2 + Object.keys(events).length)
  for (const payload of payloads) {
    fc.assert(
      fc.property(payload.values, (value) => {
        const bytes = encodePayload(payload, value)
        expect(bytes.length % 4).toBe(0)
        expect(decodePayload(payload, bytes)).toEqual(value)
        if (bytes.length > 0) expect(() => decodePayload(payload, bytes.subarray(0, -4))).toThrow(XdrError)
        expect(() => decodePayload(payload, Buffer.concat([bytes, Buffer.alloc(4)]))).toThrow(XdrError)
      }),
      { numRuns: 10, seed: 1 }
    )
  }
})

test('errors are read back as they were written', () => {
  fc.assert(
    fc.property(remoteErrors, (error) => {
      expect(decodeError(encodeError(error as RemoteError))).toEqual(error)
    })
  )
})

test('no two procedures or events have one number', () => {
  const numbers = [...Object.values(procedures), ...Object.values(events)].map(({ number }) => number)
  expect(new Set(numbers).size).toBe(numbers.length)
})

test('an object of plain values becomes typed parameters and back', () => {
  const params = toTypedParams({
    migrate_uri: 'tcp://h2',
    bandwidth: 20n,
    back: -1n,
    disks_port: 49_152,
    ratio: 0.5,
    flag: true,
    count: typed.uint(4_000_000_000),
    whole: typed.double(2),
    migrate_disks: ['vda', 'vdb'],
    absent: undefined
  })
  expect(params.map(({ field, value }) => [field, value.type])).toEqual([
    ['migrate_uri', 7],
    ['bandwidth', 4],
    ['back', 3],
    ['disks_port', 1],
    ['ratio', 5],
    ['flag', 6],
    ['count', 2],
    ['whole', 5],
    ['migrate_disks', 7],
    ['migrate_disks', 7]
  ])
  expect({ ...fromTypedParams(params) }).toEqual({
    migrate_uri: 'tcp://h2',
    bandwidth: 20n,
    back: -1n,
    disks_port: 49_152,
    ratio: 0.5,
    flag: true,
    count: 4_000_000_000,
    whole: 2,
    migrate_disks: ['vda', 'vdb']
  })
})

test('a parameter named __proto__ is a name like any other', () => {
  const object = fromTypedParams([{ field: '__proto__', value: { type: 1, value: 7 } }])
  expect(Object.keys(object)).toEqual(['__proto__'])
  expect(({} as Record<string, unknown>)['7']).toBeUndefined()
})

test('values outside their type are refused, and what was written before stays', () => {
  const writer = new XdrWriter(4)
  writer.uint(7)
  const bad: (() => void)[] = [
    () => writer.int(2 ** 31),
    () => writer.int(1.5),
    () => writer.int(Number.NaN),
    () => writer.uint(-1),
    () => writer.hyper(2n ** 63n),
    () => writer.uhyper(-1n),
    () => writer.hyper(7 as unknown as bigint),
    () => writer.string('a\0b'),
    () => writer.string(null as unknown as string),
    () => writer.uuid('0de8b054-a966-4bd5-892c-5e1f07edcb3'),
    () => writer.uuid('0de8b054-a966-4bd5-892c-5e1f07edcb3g'),
    () => writer.uuid('0de8b054-a966-4bd5-892c05e1f07edcb37'),
    () => writer.uuid('0de8b054a966-4bd5-892c-5e1f07edcb377'),
    () => writer.opaque(new Uint8Array(5), 4),
    () => writer.fixedText('x'.repeat(32), 32),
    () => writer.list([1, 2, 3], 2, (to, item) => to.int(item))
  ]
  for (const write of bad) {
    const before = writer.length
    expect(write).toThrow(XdrError)
    expect(writer.length).toBe(before)
  }
  expect(writer.take()).toEqual(Buffer.from([0, 0, 0, 7]))
})

test('what was taken from a writer is never overwritten', () => {
  const writer = new XdrWriter(16)
  const taken: Buffer[] = []
  for (let i = 0; i < 100; i++) {
    writer.string(`text ${i}`)
    taken.push(writer.take())
  }
  for (const [i, bytes] of taken.entries()) expect(new XdrReader(bytes).string()).toBe(`text ${i}`)
})

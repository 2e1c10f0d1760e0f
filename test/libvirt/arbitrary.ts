// Arbitrary values of everything in the wire tables, made from the tables themselves and not from the generated code.

import { readFileSync } from 'node:fs'
import fc from 'fast-check'

const table = <T>(name: string): Record<string, T> =>
  JSON.parse(readFileSync(new URL(`../../src/libvirt/wire/${name}.json`, import.meta.url), 'utf8')) as Record<string, T>

const structs = table<string>('types')
const procedures = table<{ number: number; args?: string; reply?: string }>('procedures')
const events = table<{ number: number; message: string }>('events')

export interface Payload {
  readonly kind: 'args' | 'reply' | 'event'
  readonly name: string
  readonly values: fc.Arbitrary<object>
}

/** Arguments and reply of every procedure, and every event's message. */
export const payloads: readonly Payload[] = [
  ...Object.entries(procedures).flatMap(([name, row]): Payload[] => [
    { kind: 'args', name, values: struct(row.args ?? '') },
    { kind: 'reply', name, values: struct(row.reply ?? '') }
  ]),
  ...Object.entries(events).map(([name, row]): Payload => ({ kind: 'event', name, values: struct(row.message) }))
]

export const remoteErrors = struct(structs['RemoteError']!)

const int = fc.integer({ min: -0x80000000, max: 0x7fffffff })
const uint = fc.integer({ min: 0, max: 0xffffffff })
const hyper = fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n })
const uhyper = fc.bigInt({ min: 0n, max: 2n ** 64n - 1n })

function string(): fc.Arbitrary<string> {
  return fc
    .oneof(fc.string({ maxLength: 30 }), fc.string({ unit: 'grapheme', maxLength: 12 }))
    .filter((text) => !text.includes('\0'))
}

function base(name: string): fc.Arbitrary<unknown> {
  switch (name) {
    case 'int':
    case 'char':
      return int
    case 'uint':
    case 'uchar':
    case 'ushort':
      return uint
    case 'hyper':
      return hyper
    case 'uhyper':
      return uhyper
    case 'double':
      return fc.double()
    case 'string':
      return string()
    case 'uuid':
      return fc.uuid()
    case 'TypedParamValue':
      return typedParamValue()
    default:
      return struct(structs[name]!)
  }
}

function typedParamValue(): fc.Arbitrary<unknown> {
  const value = (type: number, values: fc.Arbitrary<unknown>): fc.Arbitrary<unknown> =>
    fc.record({ type: fc.constant(type), value: values })
  return fc.oneof(
    value(1, int),
    value(2, uint),
    value(3, hyper),
    value(4, uhyper),
    value(5, fc.double()),
    value(6, fc.boolean()),
    value(7, string())
  )
}

function field(type: string): fc.Arbitrary<unknown> {
  const [, name = '', optional, max, fixed] = /^(\w+)(?:(\?)|<(\d+)>|\[(\d+)\])?$/.exec(type) ?? []
  if (optional) return fc.option(base(name), { nil: null })
  if (fixed) return string().filter((text) => Buffer.byteLength(text) < Number(fixed))
  if (!max) return base(name)
  const limit = Number(max)
  if (name === 'text') return string()
  if (name === 'opaque' || name === 'chars') return fc.uint8Array({ maxLength: Math.min(limit, 20) })
  return fc.array(base(name), { maxLength: Math.min(limit, 3) })
}

function struct(fields: string): fc.Arbitrary<object> {
  if (fields === '') return fc.constant({})
  const entries = fields.split(', ').map((part): [string, fc.Arbitrary<unknown>] => {
    const [name, type] = part.split(': ')
    return [name!, fc.constant(null).chain(() => field(type!))]
  })
  return fc.record(Object.fromEntries(entries), { noNullPrototype: true })
}

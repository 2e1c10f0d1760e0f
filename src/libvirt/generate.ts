// Generates wire.gen.ts and constants.gen.ts from wire/*.json: `node src/libvirt/generate.ts [--check]`.
// Straight code for each shape rather than an interpreter of tables: the compiler checks it, and it is several times faster.

import { execFileSync } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'

interface Field {
  readonly name: string
  readonly type: string
}
interface ProcedureRow {
  readonly number: number
  readonly priority?: 'high'
  readonly args?: string
  readonly reply?: string
  readonly stream?: 'read' | 'write'
}
interface EventRow {
  readonly number: number
  readonly source: string
  readonly id: number
  readonly message: string
}
interface EnumRow {
  readonly libvirt: string
  readonly prefix: string
  readonly values: Record<string, number>
}
interface ParamsRow {
  readonly prefix: string
  readonly names: Record<string, string>
}

const table = <T>(name: string): Record<string, T> =>
  JSON.parse(readFileSync(new URL(`wire/${name}.json`, import.meta.url), 'utf8')) as Record<string, T>

const structs = new Map(Object.entries(table<string>('types')).map(([name, fields]) => [name, parseFields(fields)]))
const procedures = Object.entries(table<ProcedureRow>('procedures'))
const events = Object.entries(table<EventRow>('events'))
const enums = Object.entries(table<EnumRow>('enums'))
const params = Object.entries(table<ParamsRow>('params'))

// Base types: what they are in TypeScript and the least they take on the wire. Reader and writer methods have the same names.
const base: Record<string, { ts: string; bytes: number; method: string }> = {
  int: { ts: 'number', bytes: 4, method: 'int' },
  uint: { ts: 'number', bytes: 4, method: 'uint' },
  char: { ts: 'number', bytes: 4, method: 'int' },
  uchar: { ts: 'number', bytes: 4, method: 'uint' },
  ushort: { ts: 'number', bytes: 4, method: 'uint' },
  hyper: { ts: 'bigint', bytes: 8, method: 'hyper' },
  uhyper: { ts: 'bigint', bytes: 8, method: 'uhyper' },
  double: { ts: 'number', bytes: 8, method: 'double' },
  string: { ts: 'string', bytes: 4, method: 'string' },
  uuid: { ts: 'string', bytes: 16, method: 'uuid' }
}
const counted: Record<string, { ts: string; method: string }> = {
  opaque: { ts: 'Uint8Array', method: 'opaque' },
  chars: { ts: 'Uint8Array', method: 'chars' },
  text: { ts: 'string', method: 'text' }
}

function parseFields(text: string): Field[] {
  if (text === '') return []
  return text.split(', ').map((part) => {
    const [name, type] = part.split(': ')
    if (name === undefined || type === undefined) throw new Error(`not a field: ${part}`)
    return { name, type }
  })
}

interface Shape {
  readonly name: string
  readonly suffix: '' | '?' | '<' | '['
  readonly size: number
}

function shape(type: string): Shape {
  const match = /^(\w+)(?:(\?)|<(\d+)>|\[(\d+)\])?$/.exec(type)
  if (!match?.[1]) throw new Error(`not a type: ${type}`)
  const suffix = match[2] ? '?' : match[3] ? '<' : match[4] ? '[' : ''
  return { name: match[1], suffix, size: Number(match[3] ?? match[4] ?? 0) }
}

function tsType(type: string): string {
  const { name, suffix } = shape(type)
  const plain =
    counted[name]?.ts ?? base[name]?.ts ?? (name === 'TypedParamValue' || structs.has(name) ? name : undefined)
  if (plain === undefined) throw new Error(`unknown type: ${type}`)
  if (suffix === '?') return `${plain} | null`
  return suffix === '<' && !counted[name] ? `${plain}[]` : plain
}

function minBytes(type: string): number {
  const { name, suffix, size } = shape(type)
  if (suffix === '?' || suffix === '<') return 4
  if (suffix === '[') return 4 * size
  if (name === 'TypedParamValue') return 8
  const fields = structs.get(name)
  return fields ? fields.reduce((sum, field) => sum + minBytes(field.type), 0) : base[name]!.bytes
}

const variable = (name: string): string => name.charAt(0).toLowerCase() + name.slice(1)

function writeOne(name: string, value: string): string {
  const simple = base[name]
  return simple ? `writer.${simple.method}(${value})` : `${variable(name)}.write(writer, ${value})`
}

function readOne(name: string): string {
  const simple = base[name]
  return simple ? `reader.${simple.method}()` : `${variable(name)}.read(reader)`
}

function writeField({ name: field, type }: Field): string {
  const { name, suffix, size } = shape(type)
  const value = `value.${field}`
  const bytes = counted[name]
  if (bytes) return `writer.${suffix === '[' ? 'fixedText' : bytes.method}(${value}, ${size})`
  if (suffix === '<') {
    const item = base[name] ? `(to, item) => to.${base[name].method}(item)` : `${variable(name)}.write`
    return `writer.list(${value}, ${size}, ${item})`
  }
  if (suffix === '?') return `writer.present(${value} !== null)\nif (${value} !== null) ${writeOne(name, value)}`
  return writeOne(name, value)
}

function readField({ type }: Field): string {
  const { name, suffix, size } = shape(type)
  const bytes = counted[name]
  if (bytes) return `reader.${suffix === '[' ? 'fixedText' : bytes.method}(${size})`
  if (suffix === '<') {
    const item = base[name] ? `(from) => from.${base[name].method}()` : `${variable(name)}.read`
    return `reader.list(${size}, ${minBytes(name)}, ${item})`
  }
  if (suffix === '?') return `reader.present() ? ${readOne(name)} : null`
  return readOne(name)
}

function codec(fields: readonly Field[]): string {
  if (fields.length === 0) return '{ write() {}, read: () => ({}) }'
  const writes = fields.map(writeField).join('\n')
  const reads = fields.map((field) => `${field.name}: ${readField(field)}`).join(', ')
  return `{ write(writer, value) {\n${writes}\n}, read: (reader) => ({ ${reads} }) }`
}

const objectType = (fields: readonly Field[]): string =>
  fields.length === 0 ? 'Empty' : `{ ${fields.map((field) => `${field.name}: ${tsType(field.type)}`).join('; ')} }`

// Structures come out in an order in which each is defined before it is used.
function inOrder(): string[] {
  const done: string[] = []
  const visit = (name: string): void => {
    if (done.includes(name)) return
    for (const field of structs.get(name)!) if (structs.has(shape(field.type).name)) visit(shape(field.type).name)
    done.push(name)
  }
  for (const name of structs.keys()) visit(name)
  return done
}

// Many procedures share their arguments' shape (`dom, flags`): one codec serves them all.
const shapes = new Map<string, { constant: string; fields: Field[] }>()

function shapeConstant(text = ''): string {
  if (!shapes.has(text)) shapes.set(text, { constant: `shape${shapes.size}`, fields: parseFields(text) })
  return shapes.get(text)!.constant
}

function wireSource(): string {
  const procedureLines = procedures.map(([name, row]) => {
    const stream = row.stream ? `'${row.stream}'` : 'null'
    const codecs = `args: ${shapeConstant(row.args)}, reply: ${shapeConstant(row.reply)}`
    return `${name}: { name: '${name}', number: ${row.number}, highPriority: ${row.priority === 'high'}, stream: ${stream}, ${codecs} }`
  })
  const eventLines = events.map(
    ([name, row]) =>
      `${name}: { name: '${name}', number: ${row.number}, source: '${row.source}', id: ${row.id}, message: ${shapeConstant(row.message)} }`
  )
  const structLines = inOrder().flatMap((name) => {
    const fields = structs.get(name)!
    const members = fields.map((field) => `${field.name}: ${tsType(field.type)}`).join('\n')
    return [
      `export interface ${name} {\n${members}\n}`,
      `export const ${variable(name)}: Codec<${name}> = ${codec(fields)}`
    ]
  })
  const shapeLines = [...shapes.values()].map(
    ({ constant, fields }) => `const ${constant}: Codec<${objectType(fields)}> = ${codec(fields)}`
  )
  const procedureTypes = procedures.map(
    ([name, row]) =>
      `${name}: { args: ${objectType(parseFields(row.args ?? ''))}; reply: ${objectType(parseFields(row.reply ?? ''))} }`
  )
  const eventTypes = events.map(([name, row]) => `${name}: ${objectType(parseFields(row.message))}`)
  return [
    '// Generated by `node src/libvirt/generate.ts` from src/libvirt/wire: do not edit.',
    '// Structures, procedures and events of the remote protocol, and the codecs of both directions.',
    '',
    "import type { EventKind, Procedure } from './procedure.ts'",
    "import { type TypedParamValue, typedParamValue } from './typed-param-value.ts'",
    "import type { Codec } from './xdr.ts'",
    '',
    '/** No arguments, or nothing in the reply. */',
    'export type Empty = Record<string, never>',
    ...structLines,
    ...shapeLines,
    `export interface Procedures {\n${procedureTypes.join('\n')}\n}`,
    'export type ProcedureName = keyof Procedures',
    `export const procedures: { readonly [Name in ProcedureName]: Procedure<Procedures[Name]['args'], Procedures[Name]['reply']> } = {\n${procedureLines.join(',\n')}\n}`,
    `export interface Events {\n${eventTypes.join('\n')}\n}`,
    'export type EventName = keyof Events',
    `export const events: { readonly [Name in EventName]: EventKind<Events[Name]> } = {\n${eventLines.join(',\n')}\n}`,
    ''
  ].join('\n')
}

function constantsSource(): string {
  const enumLines = enums.map(([name, row]) => {
    const values = Object.entries(row.values).map(([key, value]) => `${key}: ${value}`)
    return `/** libvirt: ${row.libvirt}, ${row.prefix}* */\nexport const ${name} = {\n${values.join(',\n')}\n} as const`
  })
  const paramLines = params.map(([name, row]) => {
    const values = Object.entries(row.names).map(([key, value]) => `${key}: '${value}'`)
    return `/** Typed parameters: ${row.prefix}* */\nexport const ${name} = {\n${values.join(',\n')}\n} as const`
  })
  return [
    '// Generated by `node src/libvirt/generate.ts` from src/libvirt/wire: do not edit.',
    "// libvirt's constants without their common prefix, which is in each comment.",
    '',
    ...enumLines,
    ...paramLines,
    ''
  ].join('\n')
}

/** The generated files and what they should hold, formatted as the project formats. */
export function generated(): Map<URL, string> {
  const sources: [string, string][] = [
    ['wire.gen.ts', wireSource()],
    ['constants.gen.ts', constantsSource()]
  ]
  return new Map(
    sources.map(([name, source]) => {
      const file = new URL(name, import.meta.url)
      const command = new URL('../../node_modules/oxfmt/bin/oxfmt', import.meta.url).pathname
      const formatted = execFileSync(process.execPath, [command, `--stdin-filepath=${file.pathname}`], {
        input: source
      })
      return [file, formatted.toString()]
    })
  )
}

if (import.meta.main) {
  for (const [file, source] of generated()) {
    if (!process.argv.includes('--check')) writeFileSync(file, source)
    else if (readFileSync(file, 'utf8') !== source) {
      console.error(`${file.pathname} is not what the generator makes: run node src/libvirt/generate.ts`)
      process.exitCode = 1
    }
  }
}

// Requests against their schemas, and refusals that name the value, the rule and the way out. Nothing is coerced, removed or
// filled in. Values of actions' arguments are not looked at here: their action does that.
import type { FastifySchemaCompiler } from 'fastify'
import type { TSchema } from 'typebox'
import { Compile } from 'typebox/compile'
import { quote } from '../model/name.ts'
import { ruleText, type SchemaError } from '../model/schema-rule.ts'
import { HttpError } from './problem.ts'

type Shape = TSchema & {
  properties?: Record<string, Shape>
  items?: Shape
  description?: string
  anyOf?: Shape[]
  const?: unknown
}

export const validatorCompiler: FastifySchemaCompiler<TSchema> = ({ schema, httpPart }) => {
  const compiled = Compile(schema)
  return (sent: unknown) => {
    // Where a body may be empty it may be left out.
    const value = httpPart === 'body' && sent == null ? {} : sent
    if (compiled.Check(value)) return { value }
    return { error: refusal(schema, value, [...(compiled.Errors(value) as Iterable<SchemaError>)], httpPart ?? 'body') }
  }
}

function refusal(schema: Shape, value: unknown, errors: readonly SchemaError[], part: string): HttpError {
  const where = part === 'querystring' ? 'the query' : part === 'params' ? 'the path' : 'the request'
  const extra = errors.find((error) => error.keyword === 'additionalProperties')
  if (extra) {
    const [name = '?'] = (extra.params as { additionalProperties: string[] }).additionalProperties
    const known = Object.keys(shapeAt(schema, extra.instancePath)?.properties ?? {})
    const place = extra.instancePath === '' ? where : `${where} at ${extra.instancePath}`
    return refused(
      'unknown_field',
      `${place} has an unknown field ${quote(name)}`,
      `${extra.instancePath}/${name}`,
      `leave it out; known: ${known.join(', ')}`
    )
  }
  const missing = errors.find((error) => error.keyword === 'required')
  if (missing) {
    const [name = '?'] = (missing.params as { requiredProperties: string[] }).requiredProperties
    const at = `${missing.instancePath}/${name}`
    return refused('missing_field', `${where} has no ${quote(name)}`, at, `give it${explained(shapeAt(schema, at))}`)
  }
  // Of a choice, the innermost error belongs to one branch only; the choice itself says what was possible.
  const error = errors.find((candidate) => candidate.keyword === 'anyOf') ?? errors[0]
  const at = error?.instancePath ?? ''
  const found = valueAt(value, at)
  const shown =
    found === undefined
      ? 'nothing'
      : typeof found === 'string'
        ? quote(found)
        : quote(JSON.stringify(found)).slice(1, -1)
  const shape = shapeAt(schema, at)
  return refused(
    'bad_value',
    `${at === '' ? where : at} is ${shown}, which ${error ? ruleText(error, shape) : 'does not fit'}`,
    at,
    `correct it${explained(shape)}`
  )
}

const refused = (code: string, message: string, pointer: string, next: string) =>
  new HttpError(400, code, message, { next, pointer })

function explained(shape: Shape | undefined): string {
  const choices =
    shape?.anyOf?.flatMap((choice) => (choice.const === undefined ? [] : [JSON.stringify(choice.const)])) ?? []
  const parts = [shape?.description, choices.length > 0 ? `one of ${choices.join(', ')}` : undefined].filter(Boolean)
  return parts.length > 0 ? `: ${parts.join('; ')}` : ''
}

function shapeAt(schema: Shape, pointer: string): Shape | undefined {
  let at: Shape | undefined = schema
  for (const key of pointer.split('/').slice(1)) at = at?.properties?.[key] ?? at?.items
  return at
}

function valueAt(value: unknown, pointer: string): unknown {
  let at = value
  for (const key of pointer.split('/').slice(1))
    at = typeof at === 'object' && at !== null ? (at as Record<string, unknown>)[key] : undefined
  return at
}

/** PostgreSQL keeps any text but U+0000 and halves of surrogate pairs: refused anywhere in a request, before anything is done. */
export function refuseBadText(value: unknown, pointer = ''): void {
  if (typeof value === 'string') {
    if (!value.includes('\0') && value.isWellFormed()) return
    throw refused(
      'bad_text',
      `${pointer || 'the value'} is ${quote(value)}, which holds a NUL or half a character`,
      pointer,
      'leave that character out'
    )
  }
  if (typeof value !== 'object' || value === null) return
  for (const [key, item] of Object.entries(value)) {
    refuseBadText(key, pointer)
    refuseBadText(item, `${pointer}/${key}`)
  }
}

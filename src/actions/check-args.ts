// Arguments against an action's schema: the first thing wrong is said with the value, the rule and the way out.
import { Compile, type Validator } from 'typebox/compile'
import { Value } from 'typebox/value'
import type { TSchema } from 'typebox'
import type { JsonObject, Json } from '../db/json.ts'
import { quote } from '../model/name.ts'
import { ruleText, type SchemaError } from '../model/schema-rule.ts'
import type { Action } from './action.ts'
import { RequestError } from './request-error.ts'

const validators = new WeakMap<TSchema, Validator>()

function validatorOf(schema: TSchema): Validator {
  let validator = validators.get(schema)
  if (!validator) validators.set(schema, (validator = Compile(schema)))
  return validator
}

/**
 * The arguments with the schema's defaults filled in.
 * @throws RequestError `unknown_field`, `missing_field` or `bad_args`
 */
export function checkArgs(action: Action, args: JsonObject): JsonObject {
  const validator = validatorOf(action.args)
  const filled = Value.Default(action.args, structuredClone(args)) as JsonObject
  if (validator.Check(filled)) return filled
  throw asRequestError(action, filled, [...(validator.Errors(filled) as Iterable<SchemaError>)])
}

function asRequestError(action: Action, args: JsonObject, errors: readonly SchemaError[]): RequestError {
  const extra = errors.find((error) => error.keyword === 'additionalProperties')
  if (extra) return unknownField(action, extra)
  const missing = errors.find((error) => error.keyword === 'required')
  if (missing) {
    const [name = '?'] = (missing.params as { requiredProperties?: string[] }).requiredProperties ?? []
    return new RequestError('missing_field', `${action.name} needs ${quote(name)}`, {
      pointer: `${missing.instancePath}/${name}`,
      next: `give it: ${describe(schemaAt(action.args, `${missing.instancePath}/${name}`))}`
    })
  }
  const error = errors.find((candidate) => candidate.keyword === 'anyOf') ?? errors[0]
  const pointer = error?.instancePath ?? ''
  const schema = schemaAt(action.args, pointer)
  return new RequestError(
    'bad_args',
    `${schema?.['x-secret'] ? 'what was given' : shown(valueAt(args, pointer))} is not allowed as ${quote(pointer.slice(1))} of ${action.name}: it ${error ? ruleText(error, schema) : 'does not fit'}`,
    {
      pointer,
      next: describe(schema, /^(pattern|anyOf|const|enum)$/.test(error?.keyword ?? ''))
    }
  )
}

function unknownField(action: Action, error: SchemaError): RequestError {
  const names = (error.params as { additionalProperties: string[] }).additionalProperties
  const known = Object.keys(schemaAt(action.args, error.instancePath)?.properties ?? {})
  return new RequestError(
    'unknown_field',
    `${action.name} has no ${names.map((name) => quote(name)).join(', ')}${error.instancePath && ` in ${error.instancePath}`}`,
    {
      pointer: `${error.instancePath}/${names[0] ?? ''}`,
      next: `leave it out; what may stand there: ${known.join(', ')}`
    }
  )
}

type AnySchema = TSchema & {
  'x-rule'?: string
  'x-ref'?: string
  'x-secret'?: true
  properties?: Record<string, AnySchema>
  items?: AnySchema
  description?: string
  anyOf?: { const?: Json }[]
}

function schemaAt(schema: TSchema, pointer: string): AnySchema | undefined {
  let at: AnySchema | undefined = schema
  for (const part of pointer.split('/').slice(1))
    at = /^\d+$/.test(part) ? (at?.items ?? at?.properties?.[part]) : at?.properties?.[part]
  return at
}

function valueAt(value: Json | undefined, pointer: string): Json | undefined {
  let at = value
  for (const part of pointer.split('/').slice(1)) {
    if (Array.isArray(at)) at = at[Number(part)]
    else at = at !== null && typeof at === 'object' ? at[part] : undefined
  }
  return at
}

/** @param said the message says already what may stand there */
function describe(schema: AnySchema | undefined, said = false): string {
  const choices = schema?.anyOf?.flatMap((choice) => (choice.const === undefined ? [] : [shown(choice.const)]))
  const of = choices && choices.length > 0 && !said ? `one of ${choices.join(', ')}` : undefined
  // A reference's description says its rule.
  const rule = said || schema?.['x-ref'] !== undefined ? undefined : schema?.['x-rule']
  return [schema?.description, of, rule].filter(Boolean).join('; ') || 'see `taskomatic --help`'
}

const shown = (value: Json | undefined): string =>
  typeof value === 'string' ? quote(value) : quote(JSON.stringify(value) ?? 'nothing').slice(1, -1)

// Why a value does not fit, said so that a person can put it right.
import { Type, type TSchema } from 'typebox'
import { Compile } from 'typebox/compile'
import { describe, expect, test } from 'vitest'
import { memoryText } from '../../src/model/memory-text.ts'
import { ruleText, type SchemaError, type SchemaWords } from '../../src/model/schema-rule.ts'

function why(schema: TSchema, value: unknown, field = 'field'): string {
  const [error] = [...(Compile(Type.Object({ [field]: schema })).Errors({ [field]: value }) as Iterable<SchemaError>)]
  return error ? ruleText(error, schema) : 'fits'
}

describe('a value that does not fit', () => {
  test.each<[schema: TSchema, value: unknown, said: string]>([
    [Type.Integer({ minimum: 1 }), 0, 'must be 1 or more'],
    [Type.Integer({ maximum: 8 }), 9, 'must be 8 or less'],
    [Type.Number({ exclusiveMinimum: 1 }), 1, 'must be more than 1'],
    [Type.Number({ exclusiveMaximum: 1 }), 1, 'must be less than 1'],
    [Type.Integer(), 1.5, 'must be a whole number'],
    [Type.Integer(), 'one', 'must be a whole number'],
    [Type.Boolean(), 'yes', 'must be true or false'],
    [Type.String(), 7, 'must be text'],
    [Type.Array(Type.String()), 'a', 'must be a list'],
    [Type.Object({}), 7, 'must be a map of names and values'],
    [Type.String({ minLength: 1 }), '', 'must not be empty'],
    [Type.String({ minLength: 2 }), '', 'must have 2 characters or more'],
    [Type.String({ maxLength: 1 }), 'ab', 'must have 1 character or fewer'],
    [Type.Array(Type.String(), { minItems: 2 }), [], 'must have 2 entries or more'],
    [Type.Array(Type.String(), { maxItems: 1 }), ['a', 'b'], 'must have 1 entry or fewer'],
    [Type.Array(Type.String(), { uniqueItems: true }), ['a', 'a'], 'must not name the same thing twice'],
    [Type.String({ format: 'date-time' }), 'soon', 'must be a time like 2026-03-01T22:30:00Z'],
    [Type.String({ pattern: '^[a-z]+$', 'x-rule': 'made of letters' }), '1', 'must be made of letters'],
    [Type.String({ pattern: '^[a-z]+$' }), '1', 'does not fit'],
    [Type.Literal('dir'), 'zfs', 'must be "dir"'],
    [Type.Enum(['a', 'b']), 'c', 'must be one of "a", "b"']
  ])('%j, %j: it %s', (schema, value, said) => expect(why(schema, value)).toBe(said))

  test('of a choice is told what was possible', () => {
    const choice = Type.Union([Type.Literal('qcow2'), Type.Literal('raw')])
    const error: SchemaError = { keyword: 'anyOf', instancePath: '/field', params: {} }
    expect(ruleText(error, choice as SchemaWords)).toBe('must be one of "qcow2", "raw"')
    const mixed = Type.Union([Type.Integer(), Type.Null()])
    expect(ruleText(error, mixed as SchemaWords)).toBe('must be a whole number or null')
    expect(ruleText(error, undefined)).toBe('must be of another form')
  })

  test('of a size is told the bound in units', () => {
    expect(why(Type.Integer({ minimum: 1 }), -1, 'memoryMiB')).toBe('must be 1 MiB or more')
    expect(why(Type.Integer({ maximum: 2 ** 24 }), 2 ** 25, 'memoryMiB')).toBe('must be 16 TiB or less')
  })
})

test.each([
  [512, '512 MiB'],
  [1332, '1332 MiB'],
  [2048, '2 GiB'],
  [12_000, '11.7 GiB'],
  [100 * 2 ** 20, '100 TiB'],
  [0.25, '0.3 MiB'],
  [0, '0 MiB']
])('%d MiB are %s to people', (mib, text) => expect(memoryText(mib)).toBe(text))

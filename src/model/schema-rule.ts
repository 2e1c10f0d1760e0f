// Why a value does not fit its schema, in words: the end of a sentence that begins with the value, "… must be 1 or more". Not for
// what is wrong about fields as such (unknown, missing): who checks says that.
import { memoryText } from './memory-text.ts'

/** What a check of a schema answers; its own message is for programmers. */
export type SchemaError = { keyword: string; instancePath: string; params: object }

/** The part of a schema that says what may stand there. */
export type SchemaWords = {
  /** What a pattern asks for, after "must be". */
  'x-rule'?: string
  anyOf?: readonly { const?: unknown; type?: unknown }[]
  enum?: readonly unknown[]
  const?: unknown
}

const types: Readonly<Record<string, string>> = {
  string: 'text',
  integer: 'a whole number',
  number: 'a number',
  boolean: 'true or false',
  array: 'a list',
  object: 'a map of names and values',
  null: 'null'
}

const formats: Readonly<Record<string, string>> = {
  'date-time': 'a time like 2026-03-01T22:30:00Z',
  uuid: 'a UUID, like 123e4567-e89b-42d3-a456-426614174000'
}

/** `must be 1 or more`, `must have 63 characters or fewer`, `must be one of "qcow2", "raw"` … */
export function ruleText({ keyword, instancePath, params }: SchemaError, words: SchemaWords | undefined): string {
  const { limit, type, format } = params as { limit?: number; type?: string | string[]; format?: string }
  const number = shownLimit(limit ?? 0, instancePath)
  const count = (what: string): string => `${limit} ${what}${limit === 1 ? '' : 's'}`
  switch (keyword) {
    case 'minimum':
      return `must be ${number} or more`
    case 'maximum':
      return `must be ${number} or less`
    case 'exclusiveMinimum':
      return `must be more than ${number}`
    case 'exclusiveMaximum':
      return `must be less than ${number}`
    case 'minLength':
      return limit === 1 ? 'must not be empty' : `must have ${count('character')} or more`
    case 'maxLength':
      return `must have ${count('character')} or fewer`
    case 'minItems':
      return `must have ${count('entry').replace('entrys', 'entries')} or more`
    case 'maxItems':
      return `must have ${count('entry').replace('entrys', 'entries')} or fewer`
    case 'uniqueItems':
      return 'must not name the same thing twice'
    case 'type':
      return `must be ${[type ?? []].flat().map((one) => types[one] ?? one).join(' or ')}` // prettier-ignore
    case 'format':
      return `must be ${formats[format ?? ''] ?? format}`
    case 'anyOf':
    case 'const':
    case 'enum':
      return `must be ${choicesOf(words) ?? 'of another form'}`
    default:
      return words?.['x-rule'] === undefined ? 'does not fit' : `must be ${words['x-rule']}`
  }
}

function choicesOf(words: SchemaWords | undefined): string | undefined {
  if (words?.const !== undefined) return JSON.stringify(words.const)
  const choices: SchemaWords['anyOf'] = words?.enum?.map((value) => ({ const: value })) ?? words?.anyOf ?? []
  const known = choices
    .map((choice) => (choice.const === undefined ? types[String(choice.type)] : JSON.stringify(choice.const)))
    .filter((choice) => choice !== undefined)
  if (known.length < 2) return known[0]
  return choices.every((choice) => choice.const !== undefined) ? `one of ${known.join(', ')}` : known.join(' or ')
}

// The unit is in the field's name.
const shownLimit = (limit: number, pointer: string): string =>
  pointer.endsWith('MiB') && limit > 0 ? memoryText(limit) : String(limit)

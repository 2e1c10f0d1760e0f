// Labels (key=value) of VMs and hosts, and selectors that pick by them: `role=web,tier!=test,zone in (a,b)`. Only words: who has
// which label is the inventory's business.

/** All terms must hold. Of what lacks the key `notin` and `absent` hold. */
export type SelectorTerm = { key: string; op: 'in' | 'notin' | 'exists' | 'absent'; values: string[] }

const key = '[A-Za-z0-9][A-Za-z0-9._/-]{0,62}'
const value = '[A-Za-z0-9][A-Za-z0-9._/:@-]{0,62}'
const wholeKey = new RegExp(`^${key}$`)
const wholeValue = new RegExp(`^${value}$`)

export const labelKeyPattern = `^${key}$`
export const labelValuePattern = `^${value}$`
export const labelRule =
  '1 to 63 letters, digits, dots, dashes, slashes and underscores, beginning with a letter or digit'

/** Of one thing at most so many labels. */
export const mostLabels = 64
const mostTerms = 20

export class SelectorError extends Error {
  override readonly name = 'SelectorError'
  readonly code = 'bad_selector'
}

/** `role=web` → ['role', 'web']. @throws SelectorError */
export function parseLabel(text: string): [string, string] {
  const at = text.indexOf('=')
  const [left, right] = [text.slice(0, at), text.slice(at + 1)]
  if (at > 0 && wholeKey.test(left) && wholeValue.test(right)) return [left, right]
  throw new SelectorError(`${JSON.stringify(text.slice(0, 150))} is no label: write key=value, each of ${labelRule}`)
}

/** @throws SelectorError */
export function parseSelector(text: string): SelectorTerm[] {
  const parts = splitTerms(text)
  if (parts.length === 0 || parts.length > mostTerms)
    throw new SelectorError(`a selector has 1 to ${mostTerms} terms, not ${parts.length}`)
  return parts.map(parseTerm)
}

/** At commas that are not within parentheses. */
const splitTerms = (text: string): string[] => {
  const parts = text.match(/(?:\([^()]*\)|[^,()])+/g) ?? []
  return parts.map((part) => part.trim()).filter((part) => part !== '')
}

function parseTerm(text: string): SelectorTerm {
  const set = /^(\S+)\s+(in|notin)\s*\(([^()]*)\)$/.exec(text)
  if (set) return checked(text, set[1] ?? '', set[2] === 'in' ? 'in' : 'notin', (set[3] ?? '').split(',').map(trimmed))
  const equal = /^([^!=\s]+)\s*(!=|==?)\s*(\S+)$/.exec(text)
  if (equal) return checked(text, equal[1] ?? '', equal[2] === '!=' ? 'notin' : 'in', [equal[3] ?? ''])
  return text.startsWith('!') ? checked(text, text.slice(1), 'absent', []) : checked(text, text, 'exists', [])
}

const trimmed = (part: string): string => part.trim()

function checked(text: string, name: string, op: SelectorTerm['op'], values: string[]): SelectorTerm {
  if (wholeKey.test(name) && values.every((each) => wholeValue.test(each))) return { key: name, op, values }
  throw new SelectorError(
    `${JSON.stringify(text.slice(0, 150))} is no term of a selector: write key=value, key!=value, key in (a,b), key notin (a,b), key or !key`
  )
}

export const matches = (terms: readonly SelectorTerm[], labels: Readonly<Record<string, string>>): boolean =>
  terms.every(({ key: name, op, values }) => {
    const has = labels[name]
    if (op === 'exists') return has !== undefined
    if (op === 'absent') return has === undefined
    const among = has !== undefined && values.includes(has)
    return op === 'in' ? among : !among
  })

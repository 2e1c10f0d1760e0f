// Rules for names that people choose, with messages that name the value, the rule and the way out.

export type NameKind = 'vm' | 'host' | 'pool' | 'store' | 'volume' | 'network' | 'image'

const rules: Record<NameKind, { pattern: RegExp; max: number; rule: string }> = {
  vm: {
    pattern: /^[A-Za-z0-9][A-Za-z0-9._-]*$/,
    max: 63,
    rule: 'letters, digits, ".", "_" and "-", beginning with a letter or digit'
  },
  host: {
    pattern: /^[a-z0-9][a-z0-9.-]*$/,
    max: 63,
    rule: 'lower-case letters, digits, "." and "-", beginning with a letter or digit'
  },
  pool: {
    pattern: /^[A-Za-z0-9][A-Za-z0-9._-]*$/,
    max: 63,
    rule: 'letters, digits, ".", "_" and "-", beginning with a letter or digit'
  },
  store: {
    pattern: /^[A-Za-z0-9][A-Za-z0-9._-]*(\/[A-Za-z0-9][A-Za-z0-9._-]*)?$/,
    max: 127,
    rule: 'a name, or HOST/POOL for a store local to one host; letters, digits, ".", "_" and "-"'
  },
  volume: {
    pattern: /^[A-Za-z0-9][A-Za-z0-9._+-]*$/,
    max: 127,
    rule: 'letters, digits, ".", "_", "+" and "-", beginning with a letter or digit'
  },
  image: {
    pattern: /^[A-Za-z0-9][A-Za-z0-9._-]*$/,
    max: 63,
    rule: 'letters, digits, ".", "_" and "-", beginning with a letter or digit'
  },
  network: {
    pattern: /^[A-Za-z0-9][A-Za-z0-9._-]*$/,
    max: 63,
    rule: 'letters, digits, ".", "_" and "-", beginning with a letter or digit'
  }
}

/** Pattern text and length for a kind of name, for schemas. */
export const nameRule = (kind: NameKind): { pattern: string; maxLength: number; rule: string } => ({
  pattern: rules[kind].pattern.source,
  maxLength: rules[kind].max,
  rule: rules[kind].rule
})

/** Undefined when `value` is a good name; else a sentence that names the value, the rule and the way out. */
export function nameProblem(kind: NameKind, value: string): string | undefined {
  const { pattern, max, rule } = rules[kind]
  if (value.length <= max && pattern.test(value) && !value.includes('..')) return undefined
  return `${quote(value)} is not a ${kind} name: use 1 to ${max} of ${rule}, without ".."`
}

/** A value as it may be shown in a message: escaped, and cut when long. */
export function quote(value: string, max = 80): string {
  const cut = value.length > max ? `${value.slice(0, max)}…` : value
  return value.length > max ? `${JSON.stringify(cut)} (${value.length} characters)` : JSON.stringify(cut)
}

// Text of the command line as values: sizes, durations, times, key=value lists. Each refusal names the value, the rule and
// the way out. What the server must decide (does that VM exist?) is not asked here.
import { usage } from './failure.ts'

const shown = (text: string): string => JSON.stringify(text.length > 80 ? `${text.slice(0, 80)}…` : text)

const units: Record<string, number> = {
  B: 1,
  KiB: 2 ** 10, MiB: 2 ** 20, GiB: 2 ** 30, TiB: 2 ** 40, PiB: 2 ** 50,
  K: 2 ** 10, M: 2 ** 20, G: 2 ** 30, T: 2 ** 40, P: 2 ** 50,
  KB: 10 ** 3, MB: 10 ** 6, GB: 10 ** 9, TB: 10 ** 12, PB: 10 ** 15
} // prettier-ignore
const unitByName = new Map(Object.entries(units).map(([name, bytes]) => [name.toLowerCase(), bytes]))

/** `4GiB`, `512 MiB`, `1.5TiB`, `10GB`, `1048576B` as bytes; K, M, G, T alone are binary. A number needs its unit. */
export function parseBytes(text: string, what: string): number {
  const [, number = '', unit = ''] = /^\s*(-?\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*$/.exec(text) ?? []
  const perUnit = unitByName.get(unit.toLowerCase())
  if (number === '')
    throw usage(`${what}: ${shown(text)} is not a size`, 'write a number and a unit, e.g. 4GiB or 512MiB')
  if (unit === '') throw usage(`${what}: ${shown(text)} has no unit`, `did you mean ${number}GiB or ${number}MiB?`)
  if (perUnit === undefined)
    throw usage(`${what}: ${shown(text)} has an unknown unit`, 'use KiB, MiB, GiB, TiB (or KB, MB, GB, TB)')
  const bytes = Number(number) * perUnit
  if (!(bytes > 0)) throw usage(`${what}: ${shown(text)} is not above zero`, 'write a size above zero, e.g. 4GiB')
  if (!Number.isSafeInteger(Math.round(bytes)))
    throw usage(`${what}: ${shown(text)} is larger than can be counted`, 'use at most 8PiB')
  return Math.round(bytes)
}

/** A size in whole MiB. */
export function parseMiB(text: string, what: string): number {
  const mib = parseBytes(text, what) / 2 ** 20
  if (!Number.isInteger(mib))
    throw usage(`${what}: ${shown(text)} is not a whole number of MiB`, `use ${Math.max(1, Math.ceil(mib))}MiB`)
  return mib
}

export function parseCount(text: string, what: string, limits: { min?: number; max?: number } = {}): number {
  const { min = 1, max = Number.MAX_SAFE_INTEGER } = limits
  const value = /^-?\d+$/.test(text) ? Number(text) : Number.NaN
  if (Number.isSafeInteger(value) && value >= min && value <= max) return value
  const range = max === Number.MAX_SAFE_INTEGER ? `of ${min} or more` : `from ${min} to ${max}`
  throw usage(`${what}: ${shown(text)} is not a whole number ${range}`, `write e.g. ${Math.max(min, 1)}`)
}

const durationMs: Record<string, number> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 }

/** `90s`, `5m`, `1h30m`, `2d`; a bare number is seconds. Milliseconds out. */
export function parseDurationMs(text: string, what: string): number {
  if (/^\d+(\.\d+)?$/.test(text)) return Math.round(Number(text) * 1000)
  const parts = [...text.matchAll(/(\d+(?:\.\d+)?)(ms|s|m|h|d)/g)]
  if (parts.length === 0 || parts.map(([all]) => all).join('') !== text) {
    throw usage(`${what}: ${shown(text)} is not a duration`, 'write e.g. 90s, 5m or 1h30m')
  }
  return Math.round(parts.reduce((sum, [, number, unit]) => sum + Number(number) * (durationMs[unit ?? ''] ?? 0), 0))
}

/** Rounded up; whether none at all makes sense is for the action to say. */
export const parseSeconds = (text: string, what: string): number => Math.ceil(parseDurationMs(text, what) / 1000)

/** `22:30` (today, or tomorrow when past), `2026-03-01T22:30`, `+2h`: as an instant in ISO form. */
export function parseTime(text: string, what: string, now = new Date()): string {
  if (text.startsWith('+')) return new Date(now.getTime() + parseDurationMs(text.slice(1), what)).toISOString()
  const clock = /^([01]?\d|2[0-3]):([0-5]\d)$/.exec(text)
  if (clock) {
    const at = new Date(now)
    at.setHours(Number(clock[1]), Number(clock[2]), 0, 0)
    if (at <= now) at.setDate(at.getDate() + 1)
    return at.toISOString()
  }
  const at = /^\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:?\d\d)?)?$/.test(text)
    ? new Date(text.replace(' ', 'T'))
    : undefined
  if (!at || Number.isNaN(at.getTime()))
    throw usage(`${what}: ${shown(text)} is not a time`, 'write e.g. 22:30, +2h or 2026-03-01T22:30')
  return at.toISOString()
}

/** `size=10GiB,store=nfs1` as a map; a part without `=` is a flag. Unknown keys are refused by name. */
export function parsePairs(text: string, what: string, known: readonly string[]): Map<string, string> {
  const pairs = new Map<string, string>()
  for (const part of text.split(',')) {
    const at = part.indexOf('=')
    const key = (at < 0 ? part : part.slice(0, at)).trim()
    if (!known.includes(key))
      throw usage(`${what}: ${shown(part)} is not understood`, `write KEY=VALUE,… with ${known.join(', ')}`)
    if (pairs.has(key)) throw usage(`${what}: ${key} is given twice`, 'give each once')
    pairs.set(key, at < 0 ? '' : part.slice(at + 1).trim())
  }
  return pairs
}

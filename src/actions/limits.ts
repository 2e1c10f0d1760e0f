// What is limited beside claims, and how its keys are spelt. Caps are set by `limit set`; a key without one has its kind's (`starts/*`).
import type { Units } from '../queue/task.ts'

export const limit = {
  /** VMs that leave a host at one time. Default 2 a host. */
  migrationsOut: (host: string) => `migrations-out/${host}`,
  /** VMs that arrive on a host at one time. Default 2 a host. */
  migrationsIn: (host: string) => `migrations-in/${host}`,
  /** VMs that start on a host at one time. Default 8 a host. */
  starts: (host: string) => `starts/${host}`,
  /** Copies and other long work on a store at one time. Default 4 a store. */
  storage: (store: string) => `storage/${store}`
} as const

/** One unit of each; of a host that is not known yet, none. */
export const oneOf = (...keys: (string | null | undefined)[]): Units[] =>
  [...new Set(keys.filter((key): key is string => typeof key === 'string' && key !== ''))].map((key) => ({
    key,
    units: 1
  }))

const kinds: Readonly<Record<string, string>> = {
  'migrations-out': 'outgoing migrations on',
  'migrations-in': 'incoming migrations on',
  starts: 'starts on',
  storage: 'jobs on store'
}

/** `migrations-out/h1` as people say it: `outgoing migrations on h1`. */
export function limitInWords(key: string): string {
  const at = key.indexOf('/')
  const words = kinds[key.slice(0, at)]
  return words === undefined ? key : `${words} ${key.slice(at + 1)}`
}

/** Kinds of keys that something asks units of. */
export const limitKinds: readonly string[] = Object.keys(kinds)

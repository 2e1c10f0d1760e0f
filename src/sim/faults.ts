// What goes wrong on purpose: rules about calls and events of one host, by script or by a seeded chance.

import type { EventName, ProcedureName } from '../libvirt/wire.gen.ts'
import type { RefusalCode, RefusalDomain } from './refusal.ts'

export type Fault =
  /** Wait before the call is looked at. */
  | { kind: 'delay'; ms: number }
  /** Refuse without any effect. */
  | { kind: 'error'; code: RefusalCode; domain: RefusalDomain; message: string }
  /** Never answer, no effect; the connection lives. */
  | { kind: 'hang' }
  /** Cut the connection before the effect. */
  | { kind: 'drop_before' }
  /** Let the effect happen, then cut the connection instead of answering. */
  | { kind: 'drop_after' }
  /** Let the effect happen and never answer. */
  | { kind: 'lose_reply' }
  /** The copy stays half done; the connection is cut. Only for STORAGE_VOL_CREATE_XML_FROM. */
  | { kind: 'half_copy' }

export type FaultRule = {
  /** Which calls; all where not given. */
  on?: ProcedureName | readonly ProcedureName[]
  fault: Fault
  /** How many calls it hits; endless where not given. */
  times?: number
  /** How many matching calls pass first. */
  skip?: number
  /** Chance of each matching call, 0 to 1, by the seed. */
  chance?: number
  /** Only calls about this domain, pool or volume name. */
  subject?: string
}

type Entry = { rule: FaultRule; left: number; skip: number }

export class HostFaults {
  readonly #rules: Entry[] = []
  readonly #lostEvents: { name: EventName | undefined; left: number }[] = []
  #random: () => number = Math.random

  /** Makes every chance follow from `seed`. */
  seed(seed: number): void {
    this.#random = seeded(seed)
  }

  /** Adds a rule; the returned function removes it. */
  add(rule: FaultRule): () => void {
    const entry: Entry = { rule, left: rule.times ?? Infinity, skip: rule.skip ?? 0 }
    this.#rules.push(entry)
    return () => {
      const at = this.#rules.indexOf(entry)
      if (at >= 0) this.#rules.splice(at, 1)
    }
  }

  clear(): void {
    this.#rules.length = 0
    this.#lostEvents.length = 0
  }

  /** The next `times` events (of one kind, or any) reach nobody. */
  loseEvents(times: number, name?: EventName): void {
    this.#lostEvents.push({ name, left: times })
  }

  losesEvent(name: EventName): boolean {
    const rule = this.#lostEvents.find((lost) => lost.left > 0 && (lost.name ?? name) === name)
    if (!rule) return false
    rule.left--
    return true
  }

  /** The fault that hits this call, if any. */
  next(procedure: ProcedureName, subject: string | null): Fault | undefined {
    for (const entry of this.#rules) {
      const { on, chance = 1, subject: wanted } = entry.rule
      if (on !== undefined && !(typeof on === 'string' ? on === procedure : on.includes(procedure))) continue
      if (wanted !== undefined && wanted !== subject) continue
      if (entry.left <= 0 || (chance < 1 && this.#random() >= chance)) continue
      if (entry.skip > 0) {
        entry.skip--
        continue
      }
      entry.left--
      return entry.rule.fault
    }
    return undefined
  }
}

/** Numbers from 0 to 1 that follow from a seed (mulberry32). */
export function seeded(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296
  }
}

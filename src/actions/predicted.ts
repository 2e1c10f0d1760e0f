// Predicted state for whoever asks of many things at once, outside of a submission: each question is asked again until everything that
// it reads is loaded, one round of loading serving all of them.
import type { JsonObject } from '../db/json.ts'
import type { Sql } from '../db/open.ts'
import { FleetState, NotLoaded, type Overlay } from '../inventory/fleet-state.ts'
import { loadFacts } from '../inventory/load.ts'
import { openEffects } from '../queue/submit.ts'
import { standBehind } from '../queue/under-way.ts'

const maxLoadRounds = 100

export class Predicted {
  readonly base = new Map<string, JsonObject | null>()
  readonly overlays = new Map<string, Overlay[]>()
  readonly #sql: Sql
  readonly #without: number | undefined

  /** As if the open task `without` were not there, nor what stands behind it. */
  constructor(sql: Sql, without?: number) {
    this.#sql = sql
    this.#without = without
  }

  state(): FleetState {
    return new FleetState({ phase: 'queued', base: this.base, overlays: this.overlays })
  }

  async load(subjects: readonly string[]): Promise<void> {
    const missing = [...new Set(subjects)].filter((subject) => !this.base.has(subject))
    if (missing.length === 0) return
    for (const [subject, facts] of await loadFacts(this.#sql, missing)) this.base.set(subject, facts)
    const effects = await openEffects(this.#sql, missing)
    const behind =
      this.#without === undefined
        ? new Set<number>()
        : await standBehind(
            this.#sql,
            this.#without,
            effects.map(({ task }) => task)
          )
    for (const effect of effects) {
      if (effect.task === this.#without || behind.has(effect.task)) continue
      const list = this.overlays.get(effect.subject) ?? []
      this.overlays.set(effect.subject, list)
      list.push({ task: effect.task, title: effect.title, subject: effect.subject, facts: effect.facts })
    }
  }

  /**
   * Answers `ask`, which puts each of its questions through `may`: what is not loaded yet answers undefined there, and is asked for
   * again in the next round with everything else.
   */
  async ask<T>(ask: (may: <U>(question: (state: FleetState) => U) => U | undefined) => T): Promise<T> {
    for (let round = 0; round < maxLoadRounds; round++) {
      const missing = new Set<string>()
      const answer = ask((question) => {
        try {
          return question(this.state())
        } catch (error) {
          if (!(error instanceof NotLoaded)) throw error
          for (const subject of error.subjects) missing.add(subject)
          return undefined
        }
      })
      if (missing.size === 0) return answer
      await this.load([...missing])
    }
    throw new Error(`facts led to further facts ${maxLoadRounds} times`)
  }
}

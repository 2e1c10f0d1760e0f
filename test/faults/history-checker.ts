// The independent judge of a run: reads what the queue recorded (tables only) and what the simulators' journal says happened, and names
// every contradiction. It imports nothing from src, so that no mistake is shared.
import { judgeEffects, type EffectFindings } from './effects.ts'
import type { Now } from './effects-end.ts'
import type { Entry } from './effects-of.ts'
import { judgeHistory, readHistory, type HistoryFindings, type Reader } from './history.ts'

export type Findings = HistoryFindings & EffectFindings

export type Evidence = {
  /** Tasks that clients were told are stored. */
  submitted: readonly number[]
  journal: readonly Entry[]
  now: Now
}

export async function judge(db: Reader, { submitted, journal, now }: Evidence): Promise<Findings> {
  const history = await readHistory(db)
  return { ...judgeHistory(history, submitted), ...judgeEffects([...history.tasks.values()], journal, now) }
}

/** What a run without any contradiction gives. */
export const nothingFound: Findings = {
  lost: [],
  early: [],
  results: [],
  together: [],
  double: [],
  falseCompletions: [],
  disorder: [],
  twoWriters: [],
  overCommitted: []
}

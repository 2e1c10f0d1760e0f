// No test of the engine may end with two guests that wrote to one disk, whatever it is about.
import type { SimFleet } from '../../src/sim/fleet.ts'

/** @throws naming the guests, by the simulated hosts' own detector */
export function refuseTwoWriters({ journal }: SimFleet): void {
  if (journal.twoWriters === 0) return
  const entries = journal.entries().filter(({ twoWriters }) => twoWriters)
  throw new Error(`two guests wrote to one disk: ${JSON.stringify(entries)}`)
}

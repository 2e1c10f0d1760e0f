// Wakes what was parked in vain: what it waits for came about between its look and its parking, when there was nobody to wake yet.
import type { Database } from '../db/open.ts'
import { loadFacts } from '../inventory/load.ts'
import { resource } from '../model/resource.ts'
import { unpark, type End } from '../queue/dispatch.ts'
import { anyRoom } from './choose-host.ts'

export type ParkingParts = {
  database: Database
  isHostUp(host: string): boolean
  /** Whether room became free anywhere since then, by performance.now(). Left out: nobody knows, and a timer wakes it. */
  isRoomFreedSince?(atMs: number): boolean
}

/** Called once the parking is recorded. Returns how many it woke. */
export async function wakeParkedInVain(
  parts: ParkingParts,
  ends: readonly End[],
  begunAt: (end: End) => number
): Promise<number> {
  const keys = new Set<string>()
  for (const end of ends) {
    if (end.outcome !== 'park' || keys.has(end.key)) continue
    if (await isThere(parts, end.key, begunAt(end))) keys.add(end.key)
  }
  let woken = 0
  for (const key of keys) woken += await unpark(parts.database, key)
  return woken
}

async function isThere(parts: ParkingParts, key: string, begunAt: number): Promise<boolean> {
  const [kind, host = ''] = key.split('/')
  if (kind === 'host') return parts.isHostUp(host) || (await isConfirmedOff(parts.database, host))
  if (kind === 'host-gate') return isOpen(parts.database, host)
  if (kind === 'room' || kind === 'store-room' || key === anyRoom) return parts.isRoomFreedSince?.(begunAt) ?? false
  return false
}

/** Nothing will be heard of it: the task says what that means. */
async function isConfirmedOff(database: Database, host: string): Promise<boolean> {
  const facts = await loadFacts(database, [resource.host(host)])
  return (facts.get(resource.host(host))?.['confirmedOff'] ?? null) !== null
}

/** A host that is gone keeps nobody waiting: the task says what is wrong. */
async function isOpen(database: Database, host: string): Promise<boolean> {
  const facts = await loadFacts(database, [resource.host(host)])
  return facts.get(resource.host(host))?.['cordoned'] !== true
}

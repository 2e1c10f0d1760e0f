// Room in stores for the volumes that a task makes: promised in the transaction that binds it, stores before hosts, so that what starts
// fits and what does not fit waits, and says who has what.
import type { JsonObject } from '../db/json.ts'
import type { Tx } from '../db/open.ts'
import type { FleetState } from '../inventory/fleet-state.ts'
import { giveBackStores, reserveInStores, storeFigures, storeText, type StoreRoom } from '../inventory/store-room.ts'
import type { VolumeNeed } from '../inventory/store-room.ts'
import type { Choice, Place } from './choose-host.ts'

/** What is parked for room in this store. */
export const storeRoomKey = (store: string): string => `store-room/${store}`

type Parts = {
  task: number
  /** Where an earlier attempt was bound. */
  before: Place
  makes: (state: FleetState) => VolumeNeed[]
  ask: <T>(question: (state: FleetState) => T, place: Place) => Promise<T>
  choose: () => Promise<Choice>
}

/** As `choose`, with room for the volumes; nothing is promised when either is lacking. */
export async function withStoreRoom(tx: Tx, { task, before, makes, ask, choose }: Parts): Promise<Choice> {
  const volumes = await ask(makes, before)
  const rooms = await reserve(tx, task, volumes)
  const full = lacking(rooms)
  if (full) return full
  const choice = await choose()
  if (choice.outcome === 'no_room') {
    await giveBackStores(tx, task)
    return { ...choice, about: withStores(choice.about, rooms) }
  }
  // Which store it is may follow from the host: whoever takes the two the other way round meanwhile is tried anew.
  const more = choice.place.target === before.target ? volumes : await ask(makes, choice.place)
  if (volumes.length > 0 || more.length === 0) return { ...choice, bound: withStores(choice.bound, rooms) }
  const late = await reserve(tx, task, more)
  return lacking(late) ?? { ...choice, bound: withStores(choice.bound, late) }
}

const reserve = (tx: Tx, task: number, volumes: readonly VolumeNeed[]): Promise<StoreRoom[]> =>
  volumes.length === 0 ? Promise.resolve([]) : reserveInStores(tx, task, volumes)

function lacking(rooms: readonly StoreRoom[]): Extract<Choice, { outcome: 'no_room' }> | undefined {
  const full = rooms.filter(({ fits }) => !fits)
  if (!full[0]) return undefined
  return {
    outcome: 'no_room',
    reason: full.map(storeText).join('; '),
    key: storeRoomKey(full[0].store),
    about: withStores(null, rooms) ?? {}
  }
}

/** What the stores had stays with the task, beside the hosts that were considered. */
function withStores<B extends JsonObject | null>(bound: B, rooms: readonly StoreRoom[]): B | JsonObject {
  if (rooms.length === 0) return bound
  const considered = (bound?.['considered'] ?? {}) as JsonObject
  return { ...bound, considered: { ...considered, stores: rooms.map(storeFigures) } }
}

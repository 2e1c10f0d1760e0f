// Promises room in stores, as memory of hosts is promised: in the transaction that binds a task, so that no two tasks are given the
// same bytes. What of a volume's size counts is the store's setting; who waits for room is not known here.
import type { JsonObject } from '../db/json.ts'
import type { Sql, Tx } from '../db/open.ts'
import { memoryText } from '../model/memory-text.ts'
import { quote } from '../model/name.ts'

/** A volume that a task is about to make, or to make as large as this: in a store, or where a host's pool has that path. */
export type VolumeNeed = { format: string; capacityBytes: number } & (
  | { store: string; volume: string }
  | { host: string; path: string }
)

export type StoreRoom = {
  store: string
  fits: boolean
  /** What counts of the new volumes, of which none is made yet. */
  needBytes: number
  /** Null while no pool on the store has told a size: then it fits. */
  capacityBytes: number | null
  freeBytes: number | null
  /** What the store's volumes may still grow by. */
  growingBytes: number | null
  reservedBytes: number | null
  reservedBy: number[] | null
}

/** All of them, or none when one store lacks room. Locks the stores' rows, in order of name, until the transaction ends. */
export async function reserveInStores(tx: Tx, task: number, volumes: readonly VolumeNeed[]): Promise<StoreRoom[]> {
  const placed = await Promise.all(volumes.map(async (volume) => ('path' in volume ? byPath(tx, volume) : volume)))
  return tx.query<StoreRoom>(
    `select store, fits, need_bytes as "needBytes", capacity_bytes as "capacityBytes", free_bytes as "freeBytes",
       growing_bytes as "growingBytes", reserved_bytes as "reservedBytes", reserved_by as "reservedBy"
     from inventory.reserve_in_stores($1, $2::jsonb)`,
    [task, JSON.stringify(placed.filter((volume) => volume !== undefined))]
  )
}

/** A path in no known pool is in no store that could be full. */
async function byPath(sql: Sql, { host, path, ...size }: Extract<VolumeNeed, { path: string }>) {
  const at = path.lastIndexOf('/')
  const [pool] = await sql.query<{ store: string }>(
    'select store from inventory.pool where host = $1 and target = $2 and active order by name limit 1',
    [host, path.slice(0, at)]
  )
  return pool && { store: pool.store, volume: path.slice(at + 1), ...size }
}

/** What was promised to a task that does not start. */
export async function giveBackStores(sql: Sql, task: number): Promise<void> {
  await sql.query('delete from inventory.store_reservation where task = $1', [task])
}

const mebibyte = 1024 * 1024
const size = (bytes: number | null): string => memoryText(Math.max(0, Math.floor((bytes ?? 0) / mebibyte)))

/** `store nfs1: 40 GiB free, 30 GiB reserved by tasks 41, 44, 20 GiB needed`. */
export function storeText(room: StoreRoom): string {
  const growing = room.growingBytes ? `, ${size(room.growingBytes)} kept for volumes that grow` : ''
  const by = room.reservedBy ?? []
  const named = `task${by.length === 1 ? '' : 's'} ${by.slice(0, 10).join(', ')}${by.length > 10 ? ` and ${by.length - 10} more` : ''}`
  const reserved = room.reservedBytes ? `, ${size(room.reservedBytes)} reserved by ${named}` : ''
  const free = room.freeBytes === null ? 'its size is not known yet' : `${size(room.freeBytes)} free`
  return `store ${quote(room.store)}: ${free}${growing}${reserved}, ${size(room.needBytes)} needed`
}

export const storeFigures = (room: StoreRoom): JsonObject => ({
  store: room.store,
  needBytes: room.needBytes,
  freeBytes: room.freeBytes,
  growingBytes: room.growingBytes,
  reservedBytes: room.reservedBytes,
  reservedBy: room.reservedBy ?? [],
  why: room.fits ? 'it fits' : storeText(room)
})

/** How much of volumes' sizes counts; what is left out stays. Answers what it was, null without such a store. */
export async function setCounted(
  sql: Sql,
  store: string,
  percents: { thinPercent?: number; rawPercent?: number }
): Promise<{ thinPercent: number; rawPercent: number } | null> {
  const [before] = await sql.query<{ thinPercent: number; rawPercent: number }>(
    `update inventory.store s
     set thin_percent = coalesce($2, s.thin_percent), raw_percent = coalesce($3, s.raw_percent)
     from (select name, thin_percent, raw_percent from inventory.store where name = $1 for no key update) b
     where s.name = b.name
     returning b.thin_percent as "thinPercent", b.raw_percent as "rawPercent"`,
    [store, percents.thinPercent ?? null, percents.rawPercent ?? null]
  )
  return before ?? null
}

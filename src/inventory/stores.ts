// Which store a pool is a handle on: bytes are somewhere once, however many hosts can reach them.
import type { Sql, Tx } from '../db/open.ts'
import { quote } from '../model/name.ts'
import type { ObservedPool } from '../model/storage.ts'
import { InventoryError } from './error.ts'

/**
 * The store of a pool, made if there is none: what it was declared part of; else the one with the same remote source; else one
 * that is local to its host, `HOST/POOL`.
 */
export async function storeOf(sql: Sql, host: string, pool: ObservedPool): Promise<string> {
  // Locked first, in a statement of its own: a declaration that commits just now would else be overwritten by what was read before.
  await sql.query(`select from inventory.pool where host = $1 and name = $2 for no key update`, [host, pool.name])
  const [known] = await sql.query<{ store: string }>(
    `select p.store from inventory.pool p join inventory.store s on s.name = p.store
     where p.host = $1 and p.name = $2 and (s.declared or s.source is not distinct from $3)
     for key share of s`,
    [host, pool.name, pool.source]
  )
  if (known) return known.store
  if (pool.source === null) return makeStore(sql, `${host}/${pool.name}`, pool, false)
  const [same] = await sql.query<{ name: string }>(`select name from inventory.store where source = $1 for key share`, [
    pool.source
  ])
  if (same) return same.name
  // The first pool on a remote source names it; a name that another store has is qualified by the host.
  const [taken] = await sql.query(`select from inventory.store where name = $1`, [pool.name])
  return makeStore(sql, taken ? `${host}/${pool.name}` : pool.name, pool, true)
}

async function makeStore(sql: Sql, name: string, pool: ObservedPool, shared: boolean): Promise<string> {
  const [made] = await sql.query<{ name: string }>(
    `insert into inventory.store as s (name, shared, type, source) values ($1, $2, $3, $4)
     on conflict do nothing
     returning name`,
    [name, shared, pool.type, pool.source]
  )
  if (made) return made.name
  // Another host's sight has just made it, under this name or another.
  const [theirs] = await sql.query<{ name: string }>(
    `select name from inventory.store where source = $2 or name = $1 order by (source = $2) desc nulls last limit 1`,
    [name, pool.source]
  )
  if (!theirs) throw new InventoryError('store_conflict', `the store ${quote(name)} appeared and vanished; look again`)
  return theirs.name
}

/**
 * Declares that pools of several hosts are one store. That it is true must be proven before: by a marker made through one and
 * found through the other.
 * @throws InventoryError `unknown_pool`; `store_conflict` when a pool is already part of another shared store, or the name is that
 * of a local store
 */
export async function shareStore(
  tx: Tx,
  store: string,
  pools: readonly { host: string; pool: string }[]
): Promise<void> {
  const found = await tx.query<{ host: string; name: string; type: string; store: string; shared: boolean }>(
    `select p.host, p.name, p.type, p.store, s.shared
     from inventory.pool p
     join inventory.store s on s.name = p.store
     join unnest($1::text[], $2::text[]) asked (host, pool) on asked.host = p.host and asked.pool = p.name
     order by p.host, p.name
     for no key update of p, s`,
    [pools.map((pool) => pool.host), pools.map((pool) => pool.pool)]
  )
  for (const { host, pool } of pools) {
    if (!found.some((row) => row.host === host && row.name === pool))
      throw new InventoryError('unknown_pool', `${host} has no pool ${quote(pool)}`)
  }
  const other = found.find((row) => row.shared && row.store !== store)
  if (other) {
    throw new InventoryError(
      'store_conflict',
      `pool ${quote(other.name)} of ${other.host} is part of the shared store ${quote(other.store)} already`
    )
  }
  const [made] = await tx.query<{ name: string }>(
    `insert into inventory.store as s (name, shared, type, declared) values ($1, true, $2, true)
     on conflict (name) do update set declared = true where s.shared
     returning name`,
    [store, found[0]?.type ?? 'dir']
  )
  if (!made) throw new InventoryError('store_conflict', `${quote(store)} is the name of a local store`)
  await tx.query(
    `update inventory.pool p set store = $1
     from unnest($2::text[], $3::text[]) asked (host, pool) where asked.host = p.host and asked.pool = p.name`,
    [store, pools.map((pool) => pool.host), pools.map((pool) => pool.pool)]
  )
  await dropEmptyStores(tx)
}

/** A store that nobody declared is only as real as the pools on it. One that a pool is just being put on is left alone. */
export async function dropEmptyStores(tx: Sql): Promise<void> {
  await tx.query(
    `delete from inventory.store where name in (
       select s.name from inventory.store s
       where not s.declared and not exists (select from inventory.pool p where p.store = s.name)
       for update skip locked
     )`
  )
}

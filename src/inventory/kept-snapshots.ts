// A VM's snapshots while no host knows of them: a migration takes them off the source, and tells them to the target. They are
// written down before the first is taken off, so that whatever dies in between loses none of them.
import type { Sql } from '../db/open.ts'
import { seal, unseal } from './definitions.ts'

/** As a host dumped it, with the definition's secrets; `DumpedSnapshot` of src/host has this shape. */
export type KeptSnapshot = { name: string; xml: string; current: boolean }

/** Of those that are kept already, the new ones replace their namesakes. */
export async function keepSnapshots(
  sql: Sql,
  key: Buffer,
  kept: { uuid: string; host: string; snapshots: readonly KeptSnapshot[] }
): Promise<void> {
  if (kept.snapshots.length === 0) return
  await sql.query(
    `insert into inventory.kept_snapshot as k (vm, name, host, is_current, sealed)
     select $1, s.name, $2, s.is_current, s.sealed
     from unnest($3::text[], $4::boolean[], $5::bytea[]) s (name, is_current, sealed)
     on conflict (vm, name) do update set
       host = excluded.host, is_current = excluded.is_current, sealed = excluded.sealed, kept_at = clock_timestamp()`,
    [
      kept.uuid,
      kept.host,
      kept.snapshots.map(({ name }) => name),
      kept.snapshots.map(({ current }) => current),
      kept.snapshots.map(({ xml }) => seal(key, kept.uuid, xml))
    ]
  )
}

/** @throws InventoryError `sealed` when this key does not open them */
export async function readKeptSnapshots(sql: Sql, key: Buffer, uuid: string): Promise<KeptSnapshot[]> {
  const rows = await sql.query<{ name: string; current: boolean; sealed: Buffer }>(
    `select name, is_current as current, sealed from inventory.kept_snapshot where vm = $1 order by kept_at, name`,
    [uuid]
  )
  return rows.map(({ name, current, sealed }) => ({ name, current, xml: unseal(key, uuid, sealed) }))
}

/** A host has them again. */
export async function dropKeptSnapshots(sql: Sql, uuid: string): Promise<void> {
  await sql.query(`delete from inventory.kept_snapshot where vm = $1`, [uuid])
}

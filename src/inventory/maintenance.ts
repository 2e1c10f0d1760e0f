// A host's maintenance as rows: that it was cleared of everything active, and that an operator said that it is off.
import type { Sql, Tx } from '../db/open.ts'
import { InventoryError } from './error.ts'
import { ROOM_CHANNEL } from './place.ts'

/**
 * Begins the maintenance of a cordoned host if nothing is active there and nothing may be arriving; else ends it. To be called after
 * the host was listed.
 */
export async function beginMaintenance(sql: Sql, host: string): Promise<{ active: number; arriving: number }> {
  const [row] = await sql.query<{ active: number; arriving: number }>(
    `select active, arriving from inventory.begin_maintenance($1)`,
    [host]
  )
  if (!row) throw new InventoryError('unknown_host', `there is no host ${host}`)
  return row
}

/**
 * An operator's statement that a silent host is off: its guests count as off, and it is cordoned. False when the host answers, or
 * there is none.
 */
export async function confirmOff(sql: Sql, host: string, statement: { reason: string; by: string }): Promise<boolean> {
  const [row] = await sql.query<{ said: boolean }>(
    `select said, case when said then pg_notify('${ROOM_CHANNEL}', $1) end
     from inventory.confirm_off($1, $2, $3) as said`,
    [host, statement.reason, statement.by]
  )
  return row?.said ?? false
}

/** Said to be off, and not heard of since. */
export async function isConfirmedOff(sql: Sql, host: string): Promise<boolean> {
  const rows = await sql.query(
    `select from inventory.host where name = $1 and off_at is not null and off_ended_at is null`,
    [host]
  )
  return rows.length > 0
}

/** The VM lives elsewhere now: the definition that a host which is confirmed off still has counts no more. False elsewhere. */
export async function leaveBehind(tx: Tx, vm: string, host: string): Promise<boolean> {
  const [row] = await tx.query<{ left: boolean }>(`select inventory.leave_behind($1, $2) as left`, [vm, host])
  return row?.left ?? false
}

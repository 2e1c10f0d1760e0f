// Where a VM may be: every host on which it was seen or to which an attempt was bound.
import type { Sql } from '../db/open.ts'
import { DatabaseError } from '../db/error.ts'
import { quote } from '../model/name.ts'
import { InventoryError } from './error.ts'

export type Presence = 'active' | 'defined' | 'absent' | 'unknown'

/** By host's name. As last seen: a host that is down may say otherwise when it is back. */
export async function whereabouts(sql: Sql, uuid: string): Promise<{ host: string; state: Presence }[]> {
  return sql.query(`select host, state from inventory.whereabouts where vm = $1 order by host`, [uuid])
}

/**
 * Notes, before acting, that an attempt may bring the VM to this host: unknown until it is looked at there. A host where it is
 * known to be present stays so.
 * @throws InventoryError `unknown_host`
 */
export async function bindWhereabouts(sql: Sql, uuid: string, host: string): Promise<void> {
  try {
    // With a number of its own: a look that began before cannot say that nothing came of the attempt.
    await sql.query(
      `insert into inventory.whereabouts as w (vm, host, state, since, observed_at, generation)
       values ($1, $2, 'unknown', clock_timestamp(), clock_timestamp(), nextval('inventory.sighting'))
       on conflict (vm, host) do update set
         state = excluded.state, since = excluded.since, generation = excluded.generation
       where w.state = 'absent'`,
      [uuid, host]
    )
  } catch (error) {
    if (!(error instanceof DatabaseError) || error.constraint !== 'whereabouts_host_fkey') throw error
    throw new InventoryError('unknown_host', `there is no host ${quote(host)}`, { cause: error })
  }
}

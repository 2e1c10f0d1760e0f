// Where a VM may be: every host on which it was seen or to which an attempt was bound.
import type { Sql } from '../db/open.ts'
import { DatabaseError } from '../db/error.ts'
import { quote } from '../model/name.ts'
import { InventoryError } from './error.ts'

export type Presence = 'active' | 'defined' | 'absent' | 'unknown'

export type Whereabouts = { host: string; state: Presence }[]

/** Of each VM, in their order, by host's name. As last seen: a host that is down may say otherwise when it is back. */
export async function allWhereabouts(sql: Sql, uuids: readonly string[]): Promise<Whereabouts[]> {
  const rows = await sql.query<{ vm: string; host: string; state: Presence }>(
    `select vm, host, state from inventory.whereabouts where vm = any ($1::uuid[]) order by host`,
    [uuids]
  )
  const byVm = new Map<string, Whereabouts>(uuids.map((uuid) => [uuid, []]))
  for (const { vm, host, state } of rows) byVm.get(vm)?.push({ host, state })
  return uuids.map((uuid) => byVm.get(uuid) ?? [])
}

/**
 * Notes, before acting, that attempts may bring VMs to these hosts: unknown until they are looked at there. A host where a VM is
 * known to be present stays so.
 * @throws InventoryError `unknown_host`: then nothing is noted
 */
export async function bindAllWhereabouts(sql: Sql, places: readonly { uuid: string; host: string }[]): Promise<void> {
  try {
    // With a number of its own: a look that began before cannot say that nothing came of the attempt.
    await sql.query(
      `insert into inventory.whereabouts as w (vm, host, state, since, observed_at, generation)
       select p.vm, p.host, 'unknown', clock_timestamp(), clock_timestamp(), nextval('inventory.sighting')
       from (select distinct * from unnest($1::uuid[], $2::text[]) as p (vm, host) order by 1, 2) p
       -- Where it is known to be there is nothing to write.
       where not exists (
         select from inventory.whereabouts k where k.vm = p.vm and k.host = p.host and k.state <> 'absent')
       on conflict (vm, host) do update set
         state = excluded.state, since = excluded.since, generation = excluded.generation
       where w.state = 'absent'`,
      [places.map(({ uuid }) => uuid), places.map(({ host }) => host)]
    )
  } catch (error) {
    if (!(error instanceof DatabaseError) || error.constraint !== 'whereabouts_host_fkey') throw error
    const hosts = [...new Set(places.map(({ host }) => quote(host)))].join(', ')
    throw new InventoryError('unknown_host', `there is no host ${hosts}`, { cause: error })
  }
}

// Which hosts there are. A host is the UUID of its machine; the name is a label.
import type { Sql, Tx } from '../db/open.ts'
import { nameProblem, quote } from '../model/name.ts'
import type { HostAddress } from '../model/host.ts'
import { DatabaseError } from '../db/error.ts'
import { InventoryError } from './error.ts'
import { ROOM_CHANNEL } from './place.ts'
import { dropEmptyStores } from './stores.ts'

/** Notified on this channel when a host is added, removed or gets another address. */
export const HOSTS_CHANNEL = 'inventory_hosts'

export type NewHost = HostAddress & { name: string; uuid: string; by: string }
export type KnownHost = HostAddress & { name: string; uuid: string }

/**
 * Adds a host, or changes the addresses of the one that has this name and UUID.
 * @throws InventoryError `duplicate_host` when the name or the machine is known already, naming the other; `bad_input`
 */
export async function addHost(sql: Sql, host: NewHost): Promise<void> {
  const problem = nameProblem('host', host.name)
  if (problem) throw new InventoryError('bad_input', problem)
  try {
    const rows = await sql.query(
      `with added as (
         insert into inventory.host as h (name, uuid, control_uri, peer_uri, migration_uri, added_by)
         values ($1, $2, $3, $4, $5, $6)
         on conflict (name) do update set
           control_uri = excluded.control_uri, peer_uri = excluded.peer_uri, migration_uri = excluded.migration_uri
         where h.uuid = excluded.uuid
         returning h.name
       )
       select pg_notify('${HOSTS_CHANNEL}', name) from added`,
      [host.name, host.uuid, host.controlUri, host.peerUri, host.migrationUri, host.by]
    )
    if (rows.length > 0) return
  } catch (error) {
    if (!(error instanceof DatabaseError) || error.constraint !== 'host_uuid_key') throw error
    throw new InventoryError(
      'duplicate_host',
      `the machine ${host.uuid} at ${quote(host.controlUri)} is in the inventory already, under another name: two hosts with ` +
        `one UUID are one machine, or a copy whose UUID must be changed (host_uuid in libvirtd.conf)`,
      { cause: error }
    )
  }
  throw new InventoryError('duplicate_host', `the name ${host.name} is that of another machine`)
}

/** The host that has this machine's UUID. */
export async function hostOfMachine(sql: Sql, uuid: string): Promise<KnownHost | undefined> {
  const [row] = await sql.query<KnownHost>(`${KNOWN} where uuid = $1`, [uuid])
  return row
}

const KNOWN = `select name, uuid, control_uri as "controlUri", peer_uri as "peerUri", migration_uri as "migrationUri"
  from inventory.host`

/** All hosts with their addresses, by name. */
export async function knownHosts(sql: Sql): Promise<KnownHost[]> {
  return sql.query<KnownHost>(`${KNOWN} order by name`)
}

/** Forgets a host and what was observed only there. VMs that live elsewhere stay. Does nothing where it is unknown. */
export async function forgetHost(tx: Tx, host: string): Promise<void> {
  const rows = await tx.query<{ vms: string[] }>(
    `select coalesce(array_agg(w.vm::text order by w.vm), '{}') as vms
     from inventory.whereabouts w where w.host = $1`,
    [host]
  )
  const vms = rows[0]?.vms ?? []
  await tx.query(`select from inventory.vm where uuid = any ($1::uuid[]) order by uuid for no key update`, [vms])
  await tx.query(`delete from inventory.host where name = $1`, [host])
  await tx.query(
    `delete from inventory.vm v
     where v.uuid = any ($1::uuid[]) and not exists (select from inventory.whereabouts w where w.vm = v.uuid)`,
    [vms]
  )
  await tx.query(`select inventory.settle_vms($1::uuid[])`, [vms])
  await dropEmptyStores(tx)
  await tx.query(`select pg_notify('${HOSTS_CHANNEL}', $1)`, [host])
}

/**
 * Names of the VMs for which forgetting the host could end in two copies, since nobody would look there any more: those that are
 * active there and, of a host that neither answers nor was confirmed to be off, all that were not seen to be absent.
 */
export async function mayRunOn(tx: Tx, host: string): Promise<string[]> {
  const rows = await tx.query<{ name: string }>(
    `select coalesce(v.name, w.vm::text) as name
     from inventory.host h
     join inventory.whereabouts w on w.host = h.name
     left join inventory.vm v on v.uuid = w.vm
     where h.name = $1 and case
       when h.connection = 'up' then w.state = 'active'
       when h.off_at is not null and h.off_ended_at is null then false
       else w.state <> 'absent'
     end
     order by name`,
    [host]
  )
  return rows.map(({ name }) => name)
}

/** A cordoned host gets no new work. Null lifts it. @throws InventoryError `unknown_host` */
export async function setCordon(sql: Sql, host: string, cordon: { reason: string; by: string } | null): Promise<void> {
  const rows = await sql.query(
    `update inventory.host set
       cordon_reason = $2, cordoned_by = $3,
       cordoned_at = case when $2::text is null then null else coalesce(cordoned_at, clock_timestamp()) end,
       -- Neither maintenance nor what was said of it outlives the cordon.
       maintenance_since = case when $2::text is not null then maintenance_since end,
       off_reason = case when $2::text is not null then off_reason end,
       off_by = case when $2::text is not null then off_by end,
       off_at = case when $2::text is not null then off_at end,
       off_ended_at = case when $2::text is not null then off_ended_at end
     where name = $1
     returning case when $2::text is null then pg_notify('${ROOM_CHANNEL}', name) end`,
    [host, cordon?.reason ?? null, cordon?.by ?? null]
  )
  if (rows.length === 0) throw new InventoryError('unknown_host', `there is no host ${quote(host)}`)
}

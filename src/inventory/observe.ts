// Records what hosts said. A sight is begun before the host is asked; of two sights of one thing the one begun later wins, so a
// late answer never overwrites a newer one. Nothing here decides anything: it writes down.
import { DatabaseError } from '../db/error.ts'
import type { Sql, Tx } from '../db/open.ts'
import type { HostIdentity } from '../model/host.ts'
import type { ObservedNetwork, ObservedPool } from '../model/storage.ts'
import type { ObservedVm } from '../model/vm.ts'
import { InventoryError } from './error.ts'
import { ROOM_CHANNEL } from './place.ts'
import { dropEmptyStores, storeOf } from './stores.ts'

/** Orders sights: `generation` is drawn before the host is asked, `at` is the database's clock then. */
export type Sight = { generation: number; at: Date }

/** What a sight changed in what was held true of a VM. */
export type VmChange = {
  vm: string
  name: string
  was: { state: string; power: string | null }
  now: { state: string; power: string | null }
}

/** What one host lists; `HostListing` of src/host has this shape. */
export type Listing = {
  vms: readonly ObservedVm[]
  pools: readonly ObservedPool[]
  networks: readonly ObservedNetwork[]
}

/** To be called before the host is asked. */
export async function beginSight(sql: Sql): Promise<Sight> {
  const [row] = await sql.query<Sight>(`select nextval('inventory.sighting') as generation, clock_timestamp() as at`)
  if (!row) throw new InventoryError('bad_input', 'the database drew no number')
  return row
}

/** Of several things at once, each with a number of its own: of two looks at one thing one is later. */
export async function beginSights(sql: Sql, count: number): Promise<Sight[]> {
  return sql.query<Sight>(
    `select nextval('inventory.sighting') as generation, clock_timestamp() as at from generate_series(1, $1::integer)`,
    [count]
  )
}

/** Everything that a host has. What is not in it becomes absent there. Returns what differs from what was held true. */
export async function recordListing(tx: Tx, sight: Sight, host: string, listing: Listing): Promise<VmChange[]> {
  await lockHost(tx, host)
  const rows = await tx.query<ChangeRow>(`select * from inventory.record_vms($1, $2, $3, $4)`, [
    host,
    sight.generation,
    sight.at,
    JSON.stringify(listing.vms)
  ])
  const pools = listing.pools.map((pool) => pool.name)
  await tx.query(`delete from inventory.pool where host = $1 and generation < $2 and not (name = any ($3::text[]))`, [
    host,
    sight.generation,
    pools
  ])
  for (const pool of listing.pools) await writePool(tx, sight, host, pool)
  await dropEmptyStores(tx)
  await writeNetworks(tx, sight, host, listing.networks)
  await tx.query(`update inventory.host set listed_at = $2 where name = $1`, [host, sight.at])
  return rows.map(toChange)
}

type ChangeRow = {
  host: string
  vm: string
  name: string
  was_state: string
  was_power: string | null
  now_state: string
  now_power: string | null
}

const toChange = (row: ChangeRow): VmChange => ({
  vm: row.vm,
  name: row.name,
  was: { state: row.was_state, power: row.was_power },
  now: { state: row.now_state, power: row.now_power }
})

/** One look-up; `seen` left out: the host says that it has no such VM. */
export type SightOfVm = Sight & { host: string; vm: string; seen: ObservedVm | undefined }

/**
 * Look-ups on any number of hosts, in one statement. Returns what differs from what was held true.
 * @throws InventoryError `unknown_host`: then none is recorded
 */
export async function recordSights(sql: Sql, sights: readonly SightOfVm[]): Promise<VmChange[]> {
  try {
    const rows = await sql.query<ChangeRow>(`select * from inventory.record_sights($1)`, [JSON.stringify(sights)])
    return rows.map(toChange)
  } catch (error) {
    if (!(error instanceof DatabaseError) || error.constraint !== 'whereabouts_host_fkey') throw error
    const hosts = [...new Set(sights.map(({ host }) => host))].join(', ')
    throw new InventoryError('unknown_host', `there is no host ${hosts}`, { cause: error })
  }
}

/** One look-up of a pool with its volumes; undefined = the host says that it has no such pool. */
export async function recordPool(
  tx: Tx,
  sight: Sight,
  host: string,
  name: string,
  pool: ObservedPool | undefined
): Promise<void> {
  await lockHost(tx, host)
  if (pool) {
    await writePool(tx, sight, host, pool)
    // What waits for a store on some host may find it now.
    if (pool.active) await tx.query(`select pg_notify('${ROOM_CHANNEL}', $1)`, [host])
    return
  }
  await tx.query(`delete from inventory.pool where host = $1 and name = $2 and generation < $3`, [
    host,
    name,
    sight.generation
  ])
  await dropEmptyStores(tx)
}

// Two sights of one host's pools would otherwise each delete what the other has just written.
async function lockHost(tx: Tx, host: string): Promise<void> {
  const rows = await tx.query(`select from inventory.host where name = $1 for no key update`, [host])
  if (rows.length === 0) throw new InventoryError('unknown_host', `there is no host ${host}`)
}

async function writePool(tx: Tx, sight: Sight, host: string, pool: ObservedPool): Promise<void> {
  const store = await storeOf(tx, host, pool)
  const written = await tx.query(
    `insert into inventory.pool as p
       (host, name, uuid, type, store, target, source, active, persistent, autostart,
        capacity_bytes, allocation_bytes, available_bytes, observed_at, generation)
     values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)
     on conflict (host, name) do update set
       uuid = excluded.uuid, type = excluded.type, store = excluded.store, target = excluded.target,
       source = excluded.source, active = excluded.active, persistent = excluded.persistent,
       autostart = excluded.autostart, capacity_bytes = excluded.capacity_bytes,
       allocation_bytes = excluded.allocation_bytes, available_bytes = excluded.available_bytes,
       observed_at = excluded.observed_at, generation = excluded.generation
     where p.generation < excluded.generation
     returning 1`,
    [
      host,
      pool.name,
      pool.uuid,
      pool.type,
      store,
      pool.target,
      pool.source,
      pool.active,
      pool.persistent,
      pool.autostart,
      pool.capacityBytes,
      pool.allocationBytes,
      pool.availableBytes,
      sight.at,
      sight.generation
    ]
  )
  // An inactive pool lists nothing; what it had is still there, unseen.
  if (written.length > 0 && pool.active) await writeVolumes(tx, sight, host, pool)
}

async function writeVolumes(tx: Tx, sight: Sight, host: string, pool: ObservedPool): Promise<void> {
  await tx.query(
    `with listed as (
       select * from jsonb_to_recordset($3) as v (
         name text, path text, format text, "capacityBytes" bigint, "allocationBytes" bigint, backing text
       )
     ), gone as (
       delete from inventory.volume v
       where v.host = $1 and v.pool = $2 and v.generation < $5
         and not exists (select from listed l where l.name = v.name)
     )
     insert into inventory.volume as v
       (host, pool, name, path, format, capacity_bytes, allocation_bytes, backing, observed_at, generation)
     select $1, $2, l.name, l.path, l.format, l."capacityBytes", l."allocationBytes", l.backing, $4, $5
     from listed l
     on conflict (host, pool, name) do update set
       path = excluded.path, format = excluded.format, capacity_bytes = excluded.capacity_bytes,
       allocation_bytes = excluded.allocation_bytes, backing = excluded.backing,
       observed_at = excluded.observed_at, generation = excluded.generation
     where v.generation < excluded.generation`,
    [host, pool.name, JSON.stringify(pool.volumes), sight.at, sight.generation]
  )
}

async function writeNetworks(tx: Tx, sight: Sight, host: string, networks: readonly ObservedNetwork[]): Promise<void> {
  await tx.query(
    `with listed as (
       select * from jsonb_to_recordset($2) as n (
         name text, uuid uuid, active boolean, persistent boolean, autostart boolean, bridge text
       )
     ), gone as (
       delete from inventory.network n
       where n.host = $1 and n.generation < $4 and not exists (select from listed l where l.name = n.name)
     )
     insert into inventory.network as n
       (host, name, uuid, active, persistent, autostart, bridge, observed_at, generation)
     select $1, l.name, l.uuid, l.active, l.persistent, l.autostart, l.bridge, $3, $4 from listed l
     on conflict (host, name) do update set
       uuid = excluded.uuid, active = excluded.active, persistent = excluded.persistent,
       autostart = excluded.autostart, bridge = excluded.bridge, observed_at = excluded.observed_at,
       generation = excluded.generation
     where n.generation < excluded.generation`,
    [host, JSON.stringify(networks), sight.at, sight.generation]
  )
}

/**
 * What a host says of itself. A host that answers another UUID than the one that was added changes nothing.
 * @throws InventoryError `unknown_host` when there is no host of that name and UUID
 */
export async function recordHost(sql: Sql, sight: Sight, host: string, identity: HostIdentity): Promise<void> {
  const rows = await sql.query(
    `update inventory.host set
       hostname = $3, libvirt_version = $4, hypervisor_version = $5, arch = $6, cpus = $7, memory_mib = $8,
       boot_time = to_timestamp($9::double precision), domain_type = $10, emulator = $11, machine = $12,
       observed_at = greatest(observed_at, $13), generation = greatest(generation, $14)
     where name = $1 and uuid = $2
     returning 1`,
    [
      host,
      identity.uuid,
      identity.hostname,
      identity.libvirtVersion,
      identity.hypervisorVersion,
      identity.arch,
      identity.cpus,
      identity.memoryMiB,
      identity.bootTime,
      identity.domainType,
      identity.emulator,
      identity.machine,
      sight.at,
      sight.generation
    ]
  )
  if (rows.length === 0) throw new InventoryError('unknown_host', `there is no host ${host} with UUID ${identity.uuid}`)
}

/** Forgets VMs that have been gone from everywhere for this long, and where they were. Returns how many. */
export async function forgetGone(sql: Sql, olderThanMs: number): Promise<number> {
  const rows = await sql.query(
    `with gone as (
       delete from inventory.vm
       where gone_at < clock_timestamp() - $1 * interval '1 millisecond'
       returning uuid
     ), kept as (
       delete from inventory.kept_snapshot k using gone g where k.vm = g.uuid
     )
     delete from inventory.whereabouts w using gone g where w.vm = g.uuid
     returning 1`,
    [olderThanMs]
  )
  return rows.length
}

// Observed facts by subject, for any number of subjects at once: one query a kind. Predicted effects are laid over them elsewhere.
import type { JsonObject } from '../db/json.ts'
import type { Sql } from '../db/open.ts'
import { parseResource, resource, type ResourceKind } from '../model/resource.ts'
import type { HostFacts, NetworkFacts, PoolFacts, StoreFacts } from './facts.ts'
import { loadImages } from './images.ts'
import { loadMacs } from './macs.ts'
import { loadVmNames, loadVms } from './load-vms.ts'
import { loadVolumes } from './load-volumes.ts'

/** Kinds that have facts, each with its loader. Gates and refreshes are only claimed. */
const loaders: Partial<Record<ResourceKind, (sql: Sql, parts: string[][]) => Promise<Map<string, object>>>> = {
  vm: loadVms,
  'vm-name': loadVmNames,
  host: loadHosts,
  pool: loadPools,
  store: loadStores,
  volume: loadVolumes,
  network: loadNetworks,
  mac: loadMacs,
  image: loadImages
}

/** Every subject that was asked for is in the answer; null where there is no such thing. */
export async function loadFacts(sql: Sql, subjects: Iterable<string>): Promise<Map<string, JsonObject | null>> {
  const facts = new Map<string, JsonObject | null>()
  const asked = new Map<ResourceKind, string[][]>()
  for (const subject of subjects) {
    facts.set(subject, null)
    const parsed = parseResource(subject)
    if (!parsed || subject.includes('\0')) continue
    const parts = asked.get(parsed.kind)
    if (parts) parts.push(parsed.parts)
    else asked.set(parsed.kind, [parsed.parts])
  }
  // One after another: in a transaction there is one connection.
  for (const [kind, parts] of asked) {
    const found = await loaders[kind]?.(sql, parts)
    for (const [subject, value] of found ?? []) facts.set(subject, value as JsonObject)
  }
  return facts
}

const pairs = (parts: string[][]) => {
  const whole = parts.filter((part) => part.length === 2)
  return [whole.map((part) => part[0]), whole.map((part) => part[1])]
}

async function loadHosts(sql: Sql, parts: string[][]): Promise<Map<string, HostFacts>> {
  const names = parts.filter((part) => part.length === 1).map((part) => part[0])
  const rows = await sql.query<HostFacts>(
    `select
       h.name, h.uuid,
       h.control_uri as "controlUri", h.peer_uri as "peerUri", h.migration_uri as "migrationUri",
       h.connection, h.connection_reason as "connectionReason",
       h.cordon_reason is not null as cordoned, h.cordon_reason as "cordonReason",
       inventory.in_maintenance(h.name) as "inMaintenance",
       to_char(h.maintenance_since at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') as "maintenanceSince",
       case when h.off_ended_at is null then h.off_reason end as "confirmedOff", h.off_ended_at is not null as unreconciled,
       h.arch, h.domain_type as "domainType", h.emulator, h.machine,
       coalesce(h.cpus, 0) as cpus, coalesce(h.memory_mib, 0) as "memoryMiB",
       (select count(*) from inventory.vm v where v.home = h.name and v.gone_at is null) as definitions,
       coalesce(l.active_vms, 0) as "activeVms",
       coalesce((select jsonb_object_agg(k.key, k.value) from inventory.host_label k where k.host = h.name), '{}') as labels,
       coalesce(l.active_mib, 0) + coalesce(promised.committed, 0) as "committedMiB"
     from inventory.host h
     left join inventory.host_load l on l.host = h.name
     left join lateral (
       select sum(r.memory_mib)::bigint as committed
       from inventory.reservation r
       where r.host = h.name and not exists (
         select from inventory.whereabouts w where w.vm = r.vm and w.host = r.host and w.state = 'active'
       )
     ) promised on true
     where h.name = any ($1::text[])`,
    [names]
  )
  return new Map(rows.map((row) => [resource.host(row.name), row]))
}

async function loadPools(sql: Sql, parts: string[][]): Promise<Map<string, PoolFacts>> {
  const rows = await sql.query<PoolFacts>(
    `select p.host, p.name, p.uuid, p.type, p.store, p.target, p.active, p.autostart,
       p.capacity_bytes as "capacityBytes", p.available_bytes as "availableBytes"
     from inventory.pool p
     join unnest($1::text[], $2::text[]) asked (host, name) on asked.host = p.host and asked.name = p.name`,
    pairs(parts)
  )
  return new Map(rows.map((row) => [resource.pool(row.host, row.name), row]))
}

async function loadStores(sql: Sql, parts: string[][]): Promise<Map<string, StoreFacts>> {
  const rows = await sql.query<StoreFacts>(
    `select s.name, s.shared, s.type, s.raw_percent as "rawPercent", s.thin_percent as "thinPercent",
       coalesce((
         select jsonb_object_agg(
           p.host, jsonb_build_object('pool', p.name, 'target', p.target, 'active', p.active)
           -- A host with two pools on one store is shown by the better one.
           order by p.active, p.name desc
         )
         from inventory.pool p where p.store = s.name
       ), '{}') as pools
     from inventory.store s where s.name = any ($1::text[])`,
    [parts.map((part) => part[0])]
  )
  return new Map(rows.map((row) => [resource.store(row.name), row]))
}

async function loadNetworks(sql: Sql, parts: string[][]): Promise<Map<string, NetworkFacts>> {
  const rows = await sql.query<NetworkFacts>(
    `select n.host, n.name, n.active, n.bridge
     from inventory.network n
     join unnest($1::text[], $2::text[]) asked (host, name) on asked.host = n.host and asked.name = n.name`,
    pairs(parts)
  )
  return new Map(rows.map((row) => [resource.network(row.host, row.name), row]))
}

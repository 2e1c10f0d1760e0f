// Facts of volumes, with who uses them: VMs of any host that have the volume as a disk, or have a disk that lies over it.
import type { Sql } from '../db/open.ts'
import { resource } from '../model/resource.ts'
import type { VolumeFacts } from './facts.ts'

/** A chain of overlays longer than this is not followed: no tool makes such, and a circle must end. */
const CHAIN = 64

export async function loadVolumes(sql: Sql, parts: string[][]): Promise<Map<string, VolumeFacts>> {
  const rows = await sql.query<VolumeFacts>(
    `with recursive asked as (
       select distinct store, name from unnest($1::text[], $2::text[]) a (store, name)
     ), listed as (
       -- Pools on one store may differ until they are refreshed: the newest sight holds.
       select distinct on (p.store, v.name)
         p.store, v.name, v.path, v.format, v.capacity_bytes, v.allocation_bytes, v.backing
       from asked a
       join inventory.pool p on p.store = a.store
       join inventory.volume v on v.host = p.host and v.pool = p.name and v.name = a.name
       order by p.store, v.name, v.generation desc
     ), over as (
       select l.store as root_store, l.name as root_name, l.store, l.name, 0 as depth from listed l
       union
       select o.root_store, o.root_name, q.store, v.name, o.depth + 1
       from over o
       join inventory.pool p on p.store = o.store
       join inventory.volume b on b.host = p.host and b.pool = p.name and b.name = o.name
       join inventory.volume v on v.backing = b.path
       join inventory.pool q on q.host = v.host and q.name = v.pool
       where o.depth < ${CHAIN}
     ), used as (
       select o.root_store, o.root_name, array_agg(distinct d.vm order by d.vm) as vms
       from over o
       join inventory.pool p on p.store = o.store
       left join inventory.volume v on v.host = p.host and v.pool = p.name and v.name = o.name
       join inventory.disk d on d.host = p.host
         and d.source = any (array[v.path, p.target || '/' || o.name, p.name || '/' || o.name])
       group by o.root_store, o.root_name
     )
     select l.store, l.name, l.path, l.format, l.capacity_bytes as "capacityBytes",
       l.allocation_bytes as "allocationBytes", l.backing,
       coalesce(u.vms::text[], '{}') as "usedBy", i.name as image
     from listed l
     left join used u on u.root_store = l.store and u.root_name = l.name
     left join inventory.image i on i.store = l.store and i.volume = l.name`,
    [parts.map((part) => part[0]), parts.map((part) => part[1])]
  )
  return new Map(rows.map((row) => [resource.volume(row.store, row.name), row]))
}

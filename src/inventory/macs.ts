// MAC addresses: whose they are, and new ones. The database draws them, so that two servers never give out the same.
import type { Sql } from '../db/open.ts'
import { resource } from '../model/resource.ts'
import type { MacFacts } from './facts.ts'

/** Addresses that no card of any VM on any host has, and that are drawn again only after 16 million others. */
export async function newMacs(sql: Sql, count: number): Promise<string[]> {
  if (count === 0) return []
  const [row] = await sql.query<{ macs: string[] }>(`select inventory.new_macs($1) as macs`, [count])
  return row?.macs ?? []
}

export async function loadMacs(sql: Sql, parts: string[][]): Promise<Map<string, MacFacts>> {
  const rows = await sql.query<{ mac: string; vms: MacFacts }>(
    `select n.mac, jsonb_object_agg(v.uuid, v.name) as vms
     from inventory.nic n join inventory.vm v on v.uuid = n.vm
     where n.mac = any ($1::text[]) and v.gone_at is null
     group by n.mac`,
    [parts.map((part) => part[0])]
  )
  return new Map(rows.map((row) => [resource.mac(row.mac), row.vms]))
}

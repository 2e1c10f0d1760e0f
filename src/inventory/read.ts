// Lists of what the fleet has, in pages, for those who look: each item is the subject's observed facts.
import type { Sql } from '../db/open.ts'
import { InventoryError } from './error.ts'
import type { HostFacts, ImageFacts, NetworkFacts, PoolFacts, StoreFacts, VmFacts, VolumeFacts } from './facts.ts'
import { selectorCondition, selectorValue } from './labels.ts'
import { loadFacts } from './load.ts'

/** `next` is the cursor of the following page; null on the last one. */
export type Page<T> = { items: T[]; next: string | null }

/** Every list is in order of names. */
export type Paging = {
  /** `next` of the page before. */
  after?: string | undefined
  /** 1 to 1000; default 100. */
  limit?: number | undefined
}

export type VmFilter = {
  /** At home or active there. */
  host?: string | undefined
  power?: string | undefined
  /** Exact, or with `*` for anything. */
  name?: string | undefined
  /** `role=web,tier!=test`; see src/model/selector.ts. */
  labels?: string | undefined
}

const DEFAULT_LIMIT = 100
const MOST = 1000

export async function listVms(sql: Sql, filter: VmFilter & Paging = {}): Promise<Page<VmFacts>> {
  return page<VmFacts>(
    sql,
    filter,
    `select 'vm/' || v.uuid as subject, v.name as first, v.uuid::text as second
     from inventory.vm v
     join inventory.whereabouts w on w.vm = v.uuid and w.host = coalesce(v.active_on, v.home)
     where v.gone_at is null
       and ($4::text is null or v.home = $4 or v.active_on = $4)
       and ($5::text is null or coalesce(w.power, 'off') = $5)
       and ($6::text is null or v.name like $6)
       and ${selectorCondition('vm', 'v.uuid', '$7')}`,
    [filter.host ?? null, filter.power ?? null, pattern(filter.name), selectorValue(filter.labels)]
  )
}

export async function listHosts(
  sql: Sql,
  filter: { name?: string | undefined; labels?: string | undefined } & Paging = {}
): Promise<Page<HostFacts>> {
  return page<HostFacts>(
    sql,
    filter,
    `select 'host/' || h.name as subject, h.name as first, '' as second
     from inventory.host h where ($4::text is null or h.name like $4) and ${selectorCondition('host', 'h.name', '$5')}`,
    [pattern(filter.name), selectorValue(filter.labels)]
  )
}

export async function listPools(
  sql: Sql,
  filter: { host?: string | undefined; store?: string | undefined } & Paging = {}
): Promise<Page<PoolFacts>> {
  return page<PoolFacts>(
    sql,
    filter,
    `select 'pool/' || p.host || '/' || p.name as subject, p.host as first, p.name as second
     from inventory.pool p
     where ($4::text is null or p.host = $4) and ($5::text is null or p.store = $5)`,
    [filter.host ?? null, filter.store ?? null]
  )
}

export async function listStores(
  sql: Sql,
  filter: { name?: string | undefined } & Paging = {}
): Promise<Page<StoreFacts>> {
  return page<StoreFacts>(
    sql,
    filter,
    `select 'store/' || s.name as subject, s.name as first, '' as second
     from inventory.store s where $4::text is null or s.name like $4`,
    [pattern(filter.name)]
  )
}

export async function listVolumes(
  sql: Sql,
  filter: { store?: string | undefined; name?: string | undefined } & Paging = {}
): Promise<Page<VolumeFacts>> {
  return page<VolumeFacts>(
    sql,
    filter,
    `select distinct 'volume/' || p.store || '/' || v.name as subject, p.store as first, v.name as second
     from inventory.volume v
     join inventory.pool p on p.host = v.host and p.name = v.pool
     where ($4::text is null or p.store = $4) and ($5::text is null or v.name like $5)`,
    [filter.store ?? null, pattern(filter.name)]
  )
}

export async function listImages(
  sql: Sql,
  filter: { name?: string | undefined } & Paging = {}
): Promise<Page<ImageFacts>> {
  return page<ImageFacts>(
    sql,
    filter,
    `select 'image/' || i.name as subject, i.name as first, '' as second
     from inventory.image i where $4::text is null or i.name like $4`,
    [pattern(filter.name)]
  )
}

export async function listNetworks(
  sql: Sql,
  filter: { host?: string | undefined } & Paging = {}
): Promise<Page<NetworkFacts>> {
  return page<NetworkFacts>(
    sql,
    filter,
    `select 'network/' || n.host || '/' || n.name as subject, n.host as first, n.name as second
     from inventory.network n where $4::text is null or n.host = $4`,
    [filter.host ?? null]
  )
}

// Values 1 to 3 of the query are the cursor and the limit; `from` gives its own values from 4 on.
async function page<T>(sql: Sql, paging: Paging, from: string, values: readonly unknown[]): Promise<Page<T>> {
  const limit = Math.min(Math.max(1, Math.floor(paging.limit ?? DEFAULT_LIMIT)), MOST)
  const [first, second] = readCursor(paging.after)
  const rows = await sql.query<{ subject: string; first: string; second: string }>(
    `select * from (${from}) found
     where $1::text is null or (first collate "C", second collate "C") > ($1 collate "C", $2::text collate "C")
     order by first collate "C", second collate "C"
     limit $3`,
    [first, second, limit + 1, ...values]
  )
  const shown = rows.slice(0, limit)
  const facts = await loadFacts(
    sql,
    shown.map((row) => row.subject)
  )
  const last = shown.at(-1)
  return {
    // What vanished between the two reads is left out.
    items: shown.map((row) => facts.get(row.subject)).filter((item) => item != null) as unknown as T[],
    next:
      rows.length > limit && last ? Buffer.from(JSON.stringify([last.first, last.second])).toString('base64url') : null
  }
}

function readCursor(cursor: string | undefined): [string, string] | [null, null] {
  if (cursor === undefined) return [null, null]
  try {
    const value: unknown = JSON.parse(Buffer.from(cursor, 'base64url').toString('utf8'))
    if (
      Array.isArray(value) &&
      value.length === 2 &&
      value.every((part) => typeof part === 'string' && !part.includes('\0'))
    )
      return value as [string, string]
  } catch {
    // Said below: whatever it is, it is no cursor.
  }
  throw new InventoryError('bad_input', `${JSON.stringify(cursor.slice(0, 80))} is not a cursor that a list gave`)
}

/** `web*` for `like`: everything but the star is meant literally. */
function pattern(name: string | undefined): string | null {
  if (name === undefined) return null
  if (name.includes('\0')) throw new InventoryError('bad_input', 'a name with NUL')
  return name.replaceAll(/[\\%_]/g, String.raw`\$&`).replaceAll('*', '%')
}

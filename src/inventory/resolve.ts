// From what a person wrote to the VM that is meant, and to names that might have been meant. Predicted VMs are not known here.
import type { Sql } from '../db/open.ts'
import { quote } from '../model/name.ts'
import { resource } from '../model/resource.ts'
import { InventoryError } from './error.ts'
import type { VmFacts } from './facts.ts'
import { loadFacts } from './load.ts'

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i
/** Names compared when something was not found: suggestions must not cost more than the answer. */
const COMPARED = 20_000
const SUGGESTED = 5

/**
 * The VM that `web1`, `web1@h1` or a UUID names.
 * @throws InventoryError `not_found` with close names, `ambiguous` with the candidates as they can be written
 */
export async function findVm(sql: Sql, reference: string): Promise<VmFacts> {
  if (reference.includes('\0')) throw new InventoryError('not_found', `there is no VM ${quote(reference)}`)
  const [name = '', host] = UUID.test(reference) ? [] : reference.split('@')
  const uuids = UUID.test(reference)
    ? [reference.toLowerCase()]
    : (
        await sql.query<{ uuid: string }>(
          `select v.uuid::text from inventory.vm v
           where v.name = $1 and v.gone_at is null
             and ($2::text is null or exists (
               select from inventory.whereabouts w where w.vm = v.uuid and w.host = $2 and w.state <> 'absent'
             ))
           order by v.home, v.uuid
           limit 100`,
          [name, host ?? null]
        )
      ).map((row) => row.uuid)
  const facts = await loadFacts(sql, uuids.map(resource.vm))
  const found = [...facts.values()].filter((vm) => vm !== null) as unknown as VmFacts[]
  const [vm] = found
  if (!vm) {
    const close = await closeNames(sql, 'vm', name)
    const meant = close.length > 0 ? `; did you mean ${close.join(', ')}?` : ''
    throw new InventoryError('not_found', `there is no VM ${quote(reference)}${meant}`, { candidates: close })
  }
  if (found.length === 1) return vm
  const candidates = found.map((other) => (host === undefined ? `${other.name}@${other.home}` : other.uuid))
  throw new InventoryError('ambiguous', `${quote(reference)} names ${found.length} VMs: ${candidates.join(', ')}`, {
    candidates
  })
}

const names = {
  vm: `select distinct name from inventory.vm where gone_at is null`,
  host: `select name from inventory.host`,
  store: `select name from inventory.store`
}

/** Names that differ from this one by a slip or two, the closest first. */
export async function closeNames(sql: Sql, kind: keyof typeof names, name: string): Promise<string[]> {
  const most = name.length < 4 ? 1 : name.length < 9 ? 2 : 3
  if (name.length === 0 || name.length > 128 || name.includes('\0')) return []
  const rows = await sql.query<{ name: string }>(
    `select name from (${names[kind]}) n where length(name) between $1 and $2 order by name limit ${COMPARED}`,
    [name.length - most, name.length + most]
  )
  return rows
    .map((row) => ({ name: row.name, distance: distance(row.name.toLowerCase(), name.toLowerCase(), most) }))
    .filter((close) => close.distance <= most)
    .toSorted((a, b) => a.distance - b.distance || (a.name < b.name ? -1 : 1))
    .slice(0, SUGGESTED)
    .map((close) => close.name)
}

/** Letters added, left out, changed or swapped with their neighbour; more than `most` is not counted on. */
function distance(a: string, b: string, most: number): number {
  let before: number[] = []
  let row = Array.from({ length: b.length + 1 }, (_, index) => index)
  for (let i = 1; i <= a.length; i++) {
    const next = [i]
    for (let j = 1; j <= b.length; j++) {
      const same = a[i - 1] === b[j - 1] ? 0 : 1
      let least = Math.min((row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1, (row[j - 1] ?? 0) + same)
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1])
        least = Math.min(least, (before[j - 2] ?? 0) + 1)
      next.push(least)
    }
    if (Math.min(...next) > most) return most + 1
    before = row
    row = next
  }
  return row[b.length] ?? most + 1
}

// Labels of VMs and hosts: ours alone, no host knows of them.
import type { Sql, Tx } from '../db/open.ts'
import { parseSelector, SelectorError, type SelectorTerm } from '../model/selector.ts'
import { InventoryError } from './error.ts'

export type Labels = Record<string, string>

type Kind = 'vm' | 'host'
const tables = { vm: { table: 'inventory.vm_label', of: 'vm' }, host: { table: 'inventory.host_label', of: 'host' } }

/** Sets some and removes some; others stay. @throws DatabaseError when there is no such VM or host */
export async function changeLabels(
  tx: Tx,
  kind: Kind,
  name: string,
  { set, remove }: { set: Readonly<Labels>; remove: readonly string[] }
): Promise<void> {
  const { table, of } = tables[kind]
  await tx.query(`delete from ${table} where ${of} = $1 and key = any ($2::text[])`, [name, remove])
  await tx.query(
    `insert into ${table} (${of}, key, value) select $1, e.key, e.value from jsonb_each_text($2::jsonb) e
     on conflict (${of}, key) do update set value = excluded.value`,
    [name, JSON.stringify(set)]
  )
}

export async function readLabels(sql: Sql, kind: Kind, name: string): Promise<Labels> {
  const { table, of } = tables[kind]
  const rows = await sql.query<{ key: string; value: string }>(`select key, value from ${table} where ${of} = $1`, [
    name
  ])
  return Object.fromEntries(rows.map(({ key, value }) => [key, value]))
}

/**
 * A condition that holds where every term does, for `$parameter` with what `selectorValue` gives.
 * @param column of the VM's UUID or the host's name
 */
export const selectorCondition = (
  kind: Kind,
  column: string,
  parameter: string
): string => `(${parameter}::jsonb is null or not exists (
    select from jsonb_to_recordset(${parameter}::jsonb) as term (key text, op text, "values" text[])
    left join ${tables[kind].table} l on l.${tables[kind].of} = ${column} and l.key = term.key
    where not case term.op
      when 'in' then coalesce(l.value = any (term."values"), false)
      when 'notin' then coalesce(l.value <> all (term."values"), true)
      when 'exists' then l.value is not null
      else l.value is null
    end))`

/** @throws InventoryError bad_input */
export function selectorValue(text: string | undefined): string | null {
  return text === undefined ? null : JSON.stringify(termsOf(text))
}

function termsOf(text: string): SelectorTerm[] {
  try {
    return parseSelector(text)
  } catch (error) {
    if (error instanceof SelectorError) throw new InventoryError('bad_input', error.message, { cause: error })
    throw error
  }
}

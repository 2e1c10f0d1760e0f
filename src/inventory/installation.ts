// Names this installation in the marks that it leaves on hosts: drawn once, when the database is made.
import type { Sql } from '../db/open.ts'
import { InventoryError } from './error.ts'

export async function readInstance(sql: Sql): Promise<string> {
  const [row] = await sql.query<{ instance: string }>(`select instance from inventory.installation`)
  if (!row) throw new InventoryError('bad_input', 'the database has no name for this installation')
  return row.instance
}

// For tests that break the queue on purpose, or stop it between two statements: its own functions, with a piece of their text
// replaced. The piece must be there, so that a test whose aim has moved fails instead of testing nothing.
import type { Sql } from '../../src/db/open.ts'

/** [function of schema queue, text that is there, text to stand there instead]. */
export type Alteration = readonly [name: string, from: string, to: string]

/** Replaces the texts; what it returns puts the functions back. `owner` acts as the owner of the schema. */
export async function alter(owner: Sql, alterations: readonly Alteration[]): Promise<() => Promise<void>> {
  const originals = new Map<string, string>()
  const altered = new Map<string, string>()
  for (const [name, from, to] of alterations) {
    const text = altered.get(name) ?? (await definitionOf(owner, name))
    if (!originals.has(name)) originals.set(name, text)
    if (!text.includes(from)) throw new Error(`queue.${name} does not contain: ${from}`)
    altered.set(
      name,
      text.replaceAll(from, () => to)
    )
  }
  for (const text of altered.values()) await owner.query(text)
  return async () => {
    for (const text of originals.values()) await owner.query(text)
  }
}

/** Runs `body` while the functions are altered, and puts them back whatever happens. */
export async function whileAltered<T>(
  owner: Sql,
  alterations: readonly Alteration[],
  body: () => Promise<T>
): Promise<T> {
  const restore = await alter(owner, alterations)
  try {
    return await body()
  } finally {
    await restore()
  }
}

async function definitionOf(owner: Sql, name: string): Promise<string> {
  const rows = await owner.query<{ text: string }>(
    `select pg_get_functiondef(oid) as text from pg_proc where pronamespace = 'queue'::regnamespace and proname = $1`,
    [name]
  )
  if (rows.length !== 1 || !rows[0]) throw new Error(`there are ${rows.length} functions queue.${name}`)
  return rows[0].text
}

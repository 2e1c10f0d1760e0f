// What reading commands share: one list from the server, printed.
import type { Cli } from '../context.ts'
import type { Query } from '../client.ts'
import type { ExitName } from '../failure.ts'
import { printList, type View } from '../render.ts'

export async function printFrom<T>(cli: Cli, path: string, query: Query, view: View<T>): Promise<ExitName> {
  const { items } = await cli.client().get<{ items: T[] }>(path, query)
  await printList(cli, items, view)
  return 'done'
}

/** A name as one part of a path. */
export const part = (name: string): string => encodeURIComponent(name)

export const textOption = (value: unknown): string | undefined => (typeof value === 'string' ? value : undefined)

/** All pages of a list. */
export async function everything<T>(cli: Cli, path: string, query: Query = {}): Promise<T[]> {
  const rows: T[] = []
  let cursor: string | undefined
  do {
    const page: { items: T[]; next: string | null } = await cli.client().get(path, { ...query, limit: 500, cursor })
    rows.push(...page.items)
    cursor = page.next ?? undefined
  } while (cursor !== undefined)
  return rows
}

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

// Who watches which host: one process each, shared out evenly between those that take part, by their dispatchers' leases
// (sql/0145_watches.sql). How a host is watched is not decided here.
import type { Sql } from '../db/open.ts'
import type { HostConnection } from '../model/host.ts'

/** Notified when there is something to share out, and when a watched host came up or went down. */
export const WATCH_CHANNEL = 'inventory_watch'

export type WatchShare = {
  /** Hosts that the caller watches from now on, and those of them that it did not before. */
  mine: string[]
  taken: string[]
  /** So many of `mine` are others' to watch. */
  excess: number
  /** Of those who take part it has been there the longest. */
  first: boolean
  /** Hosts that are up by the word of others who watch them. */
  upElsewhere: string[]
  /** Another text whenever a host was added, removed or got another address. */
  fleet: string
}

/** Takes part, and takes what the caller's share is. Undefined: its dispatcher has no lease. */
export async function shareWatches(sql: Sql, dispatcher: number): Promise<WatchShare | undefined> {
  const [row] = await sql.query<
    Omit<WatchShare, 'upElsewhere' | 'fleet'> & { holds: boolean; up: string[]; fleet: string | null }
  >('select holds, taken, mine, excess, first, up_elsewhere as up, fleet from inventory.share_watches($1)', [
    dispatcher
  ])
  if (!row?.holds) return undefined
  const { mine, taken, excess, first, up, fleet } = row
  return { mine, taken, excess, first, upElsewhere: up, fleet: fleet ?? '' }
}

/** Gives hosts up; others take them at once. `leaves`: and takes no part any more. False, and nothing done, without anybody else. */
export async function handOverWatches(
  sql: Sql,
  dispatcher: number,
  { hosts, leaves }: { hosts: readonly string[]; leaves: boolean }
): Promise<boolean> {
  const [row] = await sql.query<{ others: boolean }>('select inventory.hand_over_watches($1, $2, $3) as others', [
    dispatcher,
    hosts,
    leaves
  ])
  return row?.others ?? false
}

/** False, and nothing written, unless that dispatcher's process watches the host now. */
export async function setWatchedConnection(
  sql: Sql,
  dispatcher: number,
  host: string,
  { connection, reason }: { connection: HostConnection; reason: string | null }
): Promise<boolean> {
  const [row] = await sql.query<{ watched: boolean }>(
    'select inventory.set_watched_connection($1, $2, $3, $4) as watched',
    [dispatcher, host, connection, reason]
  )
  return row?.watched ?? false
}

// What has been ready for longer than any event takes to be heard. Beside a free slot there should be none.
import type { Sql } from '../db/open.ts'

/** Ids of tasks that have been ready for more than `olderThanMs`, those that go first first; at most 100. */
export async function overdueTasks(db: Sql, olderThanMs: number): Promise<number[]> {
  const rows = await db.query<{ task: number }>(
    `select task from queue.ready where since < queue.now() - make_interval(secs => $1 / 1000.0)
     order by rank, position, task limit 100`,
    [olderThanMs]
  )
  return rows.map(({ task }) => task)
}

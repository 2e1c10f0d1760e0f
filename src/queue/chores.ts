// What ends give rise to but cannot do themselves, since it locks resources first: tasks that a prerequisite doomed are ended, tasks
// that have become due, were released or retried take their places. Any dispatcher may do them, any number at a time.

import type { Database } from '../db/open.ts'
import { raised } from './error.ts'

const BATCH = 100
// Bounds what one call does; what is left is left to the next.
const MAX_BATCHES = 1_000

/** Returns how many tasks it ended or placed. */
export async function doChores(db: Database): Promise<number> {
  let done = 0
  for (let batch = 0; batch < MAX_BATCHES; batch++) {
    const [row] = await raised(
      db.query<{ ended: number; placed: number }>('select queue.end_doomed($1) as ended, 0 as placed', [BATCH])
    )
    const [placing] = await raised(db.query<{ placed: number }>('select queue.place_waiting($1) as placed', [BATCH]))
    const progress = (row?.ended ?? 0) + (placing?.placed ?? 0)
    if (progress === 0) return done
    done += progress
  }
  return done
}

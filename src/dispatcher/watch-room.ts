// Gives room back and says so: ends promises of memory whose tasks run no more, and wakes what was parked for want of room when
// some was freed. Woken by notification and by timer.
import type { Logger } from 'pino'
import type { Database } from '../db/open.ts'
import { ROOM_CHANNEL } from '../inventory/place.ts'
import { unpark } from '../queue/dispatch.ts'

export type RoomOptions = {
  database: Database
  log: Logger
  /** Between two looks for promises that nobody needs. Default 2,000. */
  everyMs?: number
  /** Placement is tried anew at least this often, whatever was heard. Default 30,000. */
  retryMs?: number
}

export type RoomKeeper = {
  /** May be called twice. */
  stop(): Promise<void>
}

/** What frees room often comes in bunches. */
const GATHER_MS = 50

export async function startRoomKeeper({
  database,
  log,
  everyMs = 2_000,
  retryMs = 30_000
}: RoomOptions): Promise<RoomKeeper> {
  let stopped = false
  let gathering: NodeJS.Timeout | undefined
  let working: Promise<unknown> = Promise.resolve()
  let lastWoken = performance.now()

  const work = (act: () => Promise<unknown>) => {
    if (stopped) return
    working = working.then(act).catch((error: unknown) => log.warn({ err: error }, 'room could not be given back'))
  }
  const wakeParked = () => {
    lastWoken = performance.now()
    return unpark(database, 'placement')
  }
  const freed = () => {
    gathering ??= setTimeout(() => {
      gathering = undefined
      work(wakeParked)
    }, GATHER_MS)
  }
  const look = async () => {
    if ((await endPromises(database)) > 0 || performance.now() - lastWoken > retryMs) await wakeParked()
  }

  const heard = await database.listen(ROOM_CHANNEL, freed)
  const timer = setInterval(() => work(look), everyMs)
  timer.unref()
  return {
    async stop() {
      if (stopped) return
      stopped = true
      clearInterval(timer)
      clearTimeout(gathering)
      await heard.stop()
      await working
    }
  }
}

/**
 * Ends promises whose tasks do not run now: ended, or put back, in which case they are placed anew. A promise is made in the
 * transaction that starts its task, so that none is seen before its task runs. Returns how many.
 */
export async function endPromises(database: Database): Promise<number> {
  const rows = await database.query(
    `delete from inventory.reservation r
     where not exists (select from queue.run q where q.task = r.task)
     returning 1`
  )
  return rows.length
}

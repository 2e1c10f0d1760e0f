// Gives room back and says so: ends promises of memory and of bytes whose tasks run no more, and wakes what was parked for want of room when
// some was freed. Woken by notification and by timer.
import type { Logger } from 'pino'
import type { Notice } from '../db/listen.ts'
import type { Database } from '../db/open.ts'
import { knownHosts } from '../inventory/hosts.ts'
import { ROOM_CHANNEL } from '../inventory/place.ts'
import { unpark } from '../queue/dispatch.ts'
import { anyRoom, roomKey } from './choose-host.ts'
import { storeRoomKey } from './store-room.ts'

export type RoomOptions = {
  database: Database
  log: Logger
  /** Between two looks for promises that nobody needs. Default 2,000. */
  everyMs?: number
  /** Placement is tried anew at least this often, whatever was heard. Default 30,000. */
  retryMs?: number
}

export type RoomKeeper = {
  /** Whether room was freed anywhere since then, by performance.now(). */
  isFreedSince(atMs: number): boolean
  /** May be called twice. */
  stop(): Promise<void>
}

/** Beginning of what is told of a store. */
const STORE = 'store/'

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
  let lastAll = performance.now()
  let lastFreed = 0

  const work = (act: () => Promise<unknown>) => {
    if (stopped) return
    working = working.then(act).catch((error: unknown) => log.warn({ err: error }, 'room could not be given back'))
  }
  const freedOn = new Set<string>()
  /** Names of hosts, and of stores as `store/NAME`. */
  const free = (names: readonly string[]) => {
    for (const name of names)
      freedOn.add(name.startsWith(STORE) ? storeRoomKey(name.slice(STORE.length)) : roomKey(name))
  }
  const wakeParked = async () => {
    const keys = [...freedOn]
    freedOn.clear()
    for (const key of keys) await unpark(database, key)
    await unpark(database, anyRoom)
  }
  const freed = (notice: Notice) => {
    lastFreed = performance.now()
    if (notice.kind === 'message') free([notice.payload])
    else work(everyHost)
    gathering ??= setTimeout(() => {
      gathering = undefined
      work(wakeParked)
    }, GATHER_MS)
  }
  const everyHost = async () => {
    free((await knownHosts(database)).map(({ name }) => name))
    free(await storesWaitedFor(database))
  }
  const look = async () => {
    free(await endPromises(database))
    free(await endStorePromises(database))
    if (freedOn.size > 0) lastFreed = performance.now()
    const isDue = performance.now() - lastAll > retryMs
    if (isDue) {
      lastAll = performance.now()
      await everyHost()
    }
    if (freedOn.size > 0 || isDue) await wakeParked()
  }

  const heard = await database.listen(ROOM_CHANNEL, freed)
  const timer = setInterval(() => work(look), everyMs)
  timer.unref()
  return {
    isFreedSince: (atMs) => lastFreed >= atMs,
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

/** Of a promise `r`: its task neither runs now nor is about to. */
const isNeededNoMore = `not exists (select from queue.run q where q.task = r.task)
  and not exists (select from queue.ready q where q.task = r.task)
  and not exists (select from queue.parked q where q.task = r.task and q.key = 'limit')
  -- One that is renewed while this waits for its row is another promise.
  and r.made_at < now()`

/**
 * Ends promises whose tasks neither run now nor are about to: ended, or put back, in which case they are placed anew. A promise is
 * made in the transaction that binds its task, so that none is seen before its task runs, or waits for units to run there. Returns
 * the hosts on which that gives room: where the VM became active, it has taken what was promised.
 */
export async function endPromises(database: Database): Promise<string[]> {
  const rows = await database.query<{ host: string; used: boolean }>(
    `delete from inventory.reservation r
     where ${isNeededNoMore}
     returning r.host, exists (
       select from inventory.whereabouts w where w.vm = r.vm and w.host = r.host and w.state = 'active') as used`
  )
  return [...new Set(rows.flatMap(({ host, used }) => (used ? [] : [host])))]
}

/** The same of room in stores; as `store/NAME`. A volume that is there as promised has taken it. */
async function endStorePromises(database: Database): Promise<string[]> {
  const rows = await database.query<{ store: string; used: boolean }>(
    `delete from inventory.store_reservation r
     where ${isNeededNoMore}
     returning r.store, exists (
       select from inventory.pool p join inventory.volume v on v.host = p.host and v.pool = p.name
       where p.store = r.store and v.name = r.volume and v.capacity_bytes >= r.capacity_bytes) as used`
  )
  return [...new Set(rows.flatMap(({ store, used }) => (used ? [] : [`${STORE}${store}`])))]
}

const storesWaitedFor = async (database: Database): Promise<string[]> => {
  const rows = await database.query<{ store: string }>(
    `select distinct substr(key, length('store-room/') + 1) as store from queue.parked where key like 'store-room/%'`
  )
  return rows.map(({ store }) => `${STORE}${store}`)
}

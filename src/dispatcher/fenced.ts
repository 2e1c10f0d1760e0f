// The database as what a task tells of itself writes to it: each transaction first proves the lease under which the task was taken, so
// that a process that was stopped, and goes on when another has its tasks, changes nothing that is true by now. Sights need no such
// proof: the one that was begun later wins (inventory/observe.ts).
import type { Database } from '../db/open.ts'
import { proveLease } from '../queue/dispatch.ts'

/** @throws QueueError lease_lost, from each query and transaction, once that lease is over */
export function fenced(database: Database, takenUnder: () => number): Database {
  const transaction: Database['transaction'] = (fn) => {
    const dispatcher = takenUnder()
    return database.transaction(async (tx) => {
      await proveLease(tx, dispatcher)
      return fn(tx)
    })
  }
  return { ...database, transaction, query: (text, values) => transaction((tx) => tx.query(text, values)) }
}

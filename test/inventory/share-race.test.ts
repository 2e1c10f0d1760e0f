// A pool that is looked at in the moment in which it is declared part of a shared store.

import { afterEach, beforeEach, expect, test } from 'vitest'
import { beginSight, recordPool } from '../../src/inventory/observe.ts'
import { listPools } from '../../src/inventory/read.ts'
import { shareStore } from '../../src/inventory/stores.ts'
import { freshDatabase, type FreshDatabase } from '../support/postgres.ts'
import { knownHost, seenPool } from './seen.ts'

let fresh: FreshDatabase
beforeEach(async () => {
  fresh = await freshDatabase({ poolSize: 4 })
})
afterEach(() => fresh.drop())

// Seen to fail when storeOf does not lock the pool's row first: the sight then writes the store that it read before.
test('a sight that waits for the declaration keeps the pool in the shared store', async () => {
  const db = fresh.database
  const pool = seenPool({ name: 'data', target: '/srv/data' })
  const see = async (host: string) => {
    const sight = await beginSight(db)
    await db.transaction((tx) => recordPool(tx, sight, host, 'data', pool))
  }
  for (const host of ['h1', 'h2']) {
    await knownHost(db, host)
    await see(host)
  }
  const pools = ['h1', 'h2'].map((host) => ({ host, pool: 'data' }))
  let seeing: Promise<void> | undefined
  await db.transaction(async (tx) => {
    await shareStore(tx, 'nfs1', pools)
    seeing = see('h2')
    await someoneWaitsForALock()
  })
  await seeing
  expect((await listPools(db)).items.map(({ host, store }) => [host, store])).toEqual([
    ['h1', 'nfs1'],
    ['h2', 'nfs1']
  ])
})

async function someoneWaitsForALock(): Promise<void> {
  const waits = `select 1 from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`
  while ((await fresh.database.query(waits)).length === 0);
}

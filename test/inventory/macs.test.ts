// MAC addresses on a real PostgreSQL: drawn once, never one that a card has, and known by whoever has them.
import pg from 'pg'
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { Database } from '../../src/db/open.ts'
import { loadFacts } from '../../src/inventory/load.ts'
import { newMacs } from '../../src/inventory/macs.ts'
import { beginSight } from '../../src/inventory/observe.ts'
import { freshDatabase, type FreshDatabase } from '../support/postgres.ts'
import { knownHost, recordVm, seenVm } from './seen.ts'

let fresh: FreshDatabase
let db: Database
beforeEach(async () => {
  fresh = await freshDatabase({ poolSize: 8 })
  db = fresh.database
})
afterEach(() => fresh.drop())

/** The server may draw numbers, not say where they begin. */
async function drawAfter(number: number): Promise<void> {
  const owner = new pg.Client({ connectionString: fresh.ownerUrl })
  await owner.connect()
  await owner.query(`select setval('inventory.mac', $1)`, [number])
  await owner.end()
}

const see = async (host: string, vm: ReturnType<typeof seenVm>, present = true) =>
  recordVm(db, await beginSight(db), host, vm.uuid, present ? vm : undefined)
const card = (mac: string) => ({ mac, kind: 'network', source: 'lan', model: 'virtio' })
const users = async (mac: string) => (await loadFacts(db, [`mac/${mac}`])).get(`mac/${mac}`)

test('addresses drawn at the same time are all different, and of our prefix', async () => {
  const drawn = (await Promise.all(Array.from({ length: 40 }, () => newMacs(db, 50)))).flat()
  expect(new Set(drawn).size).toBe(2000)
  expect(drawn.filter((mac) => !/^52:54:00(:[0-9a-f]{2}){3}$/.test(mac))).toEqual([])
})

test('an address that a card has is not drawn', async () => {
  await knownHost(db, 'h1')
  await drawAfter(100)
  const [next = '', after = ''] = await newMacs(db, 2)
  await see('h1', seenVm({ name: 'web1', nics: [card(next.toUpperCase())] }))
  await drawAfter(100)
  expect(await newMacs(db, 1)).toEqual([after])
})

test('the numbers begin anew after the last, and every one of them makes an address', async () => {
  await drawAfter(16777215)
  expect(await newMacs(db, 3)).toHaveLength(3)
  const [row] = await db.query<{ distinct: number }>(
    `select count(distinct (n * 7364749) % 16777216) as distinct from generate_series(0::bigint, 16777215, 257) n`
  )
  expect(row?.distinct).toBe(Math.ceil(16777216 / 257))
})

test('an address is known by the VMs that have it, until they lose the card or are gone', async () => {
  await knownHost(db, 'h1')
  await knownHost(db, 'h2')
  const mac = '52:54:00:aa:bb:cc'
  const web1 = seenVm({ name: 'web1', nics: [card('52:54:00:AA:BB:CC'), card('')] })
  expect(await users(mac)).toBeNull()
  await see('h1', web1)
  await see('h2', web1)
  expect(await users(mac)).toEqual({ [web1.uuid]: 'web1' })
  await see('h1', { ...web1, nics: [card('52:54:00:00:00:01')] })
  expect(await users(mac)).toEqual({ [web1.uuid]: 'web1' })
  await see('h2', web1, false)
  expect(await users(mac)).toBeNull()
  expect(await users('52:54:00:00:00:01')).toEqual({ [web1.uuid]: 'web1' })
  await see('h1', web1, false)
  expect(await users('52:54:00:00:00:01')).toBeNull()
})

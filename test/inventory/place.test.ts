// Placement: where a VM fits, why not elsewhere, and that no memory is promised twice.

import { randomUUID } from 'node:crypto'
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { Database } from '../../src/db/open.ts'
import { setCordon } from '../../src/inventory/hosts.ts'
import { beginSight, recordListing } from '../../src/inventory/observe.ts'
import { endPromises } from '../../src/dispatcher/watch-room.ts'
import { placeVm, reserveMany, reserveOn, ROOM_CHANNEL, type Need } from '../../src/inventory/place.ts'
import { freshDatabase, type FreshDatabase } from '../support/postgres.ts'
import { eventually } from '../system/eventually.ts'
import { knownHost, recordVm, seenPool, seenVm, setConnection } from './seen.ts'

let fresh: FreshDatabase
let db: Database
beforeEach(async () => {
  fresh = await freshDatabase({ poolSize: 8 })
  db = fresh.database
})
afterEach(() => fresh.drop())

async function upHost(name: string, memoryMiB = 16_384) {
  await knownHost(db, name, { memoryMiB })
  await setConnection(db, name, 'up', null)
}

let tasks = 0
const need = (more: Partial<Need> = {}): Need => ({
  task: ++tasks,
  vm: randomUUID(),
  memoryMiB: 1024,
  vcpus: 1,
  stores: [],
  networks: [],
  ...more
})
const place = (more: Partial<Need> = {}) => db.transaction((tx) => placeVm(tx, need(more)))

test('a VM goes to the emptiest host, and off VMs at home there count when hosts are compared', async () => {
  await upHost('h1', 16_384)
  await upHost('h2', 32_768)
  expect(await place()).toMatchObject({ host: 'h2' })
  const vms = [seenVm({ name: 'large', maxMemoryMiB: 24_000 })]
  const sight = await beginSight(db)
  await db.transaction((tx) => recordListing(tx, sight, 'h2', { vms, pools: [], networks: [] }))
  expect(await place()).toMatchObject({ host: 'h1' })
})

test('the answer says of every host why it was not chosen', async () => {
  for (const name of ['cordoned', 'down', 'full', 'storeless', 'unseen']) await upHost(name)
  await upHost('good')
  await setCordon(db, 'cordoned', { reason: 'new memory', by: 'op' })
  await setConnection(db, 'down', 'down', 'refused')
  await setConnection(db, 'unseen', 'unknown', null)
  const listing = { vms: [], pools: [seenPool({ name: 's', source: 'netfs://s' })], networks: [] }
  for (const host of ['cordoned', 'down', 'full', 'good', 'unseen']) {
    const vms = host === 'full' ? [seenVm({ name: 'f', power: 'running', maxMemoryMiB: 13_000 })] : []
    const sight = await beginSight(db)
    await db.transaction((tx) => recordListing(tx, sight, host, { ...listing, vms }))
  }
  const placed = await place({ stores: ['s'] })
  expect(placed.host).toBe('good')
  const hosts = placed.considered['hosts'] as { host: string; why: string }[]
  expect(Object.fromEntries(hosts.map(({ host, why }) => [host, why]))).toEqual({
    good: 'most free memory',
    cordoned: 'cordoned: new memory',
    down: 'down',
    full: '430 MiB free, 1332 MiB needed',
    storeless: 'no active pool on s',
    unseen: 'not connected yet'
  })
  await setCordon(db, 'good', { reason: 'too', by: 'op' })
  expect(await place({ stores: ['s'] })).toMatchObject({ host: null, reason: expect.stringContaining('new memory') })
})

test('of 100 VMs placed at once for the last room exactly those that fit are placed', async () => {
  // 2,560 MiB − 2,048 for the host − … : three of 128 + 5 % + 256 = 391 MiB fit in 1,300, two in 1,000.
  await upHost('h1', 2048 + 1300)
  await upHost('h2', 2048 + 1000)
  const placed = await Promise.all(Array.from({ length: 100 }, () => place({ memoryMiB: 128 })))
  const hosts = placed.map(({ host }) => host)
  expect(hosts.filter((host) => host === 'h1')).toHaveLength(3)
  expect(hosts.filter((host) => host === 'h2')).toHaveLength(2)
  expect(await db.query('select from inventory.reservation')).toHaveLength(5)
})

test('a promise counts until the VM is active there, and then its memory does', async () => {
  await upHost('h1', 2048 + 1000)
  const vm = seenVm({ name: 'a', power: 'running', maxMemoryMiB: 512 })
  const first = need({ vm: vm.uuid, memoryMiB: 512 })
  expect(await db.transaction((tx) => placeVm(tx, first))).toMatchObject({ host: 'h1' })
  expect(await place({ memoryMiB: 512 })).toMatchObject({ host: null })
  await recordVm(db, await beginSight(db), 'h1', vm.uuid, vm)
  expect(await place({ memoryMiB: 512 })).toMatchObject({ host: null })
  // Not twice: 1,000 − 794 leaves room for nothing of 256 + x, so that x = 0 would need 256; 206 are free.
  const [row] = (await place({ memoryMiB: 512 })).considered['hosts'] as { freeMiB: number }[]
  expect(row?.freeMiB).toBe(1000 - (Math.ceil(512 * 1.05) + 256))
  await endPromises(db)
  await recordVm(db, await beginSight(db), 'h1', vm.uuid, { ...vm, power: 'off' })
  expect(await place({ memoryMiB: 512 })).toMatchObject({ host: 'h1' })
})

test('a task that is placed again gives up its earlier promise', async () => {
  await upHost('h1', 2048 + 700)
  const again = need({ memoryMiB: 400 })
  for (let round = 0; round < 3; round++)
    expect(await db.transaction((tx) => placeVm(tx, again))).toMatchObject({ host: 'h1' })
})

test('memory is promised on a given host as long as it has room', async () => {
  await upHost('h1', 2048 + 1000)
  const reserve = (memoryMiB: number) =>
    db.transaction((tx) => reserveOn(tx, { task: ++tasks, host: 'h1', vm: randomUUID(), memoryMiB }))
  expect(await reserve(512)).toMatchObject({ reserved: true })
  expect(await reserve(512)).toEqual({
    reserved: false,
    reason: 'h1: 206 MiB free, 794 MiB needed',
    considered: expect.objectContaining({ chosen: null })
  })
})

test('many that are promised memory at once get no more than there is: each counts those before it on its host', async () => {
  await upHost('h1', 2048 + 1600)
  await upHost('h2', 2048 + 1000)
  const wants = (host: string) => ({ task: ++tasks, host, vm: randomUUID(), memoryMiB: 512 })
  const asked = [wants('h1'), wants('h2'), wants('h1'), wants('h1'), wants('h3')]
  const promised = await db.transaction((tx) => reserveMany(tx, asked))
  expect([...promised.keys()].toSorted((a, b) => a - b)).toEqual(asked.slice(0, 3).map(({ task }) => task))
  expect(promised.get(asked[0]!.task)).toMatchObject({ chosen: 'h1', needMiB: 794 })
  // What they were promised is seen by whoever comes alone, and asking again promises nothing twice.
  const alone = db.transaction((tx) => reserveOn(tx, wants('h1')))
  expect(await alone).toMatchObject({ reserved: false, reason: 'h1: 12 MiB free, 794 MiB needed' })
  expect((await db.transaction((tx) => reserveMany(tx, asked.slice(0, 3)))).size).toBe(3)
})

test('without hosts, the answer says so', async () => {
  expect(await place()).toMatchObject({ host: null, reason: 'there are no hosts' })
})

test('a promise ends with its task, and whoever was parked for want of room hears that some is free', async () => {
  await upHost('h1', 2048 + 1000)
  const heard: string[] = []
  const listening = await db.listen(ROOM_CHANNEL, (notice) =>
    heard.push(notice.kind === 'message' ? notice.payload : 'gap')
  )
  const vm = seenVm({ name: 'a', power: 'running', maxMemoryMiB: 512 })
  expect(await place({ vm: vm.uuid, memoryMiB: 512 })).toMatchObject({ host: 'h1' })
  expect(await place({ memoryMiB: 512 })).toMatchObject({ host: null })
  // No such task runs.
  expect(await endPromises(db)).toEqual(['h1'])
  expect(await place({ memoryMiB: 512 })).toMatchObject({ host: 'h1' })
  await endPromises(db)
  await recordVm(db, await beginSight(db), 'h1', vm.uuid, vm)
  expect(heard).toEqual([])
  await recordVm(db, await beginSight(db), 'h1', vm.uuid, { ...vm, power: 'off' })
  await eventually(() => Promise.resolve(expect(heard).toEqual(['h1'])))
  await setCordon(db, 'h1', { reason: 'rest', by: 'op' })
  await setCordon(db, 'h1', null)
  await eventually(() => Promise.resolve(expect(heard).toEqual(['h1', 'h1'])))
  await listening.stop()
})

test("a host's load is the sum of what is on it, also when two sights of it are written at once", async () => {
  await upHost('h1')
  const [a, b] = [seenVm({ name: 'a', power: 'running' }), seenVm({ name: 'b', power: 'running' })]
  const load = async () => (await db.query('select active_vms, resting_mib from inventory.host_load'))[0]
  const sights = [await beginSight(db), await beginSight(db), await beginSight(db)] as const
  await recordVm(db, sights[0], 'h1', a.uuid, { ...a, power: 'off' })
  expect(await load()).toEqual({ active_vms: 0, resting_mib: Math.ceil(1024 * 1.05) + 256 })
  let second: Promise<unknown> = Promise.resolve()
  await db.transaction(async (tx) => {
    await recordVm(tx, sights[1], 'h1', a.uuid, a)
    // Waits for the first, whose change it could not see when it began.
    second = recordVm(db, sights[2], 'h1', b.uuid, b)
    await eventually(async () => {
      const waiting = await db.query(`select from pg_locks where not granted and database = (
        select oid from pg_database where datname = current_database()) or (not granted and locktype = 'transactionid')`)
      expect(waiting.length).toBeGreaterThan(0)
    })
  })
  await second
  expect(await load()).toEqual({ active_vms: 2, resting_mib: 0 })
})

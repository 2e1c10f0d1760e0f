// Lists in pages, references and suggestions: what people and programs ask of the inventory.

import { randomUUID } from 'node:crypto'
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { Database } from '../../src/db/open.ts'
import { addHost, forgetHost, hostOfMachine, knownHosts, mayRunOn, setCordon } from '../../src/inventory/hosts.ts'
import { confirmOff } from '../../src/inventory/maintenance.ts'
import { beginSight, forgetGone, recordListing } from '../../src/inventory/observe.ts'
import { listHosts, listNetworks, listPools, listStores, listVms, listVolumes } from '../../src/inventory/read.ts'
import { closeNames, findVm } from '../../src/inventory/resolve.ts'
import { freshDatabase, type FreshDatabase } from '../support/postgres.ts'
import { bindWhereabouts, knownHost, recordVm, seenPool, seenVm, seenVolume, setConnection } from './seen.ts'

let fresh: FreshDatabase
let db: Database
beforeEach(async () => {
  fresh = await freshDatabase({ poolSize: 4 })
  db = fresh.database
})
afterEach(() => fresh.drop())

async function see(host: string, ...vms: ReturnType<typeof seenVm>[]) {
  const sight = await beginSight(db)
  const pools = [seenPool({ name: 'default', volumes: [seenVolume(`/pools/default/${host}.img`)] })]
  const networks = [{ name: 'lan', uuid: randomUUID(), active: true, persistent: true, autostart: true, bridge: 'br0' }]
  await db.transaction((tx) => recordListing(tx, sight, host, { vms, pools, networks }))
}

test('a long list is read in pages without a gap or a repetition', async () => {
  await knownHost(db, 'h1')
  const names = Array.from({ length: 250 }, (_, index) => `vm${index % 125}`)
  await see('h1', ...names.map((name) => seenVm({ name })))
  const read: string[] = []
  let after: string | undefined
  do {
    const { items, next } = await listVms(db, { limit: 60, after })
    read.push(...items.map((vm) => `${vm.name} ${vm.uuid}`))
    after = next ?? undefined
  } while (after !== undefined)
  expect(read).toHaveLength(250)
  expect(new Set(read).size).toBe(250)
  expect(read).toEqual(read.toSorted())
})

test('lists are filtered by host, power and name, and a star is the only magic', async () => {
  await knownHost(db, 'h1')
  await knownHost(db, 'h2')
  await see('h1', seenVm({ name: 'web1', power: 'running' }), seenVm({ name: 'web2' }), seenVm({ name: 'a_b' }))
  await see('h2', seenVm({ name: 'db1', power: 'paused' }))
  const named = async (filter: Parameters<typeof listVms>[1]) => (await listVms(db, filter)).items.map((vm) => vm.name)
  expect(await named({})).toEqual(['a_b', 'db1', 'web1', 'web2'])
  expect(await named({ host: 'h2' })).toEqual(['db1'])
  expect(await named({ power: 'running' })).toEqual(['web1'])
  expect(await named({ power: 'off', host: 'h1' })).toEqual(['a_b', 'web2'])
  expect(await named({ name: 'web*' })).toEqual(['web1', 'web2'])
  expect(await named({ name: 'a_b' })).toEqual(['a_b'])
  expect(await named({ name: 'w%' })).toEqual([])
  expect(await named({ name: '____' })).toEqual([])
  await expect(listVms(db, { after: 'no cursor' })).rejects.toMatchObject({ code: 'bad_input' })
  expect((await listHosts(db)).items.map((host) => host.name)).toEqual(['h1', 'h2'])
  expect((await listPools(db, { host: 'h2' })).items).toMatchObject([{ name: 'default', store: 'h2/default' }])
  expect((await listStores(db)).items.map((store) => store.name)).toEqual(['h1/default', 'h2/default'])
  expect((await listVolumes(db, { store: 'h1/default' })).items).toMatchObject([{ name: 'h1.img' }])
  expect((await listNetworks(db)).items).toHaveLength(2)
})

test('a VM is found by name, name and host, or UUID; what is not clear says what it could be', async () => {
  await knownHost(db, 'h1')
  await knownHost(db, 'h2')
  const [one, two] = [seenVm({ name: 'web1' }), seenVm({ name: 'web1' })]
  await see('h1', one, seenVm({ name: 'database' }))
  await see('h2', two)
  expect((await findVm(db, 'database')).home).toBe('h1')
  expect((await findVm(db, 'web1@h2')).uuid).toBe(two.uuid)
  expect((await findVm(db, one.uuid.toUpperCase())).uuid).toBe(one.uuid)
  await expect(findVm(db, 'web1')).rejects.toMatchObject({ code: 'ambiguous', candidates: ['web1@h1', 'web1@h2'] })
  await expect(findVm(db, 'datbaase')).rejects.toMatchObject({ code: 'not_found', candidates: ['database'] })
  await expect(findVm(db, `'; drop table --`)).rejects.toMatchObject({ code: 'not_found', candidates: [] })
  await expect(findVm(db, 'a\0b')).rejects.toMatchObject({ code: 'not_found' })
  await expect(findVm(db, randomUUID())).rejects.toMatchObject({ code: 'not_found' })
  expect(await closeNames(db, 'host', 'h3')).toEqual(['h1', 'h2'])
})

test('one machine is one host: a second name for it is refused, and so is another machine for a name', async () => {
  const uuid = await knownHost(db, 'h1')
  const host = { controlUri: 'qemu+tls://x/system', peerUri: null, migrationUri: null, by: 'op' }
  await expect(addHost(db, { ...host, name: 'h2', uuid })).rejects.toMatchObject({
    code: 'duplicate_host',
    message: expect.stringContaining(uuid)
  })
  await expect(addHost(db, { ...host, name: 'h1', uuid: randomUUID() })).rejects.toMatchObject({
    code: 'duplicate_host'
  })
  await expect(addHost(db, { ...host, name: '../etc', uuid: randomUUID() })).rejects.toMatchObject({
    code: 'bad_input'
  })
  await addHost(db, { ...host, name: 'h1', uuid, peerUri: 'qemu+tls://peer/system' })
  expect(await knownHosts(db)).toMatchObject([{ name: 'h1', uuid, peerUri: 'qemu+tls://peer/system' }])
  expect(await hostOfMachine(db, uuid)).toMatchObject({ name: 'h1' })
  await expect(setCordon(db, 'none', null)).rejects.toMatchObject({ code: 'unknown_host' })
  await db.transaction((tx) => forgetHost(tx, 'h1'))
  await db.transaction((tx) => forgetHost(tx, 'h1'))
  expect(await knownHosts(db)).toEqual([])
})

test('VMs that may run on a host: those that are active, and of a silent host all, until somebody says that it is off', async () => {
  await knownHost(db, 'h1')
  await see('h1', seenVm({ name: 'a', power: 'running' }), seenVm({ name: 'b' }))
  const bound = '00000000-0000-4000-8000-000000000001' // shown by its UUID, which comes before the names
  await bindWhereabouts(db, bound, 'h1')
  const now = () => db.transaction((tx) => mayRunOn(tx, 'h1'))
  await setConnection(db, 'h1', 'up', null)
  expect(await now()).toEqual(['a'])
  await setConnection(db, 'h1', 'down', 'no power')
  expect(await now()).toEqual([bound, 'a', 'b'])
  expect(await confirmOff(db, 'h1', { reason: 'no power', by: 'op' })).toBe(true)
  expect(await now()).toEqual([])
})

test('a VM that has long been gone is forgotten, with where it was', async () => {
  await knownHost(db, 'h1')
  const vm = seenVm({ name: 'old' })
  await see('h1', vm)
  expect(await forgetGone(db, 0)).toBe(0)
  await recordVm(db, await beginSight(db), 'h1', vm.uuid, undefined)
  expect(await forgetGone(db, 60_000)).toBe(0)
  expect(await forgetGone(db, -1000)).toBe(1)
  expect(await db.query('select from inventory.whereabouts')).toEqual([])
})

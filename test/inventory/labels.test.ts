// Labels and selectors: SQL picks what the words say, and placement keeps apart what is to be kept apart.
import { randomUUID } from 'node:crypto'
import fc from 'fast-check'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { Database } from '../../src/db/open.ts'
import { changeLabels, readLabels } from '../../src/inventory/labels.ts'
import { beginSight, recordListing } from '../../src/inventory/observe.ts'
import { placeVm, reserveOn } from '../../src/inventory/place.ts'
import { listHosts, listVms } from '../../src/inventory/read.ts'
import { matches, parseLabel, parseSelector } from '../../src/model/selector.ts'
import { freshDatabase, type FreshDatabase } from '../support/postgres.ts'
import { knownHost, seenVm, setConnection } from './seen.ts'

let fresh: FreshDatabase
let db: Database
beforeAll(async () => {
  fresh = await freshDatabase({ poolSize: 4 })
  db = fresh.database
})
afterAll(() => fresh.drop())

const label = (kind: 'vm' | 'host', name: string, set: Record<string, string>, remove: string[] = []) =>
  db.transaction((tx) => changeLabels(tx, kind, name, { set, remove }))

async function hostWith(name: string, names: string[]) {
  await knownHost(db, name, { memoryMiB: 16_384 })
  await setConnection(db, name, 'up', null)
  const vms = names.map((vm) => seenVm({ name: vm }))
  const sight = await beginSight(db)
  await db.transaction((tx) => recordListing(tx, sight, name, { vms, pools: [], networks: [] }))
  return vms.map(({ uuid }) => uuid)
}

test('a selector is read term by term, and what is none is refused with the way to write one', () => {
  expect(parseSelector('role=web, tier!=test,zone in (a, b),!old,new,x notin (c)')).toEqual([
    { key: 'role', op: 'in', values: ['web'] },
    { key: 'tier', op: 'notin', values: ['test'] },
    { key: 'zone', op: 'in', values: ['a', 'b'] },
    { key: 'old', op: 'absent', values: [] },
    { key: 'new', op: 'exists', values: [] },
    { key: 'x', op: 'notin', values: ['c'] }
  ])
  for (const bad of ['', ',', 'a=', '=b', 'a in ()', 'a in b', "a='; drop table x", 'a=b c', '!'])
    expect(() => parseSelector(bad), bad).toThrow(/selector/)
  expect(parseLabel('role=web')).toEqual(['role', 'web'])
  expect(() => parseLabel('role')).toThrow(/key=value/)
})

test('lists pick exactly what the words of a selector pick', async () => {
  const uuids = await hostWith(
    'h1',
    Array.from({ length: 12 }, (_, index) => `vm${index}`)
  )
  const labels = new Map<string, Record<string, string>>()
  for (const [index, uuid] of uuids.entries()) {
    const set: Record<string, string> = {
      ...(index % 2 ? { role: 'web' } : {}),
      ...(index % 3 ? { zone: 'abc'[index % 3] ?? '' } : {})
    }
    labels.set(uuid, set)
    await label('vm', uuid, set)
  }
  const term = fc.oneof(
    fc.constantFrom('role', '!role', 'zone', '!zone', 'role=web', 'role!=web', 'other=x', 'other!=x'),
    fc
      .tuple(fc.constantFrom('in', 'notin'), fc.subarray(['a', 'b', 'c', 'd'], { minLength: 1 }))
      .map(([op, zones]) => `zone ${op} (${zones.join(',')})`)
  )
  await fc.assert(
    fc.asyncProperty(fc.array(term, { minLength: 1, maxLength: 3 }), async (terms) => {
      const text = terms.join(',')
      const { items } = await listVms(db, { labels: text })
      const expected = uuids.filter((uuid) => matches(parseSelector(text), labels.get(uuid) ?? {}))
      expect(items.map(({ uuid }) => uuid).toSorted(), text).toEqual(expected.toSorted())
      for (const { uuid, labels: shown } of items) expect(shown).toEqual(labels.get(uuid))
    }),
    { numRuns: 40 }
  )
  await expect(listVms(db, { labels: 'role==' })).rejects.toThrow(/selector/)
})

test('labels of hosts are set, replaced and removed, and pick hosts', async () => {
  await hostWith('h2', [])
  await label('host', 'h2', { zone: 'a', rack: '3' })
  await label('host', 'h2', { zone: 'b' }, ['rack'])
  expect(await readLabels(db, 'host', 'h2')).toEqual({ zone: 'b' })
  expect((await listHosts(db, { labels: 'zone=b' })).items.map(({ name }) => name)).toEqual(['h2'])
  expect((await listHosts(db, { labels: 'zone!=b' })).items.map(({ name }) => name)).toEqual(['h1'])
})

test('VMs with one anti-affinity label are never placed on one host, nor promised room on it', async () => {
  const [first, second] = await hostWith('h3', ['apart1', 'apart2'])
  for (const uuid of [first!, second!]) await label('vm', uuid, { 'anti-affinity': 'db' })
  const need = (vm: string, task: number) => ({
    task,
    vm,
    memoryMiB: 512,
    vcpus: 1,
    stores: [],
    networks: [],
    prefer: 'h3'
  })
  expect(await db.transaction((tx) => placeVm(tx, need(first!, 1)))).toMatchObject({ host: 'h3' })
  const placed = await db.transaction((tx) => placeVm(tx, need(second!, 2)))
  expect(placed.host).not.toBe('h3')
  expect(placed.considered['hosts']).toContainEqual(
    expect.objectContaining({ host: 'h3', why: 'anti-affinity=db: apart1 is there' })
  )
  const named = await db.transaction((tx) => reserveOn(tx, { task: 3, host: 'h3', vm: second!, memoryMiB: 512 }))
  expect(named).toMatchObject({ reserved: false, reason: 'h3: anti-affinity=db: apart1 is there' })
  expect(
    await db.transaction((tx) => reserveOn(tx, { task: 4, host: 'h3', vm: randomUUID(), memoryMiB: 512 }))
  ).toMatchObject({
    reserved: true
  })
})

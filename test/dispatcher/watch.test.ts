// Watchers and the observer, against simulated hosts: what others do on a host is in the inventory soon after.

import { randomUUID } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pino from 'pino'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { createObserver } from '../../src/dispatcher/watch-observer.ts'
import { startWatchers, type Watchers } from '../../src/dispatcher/watch.ts'
import { connectHost, HostConnections } from '../../src/host/connections.ts'
import type { Host } from '../../src/host/host.ts'
import { readDefinition } from '../../src/inventory/definitions.ts'
import type { HostFacts, PoolFacts, VmFacts } from '../../src/inventory/facts.ts'
import { addHost, forgetHost } from '../../src/inventory/hosts.ts'
import { loadFacts } from '../../src/inventory/load.ts'
import type { VmChange } from '../../src/inventory/observe.ts'
import type { VmSpec } from '../../src/model/vm.ts'
import { registerDispatcher } from '../../src/queue/dispatch.ts'
import { startSimFleet, type SimFleet } from '../../src/sim/fleet.ts'
import { freshDatabase, type FreshDatabase } from '../support/postgres.ts'
import { eventually } from '../system/eventually.ts'
import { setConnection } from '../inventory/seen.ts'

const mark = { instance: randomUUID(), task: 1, generation: 1 }
const everything = { savedImage: true, snapshots: true, firmwareState: true }
const fresh = { freshBoot: true, paused: false }

let dir: string
let db: FreshDatabase
let fleet: SimFleet
let hosts: HostConnections
let watchers: Watchers
let ups: string[]
let missed: VmChange[]
/** What somebody else does behind our back. */
let outside: Record<'h1' | 'h2', Host>
let closing: (() => Promise<unknown>)[]

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'tk-watch-'))
  db = await freshDatabase()
  fleet = await startSimFleet({ dir, hosts: 2, sharedStores: [{ name: 'nfs', path: '/shared' }] })
  hosts = new HostConnections({ firstRetryMs: 20, lastRetryMs: 50 })
  ups = []
  missed = []
  const [h1, h2] = await Promise.all(
    ['h1', 'h2'].map((name) =>
      connectHost({ name, controlUri: fleet.host(name).uri }, { firstRetryMs: 20, lastRetryMs: 50 })
    )
  )
  if (!h1 || !h2) throw new Error('no hosts')
  outside = { h1: h1.host, h2: h2.host }
  closing = [() => h1.close(), () => h2.close()]
})
afterEach(async () => {
  await watchers?.stop()
  await hosts.stop()
  for (const close of closing) await close()
  await fleet.stop()
  await db.drop()
  await rm(dir, { recursive: true, force: true })
})

async function add(name: string, from = name) {
  const { uri, uuid } = fleet.host(from)
  await addHost(db.database, { name, uuid, controlUri: uri, peerUri: null, migrationUri: null, by: 'op' })
}

/** Nobody beats here. */
const longLease = () => registerDispatcher(db.database, { name: 'watch', leaseMs: 600_000 })

async function watch(graceMs = 300) {
  watchers = await startWatchers({
    database: db.database,
    hosts,
    lease: await longLease(),
    log: pino({ level: 'silent' }),
    onHostUp: (host) => ups.push(host),
    onMissed: (_host, change) => missed.push(change),
    graceMs
  })
}

const allUp = (...names: string[]) =>
  eventually(() => Promise.resolve(expect(names.every((name) => watchers.isUp(name))).toBe(true)))

async function facts<T>(subject: string): Promise<T | null> {
  return ((await loadFacts(db.database, [subject])).get(subject) ?? null) as T | null
}

const vmSpec = (name: string): VmSpec => ({
  uuid: randomUUID(),
  name,
  memoryMiB: 64,
  vcpus: 1,
  disks: [],
  nics: [],
  firmware: 'bios',
  graphics: 'none'
})

async function define(host: Host, name: string): Promise<string> {
  const spec = vmSpec(name)
  await host.defineVm(await host.vmXmlFor(spec, mark))
  return spec.uuid
}

describe('watching', () => {
  test('what is on a host is known once it is up, and nobody is told before', async () => {
    const vm = await define(outside.h1, 'web1')
    await outside.h1.startVm(vm, fresh)
    await outside.h2.definePool({ name: 'nfs', type: 'dir', target: '/shared' })
    await add('h1')
    await add('h2')
    const before: (VmFacts | null)[] = []
    watchers = await startWatchers({
      database: db.database,
      hosts,
      lease: await longLease(),
      log: pino({ level: 'silent' }),
      onHostUp: (host) => {
        ups.push(host)
        if (host === 'h1') void facts<VmFacts>(`vm/${vm}`).then((found) => before.push(found))
      }
    })
    await eventually(async () => expect(before).toMatchObject([{ home: 'h1', activeOn: 'h1', power: 'running' }]))
    await allUp('h1', 'h2')
    expect(ups.toSorted()).toEqual(['h1', 'h2'])
    expect(await facts<HostFacts>('host/h1')).toMatchObject({ connection: 'up', activeVms: 1, memoryMiB: 65_536 })
    expect(await facts<PoolFacts>('pool/h2/nfs')).toMatchObject({ active: true, store: 'h2/nfs' })
  })

  test('what others do is known by its event, without any list', async () => {
    await add('h1')
    await watch()
    await allUp('h1')
    const uuid = await define(outside.h1, 'web1')
    await eventually(async () => expect(await facts(`vm/${uuid}`)).toMatchObject({ power: 'off' }))
    await outside.h1.startVm(uuid, fresh)
    await eventually(async () => expect(await facts(`vm/${uuid}`)).toMatchObject({ power: 'running' }))
    await outside.h1.shutDownVm(uuid)
    await eventually(async () => expect(await facts(`vm/${uuid}`)).toMatchObject({ power: 'off', reason: 'shutdown' }))
    await outside.h1.definePool({ name: 'tank', type: 'dir', target: '/tank' })
    await eventually(async () => expect(await facts('pool/h1/tank')).toMatchObject({ active: true }))
    await outside.h1.stopPool('tank')
    await outside.h1.undefinePool('tank')
    await eventually(async () => expect(await facts('pool/h1/tank')).toBeNull())
    await outside.h1.undefineVm(uuid, everything)
    await eventually(async () => expect(await facts(`vm/${uuid}`)).toBeNull())
    watchers.relist()
    await eventually(async () => {
      const [row] = await db.database.query<{ old: boolean }>(
        `select listed_at < clock_timestamp() - interval '1 second' as old from inventory.host`
      )
      expect(row?.old).toBe(false)
    })
    expect(missed).toEqual([])
  })

  test('a VM that migrates has its home on the target afterwards', async () => {
    await add('h1')
    await add('h2')
    await watch()
    await allUp('h1', 'h2')
    const uuid = await define(outside.h1, 'web1')
    await outside.h1.startVm(uuid, fresh)
    await outside.h1.migrateVm(uuid, {
      peerUri: fleet.host('h2').uri,
      migrationUri: null,
      live: true,
      persistent: true,
      tls: false,
      unsafe: true,
      autoConverge: false,
      postCopy: false,
      copyStorage: false,
      bandwidthMiBps: null
    })
    await eventually(async () =>
      expect(await facts(`vm/${uuid}`)).toMatchObject({ home: 'h2', activeOn: 'h2', power: 'running', elsewhere: {} })
    )
  })

  test('while a host is down it says so and why; what changed meanwhile is known when it is back', async () => {
    await add('h1')
    await watch()
    await allUp('h1')
    const stays = await Promise.all(Array.from({ length: 50 }, (_, index) => define(outside.h1, `vm${index}`)))
    await eventually(async () => expect((await facts<HostFacts>('host/h1'))?.definitions).toBe(50))

    const { server } = fleet.host('h1')
    await server.stop()
    await eventually(async () =>
      expect(await facts('host/h1')).toMatchObject({ connection: 'down', connectionReason: expect.any(String) })
    )
    expect(watchers.isUp('h1')).toBe(false)
    await expect(hosts.host('h1').list()).rejects.toMatchObject({ code: 'unreachable' })
    // Nobody hears of these: the daemon's own host changes while nobody is connected.
    for (const uuid of stays.slice(0, 25)) fleet.host('h1').domains.delete(uuid)
    const begun = performance.now()
    await server.start()
    await allUp('h1')
    expect(performance.now() - begun).toBeLessThan(1000)
    const all = await loadFacts(
      db.database,
      stays.map((uuid) => `vm/${uuid}`)
    )
    expect([...all.values()].filter((vm) => vm === null)).toHaveLength(25)
    expect(await facts('host/h1')).toMatchObject({ connection: 'up', connectionReason: null, definitions: 25 })
    expect(ups).toEqual(['h1', 'h1'])
  })

  test('a change whose events were lost is found by the guard list, and told', async () => {
    await add('h1')
    // The event of its definition is older than that when the guard lists.
    await watch(1)
    await allUp('h1')
    const uuid = await define(outside.h1, 'web1')
    await eventually(async () => expect(await facts(`vm/${uuid}`)).toMatchObject({ power: 'off' }))
    fleet.host('h1').faults.loseEvents(10)
    await outside.h1.startVm(uuid, fresh)
    expect(await facts(`vm/${uuid}`)).toMatchObject({ power: 'off' })
    watchers.relist()
    await eventually(() =>
      Promise.resolve(
        expect(missed).toEqual([
          {
            vm: uuid,
            name: 'web1',
            was: { state: 'defined', power: 'off' },
            now: { state: 'active', power: 'running' }
          }
        ])
      )
    )
    expect(await facts(`vm/${uuid}`)).toMatchObject({ power: 'running' })
  })

  test('hosts that are added and forgotten by anybody are followed and left', async () => {
    await watch()
    await add('h1')
    await allUp('h1')
    const uuid = await define(outside.h1, 'web1')
    await eventually(async () => expect(await facts(`vm/${uuid}`)).toMatchObject({ home: 'h1' }))
    await db.database.transaction((tx) => forgetHost(tx, 'h1'))
    await eventually(() => Promise.resolve(expect(hosts.names()).toEqual([])))
    expect(watchers.isUp('h1')).toBe(false)
    expect(await facts(`vm/${uuid}`)).toBeNull()
  })

  test('another machine at the address is down, with the reason', async () => {
    await addHost(db.database, {
      name: 'h1',
      uuid: randomUUID(),
      controlUri: fleet.host('h2').uri,
      peerUri: null,
      migrationUri: null,
      by: 'op'
    })
    await watch()
    await eventually(async () =>
      expect(await facts('host/h1')).toMatchObject({
        connection: 'down',
        connectionReason: expect.stringContaining(fleet.host('h2').uuid)
      })
    )
  })

  test('the end can be called twice, and nothing is written after it', async () => {
    await add('h1')
    await watch()
    await allUp('h1')
    await watchers.stop()
    await watchers.stop()
    const uuid = await define(outside.h1, 'late')
    expect(await facts(`vm/${uuid}`)).toBeNull()
  })
})

describe('the observer', () => {
  const observer = () => createObserver({ database: db.database, hosts, definitionKey: Buffer.alloc(32, 7) })

  test('adds a host that can be asked at once, records what it looks at, and forgets it', async () => {
    hosts.start()
    const { uri, uuid } = fleet.host('h1')
    const observe = observer()
    const host = { name: 'h1', uuid, controlUri: uri, peerUri: null, migrationUri: null, by: 'op' }
    await observe.addHost(host)
    await observe.host('h1')
    const vm = await define(outside.h1, 'web1')
    await observe.vm('h1', vm)
    expect(await facts(`vm/${vm}`)).toMatchObject({ home: 'h1', power: 'off' })
    await outside.h1.definePool({ name: 'tank', type: 'dir', target: '/tank' })
    await observe.pool('h1', 'tank')
    expect(await facts('store/h1/tank')).toMatchObject({ shared: false })
    await observe.setCordon('h1', { reason: 'rest', by: 'op' })
    expect(await facts('host/h1')).toMatchObject({ cordoned: true, cordonReason: 'rest' })
    await observe.bindWhereabouts(vm, 'h1')
    expect(await observe.whereabouts(vm)).toEqual([{ host: 'h1', state: 'defined' }])
    await expect(observe.addHost({ ...host, name: 'again' })).rejects.toMatchObject({ code: 'duplicate_host' })
    // Nobody has said that it answers: what it has may run.
    expect(await observe.forgetHost('h1')).toEqual(['web1'])
    await setConnection(db.database, 'h1', 'up', null)
    expect(await observe.forgetHost('h1')).toEqual([])
    await expect(observe.vm('h1', vm)).rejects.toMatchObject({ code: 'unknown_host' })
  })

  test('keeps a definition that only its key opens', async () => {
    hosts.start()
    await add('h1')
    const observe = observer()
    hosts.setHosts([{ name: 'h1', controlUri: fleet.host('h1').uri, uuid: null }])
    const vm = await define(outside.h1, 'web1')
    await observe.vm('h1', vm)
    const xml = await hosts.host('h1').vmXml(vm, { inactive: true, secure: true })
    await observe.keepDefinition(vm, 'h1', xml)
    const [row] = await db.database.query<{ sealed: Buffer }>('select sealed from inventory.definition')
    expect(row?.sealed.includes('domain')).toBe(false)
    expect(await readDefinition(db.database, Buffer.alloc(32, 7), vm)).toMatchObject({ name: 'web1', host: 'h1', xml })
    await expect(readDefinition(db.database, Buffer.alloc(32, 8), vm)).rejects.toMatchObject({ code: 'sealed' })
  })
})

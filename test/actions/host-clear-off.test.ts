// A host that is down: nothing of it moves, nothing that nobody can tell of it is decided, until somebody answers for its being off.
import { afterAll, beforeAll, expect, test } from 'vitest'
import { keepDefinition } from '../../src/inventory/definitions.ts'
import { loadFacts } from '../../src/inventory/load.ts'
import { DomainState } from '../../src/libvirt/constants.gen.ts'
import { resource } from '../../src/model/resource.ts'
import { startTestEngine, type TestEngine } from '../support/engine.ts'

let engine: TestEngine
beforeAll(async () => {
  engine = await startTestEngine({ hosts: 3, fleet: { sharedStores: [{ name: 'nfs1', path: '/srv/nfs1' }] } })
  for (const host of ['h1', 'h2', 'h3']) await done('pool.create', { host, pool: 'nfs1', target: '/srv/nfs1' })
  await done('store.share', { store: 'nfs1', pools: ['h1', 'h2', 'h3'].map((host) => ({ host, pool: 'nfs1' })) })
})
afterAll(async () => {
  await engine.stop()
})

const done = async (action: string, args: Parameters<TestEngine['run']>[1]) => {
  const task = await engine.run(action, args)
  expect(task, JSON.stringify(task.error)).toMatchObject({ state: 'complete' })
  return task
}

const factsOf = async (subject: string) => (await loadFacts(engine.database, [subject])).get(subject)

const uuidOf = async (name: string): Promise<string> =>
  Object.keys((await factsOf(resource.vmName(name))) ?? {})[0] ?? ''

/** Resolves once the host's connection is as said. */
async function connection(host: string, wanted: 'up' | 'down'): Promise<void> {
  await expect.poll(async () => (await factsOf(resource.host(host)))?.['connection'], { timeout: 15_000 }).toBe(wanted)
}

test('a host that answers is not confirmed to be off', async () => {
  await expect(engine.submit('host.confirm-off', { host: 'h1', reason: 'I think so' })).rejects.toThrow(/h1 answers/)
})

test('one statement settles everything that nobody could tell of a dead host, and until then nothing is decided', async () => {
  for (const name of ['web1', 'web2', 'web3']) {
    await done('vm.create', { name, memoryMiB: 256, vcpus: 1, host: 'h1', disks: [{ store: 'nfs1', sizeMiB: 16 }] })
  }
  await done('vm.start', { vm: 'web1' })
  const h1 = engine.fleet.host('h1')
  // Both starts are sent, and the power is cut before either is answered.
  h1.faults.add({ on: 'DOMAIN_CREATE_WITH_FLAGS', fault: { kind: 'lose_reply' } })
  const starts = [await engine.submit('vm.start', { vm: 'web2' }), await engine.submit('vm.start', { vm: 'web3' })]
  await expect.poll(() => [...h1.domains.values()].filter(({ state }) => state === DomainState.RUNNING).length).toBe(3)
  await engine.fleet.powerOff('h1')
  await connection('h1', 'down')
  for (const start of starts) await engine.until(start, ({ state }) => state === 'uncertain')

  // Forgotten, they would be started elsewhere, beside what may run there.
  await expect(engine.submit('host.remove', { host: 'h1', forget: true })).rejects.toThrow(/h1 does not answer/)

  const web1 = resource.vm(await uuidOf('web1'))
  expect(await factsOf(web1)).toMatchObject({ power: 'running', activeOn: 'h1' })
  expect(await engine.run('host.confirm-off', { host: 'h1', reason: 'power cut' })).toMatchObject({ state: 'complete' })
  for (const start of starts) {
    const task = await engine.until(start)
    expect(task).toMatchObject({ state: 'failed', error: { code: 'host_confirmed_off' } })
  }
  expect(await factsOf(web1)).toMatchObject({ power: 'off', reason: 'host confirmed off', activeOn: null, home: 'h1' })
  expect(await factsOf(resource.host('h1'))).toMatchObject({
    cordoned: true,
    confirmedOff: 'power cut',
    unreconciled: false,
    activeVms: 0,
    inMaintenance: false
  })
  // Said twice it is the same statement.
  await done('host.confirm-off', { host: 'h1', reason: 'power cut' })
}, 30_000)

test('a host that returns stays closed, and is no longer believed to be off', async () => {
  await engine.fleet.boot('h1')
  await connection('h1', 'up')
  expect(await factsOf(resource.host('h1'))).toMatchObject({ cordoned: true, confirmedOff: null, unreconciled: true })
}, 20_000)

test('a host that is opened again loses no definition but those of VMs whose home is elsewhere, and none with snapshots', async () => {
  const [web1, web2, web3] = [await uuidOf('web1'), await uuidOf('web2'), await uuidOf('web3')]
  const { hosts } = engine.engine
  for (const name of ['web1', 'web2', 'web3']) await off(name)
  await engine.fleet.powerOff('h1')
  await connection('h1', 'down')
  await done('host.confirm-off', { host: 'h1', reason: 'power cut again' })
  for (const vm of [web2, web3]) await done('vm.start', { vm, host: 'h2' })
  await engine.fleet.boot('h1')
  await connection('h1', 'up')
  // A definition of web1 is kept on h3 by somebody, and web3 has a snapshot on h1.
  await hosts.host('h3').defineVm(await hosts.host('h1').vmXml(web1, { inactive: true, secure: true }))
  const mark = { instance: '1f0c93ab-0000-4000-8000-000000000000', task: 1, generation: 1 }
  await hosts.host('h1').createSnapshot(web3, { name: 'a', description: null, mark })
  for (const host of ['h1', 'h3']) await done('host.refresh', { host })
  expect(await factsOf(resource.vm(web1))).toMatchObject({ home: 'h1', elsewhere: { h3: 'defined' } })
  await done('host.uncordon', { host: 'h1' })
  expect([...engine.fleet.host('h1').domains.keys()].toSorted()).toEqual([web1, web3].toSorted())
}, 30_000)

/** Its definition is kept, as it is sooner or later. */
async function off(name: string): Promise<void> {
  const uuid = await uuidOf(name)
  const host = engine.engine.hosts.host('h1')
  if (engine.fleet.host('h1').domains.get(uuid)?.state === DomainState.RUNNING) await host.powerOffVm(uuid)
  const xml = await host.vmXml(uuid, { inactive: true, secure: true })
  await keepDefinition(engine.database, Buffer.alloc(32, 7), { uuid, host: 'h1', xml })
}

// A VM's life through queue, dispatcher, hosts and inventory: what the database keeps of saved images, homes and definitions.
import { afterAll, beforeAll, expect, test } from 'vitest'
import { digestOf } from '../../src/actions/vm-edit.ts'
import type { JsonObject } from '../../src/db/json.ts'
import { readDefinition } from '../../src/inventory/definitions.ts'
import type { VmFacts } from '../../src/inventory/facts.ts'
import { loadFacts } from '../../src/inventory/load.ts'
import { resource } from '../../src/model/resource.ts'
import type { Task } from '../../src/queue/task.ts'
import { startTestEngine, type TestEngine } from '../support/engine.ts'
import { eventually } from '../system/eventually.ts'

let engine: TestEngine
let uuid: string
beforeAll(async () => {
  engine = await startTestEngine({ hosts: 3, fleet: { sharedStores: [{ name: 'nfs1', path: '/srv/nfs1' }] } })
  const pools = ['h1', 'h2', 'h3'].map((host) => ({ host, pool: 'nfs1' }))
  for (const pool of pools) await done('pool.create', { ...pool, target: '/srv/nfs1' })
  await done('store.share', { store: 'nfs1', pools })
  const disks = [{ store: 'nfs1', sizeMiB: 64 }]
  const { result } = await done('vm.create', { name: 'web1', memoryMiB: 256, host: 'h1', disks })
  uuid = (result as { uuid: string }).uuid
}, 60_000)
afterAll(() => engine?.stop())

async function done(action: string, args: JsonObject): Promise<Task> {
  const task = await engine.run(action, args)
  expect(task, JSON.stringify(task.error)).toMatchObject({ state: 'complete' })
  return task
}

const facts = async () => {
  const [[, found] = []] = await loadFacts(engine.database, [resource.vm(uuid)])
  return found as unknown as VmFacts
}
const handle = (host: string) => engine.engine.hosts.host(host)
const homes = () =>
  engine.fleet.hosts.flatMap(({ name, domains }) =>
    [...domains.values()].some((domain) => domain.uuid === uuid) ? [name] : []
  )

test('a saved image is restored, and not once the VM was seen to run elsewhere', async () => {
  await done('vm.start', { vm: 'web1' })
  await done('vm.save', { vm: 'web1' })
  expect(await facts()).toMatchObject({ power: 'off', hasSavedImage: true, restorable: true })
  expect((await done('vm.start', { vm: 'web1' })).result).toMatchObject({ restored: true })
  expect(await facts()).toMatchObject({ power: 'running', hasSavedImage: false, restorable: false })

  await done('vm.save', { vm: 'web1' })
  await handle('h2').defineVm(await handle('h1').vmXml(uuid, { inactive: true, secure: true }))
  await handle('h2').startVm(uuid, { freshBoot: true, paused: false })
  await eventually(async () => expect((await facts()).activeOn).toBe('h2'))
  await handle('h2').powerOffVm(uuid)
  await handle('h2').undefineVm(uuid, { savedImage: true, snapshots: true, firmwareState: true })
  await eventually(async () => expect(await facts()).toMatchObject({ activeOn: null, elsewhere: {} }))
  expect(await facts()).toMatchObject({ hasSavedImage: true, restorable: false })
  await expect(engine.submit('vm.start', { vm: 'web1' })).rejects.toThrow(/saved image/)
  await done('vm.start', { vm: 'web1', discardSaved: true })
  expect(engine.fleet.journal.entries({ kind: 'restored', subject: uuid })).toHaveLength(1)
  await done('vm.stop', { vm: 'web1', force: true, timeoutSeconds: 0 })
})

test('a run that was over before anybody looked makes an image stale as well', async () => {
  await done('vm.start', { vm: 'web1' })
  await done('vm.save', { vm: 'web1' })
  await handle('h2').defineVm(await handle('h1').vmXml(uuid, { inactive: true, secure: true }))
  // Looks at h2 answer late, so that only the events tell of the run.
  const late = engine.fleet.host('h2').faults.add({ on: 'DOMAIN_GET_STATE', fault: { kind: 'delay', ms: 400 } })
  await handle('h2').startVm(uuid, { freshBoot: true, paused: false })
  await handle('h2').powerOffVm(uuid)
  await eventually(async () => expect(await facts()).toMatchObject({ hasSavedImage: true, restorable: false }))
  late()
  await handle('h2').undefineVm(uuid, { savedImage: true, snapshots: true, firmwareState: true })
  // A look that was late may still tell of it.
  await done('host.refresh', { host: 'h2' })
  await eventually(async () => expect(await facts()).toMatchObject({ activeOn: null, elsewhere: {} }))
  await done('vm.start', { vm: 'web1', discardSaved: true })
  await done('vm.stop', { vm: 'web1', force: true, timeoutSeconds: 0 })
})

test('a whole life in one plan: what is queued sees what comes before', async () => {
  const answer = await engine.submitter.submit({
    by: 'test',
    plan: { onFailure: 'stop' },
    tasks: [
      { action: 'vm.rename', args: { vm: 'web1', name: 'web2' } },
      { action: 'vm.set', args: { vm: 'web2', memoryMiB: 128, autostart: true } },
      { action: 'vm.start', args: { vm: 'web2', host: 'h2' } },
      { action: 'vm.save', args: { vm: 'web2' } },
      { action: 'vm.start', args: { vm: 'web2' } },
      { action: 'vm.reset', args: { vm: 'web2' } },
      { action: 'vm.stop', args: { vm: 'web2', force: true, timeoutSeconds: 0 } },
      { action: 'vm.rename', args: { vm: 'web2', name: 'web1' } }
    ]
  })
  engine.engine.dispatcher.wake()
  for (const { id } of answer.tasks) {
    const task = await engine.until(id)
    expect(task, JSON.stringify(task.error)).toMatchObject({ state: 'complete' })
  }
  expect(await facts()).toMatchObject({ name: 'web1', home: 'h2', maxMemoryMiB: 128, startsWithHost: { order: 100 } })
  expect(homes()).toEqual(['h2'])
})

test('an edit goes through the database and is taken back from there', async () => {
  const read = () => handle('h2').vmXml(uuid, { inactive: true, secure: false })
  const before = await read()
  await done('vm.edit', { vm: 'web1', xml: before.replace(/<vcpu[^>]*>1</, '<vcpu>3<'), was: digestOf(before) })
  expect(await facts()).toMatchObject({ vcpus: 3 })
  await done('vm.edit', { vm: 'web1', takeBack: true })
  expect(await facts()).toMatchObject({ vcpus: 1 })
})

test('a start whose home is cordoned is placed elsewhere, and its home is there from then on', async () => {
  await done('host.cordon', { host: 'h2', reason: 'new disks' })
  const { result } = await done('vm.start', { vm: 'web1' })
  expect(result).toMatchObject({ movedFrom: 'h2' })
  const { host } = result as { host: string }
  expect(host).not.toBe('h2')
  expect(await facts()).toMatchObject({ home: host, activeOn: host })
  expect(homes()).toEqual([host])
  await done('host.uncordon', { host: 'h2' })
})

test('a VM of a host that is gone starts elsewhere from its kept definition, once an operator says that the host is off', async () => {
  const { home } = await facts()
  const key = Buffer.alloc(32, 7)
  await eventually(async () =>
    expect(await readDefinition(engine.database, key, uuid)).toMatchObject({
      host: home,
      xml: expect.stringContaining(uuid)
    })
  )
  await engine.fleet.powerOff(home)
  await eventually(async () => {
    const loaded = await loadFacts(engine.database, [resource.host(home)])
    expect(loaded.get(resource.host(home))).toMatchObject({ connection: 'down' })
  })
  await done('host.confirm-off', { host: home, reason: 'its power supply burnt' })
  const to = home === 'h1' ? 'h2' : 'h1'
  expect((await done('vm.start', { vm: 'web1', host: to })).result).toMatchObject({ host: to, movedFrom: home })
  expect(await facts()).toMatchObject({ home: to, activeOn: to, elsewhere: {} })
  expect(engine.engine.dispatcher.guardPollFound()).toBe(0)
})

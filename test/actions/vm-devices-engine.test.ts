// What is attached to VMs, and what they are made from, through submission, queue, dispatcher and inventory on simulated hosts.
import { afterAll, beforeAll, expect, test } from 'vitest'
import { loadFacts } from '../../src/inventory/load.ts'
import { listImages } from '../../src/inventory/read.ts'
import { resource } from '../../src/model/resource.ts'
import type { JsonObject } from '../../src/db/json.ts'
import type { Effect, Task } from '../../src/queue/task.ts'
import { startTestEngine, type TestEngine } from '../support/engine.ts'

let engine: TestEngine
beforeAll(async () => {
  const sharedStores = ['nfs1', 'fast'].map((name) => ({ name, path: `/srv/${name}` }))
  engine = await startTestEngine({ hosts: 2, fleet: { sharedStores } })
  for (const pool of ['nfs1', 'fast']) {
    for (const host of ['h1', 'h2']) await ended('pool.create', { host, pool, target: `/srv/${pool}` })
    await ended('store.share', { store: pool, pools: ['h1', 'h2'].map((host) => ({ host, pool })) })
  }
})
afterAll(() => engine.stop())

async function ended(action: string, args: Parameters<TestEngine['run']>[1]): Promise<Task> {
  const task = await engine.run(action, args)
  expect(task, JSON.stringify(task.error)).toMatchObject({ state: 'complete' })
  return task
}
const factsOf = async (subject: string) => (await loadFacts(engine.database, [subject])).get(subject)

/** Observed anew by every look, and no effect can know them. */
const unforeseeable = new Set(['reason', 'activeOn', 'allocationBytes', 'kind'])

/** What the tasks promised, laid over each other, is what is there now. */
async function heldTo(tasks: readonly Task[]): Promise<void> {
  const ids = tasks.map(({ id }) => id)
  const rows = await engine.database.query<{ effects: Effect[] }>(
    'select effects from queue.task where id = any ($1) order by id',
    [ids]
  )
  const promised = new Map<string, JsonObject | null>()
  for (const { subject, facts } of rows.flatMap(({ effects }) => effects))
    promised.set(subject, facts === null ? null : { ...promised.get(subject), ...facts })
  for (const [subject, facts] of promised) {
    const seen = await factsOf(subject)
    if (facts === null || subject.startsWith('vm-name/') || subject.startsWith('mac/')) continue
    const known = Object.entries(facts).filter(([key]) => !unforeseeable.has(key) && !(key === 'observedAt'))
    expect(sorted(seen), subject).toMatchObject(sorted(Object.fromEntries(known)) as object)
  }
  for (const [subject, facts] of promised) if (facts === null) expect(await factsOf(subject), subject).toBeNull()
}

/** Disks in order of their names: which comes first is the host's to say. */
const sorted = (facts: unknown): unknown => {
  const { disks, ...rest } = (facts ?? {}) as { disks?: { target: string; kind?: string }[] }
  return { ...rest, ...(disks ? { disks: disks.toSorted((a, b) => (a.target < b.target ? -1 : 1)) } : {}) }
}

/** The life of a VM in one plan, before any of it exists. */
async function plan(tasks: readonly [string, Parameters<TestEngine['run']>[1]][]): Promise<Task[]> {
  const answer = await engine.submitter.submit({
    by: 'test',
    plan: { onFailure: 'stop' },
    tasks: tasks.map(([action, args]) => ({ action, args }))
  })
  engine.engine.dispatcher.wake()
  const all: Task[] = []
  for (const { id } of answer.tasks) all.push(await engine.until(id))
  for (const task of all)
    expect(task, `${task.title}: ${JSON.stringify(task.error)}`).toMatchObject({ state: 'complete' })
  return all
}

test('a VM of an image gets disks, a card and a medium, moves a disk and loses all of it, in one plan', async () => {
  const tasks = await plan([
    ['volume.create', { store: 'nfs1', name: 'base.qcow2', sizeMiB: 16 }],
    ['volume.create', { store: 'nfs1', name: 'tools.iso', sizeMiB: 1, format: 'raw' }],
    ['image.add', { name: 'base', volume: 'nfs1/base.qcow2', memoryMiB: 64, cloudInit: true }],
    [
      'vm.create',
      { name: 'web1', image: 'base', host: 'h1', disks: [{ linked: true }], nics: [{ network: 'default' }] }
    ],
    ['vm.start', { vm: 'web1' }],
    ['vm.disk.add', { vm: 'web1', store: 'nfs1', sizeMiB: 8 }],
    ['vm.disk.resize', { vm: 'web1', disk: 'vdb', sizeMiB: 12 }],
    ['vm.disk.move', { vm: 'web1', disk: 'vdb', store: 'fast', deleteSource: true }],
    ['vm.nic.add', { vm: 'web1', network: 'default' }],
    ['vm.cdrom.eject', { vm: 'web1' }],
    ['vm.cdrom.insert', { vm: 'web1', volume: 'nfs1/tools.iso' }]
  ])
  await heldTo(tasks)
  const { uuid } = tasks.find(({ action }) => action === 'vm.create')!.result as { uuid: string }
  const facts = (await factsOf(resource.vm(uuid))) as { nics: { mac: string }[] }
  expect(facts).toMatchObject({
    power: 'running',
    disks: [
      { target: 'vda', store: 'nfs1', volume: 'web1.qcow2' },
      { target: 'sda', store: 'nfs1', volume: 'tools.iso' },
      { target: 'vdb', store: 'fast', volume: 'web1-vdb.qcow2' }
    ]
  })
  expect(await factsOf('volume/fast/web1-vdb.qcow2')).toMatchObject({ capacityBytes: 12 * 1024 ** 2, usedBy: [uuid] })
  expect(await factsOf('volume/nfs1/base.qcow2')).toMatchObject({ usedBy: [uuid], image: 'base' })
  expect(new Set(facts.nics.map(({ mac }) => mac)).size).toBe(2)
  expect((await listImages(engine.database)).items).toMatchObject([{ name: 'base', addedBy: 'test', cloudInit: true }])

  const mac = facts.nics[0]?.mac ?? ''
  const taken = engine.submit('vm.create', { name: 'web2', memoryMiB: 64, nics: [{ network: 'default', mac }] })
  await expect(taken).rejects.toMatchObject({ code: 'mac_taken' })
  await expect(engine.submit('vm.create', { name: 'web2', image: 'none' })).rejects.toMatchObject({
    code: 'image_not_found'
  })
  await expect(engine.submit('volume.delete', { volume: 'nfs1/base.qcow2' })).rejects.toMatchObject({
    code: 'volume_is_image'
  })
  const rest = await plan([
    ['vm.disk.remove', { vm: 'web1', disk: 'vdb', deleteVolume: true }],
    ['vm.nic.remove', { vm: 'web1', mac }],
    ['vm.create', { name: 'web2', memoryMiB: 64, host: 'h1', nics: [{ network: 'default', mac }] }],
    ['vm.delete', { vm: 'web1', volumes: true, force: true }],
    ['image.remove', { image: 'base' }],
    ['volume.delete', { volume: 'nfs1/base.qcow2' }],
    ['vm.delete', { vm: 'web2' }]
  ])
  await heldTo(rest)
  const left = ['nfs1', 'fast'].flatMap((store) => [...(engine.fleet.stores.get(store)?.files.keys() ?? [])])
  expect(left).toEqual(['/tools.iso'])
  expect(engine.engine.dispatcher.guardPollFound()).toBe(0)
})

test('two requests for one address: the second is refused for the sake of the first', async () => {
  const nics = [{ network: 'default', mac: '52:54:00:0a:0b:0c' }]
  const two = ['a', 'b'].map((name) => ({ action: 'vm.create', args: { name, memoryMiB: 64, host: 'h1', nics } }))
  const asked = engine.submitter.submit({ by: 'test', plan: { onFailure: 'stop' }, tasks: two })
  await expect(asked).rejects.toMatchObject({ code: 'mac_taken', message: expect.stringContaining('element 0') })
})

test('a secret is in no log of a task, and an answer that is cut off makes nothing twice', async () => {
  const h1 = engine.fleet.host('h1')
  h1.faults.add({ on: 'DOMAIN_DEFINE_XML_FLAGS', fault: { kind: 'drop_after' }, times: 1 })
  const cloudInit = { userData: '#cloud-config\npassword: sesame\n' }
  const created = await ended('vm.create', {
    name: 'db1',
    memoryMiB: 64,
    host: 'h1',
    disks: [{ store: 'nfs1', sizeMiB: 1 }],
    cloudInit
  })
  const { uuid } = created.result as { uuid: string }
  const logs = await engine.database.query(`select row_to_json(l)::text as line from queue.log l`)
  expect(logs.length).toBeGreaterThan(0)
  expect(JSON.stringify(logs)).not.toContain('sesame')
  expect(engine.fleet.stores.get('nfs1')?.files.get(`/seed-${uuid}.iso`)?.content?.includes('sesame')).toBe(true)
  await ended('vm.delete', { vm: 'db1', volumes: true })
})

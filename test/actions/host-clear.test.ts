// A host is emptied for maintenance: what becomes of its VMs, of what was queued for it, of its pools, and when it is safe to reboot.
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { keepDefinition } from '../../src/inventory/definitions.ts'
import { loadFacts } from '../../src/inventory/load.ts'
import { DomainState } from '../../src/libvirt/constants.gen.ts'
import { resource } from '../../src/model/resource.ts'
import { setCap } from '../../src/queue/limits.ts'
import { readLog } from '../../src/queue/log.ts'
import { getTask, listTasks } from '../../src/queue/read.ts'
import { cancel, release } from '../../src/queue/requests.ts'
import type { Task } from '../../src/queue/task.ts'
import type { SimDomain } from '../../src/sim/domain.ts'
import { startTestEngine, type TestEngine } from '../support/engine.ts'

type Args = Parameters<TestEngine['run']>[1]

let engine: TestEngine
beforeAll(async () => {
  engine = await startTestEngine({
    hosts: 4,
    fleet: {
      sharedStores: [{ name: 'nfs1', path: '/srv/nfs1' }],
      perHost: { h4: { memoryMiB: 4096 } }
    }
  })
  await all(
    ['h1', 'h2', 'h3', 'h4'].map((host) => ({
      action: 'pool.create',
      args: { host, pool: 'nfs1', target: '/srv/nfs1' }
    }))
  )
  await done('store.share', { store: 'nfs1', pools: ['h1', 'h2', 'h3', 'h4'].map((host) => ({ host, pool: 'nfs1' })) })
})
afterEach(async () => {
  // A test that failed leaves no host closed for the next.
  for (const host of ['h1', 'h2', 'h3'])
    if ((await hostFacts(host))?.['cordoned']) await engine.run('host.uncordon', { host })
  expect(engine.engine.dispatcher.guardPollFound()).toBe(0)
  expect(engine.fleet.journal).toMatchObject({ overCommitted: 0, twoWriters: 0 })
})
afterAll(() => engine.stop())

const done = async (action: string, args: Args) => good(await engine.run(action, args))

function good(task: Task): Task {
  expect(task, JSON.stringify(task.error)).toMatchObject({ state: 'complete' })
  return task
}

/** All in one plan. */
async function all(tasks: { action: string; args: Args }[]): Promise<void> {
  const answer = await engine.submitter.submit({ by: 'test', plan: { onFailure: 'stop' }, tasks })
  engine.engine.dispatcher.wake()
  for (const { id } of answer.tasks) good(await engine.until(id))
}

/** VMs on a host, started unless `off`. */
async function make(host: string, names: readonly string[], more: { off?: boolean; store?: string } = {}) {
  const { off = false, store = 'nfs1' } = more
  await all(
    names.flatMap((name) => [
      { action: 'vm.create', args: { name, memoryMiB: 256, vcpus: 1, host, disks: [{ store, sizeMiB: 16 }] } },
      ...(off ? [] : [{ action: 'vm.start', args: { vm: name } }])
    ])
  )
}

const remove = (names: readonly string[]) =>
  all(names.map((vm) => ({ action: 'vm.delete', args: { vm, force: true, volumes: true } })))

const domainsOn = (host: string): SimDomain[] => [...engine.fleet.host(host).domains.values()]
const runningOn = (host: string): string[] =>
  domainsOn(host)
    .filter(({ state }) => state === DomainState.RUNNING)
    .map(({ name }) => name)
    .toSorted()
function domain(name: string): SimDomain {
  const found = engine.fleet.hosts.flatMap((host) => [...host.domains.values()]).find((one) => one.name === name)
  if (!found) throw new Error(`there is no domain ${name}`)
  return found
}
const factsOf = async (subject: string) => (await loadFacts(engine.database, [subject])).get(subject)
const hostFacts = (host: string) => factsOf(resource.host(host))
const messages = async (task: number) => (await readLog(engine.database, { task })).map(({ message }) => message)

describe('by migration', () => {
  test('its VMs move, running or not; it is in maintenance, and the restore brings back what came from it', async () => {
    await make('h1', ['web1-1', 'web2-1', 'web3-1'])
    await make('h1', ['spare-1'], { off: true })
    const clear = await done('host.clear', { host: 'h1', reason: 'new memory' })
    expect(clear.result).toMatchObject({ moved: 4, left: [], inMaintenance: true })
    expect(domainsOn('h1')).toEqual([])
    expect([...runningOn('h2'), ...runningOn('h3'), ...runningOn('h4')].toSorted()).toEqual([
      'web1-1',
      'web2-1',
      'web3-1'
    ])
    expect(await hostFacts('h1')).toMatchObject({ cordoned: true, cordonReason: 'new memory', inMaintenance: true })
    // Once more there is nothing to do, and it stays in maintenance.
    expect((await done('host.clear', { host: 'h1' })).result).toMatchObject({ moved: 0, inMaintenance: true })

    const restore = await done('host.restore', { host: 'h1' })
    expect(restore.result).toMatchObject({ broughtBack: 4 })
    expect(runningOn('h1')).toEqual(['web1-1', 'web2-1', 'web3-1'])
    expect(domainsOn('h1').map(({ name }) => name)).toContain('spare-1')
    expect(await hostFacts('h1')).toMatchObject({ cordoned: false, inMaintenance: false, maintenanceSince: null })
    expect((await done('host.restore', { host: 'h1' })).result).toMatchObject({ broughtBack: 0 })
    await remove(['web1-1', 'web2-1', 'web3-1', 'spare-1'])
  })

  test('a dry run tells where each VM would go, or why it cannot, and moves nothing', async () => {
    await all([{ action: 'pool.create', args: { host: 'h1', pool: 'local', target: '/srv/local' } }])
    await make('h1', ['web1-2'])
    await make('h1', ['pinned-2'], { store: 'h1/local' })
    await make('h1', ['spare-2'], { off: true })
    const preview = await engine.submitter.preview({
      by: 'test',
      tasks: [{ action: 'host.clear', args: { host: 'h1' } }]
    })
    expect(preview.tasks[0]?.preflight).toEqual([
      expect.objectContaining({
        name: 'pinned-2',
        power: 'running',
        does: 'stays',
        to: null,
        why: expect.stringMatching(/h2: disk vda of "pinned-2" is in store "h1\/local", which h2 has no pool on/)
      }),
      expect.objectContaining({ name: 'spare-2', power: 'off', does: 'move', to: expect.stringMatching(/^h[234]$/) }),
      expect.objectContaining({ name: 'web1-2', does: 'migrate', to: expect.stringMatching(/^h[23]$/), why: null })
    ])
    expect(runningOn('h1')).toEqual(['pinned-2', 'web1-2'])
    expect(await hostFacts('h1')).toMatchObject({ cordoned: false })
    await remove(['web1-2', 'pinned-2', 'spare-2'])
  })

  test('a VM that cannot be moved runs on, the others move, and the host is not said to be empty', async () => {
    await make('h1', ['web1-3', 'web2-3', 'busy-3'])
    domain('busy-3').guest.dirtyMiBps = 1e9
    const asked = await engine.submit('host.clear', { host: 'h1', timeoutSeconds: 1 })
    const task = await engine.until(asked)
    expect(task).toMatchObject({
      state: 'failed',
      error: {
        code: 'not_cleared',
        message: expect.stringMatching(/busy-3 still runs \(the migration was not done in time.*2 moved/),
        details: { moved: 2, inMaintenance: false }
      }
    })
    expect(runningOn('h1')).toEqual(['busy-3'])
    expect(await hostFacts('h1')).toMatchObject({ cordoned: true, inMaintenance: false, maintenanceSince: null })

    const again = await done('host.clear', { host: 'h1', timeoutSeconds: 1, onFailure: 'shut-down' })
    expect(again.result).toMatchObject({ moved: 0, stopped: 1, inMaintenance: true })
    expect(runningOn('h1')).toEqual([])
    domain('busy-3').guest.dirtyMiBps = 0
    await done('host.restore', { host: 'h1' })
    expect(runningOn('h1')).toEqual(['busy-3', 'web1-3', 'web2-3'])
    await remove(['web1-3', 'web2-3', 'busy-3'])
  })

  test('what is started there behind our back ends the maintenance, and a reboot alone does not', async () => {
    await make('h1', ['web1-4'])
    await done('host.clear', { host: 'h1', vms: 'shut-down' })
    expect(await hostFacts('h1')).toMatchObject({ inMaintenance: true })
    await engine.fleet.powerOff('h1')
    await expect.poll(async () => (await hostFacts('h1'))?.['connection'], { timeout: 15_000 }).toBe('down')
    await engine.fleet.boot('h1')
    await expect.poll(async () => (await hostFacts('h1'))?.['connection'], { timeout: 15_000 }).toBe('up')
    expect(await hostFacts('h1')).toMatchObject({ inMaintenance: true })
    const connection = await engine.engine.hosts.connect({ name: 'h1', controlUri: engine.fleet.host('h1').uri })
    await connection.host.startVm(domain('web1-4').uuid, { freshBoot: true, paused: false })
    await connection.close()
    await expect.poll(async () => (await hostFacts('h1'))?.['inMaintenance']).toBe(false)
    expect(await hostFacts('h1')).toMatchObject({ maintenanceSince: expect.stringMatching(/Z$/) })
    await done('host.restore', { host: 'h1' })
    await remove(['web1-4'])
  })
})

describe('what was queued for the host', () => {
  test('goes to other hosts in its place, and says which clear sent it there', async () => {
    const names = ['a1', 'a2', 'a3', 'a4']
    await make('h2', names, { off: true })
    await make('h2', ['mover'])
    // All of them wait for their turn.
    await setCap(engine.database, 'starts/h1', 0)
    await setCap(engine.database, 'migrations-in/h1', 0)
    const starts: number[] = []
    for (const vm of names) starts.push(await engine.submit('vm.start', { vm, host: 'h1' }))
    const move = await engine.submit('vm.migrate', { vm: 'mover', to: 'h1' })
    const create = await engine.submit(
      'vm.create',
      { name: 'fresh', memoryMiB: 256, vcpus: 1, host: 'h1' },
      {
        after: [move]
      }
    )
    for (const start of starts) await engine.until(start, ({ state }) => state === 'parked')
    const clear = await done('host.clear', { host: 'h1' })
    for (const start of starts) {
      const task = good(await engine.until(start))
      expect(task.title).toMatch(/^Start a\d on h[234]$/)
      expect(await messages(start)).toContainEqual(
        expect.stringMatching(new RegExp(`^rewritten from h1 to h[234]: task ${clear.id} \\(Clear h1\\) clears h1$`))
      )
    }
    expect(good(await engine.until(move)).title).toMatch(/^Migrate mover to h[34]$/)
    expect(good(await engine.until(create)).args).toMatchObject({ host: expect.stringMatching(/^h[234]$/) })
    expect(domainsOn('h1')).toEqual([])
    await setCap(engine.database, 'starts/h1', null)
    await setCap(engine.database, 'migrations-in/h1', null)
    await done('host.restore', { host: 'h1' })
    await remove([...names, 'mover', 'fresh'])
  })

  test('is held where no other host takes it, and goes on when it is released', async () => {
    await done('pool.create', { host: 'h1', pool: 'only', target: '/srv/only' })
    await setCap(engine.database, 'starts/h1', 0)
    const hold = { hold: { reason: 'not yet' } }
    const create = await engine.submit(
      'vm.create',
      { name: 'tied', memoryMiB: 256, vcpus: 1, host: 'h1', disks: [{ store: 'h1/only', sizeMiB: 16 }] },
      hold
    )
    await make('h1', ['pinned-6'], { off: true, store: 'h1/only' })
    const start = await engine.submit('vm.start', { vm: 'pinned-6', host: 'h1' })
    await engine.until(start, ({ state }) => state === 'parked')
    const clear = await done('host.clear', { host: 'h1' })
    expect(clear.result).toMatchObject({ inMaintenance: true, left: [{ name: 'pinned-6', active: false }] })
    expect(await getTask(engine.database, start)).toMatchObject({ state: 'held', args: { host: 'h1' } })
    expect(await messages(start)).toContainEqual(expect.stringMatching(/no other host takes it: h2: .*h1 alone/))
    await done('host.restore', { host: 'h1' })
    await setCap(engine.database, 'starts/h1', null)
    await release(engine.database, { task: start, by: 'test' })
    engine.engine.dispatcher.wake()
    good(await engine.until(start))
    await cancel(engine.database, { task: create, by: 'test' })
    await remove(['pinned-6'])
  })
})

describe('on request', () => {
  test('VMs are shut down or deleted, and pools stopped or deleted, but not what other hosts have of their stores', async () => {
    await make('h4', ['web1-7', 'web2-7'])
    const down = await done('host.clear', { host: 'h4', vms: 'shut-down', pools: 'stop' })
    expect(down.result).toMatchObject({ stopped: 2, inMaintenance: true })
    expect(await factsOf(resource.pool('h4', 'nfs1'))).toMatchObject({ active: false })
    expect(await factsOf(resource.pool('h3', 'nfs1'))).toMatchObject({ active: true })
    const gone = await done('host.clear', { host: 'h4', vms: 'delete', pools: 'delete' })
    expect(gone.result).toMatchObject({ deleted: 2, left: [], inMaintenance: true })
    expect(domainsOn('h4')).toEqual([])
    expect(await factsOf(resource.pool('h4', 'nfs1'))).toBeNull()
    await done('host.restore', { host: 'h4' })
    await done('pool.create', { host: 'h4', pool: 'nfs1', target: '/srv/nfs1' })
    await done('store.share', { store: 'nfs1', pools: ['h3', 'h4'].map((host) => ({ host, pool: 'nfs1' })) })
  })

  test('a clear that is cancelled begins nothing more and says what has moved', async () => {
    const names = ['b1', 'b2', 'b3', 'b4', 'b5']
    await make('h1', names)
    for (const name of names.slice(1)) domain(name).guest.dirtyMiBps = 1e9
    await setCap(engine.database, 'migrations-out/h1', 2)
    const clear = await engine.submit('host.clear', { host: 'h1' })
    await engine.until(clear, ({ state }) => state === 'awaiting')
    const { tasks: children } = await listTasks(engine.database, { parent: clear })
    expect(children).toHaveLength(5)
    const first = children.find(({ title }) => title.includes('b1'))
    good(await engine.until(first?.id ?? 0))
    await cancel(engine.database, { task: clear, by: 'test', reason: 'not today' })
    engine.engine.dispatcher.wake()
    const task = await engine.until(clear)
    expect(task).toMatchObject({
      state: 'cancelled',
      error: { message: expect.stringMatching(/done before that: Migrate b1 to h\d; still on h1: b2, b3, b4, b5/) }
    })
    expect(runningOn('h1')).toEqual(['b2', 'b3', 'b4', 'b5'])
    expect(await hostFacts('h1')).toMatchObject({ cordoned: true, inMaintenance: false })
    for (const name of names) domain(name).guest.dirtyMiBps = 0
    await done('host.restore', { host: 'h1' })
    expect(runningOn('h1')).toEqual(names)
    await setCap(engine.database, 'migrations-out/h1', null)
    await remove(names)
  })
})

test('a clear and the removal of the host, queued together, both end, in that order', async () => {
  await make('h4', ['web1-9', 'web2-9'])
  await expect(engine.submit('host.remove', { host: 'h4' })).rejects.toThrow(/home of 2 VMs/)
  const clear = await engine.submit('host.clear', { host: 'h4' })
  const gone = await engine.submit('host.remove', { host: 'h4' })
  expect(good(await engine.until(clear)).result).toMatchObject({ moved: 2 })
  const removed = good(await engine.until(gone))
  const cleared = await getTask(engine.database, clear)
  expect(removed.startedAt!.getTime()).toBeGreaterThanOrEqual(cleared!.endedAt!.getTime())
  expect(await hostFacts('h4')).toBeNull()
  await remove(['web1-9', 'web2-9'])
})

test('a host that is down cannot be cleared: it is said why, and what to do', async () => {
  await make('h3', ['web1-10'])
  // What is started elsewhere from a dead host is started from the definition that was kept of it.
  const uuid = domain('web1-10').uuid
  const xml = await engine.engine.hosts.host('h3').vmXml(uuid, { inactive: true, secure: true })
  await keepDefinition(engine.database, Buffer.alloc(32, 7), { uuid, host: 'h3', xml })
  await engine.fleet.powerOff('h3')
  await expect.poll(async () => (await hostFacts('h3'))?.['connection'], { timeout: 15_000 }).toBe('down')
  await expect(engine.submit('host.clear', { host: 'h3' })).rejects.toMatchObject({
    code: 'host_down',
    message: expect.stringMatching(/^h3 is down .*what became of the 1 VMs/),
    next: expect.stringContaining('host confirm-off h3')
  })
  await done('host.confirm-off', { host: 'h3', reason: 'no power' })
  await done('vm.start', { vm: 'web1-10', host: 'h2' })
  expect(runningOn('h2')).toEqual(['web1-10'])
  expect(await factsOf(resource.vm(domain('web1-10').uuid))).toMatchObject({ home: 'h2', activeOn: 'h2' })
  // What it left behind is removed before it is opened, and its definition kept.
  await engine.fleet.boot('h3')
  await expect.poll(async () => (await hostFacts('h3'))?.['unreconciled'], { timeout: 15_000 }).toBe(true)
  expect(domainsOn('h3').map(({ name }) => name)).toEqual(['web1-10'])
  await done('host.uncordon', { host: 'h3' })
  expect(domainsOn('h3')).toEqual([])
  expect(await hostFacts('h3')).toMatchObject({ cordoned: false, unreconciled: false })
  expect(runningOn('h2')).toEqual(['web1-10'])
  await remove(['web1-10'])
})

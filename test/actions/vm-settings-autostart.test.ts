// What starts with its host, on simulated hosts and a real queue: in order, after a boot and not otherwise.
import { afterAll, beforeAll, expect, test } from 'vitest'
import { loadFacts } from '../../src/inventory/load.ts'
import { resource } from '../../src/model/resource.ts'
import { getTask, listTasks } from '../../src/queue/read.ts'
import type { Task } from '../../src/queue/task.ts'
import { startTestEngine, type TestEngine } from '../support/engine.ts'
import { eventually } from '../system/eventually.ts'

let engine: TestEngine
beforeAll(async () => {
  engine = await startTestEngine({ hosts: 2, addHosts: false })
  for (const host of engine.fleet.hosts) {
    host.bootedAt = Date.now() - hour
    await done('host.add', { host: host.name, controlUri: host.uri, peerUri: host.uri })
  }
}, 30_000)
afterAll(() => engine?.stop())

const hour = 3_600_000

/** A VM on h1 that starts with it, unless its order is null. */
async function made(name: string, order: number | null): Promise<string> {
  const { result } = await done('vm.create', { name, memoryMiB: 64, host: 'h1' })
  if (order !== null) await done('vm.set', { vm: name, autostart: true, order })
  return (result as { uuid: string }).uuid
}

async function done(action: string, args: Parameters<TestEngine['run']>[1]): Promise<Task> {
  const task = await engine.run(action, args)
  expect(task, JSON.stringify(task.error)).toMatchObject({ state: 'complete' })
  return task
}

const power = async (uuid: string) => {
  const [[, facts] = []] = await loadFacts(engine.database, [resource.vm(uuid)])
  return (facts as { power?: string } | null | undefined)?.power
}

async function startsBySystem(): Promise<Task[]> {
  const { tasks } = await listTasks(engine.database, { actions: ['vm.start'] })
  const ids = tasks.filter(({ by }) => by === 'system').map(({ id }) => id)
  const all = await Promise.all(ids.toSorted((x, y) => x - y).map((id) => getTask(engine.database, id)))
  return all.filter((task) => task !== null)
}

const host = async () => {
  const [row] = await engine.database.query<{ up: boolean; booted: boolean; started: boolean }>(
    `select connection = 'up' as up, rebooted_at is not null as booted, coalesce(autostarted_at = rebooted_at, false) as started
     from inventory.host where name = 'h1'`
  )
  return row
}

test('a lost connection is no boot, a boot is one, and a host that was cordoned meanwhile waits until it is open', async () => {
  const [early, late, other] = [await made('early', 10), await made('late', 20), await made('other', null)]
  await engine.fleet.host('h1').server.stop()
  await eventually(async () => expect(await host()).toMatchObject({ up: false }))
  await engine.fleet.host('h1').server.start()
  await eventually(async () => expect(await host()).toMatchObject({ up: true, booted: false }))
  engine.engine.autostarter.look()

  await done('host.cordon', { host: 'h1', reason: 'new disks' })
  await engine.fleet.powerOff('h1')
  await engine.fleet.boot('h1')
  await eventually(async () => expect(await host()).toMatchObject({ up: true, booted: true }))
  engine.engine.autostarter.look()
  await done('host.refresh', { host: 'h1' })
  expect(await startsBySystem()).toEqual([])

  await done('host.uncordon', { host: 'h1' })
  engine.engine.autostarter.look()
  await eventually(async () => expect(await host()).toMatchObject({ started: true }))
  expect([await power(early), await power(late), await power(other)]).toEqual(['running', 'running', 'off'])
  const [first, second, ...rest] = await startsBySystem()
  expect([first?.title, second?.title, rest.length]).toEqual(['Start early', 'Start late', 0])
  // The second order was asked for once the first had started.
  expect(second?.createdAt.getTime()).toBeGreaterThanOrEqual(first?.endedAt?.getTime() ?? Infinity)

  // Once a boot: what somebody stops afterwards stays off.
  await done('vm.stop', { vm: 'early', force: true, timeoutSeconds: 0 })
  engine.engine.autostarter.look()
  await done('host.refresh', { host: 'h1' })
  expect(await startsBySystem()).toHaveLength(2)
}, 60_000)

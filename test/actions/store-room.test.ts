// Room in stores, through queue and dispatcher: of what is asked for at once exactly what fits is made, the rest waits and says for what,
// and goes on when there is room. Whether there was ever too much, the simulated store tells.
import { afterEach, expect, test } from 'vitest'
import type { JsonObject } from '../../src/db/json.ts'
import { cancel } from '../../src/queue/requests.ts'
import type { Task } from '../../src/queue/task.ts'
import { startTestEngine, type TestEngine } from '../support/engine.ts'

const mebibyte = 1024 ** 2

let engine: TestEngine
afterEach(() => engine.stop())

/** Two hosts with one store of this size; a host's local stores have room enough. */
async function startWith(sizeMiB: number, copyMsPerGiB = 0): Promise<void> {
  const capacityBytes = BigInt(sizeMiB * mebibyte)
  const sharedStores = [{ name: 'nfs1', path: '/srv/nfs1', capacityBytes }]
  engine = await startTestEngine({ hosts: 2, fleet: { sharedStores, copyMsPerGiB } })
  for (const host of ['h1', 'h2']) await done('pool.create', { host, pool: 'nfs1', target: '/srv/nfs1' })
  await done('store.share', { store: 'nfs1', pools: ['h1', 'h2'].map((host) => ({ host, pool: 'nfs1' })) })
}

async function done(action: string, args: JsonObject): Promise<Task> {
  const task = await engine.run(action, args)
  expect(task, JSON.stringify(task.error)).toMatchObject({ state: 'complete' })
  return task
}

const settled = (id: number): Promise<Task> =>
  engine.until(id, ({ state }) => state === 'complete' || state === 'failed' || state === 'parked')

const files = () => [...(engine.fleet.stores.get('nfs1')?.files.keys() ?? [])].filter((path) => path.endsWith('.img'))
/** For what it waits; one that is just looking again is waited for. */
async function noteOf({ id }: Task): Promise<string> {
  for (;;) {
    const [row] = await engine.database.query<{ reason: string }>('select reason from queue.parked where task = $1', [
      id
    ])
    if (row) return row.reason
    await engine.until(id, ({ state }) => state === 'parked')
  }
}
const storesOf = (task: Task) => ((task.bound?.['considered'] as JsonObject)?.['stores'] ?? []) as JsonObject[]
const raw = (name: string, sizeMiB: number) => ({ store: 'nfs1', name, format: 'raw', sizeMiB })

test(
  'of 20 VMs for the last GiB of a store exactly those that fit are made; the others wait, say why, and follow',
  { timeout: 60_000 },
  async () => {
    await startWith(1024)
    const { tasks } = await engine.submitter.submit({
      by: 'test',
      tasks: Array.from({ length: 20 }, (_, at) => ({
        action: 'vm.create',
        args: { name: `vm${at}`, memoryMiB: 64, vcpus: 1, disks: [raw(`vm${at}.img`, 100)] }
      }))
    })
    engine.engine.dispatcher.wake()
    const first = await Promise.all(tasks.map(({ id }) => settled(id)))
    const made = first.filter(({ state }) => state === 'complete')
    const waiting = first.filter(({ state }) => state === 'parked')
    expect([made.length, waiting.length]).toEqual([10, 10])
    expect(files()).toHaveLength(10)
    expect(await noteOf(waiting[0]!)).toMatch(/store "nfs1": .* free.*, 100 MiB needed/)
    expect(storesOf(waiting[0]!)).toMatchObject([{ store: 'nfs1', needBytes: 100 * mebibyte }])
    expect(storesOf(made[0]!)).toMatchObject([{ store: 'nfs1', why: 'it fits' }])

    const name = `vm${first.indexOf(made[0]!)}`
    await done('vm.delete', { vm: name, volumes: true })
    const complete = ({ state }: Task) => state === 'complete'
    const next = await Promise.race(waiting.map(({ id }) => engine.until(id, complete)))
    const last = await Promise.all(waiting.filter(({ id }) => id !== next.id).map(({ id }) => settled(id)))
    expect(last.map(({ state }) => state)).toEqual(Array.from({ length: 9 }, () => 'parked'))
    expect(files()).toHaveLength(10)
  }
)

test('what is promised to a task that still works is named with the task', async () => {
  await startWith(1024, 20_000)
  await done('volume.create', raw('golden.img', 300))
  const golden = engine.fleet.stores.get('nfs1')?.files.get('/golden.img')
  if (golden) golden.allocationBytes = golden.capacityBytes
  await done('pool.refresh', { host: 'h1', pool: 'nfs1' })
  const copy = await engine.submit('volume.clone', { volume: 'nfs1/golden.img', store: 'nfs1', name: 'copy.img' })
  await engine.until(copy, ({ state }) => state === 'running')
  const other = await settled(await engine.submit('volume.create', raw('other.img', 500)))
  expect(other.state).toBe('parked')
  expect(await noteOf(other)).toContain(`300 MiB reserved by task ${copy}`)
  expect(storesOf(other)).toMatchObject([{ reservedBy: [copy], reservedBytes: 300 * mebibyte }])
  // Smaller than what is left beside it.
  await done('volume.create', raw('small.img', 400))
  await engine.until(copy)
})

test('qcow2 volumes count by a quarter of their size, also after they were made; a setting of the store says by how much', async () => {
  await startWith(1000)
  const thin = (name: string) => ({ store: 'nfs1', name, sizeMiB: 2048 })
  await done('volume.create', thin('a.qcow2'))
  const second = await settled(await engine.submit('volume.create', thin('b.qcow2')))
  expect(second.state).toBe('parked')
  expect(await noteOf(second)).toMatch(/511.* MiB kept for volumes that grow/)
  await done('store.set', { store: 'nfs1', thinPercent: 10 })
  expect((await engine.until(second.id)).state).toBe('complete')
})

test('a volume that grows, a disk that is added, cloned, moved or copied along waits for room as well', async () => {
  await startWith(200)
  await done('pool.create', { host: 'h1', pool: 'local', target: '/srv/local' })
  await done('pool.create', { host: 'h2', pool: 'local', target: '/srv/local' })
  await done('volume.create', raw('a.img', 150))
  await done('vm.create', {
    name: 'web',
    memoryMiB: 64,
    vcpus: 1,
    host: 'h1',
    disks: [{ store: 'h1/local', name: 'web.img', format: 'raw', sizeMiB: 100 }]
  })
  const asked: [string, JsonObject][] = [
    ['volume.resize', { volume: 'nfs1/a.img', sizeMiB: 199 }],
    ['volume.create', raw('b.img', 100)],
    ['vm.disk.add', { vm: 'web', ...raw('c.img', 100) }],
    ['vm.clone', { vm: 'web', name: 'web2', store: 'nfs1' }],
    ['vm.disk.move', { vm: 'web', disk: 'vda', store: 'nfs1' }]
  ]
  for (const [action, args] of asked) {
    const fits = action === 'volume.resize'
    const task = await settled(await engine.submit(action, args))
    expect([action, task.state]).toEqual([action, fits ? 'complete' : 'parked'])
    if (fits) continue
    expect(await noteOf(task)).toMatch(/store "nfs1": .* 100 MiB needed/)
    await cancelled(task.id)
  }
})

async function cancelled(id: number): Promise<void> {
  await cancel(engine.database, { task: id, by: 'test' })
  engine.engine.dispatcher.wake()
  await engine.until(id)
}

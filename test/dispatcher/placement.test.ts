// Where VMs start when there is too little room: exactly those that fit start, the others go elsewhere or wait and say why.
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { JsonObject } from '../../src/db/json.ts'
import { setCap } from '../../src/queue/limits.ts'
import type { Task } from '../../src/queue/task.ts'
import { why } from '../../src/queue/why.ts'
import { populate, type Population } from '../../src/sim/populate.ts'
import { eventually } from '../system/eventually.ts'
import { startTestEngine, type TestEngine } from '../support/engine.ts'

const memoryMiB = 128
/** Memory that such a VM needs: 5 % and 256 MiB beside its own. */
const need = Math.ceil(memoryMiB * 1.05) + 256
/** What a host keeps for itself. */
const kept = 2048

let engine: TestEngine
beforeEach(async () => {
  engine = await startTestEngine({
    addHosts: false,
    hosts: 3,
    fleet: {
      sharedStores: [{ name: 'nfs1', path: '/srv/nfs1' }],
      perHost: {
        h1: { memoryMiB: kept + 1024 },
        h2: { memoryMiB: kept + need * 20 },
        h3: { memoryMiB: kept + need * 15 }
      }
    }
  })
})
afterEach(async () => {
  expect(engine.engine.dispatcher.guardPollFound()).toBe(0)
  expect(engine.fleet.journal).toMatchObject({ overCommitted: 0, twoWriters: 0 })
  await engine.stop()
})

/** Off VMs at home on one host. */
async function guests(host: string, more: Population) {
  await populate({ hosts: [engine.fleet.host(host)] } as unknown as TestEngine['fleet'], { memoryMiB, ...more })
}

async function addHosts() {
  for (const { name, uri } of engine.fleet.hosts)
    await engine.run('host.add', { host: name, controlUri: uri, peerUri: uri })
  for (const host of ['h1', 'h2', 'h3'])
    expect(await engine.run('pool.create', { host, pool: 'nfs1', target: '/srv/nfs1' })).toMatchObject({
      state: 'complete'
    })
  const pools = ['h1', 'h2', 'h3'].map((host) => ({ host, pool: 'nfs1' }))
  expect(await engine.run('store.share', { store: 'nfs1', pools })).toMatchObject({ state: 'complete' })
}

async function startAll(names: readonly string[]): Promise<number[]> {
  const tasks = names.map((vm) => ({ action: 'vm.start', args: { vm } }))
  const answer = await engine.submitter.submit({ tasks, by: 'test', plan: { onFailure: 'continue' } })
  engine.engine.dispatcher.wake()
  return answer.tasks.map(({ id }) => id)
}

const names = (prefix: string, count: number) => Array.from({ length: count }, (_, index) => `${prefix}${index + 1}`)
/** Until each has ended or is parked for anything but units, which come by themselves. */
async function settledAll(ids: readonly number[]): Promise<Task[]> {
  await eventually(async () => {
    const moving = await engine.database.query(
      `select from queue.place p where p.task = any ($1) and not exists (
         select from queue.parked k where k.task = p.task and k.key <> 'limit')`,
      [ids]
    )
    expect(moving).toHaveLength(0)
  }, 60_000)
  return Promise.all(ids.map((id) => engine.until(id, () => true)))
}
/** VIR_DOMAIN_RUNNING */
const running = 1
const runningOn = (host: string) =>
  [...engine.fleet.host(host).domains.values()].filter(({ state }) => state === running).length
const consideredIn = (task: Task) => task.bound?.['considered'] as { chosen: string | null; hosts: JsonObject[] }

test(
  'of 100 starts for the last GiB of a host two start there, others where there is room, the rest wait and say why',
  { timeout: 120_000 },
  async () => {
    await guests('h1', { vms: 60, prefix: 'net', store: { name: 'nfs1', path: '/srv/nfs1' } })
    await guests('h1', { vms: 40, prefix: 'local' })
    await addHosts()
    // All at once, not eight at a time.
    await setCap(engine.database, 'starts/*', null)
    const ids = await startAll([...names('local', 40), ...names('net', 60)])
    const tasks = await settledAll(ids)
    expect(tasks.filter(({ state }) => state === 'failed').map(({ error }) => error)).toEqual([])
    expect(['h1', 'h2', 'h3'].map(runningOn)).toEqual([2, 20, 15])
    const parked = tasks.filter(({ state }) => state === 'parked')
    expect(parked).toHaveLength(63)
    for (const task of parked) {
      const local = task.title.includes('local')
      const { parked: reason } = await why(engine.database, task.id)
      expect(reason?.key).toBe(local ? 'room/h1' : 'placement')
      expect(reason?.reason).toContain(`h1: 242 MiB free, ${need} MiB needed`)
      if (!local) expect(reason?.reason).toMatch(/h2: 0 MiB free/)
    }
    // Each says of every host that was looked at why it was or was not chosen.
    for (const task of tasks) {
      const { chosen, hosts } = consideredIn(task)
      expect(hosts.length).toBeGreaterThan(0)
      for (const host of hosts) expect(host['why']).toEqual(expect.any(String))
      const result = task.result as { host?: string } | null
      expect(chosen).toBe(result?.host ?? null)
    }
    // Room that becomes free is taken by one of those that wait for it, and by one only.
    const [free] = [...engine.fleet.host('h2').domains.values()]
    await engine.run('vm.stop', { vm: free!.name, force: true, timeoutSeconds: 0 })
    await eventually(() => Promise.resolve(expect(['h1', 'h2', 'h3'].map(runningOn)).toEqual([2, 20, 15])), 60_000)
    const after = await settledAll(ids)
    expect(after.filter(({ state }) => state === 'complete')).toHaveLength(38)
    expect(['h1', 'h2', 'h3'].map(runningOn)).toEqual([2, 20, 15])
  }
)

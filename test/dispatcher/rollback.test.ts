// Plans that are undone when a part fails: by tasks of their own, the last first, while the plan keeps what it holds.
import { Type } from 'typebox'
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest'
import { action, complete, possible } from '../../src/actions/action.ts'
import { undoPlan } from '../../src/actions/plan-undo.ts'
import { registry } from '../../src/actions/registry.ts'
import { undoOf } from '../../src/actions/rollback.ts'
import type { RequestedTask } from '../../src/actions/submit.ts'
import type { ProcedureName } from '../../src/libvirt/wire.gen.ts'
import { getTask, listTasks } from '../../src/queue/read.ts'
import { cancel } from '../../src/queue/requests.ts'
import { giveVerdict } from '../../src/queue/verdict.ts'
import { startTestEngine, type TestEngine } from '../support/engine.ts'

/** As vm.start where somebody started the VM between the look at the inventory and the run. */
const found = action({
  name: 'test.found',
  summary: 'Find it running',
  args: Type.Object({ vm: Type.String() }),
  title: () => 'Find it running',
  claims: ({ vm }) => [{ resource: `vm/${vm}`, mode: 'exclusive' }],
  check: () => possible,
  effect: () => [],
  run: () => Promise.resolve(complete({ alreadyRunning: true })),
  probe: () => Promise.resolve({ happened: 'no', evidence: null }),
  undo: ({ vm }) => ({ action: 'vm.stop', args: { vm, force: true, timeoutSeconds: 0 } })
})

let engine: TestEngine
beforeAll(async () => {
  engine = await startTestEngine({ hosts: 1, actions: [found] })
  await engine.run('pool.create', { host: 'h1', pool: 'data', target: '/srv/data' })
})
afterAll(() => engine.stop())
afterEach(() => host().faults.clear())

const host = () => engine.fleet.host('h1')
const refuses = (on: ProcedureName, times?: number) =>
  host().faults.add({
    on,
    fault: { kind: 'error', code: 'OPERATION_FAILED', domain: 'QEMU', message: 'it is not to be' },
    ...(times === undefined ? {} : { times })
  })

/** A pool, a VM on it, its start and its pause: each needs the one before. Every name ends in `of`. */
const four = (of: string): RequestedTask[] => [
  { key: 'pool', action: 'pool.create', args: { host: 'h1', pool: `p-${of}`, target: `/srv/${of}` } },
  {
    key: 'make',
    action: 'vm.create',
    args: { name: `vm-${of}`, memoryMiB: 64, host: 'h1', disks: [{ store: `h1/p-${of}`, sizeMiB: 8 }] },
    after: ['pool']
  },
  { key: 'start', action: 'vm.start', args: { vm: `vm-${of}` }, after: ['make'] },
  { key: 'pause', action: 'vm.pause', args: { vm: `vm-${of}` }, after: ['start'] }
]

async function submit(tasks: readonly RequestedTask[]) {
  const answer = await engine.submitter.submit({ tasks, plan: { onFailure: 'rollback' }, by: 'test' })
  engine.engine.dispatcher.wake()
  return { root: answer.tasks[0]!.id, plan: answer.plan! }
}
/** Title, state and what became of its undoing, of every task of the plan but the first. */
async function partsOf(plan: number): Promise<string[]> {
  const { tasks } = await listTasks(engine.database, { plan, limit: 100 })
  const all = await Promise.all(tasks.toSorted((a, b) => a.id - b.id).map(({ id }) => getTask(engine.database, id)))
  return all.slice(1).map((task) => `${task?.title}: ${task?.state}, ${task?.undoState}`)
}
/** What the host has of it. */
const left = (of: string) => ({
  vms: [...host().domains.values()].flatMap(({ name }) => (name.endsWith(`-${of}`) ? [name] : [])),
  pools: [...host().pools.keys()].filter((name) => name.endsWith(`-${of}`))
})

test('a plan whose parts all end well is complete, and nothing is undone', async () => {
  const { root, plan } = await submit(four('good'))
  expect(await engine.until(root)).toMatchObject({ state: 'complete' })
  expect(await partsOf(plan)).toEqual([
    'Create pool p-good on h1: complete, none',
    'Create vm-good: complete, none',
    'Start vm-good: complete, none',
    'Pause vm-good: complete, none'
  ])
})

test.each([
  ['STORAGE_POOL_DEFINE_XML', 0],
  ['DOMAIN_DEFINE_XML_FLAGS', 1],
  ['DOMAIN_CREATE_WITH_FLAGS', 2],
  ['DOMAIN_SUSPEND', 3]
] as const)(
  'refused at %s, the %d parts before it are undone, the last first, and nothing is left',
  async (on, done) => {
    const of = `at${done}`
    refuses(on)
    const { root, plan } = await submit(four(of))
    const task = await engine.until(root)
    expect(task).toMatchObject({ state: 'failed', error: { code: 'plan_failed' } })
    const parts = await partsOf(plan)
    expect(parts.slice(0, done).every((part) => part.endsWith(': complete, undone'))).toBe(true)
    expect(parts[done]).toMatch(/: failed, none$/)
    expect(parts.slice(done + 1, 4).every((part) => /: (failed|cancelled), none$/.test(part))).toBe(true)
    expect(parts.slice(4)).toEqual(
      parts
        .slice(0, done)
        .toReversed()
        .map((part) => `Undo: ${part.split(':')[0]}: complete, none`)
    )
    expect(left(of)).toEqual({ vms: [], pools: [] })
    expect(await engine.database.query('select task from queue.claim')).toEqual([])
  }
)

test('whoever comes behind the plan waits until it is undone', async () => {
  refuses('DOMAIN_SUSPEND')
  const { root } = await submit(four('line'))
  const behind = await engine.submit('pool.create', { host: 'h1', pool: 'p-behind', target: '/srv/line' })
  const [first] = await Promise.all([engine.until(root), engine.until(behind)])
  expect(first.state).toBe('failed')
})

test('what could not be undone is said, and held until an operator has put it right', async () => {
  refuses('DOMAIN_SUSPEND')
  refuses('DOMAIN_UNDEFINE_FLAGS')
  const { root, plan } = await submit(four('stuck'))
  const stuck = await engine.until(root, ({ state }) => state === 'uncertain' || state === 'failed')
  expect(stuck).toMatchObject({ state: 'uncertain' })
  const parts = await partsOf(plan)
  expect(parts.slice(0, 4)).toEqual([
    expect.stringMatching(/^Create pool p-stuck.*needs_operator$/),
    'Create vm-stuck: complete, needs_operator',
    'Start vm-stuck: complete, undone',
    'Pause vm-stuck: failed, none'
  ])
  const next = await engine.submit('vm.delete', { vm: 'vm-stuck', volumes: true })
  expect((await getTask(engine.database, next))?.state).toBe('waiting')
  host().faults.clear()
  await giveVerdict(engine.database, { task: root, happened: false, by: 'anna', reason: 'left for the delete' })
  engine.engine.dispatcher.wake()
  expect(await engine.until(next)).toMatchObject({ state: 'complete' })
})

test('cancelled in the middle, the plan undoes what it did', async () => {
  host().faults.add({ on: 'DOMAIN_SUSPEND', fault: { kind: 'delay', ms: 300 }, times: 1 })
  const { root, plan } = await submit([
    ...four('stop'),
    { action: 'vm.resume', args: { vm: 'vm-stop' }, after: ['pause'] }
  ])
  await engine.until(root, ({ state }) => state === 'awaiting')
  const { tasks } = await listTasks(engine.database, { plan, limit: 100 })
  const pause = tasks.find(({ title }) => title.startsWith('Pause'))!
  await engine.until(pause.id, ({ state }) => state !== 'waiting' && state !== 'ready')
  await cancel(engine.database, { task: root, by: 'anna', reason: 'changed my mind' })
  expect((await engine.until(root)).state).toBe('cancelled')
  expect(left('stop')).toEqual({ vms: [], pools: [] })
})

test('a plan that has ended well is undone on request, and again there is nothing to undo', async () => {
  const answer = await engine.submitter.submit({ tasks: four('asked'), plan: { onFailure: 'stop' }, by: 'test' })
  engine.engine.dispatcher.wake()
  for (const { id } of answer.tasks) expect(await engine.until(id)).toMatchObject({ state: 'complete' })
  const undo = () => undoPlan({ ...engine, registry }, { plan: answer.plan!, by: 'anna' })
  const { task, left: kept } = await undo()
  engine.engine.dispatcher.wake()
  expect(kept).toEqual([])
  expect(await engine.until(task)).toMatchObject({ state: 'complete', result: { undone: 4 } })
  expect(left('asked')).toEqual({ vms: [], pools: [] })
  await expect(undo()).rejects.toMatchObject({ code: 'nothing_to_undo' })
})

test('a part that found everything so already is not undone, whatever was written before it ran', async () => {
  const disks = [{ store: 'h1/data', sizeMiB: 8 }]
  const { args } = await engine.run('vm.create', { name: 'vm-on', memoryMiB: 64, host: 'h1', disks })
  await engine.run('vm.start', { vm: 'vm-on' })
  const tasks: RequestedTask[] = [
    { key: 'pool', action: 'pool.create', args: { host: 'h1', pool: 'p-on', target: '/srv/on' } },
    { key: 'found', action: 'test.found', args: { vm: args['uuid']! }, after: ['pool'] }
  ]
  const isOn = async () => (await engine.engine.hosts.host('h1').vmByName('vm-on'))?.power === 'running'
  const asked = await engine.submitter.submit({ tasks, plan: { onFailure: 'stop' }, by: 'test' })
  engine.engine.dispatcher.wake()
  for (const { id } of asked.tasks) expect(await engine.until(id)).toMatchObject({ state: 'complete' })
  const { task } = await undoPlan({ ...engine, registry }, { plan: asked.plan!, by: 'anna' })
  engine.engine.dispatcher.wake()
  expect(await engine.until(task)).toMatchObject({ state: 'complete', result: { undone: 1 } })
  expect(left('on').pools).toEqual([])
  expect(await isOn()).toBe(true)
  refuses('DOMAIN_SUSPEND')
  const { root, plan } = await submit([...tasks, { action: 'vm.pause', args: { vm: 'vm-on' }, after: ['found'] }])
  expect(await engine.until(root)).toMatchObject({ state: 'failed' })
  expect(await partsOf(plan)).toContain('Find it running: complete, none')
  expect(left('on').pools).toEqual([])
  expect(await isOn()).toBe(true)
})

test.each([
  [{ already: true }, { nothing: 'it was so already' }],
  [{ alreadyRunning: true }, { nothing: 'it ran already' }],
  [{ nothingToDo: 'it is on' }, { nothing: 'it is on' }],
  [{ already: false, alreadyRunning: false }, { impossible: 'as written' }],
  [null, { impossible: 'as written' }]
])('of a part that ended with %o the undoing is %o', (result, undo) => {
  expect(undoOf({ impossible: 'as written' }, result)).toEqual(undo)
})

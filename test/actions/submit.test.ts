// Submission against a real queue and inventory: all or nothing, once only, and refused with a way out.
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { registry } from '../../src/actions/registry.ts'
import { createSubmitter } from '../../src/actions/submit.ts'
import { DatabaseError } from '../../src/db/error.ts'
import type { JsonObject } from '../../src/db/json.ts'
import type { Database } from '../../src/db/open.ts'
import { startTestEngine, type TestEngine } from '../support/engine.ts'

let engine: TestEngine
beforeAll(async () => {
  engine = await startTestEngine({ hosts: 2 })
  await engine.run('pool.create', { host: 'h1', pool: 'default', target: '/srv/default' })
  // Only submissions are looked at: nothing runs any more.
  await engine.engine.dispatcher.stop()
})
afterAll(async () => {
  await engine.stop()
})

const by = 'test'
const vm = (name: string, more: JsonObject = {}): { action: string; args: JsonObject } => ({
  action: 'vm.create',
  args: { name, memoryMiB: 128, vcpus: 1, host: 'h1', disks: [{ store: 'h1/default', sizeMiB: 8 }], ...more }
})
const rows = async (): Promise<number> =>
  (await engine.database.query<{ n: number }>('select count(*) as n from queue.task'))[0]?.n ?? -1

describe('a submission', () => {
  test('is answered as before when it comes again under its idempotency key', async () => {
    const request = { tasks: [vm('once')], by, idempotencyKey: 'key-1' }
    const first = await engine.submitter.submit(request)
    const before = await rows()
    const second = await engine.submitter.submit(request)
    expect(second).toEqual({ ...first, replayed: true })
    expect(await rows()).toBe(before)
  })

  test('under a key that was used for another request is refused', async () => {
    await engine.submitter.submit({ tasks: [vm('key-owner')], by, idempotencyKey: 'key-2' })
    await expect(
      engine.submitter.submit({ tasks: [vm('key-thief')], by, idempotencyKey: 'key-2' })
    ).rejects.toMatchObject({ code: 'idempotency_mismatch' })
  })

  test('that comes many times at once under one key is stored once', async () => {
    const before = await rows()
    const answers = await Promise.all(
      Array.from({ length: 8 }, () => engine.submitter.submit({ tasks: [vm('twins')], by, idempotencyKey: 'key-3' }))
    )
    expect(new Set(answers.map((answer) => answer.tasks[0]?.id)).size).toBe(1)
    expect(await rows()).toBe(before + 1)
  })

  test('of which one task is impossible leaves no row', async () => {
    const before = await rows()
    const plan = {
      tasks: [vm('half'), { action: 'vm.start', args: { vm: 'no-such-vm' } }],
      by,
      plan: { onFailure: 'stop' as const }
    }
    await expect(engine.submitter.submit(plan)).rejects.toMatchObject({
      code: 'not_found',
      pointer: '/tasks/1/args/vm'
    })
    expect(await rows()).toBe(before)
  })

  test('for a name that another unfinished task is giving away is refused with that task', async () => {
    const first = await engine.submitter.submit({ tasks: [vm('taken')], by })
    await expect(engine.submitter.submit({ tasks: [vm('taken')], by })).rejects.toMatchObject({
      task: { id: first.tasks[0]?.id }
    })
  })

  test('of 100 for one name at once exactly one wins, and the others say which task was first', async () => {
    const answers = await Promise.allSettled(
      Array.from({ length: 100 }, () => engine.submitter.submit({ tasks: [vm('wanted')], by }))
    )
    const [winner] = answers.filter((answer) => answer.status === 'fulfilled')
    const losers = answers.filter((answer) => answer.status === 'rejected')
    expect(losers).toHaveLength(99)
    for (const { reason } of losers) expect(reason).toMatchObject({ task: { id: winner?.value.tasks[0]?.id } })
  })

  test('that is to happen now cancels what it overtakes, and says so', async () => {
    await engine.submitter.submit({ tasks: [vm('slow'), { action: 'vm.start', args: { vm: 'slow' } }], by })
    const stop = await engine.submitter.submit({ tasks: [{ action: 'vm.stop', args: { vm: 'slow' } }], by })
    const now = await engine.submitter.submit({
      tasks: [{ action: 'vm.stop', args: { vm: 'slow', force: true, now: true } }],
      by
    })
    expect(now.overtaken).toEqual([{ id: stop.tasks[0]?.id, title: stop.tasks[0]?.title }])
    expect((await engine.until(stop.tasks[0]?.id ?? 0)).state).toBe('cancelled')
  })

  test('is tried again when a prerequisite is held in the same moment', async () => {
    let conflicts = 2
    const racing: Database = {
      ...engine.database,
      transaction: (fn) =>
        conflicts-- > 0
          ? Promise.reject(new DatabaseError('conflict', 'held in the same moment', { sqlState: '40001' }))
          : engine.database.transaction(fn)
    }
    const submitter = createSubmitter({ database: racing, registry })
    expect(await submitter.submit({ tasks: [vm('raced')], by })).toMatchObject({ replayed: false })
    conflicts = 100
    await expect(submitter.submit({ tasks: [vm('raced-again')], by })).rejects.toMatchObject({ code: 'fleet_moves' })
  })

  test('is previewed as it would be stored, and stores nothing', async () => {
    const before = await rows()
    const preview = await engine.submitter.preview({
      tasks: [
        vm('shown'),
        { action: 'vm.start', args: { vm: 'shown' } },
        { action: 'vm.delete', args: { vm: 'shown', force: true } }
      ],
      by
    })
    const edges = preview.tasks.map((task) => task.after.map(({ task: ref, needs }) => [ref, needs]))
    expect(preview.tasks.map((task) => [task.action, task.irreversible])).toEqual([
      ['vm.create', false],
      ['vm.start', false],
      ['vm.delete', true]
    ])
    expect(edges.slice(1)).toEqual([
      [[{ index: 0 }, 'complete']],
      [
        [{ index: 0 }, 'complete'],
        [{ index: 1 }, 'ended']
      ]
    ])
    expect(preview.tasks[1]?.after[0]?.because).toContainEqual({ kind: 'needs' })
    expect(await rows()).toBe(before)
  })

  test.each([
    ['unknown_field', { action: 'vm.start', args: { vm: 'once', fast: true } }, '/args/fast'],
    ['missing_field', { action: 'vm.start', args: {} }, '/args/vm'],
    ['bad_args', { action: 'vm.start', args: { vm: '../etc' } }, '/args/vm'],
    ['bad_args', vm('negative', { memoryMiB: -5 }), '/args/memoryMiB'],
    ['bad_args', vm('x'.repeat(1_000_000)), '/args/name'],
    ['bad_args', vm('nul\0'), '/args/name'],
    ['unknown_action', { action: 'vm.fly', args: {} }, '/action']
  ])('with %s is refused, naming the place', async (code, task, pointer) => {
    const refusal = engine.submitter.submit({ tasks: [task], by })
    await expect(refusal).rejects.toMatchObject({ code, pointer })
    const error: unknown = await refusal.catch((caught: unknown) => caught)
    expect(error instanceof Error && error.message.length).toBeLessThan(500)
  })
})

test('10,000 tasks are taken in one plan', async () => {
  const names = Array.from({ length: 10_000 }, (_, at) => `fleet-${at}`)
  const begin = performance.now()
  const answer = await engine.submitter.submit({
    tasks: names.map((name) => vm(name)),
    by,
    plan: { name: 'all', onFailure: 'stop' }
  })
  expect(answer.tasks).toHaveLength(10_000)
  console.log(`a plan of 10,000 VMs was taken in ${Math.round(performance.now() - begin)} ms, evaluation included`)
}, 60_000)

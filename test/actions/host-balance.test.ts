// Evening out how full hosts are: what is proposed, and what is there afterwards.
import { afterAll, beforeAll, expect, test } from 'vitest'
import { proposeMoves } from '../../src/actions/balance.ts'
import { startTestEngine, type TestEngine } from '../support/engine.ts'

let engine: TestEngine
beforeAll(async () => {
  engine = await startTestEngine({
    hosts: 3,
    fleet: { memoryMiB: 16_384, sharedStores: [{ name: 'nfs', path: '/srv/nfs', hosts: ['h1', 'h2', 'h3'] }] }
  })
  for (const host of ['h1', 'h2', 'h3']) await engine.run('pool.create', { host, pool: 'nfs', target: '/srv/nfs' })
  await engine.run('store.share', { store: 'nfs', pools: ['h1', 'h2', 'h3'].map((host) => ({ host, pool: 'nfs' })) })
  // Six on the first host, none on the others.
  for (let at = 1; at <= 6; at++) {
    const disks = [{ store: 'nfs', sizeMiB: 8 }]
    await engine.run('vm.create', { name: `vm-${at}`, memoryMiB: 1024, host: 'h1', disks })
    expect((await engine.run('vm.start', { vm: `vm-${at}` })).state).toBe('complete')
  }
})
afterAll(() => engine.stop())

const running = (host: string) => [...engine.fleet.host(host).domains.values()].filter((domain) => domain.active).length

test('the fullest host gives to the emptiest until they differ little, and what is proposed says why', async () => {
  const moves = await proposeMoves(engine.database, {})
  expect(moves.map(({ from, to }) => [from, to])).toEqual(['h3', 'h2', 'h3', 'h2'].map((to) => ['h1', to]))
  expect(moves[0]?.why).toBe('h1 and h3 are 61 % and 13 % full, and then 53 % and 21 %')
  expect(await proposeMoves(engine.database, { maxMoves: 1 })).toHaveLength(1)
  expect(await proposeMoves(engine.database, { withinPercent: 100 })).toEqual([])
  expect(await proposeMoves(engine.database, { hosts: ['h2', 'h3'] })).toEqual([])
})

test('a dry run shows the moves and moves nothing', async () => {
  const preview = await engine.submitter.preview({ tasks: [{ action: 'host.balance', args: {} }], by: 'test' })
  expect(preview.tasks[0]?.preflight).toHaveLength(4)
  expect(running('h1')).toBe(6)
})

test('run, the hosts are about equally full, and again there is nothing to move', async () => {
  const task = await engine.run('host.balance', {})
  expect(task, JSON.stringify(task.error)).toMatchObject({ state: 'complete', result: { children: 4 } })
  expect(['h1', 'h2', 'h3'].map(running)).toEqual([2, 2, 2])
  // Memory that was promised to the starts counts where they were until the promises are given back.
  await expect.poll(() => proposeMoves(engine.database, {}), { timeout: 10_000 }).toEqual([])
  expect(await engine.run('host.balance', {})).toMatchObject({ state: 'complete', result: { moves: 0 } })
})

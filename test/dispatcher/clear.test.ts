// A host is emptied for maintenance: what becomes of its VMs, of what was queued for it, of its pools, and when it is safe to reboot.
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { loadFacts } from '../../src/inventory/load.ts'
import { DomainState } from '../../src/libvirt/constants.gen.ts'
import { resource } from '../../src/model/resource.ts'
import { readLog } from '../../src/queue/log.ts'
import { getTask, listTasks } from '../../src/queue/read.ts'
import { cancel } from '../../src/queue/requests.ts'
import type { SimDomain } from '../../src/sim/domain.ts'
import { startTestEngine, type TestEngine, type TestEngineOptions } from '../support/engine.ts'

let engine: TestEngine

async function fleet(options: TestEngineOptions['fleet'] = {}, hosts = 3): Promise<void> {
  engine = await startTestEngine({
    hosts,
    fleet: { sharedStores: [{ name: 'nfs1', path: '/srv/nfs1' }], ...options }
  })
  const names = engine.fleet.hosts.map(({ name }) => name)
  await Promise.all(names.map((host) => done('pool.create', { host, pool: 'nfs1', target: '/srv/nfs1' })))
  await done('store.share', { store: 'nfs1', pools: names.map((host) => ({ host, pool: 'nfs1' })) })
}
afterEach(async () => {
  expect(engine.engine.dispatcher.guardPollFound()).toBe(0)
  expect(engine.fleet.journal).toMatchObject({ overCommitted: 0, twoWriters: 0 })
  await engine.stop()
})

type Args = Parameters<TestEngine['run']>[1]

const done = async (action: string, args: Args) => {
  const task = await engine.run(action, args)
  expect(task, JSON.stringify(task.error)).toMatchObject({ state: 'complete' })
  return task
}

/** VMs on a host, all made and started together; `off` ones are only made. */
async function vms(host: string, names: readonly string[], more: { off?: boolean; memoryMiB?: number } = {}) {
  const { off = false, memoryMiB = 256 } = more
  const answer = await engine.submitter.submit({
    by: 'test',
    plan: { onFailure: 'stop' },
    tasks: names.flatMap((name) => [
      {
        action: 'vm.create',
        args: { name, memoryMiB, vcpus: 1, host, disks: [{ store: 'nfs1', sizeMiB: 16 }] }
      },
      ...(off ? [] : [{ action: 'vm.start', args: { vm: name } }])
    ])
  })
  engine.engine.dispatcher.wake()
  for (const { id } of answer.tasks) {
    const task = await engine.until(id)
    expect(task, JSON.stringify(task.error)).toMatchObject({ state: 'complete' })
  }
}

const on = (host: string): SimDomain[] => [...engine.fleet.host(host).domains.values()]
const running = (host: string): string[] =>
  on(host)
    .filter(({ state }) => state === DomainState.RUNNING)
    .map(({ name }) => name)
    .toSorted()
const domain = (name: string): SimDomain => {
  const found = engine.fleet.hosts.flatMap((host) => [...host.domains.values()]).find((one) => one.name === name)
  if (!found) throw new Error(`there is no domain ${name}`)
  return found
}
const factsOf = async (subject: string) => (await loadFacts(engine.database, [subject])).get(subject)
const hostFacts = (host: string) => factsOf(resource.host(host))

describe('by migration', () => {
  beforeEach(() => fleet())

  test('its VMs move, running or not; it is in maintenance, and the restore brings back what came from it', async () => {
    await vms('h1', ['web1', 'web2', 'web3'])
    await vms('h1', ['spare'], { off: true })
    const clear = await done('host.clear', { host: 'h1', reason: 'new memory' })
    expect(clear.result).toMatchObject({ moved: 4, left: [], inMaintenance: true })
    expect(on('h1')).toEqual([])
    expect([...running('h2'), ...running('h3')].toSorted()).toEqual(['web1', 'web2', 'web3'])
    expect(await hostFacts('h1')).toMatchObject({ cordoned: true, cordonReason: 'new memory', inMaintenance: true })
    const restore = await done('host.restore', { host: 'h1' })
    expect(restore.result).toMatchObject({ broughtBack: 4 })
    expect(running('h1')).toEqual(['web1', 'web2', 'web3'])
    expect(on('h1').map(({ name }) => name)).toContain('spare')
    expect(await hostFacts('h1')).toMatchObject({ cordoned: false, inMaintenance: false, maintenanceSince: null })
  })
})

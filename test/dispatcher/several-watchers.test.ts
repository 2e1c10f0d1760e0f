// Several engines on one database: each host is watched by one of them, whatever becomes of the others.
import { randomUUID } from 'node:crypto'
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest'
import type { Engine } from '../../src/dispatcher/engine.ts'
import { connectHost } from '../../src/host/connections.ts'
import { loadFacts } from '../../src/inventory/load.ts'
import { setWatchedConnection, shareWatches } from '../../src/inventory/watches.ts'
import { resource } from '../../src/model/resource.ts'
import type { VmSpec } from '../../src/model/vm.ts'
import { registerDispatcher } from '../../src/queue/dispatch.ts'
import { startTestEngine, type TestEngine } from '../support/engine.ts'
import { eventually } from '../system/eventually.ts'

let stage: TestEngine
let first: Engine
const others: Engine[] = []
beforeAll(async () => {
  stage = await startTestEngine({ hosts: 5, engine: { leaseMs: 1500 } })
  first = stage.engine
})
afterEach(async () => {
  await Promise.all(others.splice(0).map((one) => one.stop()))
})
afterAll(async () => {
  await stage.stop()
})

async function another(): Promise<Engine> {
  const engine = await stage.another()
  others.push(engine)
  return engine
}

const names = () => stage.fleet.hosts.map(({ name }) => name)
const shares = (...engines: Engine[]) => engines.map(({ watchers }) => watchers.watching().length)
const allUp = (...engines: Engine[]) =>
  eventually(() =>
    Promise.resolve(expect(engines.every((one) => names().every((host) => one.watchers.isUp(host)))).toBe(true))
  )
/** Each host by one, and by one only. */
const shared = (counts: number[], ...engines: Engine[]) =>
  eventually(async () => {
    expect(engines.flatMap(({ watchers }) => watchers.watching()).toSorted()).toEqual(names())
    expect(shares(...engines)).toEqual(counts)
  })
const connection = async (host: string) => {
  const facts = await loadFacts(stage.database, [resource.host(host)])
  return facts.get(resource.host(host))?.['connection']
}
/** Made behind our back; whoever watches its host hears of it. */
async function make(host: string, name: string): Promise<void> {
  const outside = await connectHost({ name: host, controlUri: stage.fleet.host(host).uri })
  const spec: VmSpec = {
    uuid: randomUUID(),
    name,
    memoryMiB: 64,
    vcpus: 1,
    disks: [],
    nics: [],
    firmware: 'bios',
    graphics: 'none'
  }
  await outside.host.defineVm(await outside.host.vmXmlFor(spec, { instance: randomUUID(), task: 1, generation: 1 }))
  await outside.close()
}
const isKnown = (name: string) =>
  eventually(async () => {
    const rows = await stage.database.query('select from inventory.vm where name = $1 and gone_at is null', [name])
    expect(rows).toHaveLength(1)
  })

test('who comes is given its share, and who leaves gives it back without a lease running out', async () => {
  await shared([5], first)
  const second = await another()
  await shared([3, 2], first, second)
  const third = await another()
  await shared([2, 2, 1], first, second, third)
  await allUp(first, second, third)

  const before = performance.now()
  await second.stop()
  await shared([3, 2], first, third)
  expect(performance.now() - before).toBeLessThan(1400)
  // What was handed over was never doubted.
  for (const host of names()) expect(await connection(host)).toBe('up')
})

test('the hosts of one who died are watched by others once his lease has run out, and nothing is missed', async () => {
  // Takes part as a process does, and is never heard of again.
  const gone = await registerDispatcher(stage.database, { name: 'gone', leaseMs: 1000 })
  await shareWatches(stage.database, gone.id)
  const taken = await eventually(async () => {
    const share = await shareWatches(stage.database, gone.id)
    expect(share?.mine).toHaveLength(2)
    return share?.mine ?? []
  }, 900)
  const began = performance.now()
  await make(taken[0] ?? '', 'meanwhile')
  expect(shares(first)).toEqual([3])
  await shared([5], first)
  expect(performance.now() - began).toBeLessThan(1000 + 2000)
  await isKnown('meanwhile')
  await allUp(first)
  // What he says now is not written.
  const late = { connection: 'down' as const, reason: 'late' }
  expect(await setWatchedConnection(stage.database, gone.id, taken[0] ?? '', late)).toBe(false)
  expect(await connection(taken[0] ?? '')).toBe('up')
})

test('who does not watch a host runs tasks there, and knows when it goes down and comes up', async () => {
  const second = await another()
  await shared([3, 2], first, second)
  await allUp(first, second)
  const [theirs = ''] = second.watchers.watching()
  await stage.fleet.powerOff(theirs)
  await eventually(() => Promise.resolve(expect(first.watchers.isUp(theirs)).toBe(false)))
  const task = await stage.submit('vm.create', { name: 'web1', memoryMiB: 64, vcpus: 1, host: theirs })
  await stage.until(task, ({ state }) => state === 'parked')
  await stage.fleet.boot(theirs)
  expect((await stage.until(task)).state).toBe('complete')
  await allUp(first, second)
})

test('a process whose lease is lost watches by its new one', async () => {
  const second = await another()
  await shared([3, 2], first, second)
  const lastOne = async () => {
    const [row] = await stage.database.query<{ id: number }>('select max(dispatcher) as id from inventory.watcher')
    return row?.id ?? 0
  }
  const lost = await lastOne()
  // As if it had been stopped for longer than its lease: somebody has reaped it.
  await stage.database.query('select queue.unregister_dispatcher($1)', [lost])
  await eventually(async () => expect(await lastOne()).toBeGreaterThan(lost))
  await shared([3, 2], first, second)
  await allUp(first, second)
  await make(second.watchers.watching()[0] ?? '', 'after')
  await isKnown('after')
})

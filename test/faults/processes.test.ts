// Engines and hosts in processes of their own: work goes on whatever happens to one of them.
import { afterAll, beforeAll, expect, test } from 'vitest'
import { registry } from '../../src/actions/registry.ts'
import { createSubmitter, type Submitter } from '../../src/actions/submit.ts'
import type { JsonObject } from '../../src/db/json.ts'
import { freshDatabase, type FreshDatabase } from '../support/postgres.ts'
import { Processes, type EngineProcess, type HostsProcess } from './processes.ts'
import { untilEnded } from './until-ended.ts'

const processes = new Processes()
let fresh: FreshDatabase
let hosts: HostsProcess
let engines: EngineProcess[]
let submitter: Submitter
beforeAll(async () => {
  fresh = await freshDatabase()
  submitter = createSubmitter({ database: fresh.database, registry })
  hosts = await processes.hosts({ hosts: 2, startMs: 300 })
  engines = await processes.engines(2, { url: fresh.serverUrl, leaseMs: 1000 })
})
afterAll(async () => {
  await processes.stop()
  await fresh.drop()
})

const submit = async (action: string, args: JsonObject) =>
  (await submitter.submit({ tasks: [{ action, args }], by: 'test' })).tasks[0]?.id ?? -1
const ended = async (action: string, args: JsonObject) => {
  const [task] = await untilEnded(fresh.database, [await submit(action, args)])
  expect(task, JSON.stringify(task?.error)).toMatchObject({ state: 'complete' })
}

test('a start goes on when the engine that began it is killed, and the VM is started once', async () => {
  for (const [host, uri] of Object.entries(hosts.uris)) await ended('host.add', { host, controlUri: uri, peerUri: uri })
  await ended('vm.create', { name: 'web1', memoryMiB: 256, vcpus: 1, host: 'h1' })
  const start = await submit('vm.start', { vm: 'web1' })
  const busy = async () => {
    for (;;) for (const engine of engines) if ((await engine.call.running()) > 0) return engine
  }
  const victim = await busy()
  await victim.kill()
  expect(victim.ended()).toMatch(/SIGKILL/)
  const [task] = await untilEnded(fresh.database, [start])
  expect(task).toMatchObject({ state: 'complete' })
  expect((await hosts.call.journal()).filter(({ kind }) => kind === 'started')).toHaveLength(1)
  const survivor = engines.find((engine) => engine !== victim)
  expect(await survivor?.logged((line) => line.msg?.startsWith('taken over') ?? false)).toMatchObject({ task: start })
})

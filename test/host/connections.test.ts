// Ties to simulated hosts that fail as told: what each kind of loss says of what was asked, and that ties come back.

import { randomUUID } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { connectHost, HostConnections } from '../../src/host/connections.ts'
import type { Host } from '../../src/host/host.ts'
import type { LinkState } from '../../src/host/link.ts'
import { startSimFleet, type SimFleet } from '../../src/sim/fleet.ts'
import type { VmSpec } from '../../src/model/vm.ts'

const mark = { instance: randomUUID(), task: 1, generation: 1 }
const fresh = { freshBoot: true, paused: false }

let dir: string
let fleet: SimFleet
let connections: HostConnections
let host: Host
let states: LinkState[]
let next: (state: LinkState['state']) => Promise<void>

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'tk-links-'))
  fleet = await startSimFleet({ dir, hosts: 2 })
  connections = new HostConnections({ firstRetryMs: 10, lastRetryMs: 20, readTimeoutMs: 1000 })
  states = []
  let hear: (() => void) | undefined
  connections.onState((_name, state) => {
    states.push(state)
    hear?.()
  })
  // The next change to that state that nobody has waited for yet.
  let seen = 0
  next = async (state) => {
    for (;;) {
      const at = states.findIndex((one, index) => index >= seen && one.state === state)
      if (at >= 0) {
        seen = at + 1
        return
      }
      await new Promise<void>((resolve) => (hear = resolve))
    }
  }
  const { uri, uuid } = fleet.host('h1')
  connections.setHosts([{ name: 'h1', controlUri: uri, uuid }])
  connections.start()
  host = connections.host('h1')
  await next('up')
})
afterEach(async () => {
  await connections.stop()
  await fleet.stop()
  await rm(dir, { recursive: true, force: true })
})

async function define(name: string): Promise<string> {
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
  await host.defineVm(await host.vmXmlFor(spec, mark))
  return spec.uuid
}

test('a change whose answer is lost may have happened, a change that was not sent has not', async () => {
  const vm = await define('web1')
  const { faults, server } = fleet.host('h1')
  faults.add({ on: 'DOMAIN_CREATE_WITH_FLAGS', fault: { kind: 'drop_after' }, times: 1 })
  await expect(host.startVm(vm, fresh)).rejects.toMatchObject({ code: 'unknown_outcome', host: 'h1' })
  // Long calls have connections of their own: the tie stands, and only looking tells.
  expect(await host.vm(vm)).toMatchObject({ power: 'running' })
  await server.stop()
  await next('down')
  await expect(host.powerOffVm(vm)).rejects.toMatchObject({ code: 'unreachable' })
  await server.start()
  await next('up')
  expect(await host.vm(vm)).toMatchObject({ power: 'running' })
})

test('a question whose answer is lost has learnt nothing, and that is all', async () => {
  const vm = await define('web1')
  const { faults } = fleet.host('h1')
  faults.add({ on: 'DOMAIN_GET_STATE', fault: { kind: 'drop_before' }, times: 1 })
  await expect(host.vm(vm)).rejects.toMatchObject({ code: 'unreachable' })
  await next('up')
  faults.add({ on: 'DOMAIN_GET_STATE', fault: { kind: 'hang' }, times: 1 })
  await expect(host.vm(vm)).rejects.toMatchObject({ code: 'timeout' })
  expect(await host.vm(vm)).toMatchObject({ name: 'web1' })
})

test('a refusal keeps code, domain and words', async () => {
  const vm = await define('web1')
  const fault = { kind: 'error', code: 'AGENT_UNRESPONSIVE', domain: 'QEMU', message: 'no agent' } as const
  fleet.host('h1').faults.add({ on: 'DOMAIN_SHUTDOWN_FLAGS', fault, times: 1 })
  await expect(host.shutDownVm(vm)).rejects.toMatchObject({
    code: 'refused',
    libvirt: { code: 86, codeName: 'AGENT_UNRESPONSIVE', domainName: 'QEMU', message: 'no agent' }
  })
})

test('a tie comes back by itself, and events are heard again', async () => {
  const vm = await define('web1')
  await fleet.host('h1').server.restartDaemon()
  await next('down')
  await next('up')
  const started = host.untilVm(vm, (seen) => seen?.power === 'running', { timeoutMs: 5000, pollMs: 60_000 })
  await host.startVm(vm, fresh)
  expect(await started).toMatchObject({ power: 'running' })
})

test('hosts are added, re-addressed and removed while others keep their connections', async () => {
  const h1 = fleet.host('h1')
  const h2 = fleet.host('h2')
  const kept = { name: 'h1', controlUri: h1.uri, uuid: h1.uuid }
  const sessions = h1.sessions.size
  connections.setHosts([kept, { name: 'h2', controlUri: 'qemu+unix:///system?socket=/nowhere', uuid: null }])
  await expect(connections.host('h2').list()).rejects.toMatchObject({ code: 'unreachable' })
  connections.setHosts([kept, { name: 'h2', controlUri: h2.uri, uuid: h2.uuid }])
  expect((await connections.host('h2').identify()).uuid).toBe(h2.uuid)
  expect(connections.host('h1')).toBe(host)
  expect(h1.sessions.size).toBe(sessions)
  connections.setHosts([kept])
  expect(() => connections.host('h2')).toThrow(expect.objectContaining({ code: 'unknown_host' }))
})

test('an address that cannot be understood, or is neither secret nor authenticated, is refused as such', async () => {
  for (const controlUri of ['nonsense', 'qemu+ssh://h1/system?command=evil', 'qemu+tcp://h1/system'])
    await expect(connectHost({ name: 'h', controlUri })).rejects.toMatchObject({ code: 'bad_input' })
})

test('a tie that was ended stays ended, and says so', async () => {
  await connections.stop()
  await connections.stop()
  await expect(host.list()).rejects.toMatchObject({ code: 'unreachable' })
})

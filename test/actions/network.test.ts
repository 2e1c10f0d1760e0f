// Networks through queue, dispatcher and simulated hosts; and which networks are possible at all.
import { randomUUID } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Verdict } from '../../src/actions/action.ts'
import { networkCreate } from '../../src/actions/network-create.ts'
import { isRangeOf, networkXml, subnetOf } from '../../src/host/network-xml.ts'
import { loadFacts } from '../../src/inventory/load.ts'
import { resource } from '../../src/model/resource.ts'
import { startTestEngine, type TestEngine } from '../support/engine.ts'
import { Fleet } from './fleet.ts'

describe('on a simulated host', () => {
  let engine: TestEngine
  beforeAll(async () => {
    engine = await startTestEngine({ hosts: 1 })
  })
  afterAll(() => engine.stop())

  const on = (network: string) => ({ host: 'h1', network })
  const done = async (action: string, args: Parameters<TestEngine['run']>[1]) => {
    const task = await engine.run(action, args)
    expect(task, JSON.stringify(task.error)).toMatchObject({ state: 'complete' })
    return task
  }
  const facts = async (network: string) =>
    (await loadFacts(engine.database, [resource.network('h1', network)])).get(resource.network('h1', network))

  test('a network is made, used, kept while it is used, stopped, started and deleted', async () => {
    await done('network.create', { ...on('lan'), cidr: '192.168.150.0/24', bridge: 'virbr7' })
    expect(await facts('lan')).toMatchObject({ active: true, bridge: 'virbr7' })
    expect(engine.fleet.host('h1').networks.get('lan')).toMatchObject({ active: true, autostart: true })
    // Asked for once more it is there already; with another bridge it is another one.
    await done('network.create', { ...on('lan'), cidr: '192.168.150.0/24', bridge: 'virbr7' })
    const other = engine.submit('network.create', { ...on('lan'), cidr: '192.168.150.0/24', bridge: 'virbr8' })
    await expect(other).rejects.toThrow('virbr7')

    await done('vm.create', { name: 'web1', memoryMiB: 64, vcpus: 1, host: 'h1', nics: [{ network: 'lan' }] })
    await done('vm.start', { vm: 'web1' })
    for (const action of ['network.stop', 'network.delete']) {
      const task = await engine.run(action, on('lan'))
      expect(task).toMatchObject({
        state: 'failed',
        error: { code: 'network_in_use', message: expect.stringContaining('"web1"') }
      })
    }
    expect(engine.fleet.host('h1').networks.get('lan')).toMatchObject({ active: true })
    await done('vm.stop', { vm: 'web1', force: true, timeoutSeconds: 1 })
    await done('network.stop', on('lan'))
    expect(await facts('lan')).toMatchObject({ active: false })
    await done('network.start', on('lan'))
    await done('network.delete', on('lan'))
    expect(await facts('lan')).toBeNull()
    await expect(engine.submit('network.stop', on('lan'))).rejects.toThrow('there is no network "lan" on h1')
  })

  test('a start and a stop of its network that are asked for at one moment take turns', async () => {
    await done('network.create', { ...on('lan2'), mode: 'isolated' })
    await done('vm.create', { name: 'web2', memoryMiB: 64, vcpus: 1, host: 'h1', nics: [{ network: 'lan2' }] })
    const start = await engine.submit('vm.start', { vm: 'web2' })
    const stop = await engine.submit('network.stop', on('lan2'))
    expect(await engine.until(start)).toMatchObject({ state: 'complete' })
    expect(await engine.until(stop)).toMatchObject({ state: 'failed', error: { code: 'network_in_use' } })
  })

  test('a lost reply is told by a look; what virsh does is seen', async () => {
    engine.fleet.host('h1').faults.add({ on: 'NETWORK_CREATE', fault: { kind: 'drop_after' }, times: 1 })
    await done('network.create', { ...on('lan3'), mode: 'isolated' })
    await engine.engine.hosts.host('h1').stopNetwork('lan3')
    await expect.poll(async () => (await facts('lan3'))?.['active']).toBe(false)
  })

  test('a definition by hand is the host’s to judge', async () => {
    const xml = `<network><name>own</name><uuid>${randomUUID()}</uuid><bridge name="own0"/></network>`
    await done('network.create', { ...on('own'), xml })
    expect(await facts('own')).toMatchObject({ bridge: 'own0' })
    const refused = engine.submit('network.create', { ...on('other'), xml })
    await expect(refused).rejects.toThrow('the XML names the network "own"')
  })
})

describe('what is asked for', () => {
  const state = new Fleet().host('h1').queued()
  const code = (more: object): string => {
    const verdict: Verdict = networkCreate.check({ host: 'h1', network: 'lan', ...more }, state)
    return verdict.verdict === 'impossible' ? verdict.code : verdict.verdict
  }

  test.each([
    ['nat without addresses', {}, 'bad_network'],
    ['nat with addresses', { cidr: '10.0.0.0/24' }, 'possible'],
    ['an isolated one without addresses', { mode: 'isolated' }, 'possible'],
    ['a bridge that is not named', { mode: 'bridge' }, 'bad_network'],
    ['a bridge', { mode: 'bridge', bridge: 'br0' }, 'possible'],
    ['a bridge with addresses', { mode: 'bridge', bridge: 'br0', cidr: '10.0.0.0/24' }, 'bad_network'],
    ['no addresses', { cidr: '10.0.0.300/24' }, 'bad_network'],
    ['too many addresses', { cidr: '10.0.0.0/4' }, 'bad_network'],
    ['a range elsewhere', { cidr: '10.0.0.0/24', dhcpRange: { from: '10.0.1.1', to: '10.0.1.9' } }, 'bad_network'],
    [
      'a range with the host in it',
      { cidr: '10.0.0.5/24', dhcpRange: { from: '10.0.0.2', to: '10.0.0.9' } },
      'bad_network'
    ],
    ['a range', { cidr: '10.0.0.1/24', dhcpRange: { from: '10.0.0.2', to: '10.0.0.9' } }, 'possible'],
    ['a definition beside words', { xml: '<network><name>lan</name></network>', bridge: 'br0' }, 'xml_and_fields'],
    ['no definition', { xml: '<domain/>' }, 'bad_xml'],
    ['an unknown host', { host: 'h9', mode: 'isolated' }, 'host_not_found']
  ])('%s: %o is %s', (_, more, expected) => {
    expect(code(more)).toBe(expected)
  })

  test('undoing takes away what was made, stops what was started, and leaves what was there', () => {
    const lan = { host: 'h1', network: 'lan' }
    const undo = (fleet: Fleet) => networkCreate.undo?.({ ...lan, mode: 'isolated' }, fleet.starting('h1'))
    expect(undo(new Fleet())).toEqual({ action: 'network.delete', args: lan })
    expect(undo(new Fleet().network('h1', 'lan', { active: false }))).toEqual({ action: 'network.stop', args: lan })
    expect(undo(new Fleet().network('h1', 'lan'))).toEqual({ impossible: 'it was there before' })
  })

  test('addresses are counted as they are', () => {
    expect(subnetOf('192.168.150.0/24')).toEqual({
      address: { ip: '192.168.150.1', prefix: 24 },
      first: '192.168.150.2',
      last: '192.168.150.254'
    })
    expect(subnetOf('10.1.2.254/24')).toMatchObject({ first: '10.1.2.1', last: '10.1.2.253' })
    expect(subnetOf('10.0.0.0/30')).toMatchObject({ first: '10.0.0.2', last: '10.0.0.2' })
    expect(subnetOf('10.1.2.255/24')).toBeUndefined()
    const subnet = subnetOf('10.0.0.0/8')
    expect(subnet && isRangeOf(subnet, { from: '10.255.255.1', to: '10.255.255.254' })).toBe(true)
    expect(networkXml({ name: 'a&b', mode: 'bridge', bridge: 'br0', address: null, dhcp: null })).toBe(
      '<network><name>a&amp;b</name><forward mode="bridge"/><bridge name="br0"/></network>'
    )
  })
})

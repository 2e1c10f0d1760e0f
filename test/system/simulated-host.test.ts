// One script of virsh commands on real hosts with QEMU and on simulated ones: what virsh prints and how it exits is the same.

import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { describeWith } from '../harness/parts.ts'
import { withFleet } from '../sim/support.ts'
import { runScript, type ScriptHosts, type Step } from '../sim/virsh-script.ts'
import { run } from './command.ts'
import { bootImage } from './guest.ts'
import { type Hosts, startHosts } from './hosts.ts'

describeWith('real hosts', 'simulated and real hosts', () => {
  let hosts: Hosts

  beforeAll(async () => {
    hosts = await startHosts({ count: 2 })
  })
  afterAll(() => hosts?.stop())

  async function onRealHosts(places: ScriptHosts): Promise<Step[]> {
    const image = join(hosts.shared, 'vm.raw')
    await writeFile(image, bootImage())
    await writeFile(join(hosts.shared, 'extra.raw'), bootImage())
    await run('qemu-img', ['convert', '-O', 'qcow2', image, join(hosts.shared, 'vm.qcow2')])
    return runScript(places)
  }

  async function onSimulatedHosts(places: ScriptHosts): Promise<Step[]> {
    let steps: Step[] = []
    // Both hosts have the directory, but as on the real ones it is no network file system.
    await withFleet({ sharedStores: [], networks: [] }, async (fleet) => {
      const [first, second] = [fleet.host('h1'), fleet.host('h2')]
      for (const [name, format] of [
        ['vm.raw', 'raw'],
        ['extra.raw', 'raw'],
        ['vm.qcow2', 'qcow2']
      ] as const)
        first.localStore.create(`/dir/${name}`, { format, capacityBytes: 1_048_576n })
      for (const host of [first, second]) host.mount(places.shared, first.localStore, '/dir')
      steps = await runScript({ ...places, first, second })
    })
    return steps
  }

  test('a hundred virsh commands print the same and exit the same', async () => {
    const scratch = join(hosts.directory, 'script')
    await mkdir(scratch)
    const [first, second] = [hosts.host('h1'), hosts.host('h2')]
    const places: ScriptHosts = {
      first,
      second,
      peerUri: second.tlsUri,
      shared: hosts.shared,
      folder: '/var/lib/libvirt',
      scratch
    }
    const real = await onRealHosts(places)
    const simulated = await onSimulatedHosts(places)
    expect(simulated.length).toBeGreaterThan(100)
    expect(simulated).toEqual(real)
  })
})

// The host layer on real libvirtd: its test driver for what needs no guest, QEMU for the rest.

import { randomUUID } from 'node:crypto'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { connectHost, HostConnections } from '../../src/host/connections.ts'
import type { Host, HostChange } from '../../src/host/host.ts'
import type { LinkState } from '../../src/host/link.ts'
import type { VmSpec } from '../../src/model/vm.ts'
import { describeWith } from '../harness/parts.ts'
import { bootImage } from './guest.ts'
import { startHosts, type Hosts } from './hosts.ts'

const mark = { instance: randomUUID(), task: 7, generation: 1 }
const everything = { savedImage: true, snapshots: true, firmwareState: true }

const spec = (name: string, disk: string): VmSpec => ({
  uuid: randomUUID(),
  name,
  memoryMiB: 64,
  vcpus: 1,
  disks: [{ path: disk, format: 'raw', bus: 'virtio', device: 'disk', readOnly: false }],
  nics: [],
  firmware: 'bios',
  graphics: 'none'
})

describeWith('real hosts', 'the host layer', () => {
  let hosts: Hosts
  beforeAll(async () => {
    hosts = await startHosts({ count: 2 })
  })
  afterAll(() => hosts?.stop())

  describe(`on libvirt's test driver`, () => {
    let host: Host
    let close: () => Promise<void>
    beforeAll(async () => {
      const controlUri = `test+unix:///default?socket=${hosts.host('h1').socket}`
      ;({ host, close } = await connectHost({ name: 'h1', controlUri }))
    })
    afterAll(() => close?.())

    test('says who it is and what it has', async () => {
      expect(await host.identify()).toMatchObject({ domainType: 'test', arch: 'i686', cpus: 16, memoryMiB: 3072 })
      const listing = await host.list()
      expect(listing.vms).toMatchObject([{ name: 'test', power: 'running', persistent: true, maxMemoryMiB: 8192 }])
      expect(listing.pools).toMatchObject([{ name: 'default-pool', type: 'dir', active: true, source: null }])
      expect(listing.networks).toMatchObject([{ name: 'default', active: true, bridge: 'virbr0' }])
    })

    test('defines, starts, stops and undefines a VM, and says each change', async () => {
      const changes: HostChange[] = []
      const stop = host.onChange((change) => changes.push(change))
      const asked = spec('made', '/srv/made.raw')
      const defined = await host.defineVm(await host.vmXmlFor(asked, mark))
      expect(defined).toMatchObject({ uuid: asked.uuid, power: 'off', persistent: true, mark, maxMemoryMiB: 64 })
      await host.startVm(asked.uuid, { freshBoot: true, paused: false })
      expect(await host.vm(asked.uuid)).toMatchObject({ power: 'running', reason: 'booted', snapshots: [] })
      await host.pauseVm(asked.uuid)
      expect(await host.vmByName('made')).toMatchObject({ power: 'paused', reason: 'user' })
      await host.resumeVm(asked.uuid)
      await host.setAutostart(asked.uuid, true)
      expect(await host.vm(asked.uuid)).toMatchObject({ power: 'running', autostart: true })
      await host.settleVm(asked.uuid, { ...mark, generation: 2 })
      expect((await host.vm(asked.uuid))?.mark).toEqual({ ...mark, generation: 2 })
      await host.settleVm(asked.uuid, null)
      expect((await host.vm(asked.uuid))?.mark).toEqual({ ...mark, generation: 2 })
      await host.powerOffVm(asked.uuid)
      expect(await host.vm(asked.uuid)).toMatchObject({ power: 'off', reason: 'destroyed' })
      await host.undefineVm(asked.uuid, everything)
      expect(await host.untilVm(asked.uuid, (vm) => vm === undefined, { timeoutMs: 5000 })).toBeUndefined()
      expect(await host.vmByName('made')).toBeUndefined()
      stop()
      const said = changes.flatMap((change) =>
        change.kind === 'vm' && change.uuid === asked.uuid ? [change.event] : []
      )
      expect(said).toEqual(
        expect.arrayContaining(['defined', 'started', 'suspended', 'resumed', 'stopped', 'undefined'])
      )
    })

    test('a wait is ended by the event, by its time, or by its signal', async () => {
      const asked = spec('waited', '/srv/waited.raw')
      await host.defineVm(await host.vmXmlFor(asked, mark))
      const begun = performance.now()
      const waiting = host.untilVm(asked.uuid, (vm) => vm?.power === 'running', { timeoutMs: 60_000, pollMs: 50_000 })
      await host.startVm(asked.uuid, { freshBoot: false, paused: false })
      expect(await waiting).toMatchObject({ power: 'running' })
      expect(performance.now() - begun).toBeLessThan(5000)
      const never = () => false
      await expect(host.untilVm(asked.uuid, never, { timeoutMs: 30 })).rejects.toMatchObject({
        code: 'timeout',
        message: expect.stringContaining('waited is running (booted)')
      })
      const signal = AbortSignal.timeout(30)
      await expect(host.untilVm(asked.uuid, never, { timeoutMs: 60_000, signal })).rejects.toMatchObject({
        code: 'aborted'
      })
      await host.powerOffVm(asked.uuid)
      await host.undefineVm(asked.uuid, everything)
    })

    test('a refusal carries what libvirt said', async () => {
      await expect(host.startVm(randomUUID(), { freshBoot: true, paused: false })).rejects.toMatchObject({
        code: 'refused',
        libvirt: { code: 42, codeName: 'NO_DOMAIN', domainName: expect.any(String), message: expect.any(String) }
      })
      await expect(host.defineVm('<domain type="test"><name>a/b</name></domain>')).rejects.toMatchObject({
        code: 'refused',
        libvirt: { codeName: expect.stringMatching(/XML/) }
      })
    })

    test('volumes are made, copied, resized and deleted', async () => {
      const pool = 'default-pool'
      const made = await host.createVolume(pool, { name: 'a.img', format: 'raw', capacityBytes: 1024 ** 2 })
      expect(made).toMatchObject({ name: 'a.img', path: '/default-pool/a.img', capacityBytes: 1024 ** 2 })
      const copy = await host.copyVolume(
        pool,
        { name: 'b.img', format: 'raw', capacityBytes: null },
        { pool, name: 'a.img' }
      )
      expect(copy).toMatchObject({ name: 'b.img', capacityBytes: 1024 ** 2 })
      expect((await host.pool(pool))?.volumes.map((volume) => volume.name).toSorted()).toEqual(['a.img', 'b.img'])
      await host.deleteVolume(pool, 'b.img')
      await host.deleteVolume(pool, 'a.img')
      expect(await host.volume(pool, 'a.img')).toBeUndefined()
      expect(await host.volume('no-such-pool', 'a.img')).toBeUndefined()
      expect(await host.pool('no-such-pool')).toBeUndefined()
    })
  })

  describe('on QEMU', () => {
    let connections: HostConnections
    let h1: Host
    let h2: Host
    beforeAll(async () => {
      connections = new HostConnections({ firstRetryMs: 100 })
      connections.setHosts(hosts.all.map(({ name, uri, uuid }) => ({ name, controlUri: uri, uuid })))
      connections.start()
      h1 = connections.host('h1')
      h2 = connections.host('h2')
    })
    afterAll(() => connections?.stop())

    test('says who it is and when it was booted', async () => {
      const identity = await h1.identify()
      expect(identity).toMatchObject({ uuid: hosts.host('h1').uuid, hostname: 'h1', arch: 'x86_64', machine: 'q35' })
      expect(identity.libvirtVersion).toMatch(/^\d+\.\d+\.\d+$/)
      expect(identity.bootTime).toBeLessThan(Date.now() / 1000)
    })

    test('a VM made from a spec boots, migrates, shuts down and is gone', async () => {
      const disk = join(hosts.shared, 'made.raw')
      await writeFile(disk, bootImage())
      const asked = spec('made', disk)
      expect(await h1.defineVm(await h1.vmXmlFor(asked, mark))).toMatchObject({ uuid: asked.uuid, power: 'off', mark })
      await h1.startVm(asked.uuid, { freshBoot: true, paused: false })
      expect(await h1.vm(asked.uuid)).toMatchObject({ power: 'running', reason: 'booted', job: null })
      await h1.migrateVm(asked.uuid, {
        peerUri: hosts.host('h2').tlsUri,
        migrationUri: null,
        live: true,
        persistent: true,
        tls: false,
        unsafe: true,
        autoConverge: false,
        postCopy: false,
        copyStorage: false,
        bandwidthMiBps: 100
      })
      const arrived = await h2.untilVm(asked.uuid, (vm) => vm?.power === 'running', { timeoutMs: 10_000 })
      expect(arrived).toMatchObject({ persistent: true, reason: 'migrated', mark })
      expect(await h1.vm(asked.uuid)).toBeUndefined()
      // The guest obeys the power button once it has booted; the emulated boot takes a moment.
      await h2.untilVm(
        asked.uuid,
        (vm) => {
          if (vm?.power === 'running') void h2.shutDownVm(asked.uuid).catch(() => {})
          return vm?.power === 'off'
        },
        { timeoutMs: 30_000 }
      )
      await h2.undefineVm(asked.uuid, everything)
      expect(await h2.vm(asked.uuid)).toBeUndefined()
    })

    test("a start with a missing disk says what is missing, in libvirt's words", async () => {
      const asked = spec('diskless', '/nowhere/disk.raw')
      await h1.defineVm(await h1.vmXmlFor(asked, mark))
      await expect(h1.startVm(asked.uuid, { freshBoot: true, paused: false })).rejects.toMatchObject({
        code: 'refused',
        libvirt: { codeName: expect.any(String), message: expect.stringContaining('/nowhere/disk.raw') }
      })
      await h1.undefineVm(asked.uuid, everything)
    })

    test('a directory pool is defined, built and started once, and a second time nothing happens', async () => {
      const pool = { name: 'tank', type: 'dir' as const, target: join(hosts.shared, 'tank') }
      await h1.definePool(pool)
      await h1.definePool(pool)
      await h1.setPoolAutostart('tank', true)
      expect(await h1.pool('tank')).toMatchObject({
        active: true,
        persistent: true,
        autostart: true,
        target: pool.target
      })
      await expect(h1.definePool({ ...pool, target: '/elsewhere' })).rejects.toMatchObject({ code: 'bad_input' })
      const made = await h1.createVolume('tank', { name: 'a.qcow2', format: 'qcow2', capacityBytes: 10 * 1024 ** 2 })
      expect(made).toMatchObject({ format: 'qcow2', capacityBytes: 10 * 1024 ** 2, path: join(pool.target, 'a.qcow2') })
      expect(await h1.resizeVolume('tank', 'a.qcow2', 20 * 1024 ** 2)).toMatchObject({ capacityBytes: 20 * 1024 ** 2 })
      await expect(
        h1.createVolume('tank', { name: 'a.qcow2', format: 'qcow2', capacityBytes: 1 })
      ).rejects.toMatchObject({ code: 'refused' })
      await h1.deleteVolume('tank', 'a.qcow2')
      await h1.stopPool('tank')
      expect(await h1.pool('tank')).toMatchObject({ active: false, volumes: [] })
      await h1.undefinePool('tank')
      expect(await h1.pool('tank')).toBeUndefined()
    })

    test('another machine at the address is not used', async () => {
      const wrong = new HostConnections({ firstRetryMs: 50 })
      wrong.setHosts([{ name: 'h1', controlUri: hosts.host('h2').uri, uuid: hosts.host('h1').uuid }])
      wrong.start()
      await expect(wrong.host('h1').list()).rejects.toMatchObject({ code: 'wrong_identity' })
      expect(wrong.state('h1')).toMatchObject({ state: 'down', code: 'wrong_identity' })
      await wrong.stop()
    })

    test('a process whose lease is too old asks, and changes nothing', async () => {
      let why: string | undefined = 'the lease is 6 s old'
      const fenced = new HostConnections({ fence: () => why })
      fenced.setHosts([{ name: 'h1', controlUri: hosts.host('h1').uri, uuid: null }])
      fenced.start()
      const host = fenced.host('h1')
      await host.list()
      const asked = spec('fenced', '/nowhere')
      await expect(host.defineVm(await host.vmXmlFor(asked, mark))).rejects.toMatchObject({ code: 'fenced' })
      await expect(host.startVm(asked.uuid, { freshBoot: true, paused: false })).rejects.toMatchObject({
        code: 'fenced'
      })
      expect(await host.vm(asked.uuid)).toBeUndefined()
      why = undefined
      await host.defineVm(await host.vmXmlFor(asked, mark))
      await host.undefineVm(asked.uuid, everything)
      await fenced.stop()
    })

    test('a daemon that dies is noticed and connected to again; what was asked in between did not happen', async () => {
      const states: LinkState[] = []
      const came = Promise.withResolvers<void>()
      const went = Promise.withResolvers<void>()
      const stop = connections.onState((name, state) => {
        if (name !== 'h2') return
        states.push(state)
        if (state.state === 'down') went.resolve()
        else if (states.length > 1) came.resolve()
      })
      await h2.list()
      await hosts.restartLibvirtd('h2', 'KILL')
      await went.promise
      await came.promise
      expect(await h2.list()).toMatchObject({ vms: [] })
      stop()
    })
  })
})

// With the limits that libvirtd comes with: 5 unanswered calls on a connection, 20 workers for everyone.
describeWith('real hosts', 'a host with a frozen guest', () => {
  let hosts: Hosts
  let connections: HostConnections
  beforeAll(async () => {
    hosts = await startHosts({ count: 1, limits: 'stock' })
    connections = new HostConnections({ firstRetryMs: 100 })
    connections.setHosts(hosts.all.map(({ name, uri, uuid }) => ({ name, controlUri: uri, uuid })))
    connections.start()
  })
  afterAll(async () => {
    await connections?.stop()
    await hosts?.stop()
  })

  test('answers for the others, and tells their changes, while calls for the frozen one hang', async () => {
    const host = connections.host('h1')
    const made: VmSpec[] = []
    for (const name of ['frozen', 'free']) {
      const disk = join(hosts.shared, `${name}.raw`)
      await writeFile(disk, bootImage())
      const asked = spec(name, disk)
      await host.defineVm(await host.vmXmlFor(asked, mark))
      made.push(asked)
    }
    const [frozen, free] = made.map((asked) => asked.uuid) as [string, string]
    await host.startVm(frozen, { freshBoot: true, paused: false })
    await hosts.signalGuest('h1', 'frozen', 'STOP')
    // Three reach QEMU's door, the others wait behind them; none is answered.
    let answered = 0
    const stuck = Promise.allSettled(
      [
        host.pauseVm(frozen),
        host.settleVm(frozen, mark),
        host.shutDownVm(frozen),
        host.rebootVm(frozen),
        host.settleVm(frozen, null)
      ].map((call) => call.finally(() => answered++))
    )
    const begun = performance.now()
    const running = host.untilVm(free, (vm) => vm?.power === 'running', { timeoutMs: 20_000, pollMs: 19_000 })
    await host.startVm(free, { freshBoot: true, paused: false })
    await running
    const tookMs = performance.now() - begun
    const looks: number[] = []
    for (let round = 0; round < 20; round++) {
      const at = performance.now()
      expect((await host.list()).vms).toHaveLength(2)
      looks.push(performance.now() - at)
    }
    expect(answered).toBe(0)
    console.log(
      `start beside a frozen guest: ${Math.round(tookMs)} ms; slowest of 20 lists: ${Math.round(Math.max(...looks))} ms`
    )
    expect(tookMs).toBeLessThan(10_000)
    expect(Math.max(...looks)).toBeLessThan(1_000)
    // A power-off kills the process and needs no answer from it.
    await host.powerOffVm(frozen)
    await stuck
    expect(await host.vm(frozen)).toMatchObject({ power: 'off', reason: 'destroyed' })
    await host.powerOffVm(free)
    for (const uuid of made.map((asked) => asked.uuid)) await host.undefineVm(uuid, everything)
  })
})

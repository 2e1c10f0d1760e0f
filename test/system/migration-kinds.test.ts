// Other migrations on real libvirt and QEMU: carried through from here on a block device, with the disks, with a broken post-copy.
// What both hosts show is read by virsh as well.

import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, expect, test, vi } from 'vitest'
import { vmCreate } from '../../src/actions/vm-create.ts'
import { vmDelete } from '../../src/actions/vm-delete.ts'
import { vmMigrate } from '../../src/actions/vm-migrate.ts'
import { vmStart } from '../../src/actions/vm-start.ts'
import { HostConnections } from '../../src/host/connections.ts'
import { HostError } from '../../src/host/error.ts'
import type { MigrationEnd } from '../../src/host/managed-migration.ts'
import { AnyStage, errorIn, textOf, type Ran } from '../actions/stage.ts'
import { describeWith } from '../harness/parts.ts'
import { bootImage, type GuestKind } from './guest.ts'
import { startHosts, type Hosts } from './hosts.ts'
import { makeLun } from './lun.ts'

describeWith('real hosts', 'migrations of other kinds', () => {
  let hosts: Hosts
  let connections: HostConnections
  let stage: AnyStage
  let lun: Awaited<ReturnType<typeof makeLun>>
  let uuid = ''
  beforeAll(async () => {
    hosts = await startHosts({ count: 2 })
    connections = new HostConnections({ firstRetryMs: 50, lastRetryMs: 200 })
    stage = new AnyStage(connections)
    const known = hosts.all.map(({ name, uuid: machine, uri, tlsUri }) => ({
      name,
      uuid: machine,
      controlUri: uri,
      peerUri: tlsUri,
      migrationUri: null
    }))
    await stage.prepare(known, hosts.shared)
    const image = join(hosts.directory, 'lun.img')
    await writeFile(image, Buffer.concat([bootImage('idle'), Buffer.alloc(1024 ** 2)]))
    lun = await makeLun(hosts.directory.split('/').at(-1) ?? '', image)
    for (const { name } of hosts.all) {
      await connections.host(name).definePool({ name: 'local', type: 'dir', target: '/var/lib/libvirt/images' })
      if (!lun) continue
      await connections.host(name).definePool({ name: 'lun', type: 'dir', target: lun.directory })
      stage.memory.shares.set(`${name}/lun`, 'lun')
    }
    await stage.relist()
  }, 120_000)
  afterEach(async () => {
    vi.restoreAllMocks()
    await stage.relist()
    if (stage.memory.facts(`vm/${uuid}`)) await stage.done(vmDelete, { vm: uuid, force: true })
  }, 60_000)
  afterAll(async () => {
    await connections?.stop()
    await hosts?.stop()
    await lun?.remove()
  }, 60_000)

  async function started(disk: object): Promise<void> {
    const made = await stage.done(vmCreate, { name: 'web1', memoryMiB: 96, host: 'h1', disks: [disk] })
    uuid = textOf(made['uuid'])
    await stage.done(vmStart, { vm: uuid })
  }

  async function bootVolume(kind: GuestKind): Promise<void> {
    await writeFile(join(hosts.shared, 'boot.img'), bootImage(kind))
    for (const { name } of hosts.all) await connections.host(name).refreshPool('nfs1')
    await stage.relist()
  }

  const seen = async (host: string): Promise<string> => {
    const names = await hosts.virsh(host, 'list', '--all', '--name')
    return names.split('\n').includes('web1') ? hosts.virsh(host, 'domstate', '--reason', 'web1') : 'absent'
  }
  const both = async () => [await seen('h1'), await seen('h2')]
  const told = (ran: Ran) => JSON.stringify({ outcome: ran.outcome, steps: ran.steps, logs: ran.logs })

  /** The target's end of the migration, with `finish` in another's hands. */
  function withFinish(finish: (end: MigrationEnd, ...args: Parameters<MigrationEnd['finish']>) => Promise<Uint8Array>) {
    const host = connections.host('h2')
    const open = host.openMigration.bind(host)
    vi.spyOn(host, 'openMigration').mockImplementation(async (options) => {
      const end = await open(options)
      const whole = end.finish.bind(end)
      end.finish = (...args) => finish(Object.assign(Object.create(end) as MigrationEnd, { finish: whole }), ...args)
      return end
    })
  }
  const lost = () => new HostError('unknown_outcome', 'h2', 'h2: no answer was seen')

  /** A block device where the machine can make one; else a file, carried through from here because it is asked for. */
  const unlocked = () =>
    lun
      ? { disk: { volume: 'lun/disk0', format: 'raw' }, move: { to: 'h2' } }
      : {
          disk: { store: 'nfs1', from: 'nfs1/boot.img', format: 'raw' },
          move: { to: 'h2', managed: true, unsafe: true }
        }

  test('a block device: carried through from here, there and back', async () => {
    await bootVolume('idle')
    console.log(lun ? 'on a block device' : 'no loop device here: on a file')
    const { disk, move } = unlocked()
    await started(disk)
    const opened = vi.spyOn(connections.host('h1'), 'openMigration')
    const ran = await stage.run(vmMigrate, { vm: uuid, ...move })
    expect(ran.outcome, told(ran)).toMatchObject({ outcome: 'complete', result: { from: 'h1', to: 'h2' } })
    expect(opened).toHaveBeenCalledTimes(1)
    expect(await both()).toEqual(['absent', 'running (migrated)'])
    expect(await hosts.virsh('h2', 'dumpxml', '--inactive', 'web1')).toContain(uuid)
    const back = await stage.run(vmMigrate, { vm: uuid, ...move, to: 'h1' })
    expect(back.outcome, told(back)).toMatchObject({ outcome: 'complete' })
    expect(await both()).toEqual(['running (migrated)', 'absent'])
  }, 60_000)

  test("the target's answer is lost after it resumed: the source stays paused until it goes", async () => {
    const { disk, move } = unlocked()
    await started(disk)
    withFinish(async (end, ...args) => {
      await end.finish(...args)
      throw lost()
    })
    const ran = await stage.run(vmMigrate, { vm: uuid, ...move })
    expect(ran.outcome, told(ran)).toMatchObject({ outcome: 'complete', result: { to: 'h2' } })
    expect(ran.steps).toContain('remove the copy at the source')
    expect(await both()).toEqual(['absent', 'running (migrated)'])
  }, 60_000)

  test('nobody knows whether the target was told: it throws its half away, the source stays paused, nobody decides', async () => {
    const { disk, move } = unlocked()
    await started(disk)
    withFinish(() => Promise.reject(lost()))
    const task = stage.task(vmMigrate, { vm: uuid, ...move })
    const ran = await task.run()
    expect(ran.outcome, told(ran)).toMatchObject({ outcome: 'uncertain', error: { code: 'migration_unclear' } })
    expect(await both()).toEqual(['paused (migrating)', 'absent'])
    expect(await task.probe()).toMatchObject({ happened: 'unknown' })
  }, 60_000)

  test('a target that refuses at the end leaves the guest running at the source', async () => {
    const { disk, move } = unlocked()
    await started(disk)
    // As QEMU at the target would be, killed in the last moment.
    withFinish(async (end, vm, cookie) => end.finish(vm, cookie, true))
    const ran = await stage.run(vmMigrate, { vm: uuid, ...move })
    expect(errorIn(ran).message, told(ran)).toContain('web1 stays on h1')
    expect(await both()).toEqual([expect.stringMatching(/^running/), 'absent'])
  }, 60_000)

  test('with its disk, where the hosts share no store', async () => {
    await started({ store: 'h1/local', from: 'nfs1/boot.img', format: 'raw' })
    const ran = await stage.run(vmMigrate, { vm: uuid, to: 'h2', copyStorage: true })
    expect(ran.outcome, told(ran)).toMatchObject({ outcome: 'complete', result: { to: 'h2' } })
    expect(await both()).toEqual(['absent', 'running (migrated)'])
    const sector = (host: string) =>
      hosts.exec(host, ['sh', '-c', 'head -c 512 /var/lib/libvirt/images/web1.raw | sha256sum'])
    expect(await sector('h2')).toBe(await sector('h1'))
  }, 60_000)

  test('a post-copy that is broken in the middle is taken up again', async () => {
    await bootVolume({ dirtyMiB: 48 })
    await started({ store: 'nfs1', from: 'nfs1/boot.img', format: 'raw' })
    const ran = stage.run(vmMigrate, { vm: uuid, to: 'h2', unsafe: true, postCopy: true, bandwidthMiBps: 12 })
    await expect.poll(() => seen('h1'), { timeout: 30_000, interval: 100 }).toBe('paused (post-copy)')
    await hosts.virsh('h1', 'domjobabort', 'web1', '--postcopy')
    const after = await ran
    expect(after.outcome, told(after)).toMatchObject({ outcome: 'complete', result: { to: 'h2' } })
    expect(after.steps).toContain('go on with the post-copy')
    expect(await both()).toEqual(['absent', 'running (migrated)'])
  }, 90_000)
})

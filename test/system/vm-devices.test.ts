// What is attached to VMs, on real libvirt and QEMU: a guest that does not let go of its disk, a disk that grows and one that moves
// while the guest runs. The guest is a boot sector: it never answers an unplugging, which only a reset completes.

import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { execFileSync } from 'node:child_process'
import { seedName } from '../../src/actions/cloud-init.ts'
import { imageAdd } from '../../src/actions/image-add.ts'
import { poolRefresh } from '../../src/actions/pool-refresh.ts'
import { vmCdromEject } from '../../src/actions/vm-cdrom-eject.ts'
import { vmCdromInsert } from '../../src/actions/vm-cdrom-insert.ts'
import { vmCreate } from '../../src/actions/vm-create.ts'
import { vmDelete } from '../../src/actions/vm-delete.ts'
import { vmDiskAdd } from '../../src/actions/vm-disk-add.ts'
import { vmDiskMove } from '../../src/actions/vm-disk-move.ts'
import { vmDiskRemove } from '../../src/actions/vm-disk-remove.ts'
import { vmDiskResize } from '../../src/actions/vm-disk-resize.ts'
import { vmNicAdd } from '../../src/actions/vm-nic-add.ts'
import { vmStart } from '../../src/actions/vm-start.ts'
import { HostConnections } from '../../src/host/connections.ts'
import { AnyStage, errorIn, textOf } from '../actions/stage.ts'
import { describeWith } from '../harness/parts.ts'
import { bootImage } from './guest.ts'
import { startHosts, type Hosts } from './hosts.ts'

describeWith('real hosts', 'what is attached to a VM', () => {
  let hosts: Hosts
  let connections: HostConnections
  let stage: AnyStage
  let web1: string
  beforeAll(async () => {
    hosts = await startHosts({ count: 1 })
    connections = new HostConnections({ firstRetryMs: 50, lastRetryMs: 200 })
    stage = new AnyStage(connections)
    const known = hosts.all.map(({ name, uuid, uri, tlsUri }) => ({
      name,
      uuid,
      controlUri: uri,
      peerUri: tlsUri,
      migrationUri: null
    }))
    await writeFile(join(hosts.shared, 'boot.img'), bootImage())
    await stage.prepare(known, hosts.shared)
    await mkdir(join(hosts.shared, 'fast'))
    await connections.host('h1').definePool({ name: 'fast', type: 'dir', target: join(hosts.shared, 'fast') })
    await stage.done(poolRefresh, { host: 'h1', pool: 'nfs1' })
    await stage.relist()
    await stage.done(imageAdd, { name: 'boot', volume: 'nfs1/boot.img', memoryMiB: 64 })
    const told = { hostname: 'web1', password: 'sesame' }
    const asked = { name: 'web1', image: 'boot', host: 'h1', disks: [{ linked: true }], cloudInit: told }
    web1 = textOf((await stage.done(vmCreate, asked))['uuid'])
    await stage.done(vmStart, { vm: web1 })
  }, 120_000)
  afterAll(async () => {
    await connections?.stop()
    await hosts?.stop()
  }, 60_000)

  /** `vda` → path, as virsh says: of the running guest, or of the definition. Drives apart: see `medium`. */
  async function listed(place: 'running' | 'definition'): Promise<Record<string, string>> {
    const text = await hosts.virsh('h1', 'domblklist', 'web1', ...(place === 'definition' ? ['--inactive'] : []))
    const rows = text.split('\n').map((line) => line.trim().split(/\s+/))
    return Object.fromEntries(rows.flatMap(([target, source]) => (target && source ? [[target, source]] : [])))
  }
  const disks = async (place: 'running' | 'definition') => {
    const { sda: _, ...rest } = await listed(place)
    return rest
  }
  const media = async () => [(await listed('running'))['sda'], (await listed('definition'))['sda']]
  const inPool = (volume: string): string => join(hosts.shared, volume)

  test('a VM of an image lies over it, and has a disc for its first boot', async () => {
    const disc = inPool(seedName(web1))
    expect(await media()).toEqual([disc, disc])
    expect(execFileSync('isoinfo', ['-J', '-x', '/user-data', '-i', disc], { encoding: 'utf8' })).toContain(
      '"passwd": "$6$'
    )
    const chain = execFileSync('qemu-img', ['info', '-U', inPool('web1.qcow2')], { encoding: 'utf8' })
    expect(chain).toContain(`backing file: ${inPool('boot.img')}`)
  }, 20_000)

  test('its medium is taken out, and another put in, while it runs', async () => {
    await writeFile(inPool('tools.iso'), Buffer.alloc(65_536))
    await stage.done(poolRefresh, { host: 'h1', pool: 'nfs1' })
    await stage.done(vmCdromEject, { vm: web1 })
    expect(await media()).toEqual(['-', '-'])
    await stage.done(vmCdromInsert, { vm: web1, volume: 'nfs1/tools.iso' })
    expect(await media()).toEqual([inPool('tools.iso'), inPool('tools.iso')])
  }, 20_000)

  test('a disk is plugged in; a guest that keeps it is an error that says so; at its reset the disk is gone', async () => {
    const added = await stage.done(vmDiskAdd, { vm: web1, store: 'nfs1', sizeMiB: 4 })
    expect(added).toEqual({ host: 'h1', target: 'vdb', volume: 'nfs1/web1-vdb.qcow2' })
    const both = { vda: inPool('web1.qcow2'), vdb: inPool('web1-vdb.qcow2') }
    expect([await disks('running'), await disks('definition')]).toEqual([both, both])
    const remove = stage.task(vmDiskRemove, { vm: web1, disk: 'vdb', deleteVolume: true, timeoutSeconds: 1 })
    expect(errorIn(await remove.run())).toMatchObject({ code: 'guest_keeps_device', details: { device: 'vdb' } })
    expect([await disks('running'), await disks('definition')]).toEqual([both, both])
    // Asked again while the first request still stands.
    const released = stage.run(vmDiskRemove, { vm: web1, disk: 'vdb', deleteVolume: true, timeoutSeconds: 20 })
    await hosts.virsh('h1', 'reset', 'web1')
    expect((await released).outcome).toMatchObject({ outcome: 'complete', result: { deleted: true } })
    const one = { vda: inPool('web1.qcow2') }
    expect([await disks('running'), await disks('definition')]).toEqual([one, one])
    expect(await hosts.virsh('h1', 'vol-list', 'nfs1')).not.toContain('web1-vdb')
  }, 60_000)

  test('a running guest sees its disk grow', async () => {
    await stage.done(vmDiskResize, { vm: web1, disk: 'vda', sizeMiB: 8 })
    expect(await hosts.virsh('h1', 'domblkinfo', 'web1', 'vda')).toMatch(/Capacity:\s+8388608/)
    expect(stage.memory.facts('volume/nfs1/web1.qcow2')).toMatchObject({ capacityBytes: 8 * 1024 ** 2 })
  }, 30_000)

  test('a disk moves to another store while its guest runs', async () => {
    const moved = await stage.done(vmDiskMove, { vm: web1, disk: 'vda', store: 'h1/fast', deleteSource: true })
    expect(moved).toMatchObject({ from: 'nfs1/web1.qcow2', to: 'h1/fast/web1.qcow2', deleted: true })
    const one = { vda: inPool('fast/web1.qcow2') }
    expect([await disks('running'), await disks('definition')]).toEqual([one, one])
    expect(await hosts.virsh('h1', 'domstate', 'web1')).toBe('running')
    expect(await hosts.virsh('h1', 'blockjob', 'web1', 'vda')).toBe('')
    expect(await hosts.virsh('h1', 'vol-list', 'nfs1')).not.toContain('web1')
  }, 60_000)

  test('a card is refused on a bridge that is not there, and the definition stays without it', async () => {
    const ran = await stage.run(vmNicAdd, { vm: web1, bridge: 'nowhere0' })
    expect(errorIn(ran)).toMatchObject({ step: 'plug the card in', message: expect.stringContaining('nowhere0') })
    expect(await hosts.virsh('h1', 'domiflist', 'web1', '--inactive')).toBe('')
  }, 20_000)

  test('it is deleted with what it has, its disc too; its image stays', async () => {
    await stage.done(vmDelete, { vm: web1, volumes: true, force: true })
    expect(await hosts.virsh('h1', 'vol-list', 'fast')).toBe('')
    const left = (await hosts.virsh('h1', 'vol-list', 'nfs1')).split('\n').map((line) => line.trim().split(/\s+/)[0])
    expect(left.filter((name) => name !== 'fast')).toEqual(['boot.img', 'tools.iso'])
  }, 30_000)
})

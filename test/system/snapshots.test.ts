// Snapshots and clones on real libvirt and QEMU: what the host keeps, what going back brings back, and that a migration carries them.

import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { vmClone } from '../../src/actions/vm-clone.ts'
import { vmCreate } from '../../src/actions/vm-create.ts'
import { vmDelete } from '../../src/actions/vm-delete.ts'
import { vmMigrate } from '../../src/actions/vm-migrate.ts'
import { vmSnapshotCreate } from '../../src/actions/vm-snapshot-create.ts'
import { vmSnapshotDelete } from '../../src/actions/vm-snapshot-delete.ts'
import { vmSnapshotRevert } from '../../src/actions/vm-snapshot-revert.ts'
import { vmStart } from '../../src/actions/vm-start.ts'
import { vmStop } from '../../src/actions/vm-stop.ts'
import { HostConnections } from '../../src/host/connections.ts'
import { AnyStage, errorIn, textOf } from '../actions/stage.ts'
import { describeWith } from '../harness/parts.ts'
import { bootImage } from './guest.ts'
import { startHosts, type Hosts } from './hosts.ts'

describeWith('real hosts', 'snapshots', () => {
  let hosts: Hosts
  let connections: HostConnections
  let stage: AnyStage
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
    await writeFile(join(hosts.shared, 'boot.img'), bootImage('idle'))
    for (const { name } of hosts.all) await connections.host(name).refreshPool('nfs1')
    await stage.relist()
    const disks = [{ store: 'nfs1', from: 'nfs1/boot.img' }]
    uuid = textOf((await stage.done(vmCreate, { name: 'web1', memoryMiB: 96, host: 'h1', disks }))['uuid'])
  }, 120_000)
  afterAll(async () => {
    await connections?.stop()
    await hosts?.stop()
  }, 60_000)

  const listed = (host: string) => hosts.virsh(host, 'snapshot-list', 'web1', '--name', '--topological')
  const domstate = (host: string) => hosts.virsh(host, 'domstate', '--reason', 'web1')

  test('clones: a whole one and a linked one run side by side, and what the linked one lies over does not start', async () => {
    const whole = textOf((await stage.done(vmClone, { vm: uuid, name: 'whole' }))['uuid'])
    const linked = textOf((await stage.done(vmClone, { vm: uuid, name: 'linked', linked: true }))['uuid'])
    const chain = await hosts.exec('h1', ['qemu-img', 'info', '--backing-chain', join(hosts.shared, 'linked.qcow2')])
    expect(chain).toContain('web1.qcow2')
    expect(await hosts.exec('h1', ['qemu-img', 'info', join(hosts.shared, 'whole.qcow2')])).not.toContain('backing')
    for (const vm of [whole, linked]) await stage.done(vmStart, { vm })
    expect(await hosts.virsh('h1', 'domstate', 'whole')).toMatch(/^running/)
    expect(await hosts.virsh('h1', 'domstate', 'linked')).toMatch(/^running/)
    expect(errorIn(await stage.run(vmStart, { vm: uuid }))).toMatchObject({ code: 'disk_is_base' })
    for (const vm of [whole, linked]) await stage.done(vmDelete, { vm, force: true, volumes: true })
    const left = await hosts.virsh('h1', 'vol-list', 'nfs1')
    expect(left).not.toMatch(/whole|linked|task-/)
    expect(left).toContain('web1.qcow2')
  }, 60_000)

  test('of a resting and of a running VM, gone back to either way, and back to what was', async () => {
    await stage.done(vmSnapshotCreate, { vm: uuid, name: 'resting' })
    await stage.done(vmStart, { vm: uuid })
    expect(await stage.done(vmSnapshotCreate, { vm: uuid, name: 'live', description: 'why' })).toMatchObject({
      parent: 'resting',
      state: 'running'
    })
    expect(await hosts.virsh('h1', 'snapshot-current', 'web1', '--name')).toBe('live')
    // Running → off, what ran is kept.
    await stage.done(vmSnapshotRevert, { vm: uuid, snapshot: 'resting', before: 'kept' })
    expect(await domstate('h1')).toMatch(/^shut off/)
    // Off → running, from the memory that was kept.
    const back = stage.task(vmSnapshotRevert, { vm: uuid, snapshot: 'kept', before: 'off-again' })
    expect((await back.run()).outcome).toMatchObject({ outcome: 'complete', result: { power: 'running' } })
    expect(await back.probe()).toMatchObject({ happened: 'yes' })
    expect(await domstate('h1')).toBe('running (from snapshot)')
    expect((await listed('h1')).split('\n').filter(Boolean).toSorted()).toEqual([
      'kept',
      'live',
      'off-again',
      'resting'
    ])
    // Running → running.
    await stage.done(vmSnapshotRevert, { vm: uuid, snapshot: 'live', before: 'third' })
    expect(await domstate('h1')).toMatch(/^running/)
  }, 60_000)

  test('deleted ones are gone from the host and from the disk', async () => {
    for (const snapshot of ['third', 'off-again', 'kept']) await stage.done(vmSnapshotDelete, { vm: uuid, snapshot })
    const [, again] = [await stage.run(vmSnapshotDelete, { vm: uuid, snapshot: 'kept' }), await listed('h1')]
    expect(again.split('\n').filter(Boolean)).toEqual(['resting', 'live'])
  }, 60_000)

  test('a migration carries them: same names, parents, current one, secrets; and going back works there', async () => {
    const before = await hosts.virsh('h1', 'snapshot-dumpxml', 'web1', 'live', '--security-info')
    const ran = await stage.run(vmMigrate, { vm: uuid, to: 'h2', unsafe: true })
    expect(ran.outcome, JSON.stringify(ran)).toMatchObject({ outcome: 'complete', result: { to: 'h2' } })
    expect((await listed('h2')).split('\n').filter(Boolean)).toEqual(['resting', 'live'])
    expect(await hosts.virsh('h2', 'snapshot-current', 'web1', '--name')).toBe('live')
    expect(await hosts.virsh('h2', 'snapshot-dumpxml', 'web1', 'live', '--security-info')).toBe(before)
    await stage.done(vmSnapshotRevert, { vm: uuid, snapshot: 'live', before: 'moved' })
    expect(await domstate('h2')).toMatch(/^running/)
    // One that fails leaves them where they were.
    const refused = await stage.run(vmMigrate, { vm: uuid, to: 'h1' })
    expect(refused.outcome, JSON.stringify(refused)).toMatchObject({
      outcome: 'failed',
      error: { code: 'libvirt_migrate_unsafe' }
    })
    expect((await listed('h2')).split('\n').filter(Boolean)).toEqual(['resting', 'live', 'moved'])
  }, 60_000)

  test('a VM that is off takes them along with its definition', async () => {
    await stage.done(vmStop, { vm: uuid, force: true, timeoutSeconds: 0 })
    const ran = await stage.run(vmMigrate, { vm: uuid, to: 'h1', offline: true })
    expect(ran.outcome, JSON.stringify(ran)).toMatchObject({ outcome: 'complete', result: { to: 'h1' } })
    expect((await listed('h1')).split('\n').filter(Boolean)).toEqual(['resting', 'live', 'moved'])
    expect(await hosts.virsh('h2', 'list', '--all', '--name')).not.toContain('web1')
    await stage.done(vmSnapshotRevert, { vm: uuid, snapshot: 'live' })
    expect(await domstate('h1')).toMatch(/^running/)
    await stage.done(vmDelete, { vm: uuid, force: true, volumes: true })
  }, 60_000)
})

// Actions against real libvirt and QEMU where a simulator could flatter them: refusals, storage, and what must be gone after.

import { existsSync } from 'node:fs'
import { rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { hostCheck } from '../../src/actions/host-check.ts'
import { poolCreate } from '../../src/actions/pool-create.ts'
import { poolDelete } from '../../src/actions/pool-delete.ts'
import { poolRefresh } from '../../src/actions/pool-refresh.ts'
import { poolStart } from '../../src/actions/pool-start.ts'
import { poolStop } from '../../src/actions/pool-stop.ts'
import { storeShare } from '../../src/actions/store-share.ts'
import { vmCreate } from '../../src/actions/vm-create.ts'
import { vmDelete } from '../../src/actions/vm-delete.ts'
import { vmPause } from '../../src/actions/vm-pause.ts'
import { vmReboot } from '../../src/actions/vm-reboot.ts'
import { vmResume } from '../../src/actions/vm-resume.ts'
import { vmStart } from '../../src/actions/vm-start.ts'
import { vmStop } from '../../src/actions/vm-stop.ts'
import { volumeCreate } from '../../src/actions/volume-create.ts'
import { volumeDelete } from '../../src/actions/volume-delete.ts'
import { volumeResize } from '../../src/actions/volume-resize.ts'
import { HostConnections } from '../../src/host/connections.ts'
import { AnyStage, errorIn, textOf } from '../actions/stage.ts'
import { describeWith } from '../harness/parts.ts'
import { bootImage } from './guest.ts'
import { startHosts, type Hosts } from './hosts.ts'

describeWith('real hosts', 'actions', () => {
  let hosts: Hosts
  let connections: HostConnections
  let stage: AnyStage
  beforeAll(async () => {
    hosts = await startHosts({ count: 2 })
    connections = new HostConnections({ firstRetryMs: 50, lastRetryMs: 200 })
    stage = new AnyStage(connections)
    const known = hosts.all.map(({ name, uuid, uri, tlsUri }) => ({
      name,
      uuid,
      controlUri: uri,
      peerUri: tlsUri,
      migrationUri: null
    }))
    await stage.prepare(known, hosts.shared)
  }, 120_000)
  afterAll(async () => {
    await connections?.stop()
    await hosts?.stop()
  }, 60_000)

  const made = async (name: string, more: object = {}) =>
    textOf((await stage.done(vmCreate, { name, memoryMiB: 64, host: 'h1', ...more }))['uuid'])
  const volumes = async () =>
    (await hosts.virsh('h1', 'vol-list', 'nfs1')).split('\n').flatMap((line) => line.trim().split(/\s+/)[0] || [])

  test('a guest is paused, resumed, rebooted once and stopped by its power button', async () => {
    await writeFile(join(hosts.shared, 'boot.img'), bootImage())
    await stage.done(poolRefresh, { host: 'h1', pool: 'nfs1' })
    const uuid = await made('web1', { disks: [{ store: 'nfs1', from: 'nfs1/boot.img', format: 'raw' }] })
    await stage.done(vmStart, { vm: uuid })
    await stage.done(vmPause, { vm: uuid })
    expect(await hosts.virsh('h1', 'domstate', '--reason', 'web1')).toBe('paused (user)')
    await stage.done(vmResume, { vm: uuid })
    // Asked while its firmware still runs, it does not hear; asked again, it does.
    await stage.done(vmReboot, { vm: uuid, timeoutSeconds: 60 })
    expect(await hosts.virsh('h1', 'domstate', 'web1')).toBe('running')
    expect(await stage.done(vmStop, { vm: uuid })).toEqual({ host: 'h1', by: 'guest' })
    expect(await hosts.virsh('h1', 'domstate', '--reason', 'web1')).toBe('shut off (shutdown)')
    await stage.done(vmDelete, { vm: uuid, volumes: true })
    expect(await volumes()).toEqual(['boot.img'])
  }, 120_000)

  test('a start with a missing disk fails with what libvirt said', async () => {
    const uuid = await made('lost', { disks: [{ store: 'nfs1', sizeMiB: 1 }] })
    await rm(join(hosts.shared, 'lost.qcow2'))
    const error = errorIn(await stage.run(vmStart, { vm: uuid }))
    expect(error).toMatchObject({
      code: 'libvirt_system_error',
      step: 'start',
      message: expect.stringContaining(join(hosts.shared, 'lost.qcow2')),
      next: expect.stringContaining('paths'),
      details: { host: 'h1', libvirt: { code: 38, codeName: expect.any(String), domainName: expect.any(String) } }
    })
    await stage.done(vmDelete, { vm: uuid, volumes: true })
  }, 60_000)

  test('a definition that the host refuses leaves no volume behind', async () => {
    const xml = `<domain type='qemu'><name>x</name><memory unit='MiB'>64</memory><os><type arch='x86_64'>hvm</type></os><nonsense/></domain>`
    expect(errorIn(await stage.run(vmCreate, { name: 'bad', host: 'h1', xml }))).toMatchObject({
      code: 'libvirt_xml_invalid_schema',
      step: 'define the VM'
    })
    const before = await volumes()
    const network = {
      nics: [{ bridge: 'b'.repeat(15), model: 'virtio' }],
      disks: [{ store: 'nfs1', sizeMiB: 1 }],
      memoryMiB: 64,
      firmware: 'uefi'
    }
    // Without firmware files the host cannot have UEFI; where it has them, the VM is made and goes again.
    const ran = await stage.run(vmCreate, { name: 'uefi', host: 'h1', ...network })
    if (ran.outcome.outcome === 'complete') {
      await stage.done(vmDelete, { vm: textOf((ran.outcome.result as { uuid: string }).uuid), volumes: true })
    } else expect(errorIn(ran)).toMatchObject({ step: 'define the VM' })
    expect(await volumes()).toEqual(before)
  }, 60_000)

  test('volumes grow, and are not deleted under a snapshot of the chain or a VM', async () => {
    await stage.done(volumeCreate, { store: 'nfs1', name: 'a.qcow2', sizeMiB: 4 })
    await stage.done(volumeResize, { volume: 'nfs1/a.qcow2', sizeMiB: 8 })
    expect(await hosts.virsh('h2', 'vol-info', 'a.qcow2', 'nfs1')).toMatch(/Capacity:\s+8\.00 MiB/)
    await hosts.virsh(
      'h1',
      'vol-create-as',
      'nfs1',
      'over.qcow2',
      '8M',
      '--format',
      'qcow2',
      '--backing-vol',
      'a.qcow2',
      '--backing-vol-format',
      'qcow2'
    )
    await stage.done(poolRefresh, { host: 'h1', pool: 'nfs1' })
    expect(errorIn(await stage.run(volumeDelete, { volume: 'nfs1/a.qcow2' }))).toMatchObject({ code: 'volume_in_use' })
    const uuid = await made('db1', { disks: [{ volume: 'nfs1/over.qcow2' }] })
    expect(errorIn(await stage.run(volumeDelete, { volume: 'nfs1/over.qcow2' }))).toMatchObject({
      code: 'volume_in_use'
    })
    expect(await stage.done(vmDelete, { vm: uuid, volumes: true })).toMatchObject({
      kept: [join(hosts.shared, 'a.qcow2')]
    })
    await stage.done(volumeDelete, { volume: 'nfs1/a.qcow2' })
    expect(existsSync(join(hosts.shared, 'a.qcow2'))).toBe(false)
  }, 60_000)

  test('a VM with a snapshot and a saved image is deleted with all of it', async () => {
    const uuid = await made('old', { disks: [{ store: 'nfs1', sizeMiB: 1 }] })
    await hosts.virsh('h1', 'snapshot-create-as', 'old', 'first')
    await hosts.virsh('h1', 'start', 'old')
    await hosts.virsh('h1', 'managedsave', 'old')
    await stage.relist()
    expect(errorIn(await stage.run(vmStart, { vm: uuid }))).toMatchObject({ code: 'vm_has_saved_image' })
    await stage.done(vmStart, { vm: uuid, discardSaved: true })
    expect(await hosts.virsh('h1', 'dominfo', 'old')).toMatch(/Managed save:\s+no/)
    await stage.done(vmDelete, { vm: uuid, volumes: true, force: true })
    expect(await hosts.virsh('h1', 'list', '--all', '--name')).not.toContain('old')
    expect(existsSync(join(hosts.shared, 'old.qcow2'))).toBe(false)
  }, 60_000)

  test('a pool is made, stopped, started and deleted, with its data left; one that a guest uses is not stopped', async () => {
    const pool = { host: 'h1', pool: 'fast' }
    const target = join(hosts.shared, 'fast')
    await stage.done(poolCreate, { ...pool, target })
    await stage.done(volumeCreate, { store: 'h1/fast', name: 'kept', sizeMiB: 1 })
    await stage.done(poolStop, pool)
    expect(await hosts.virsh('h1', 'pool-info', 'fast')).toMatch(/State:\s+inactive/)
    await stage.done(poolStart, pool)
    const uuid = await made('user', { disks: [{ volume: 'h1/fast/kept' }] })
    await stage.done(vmStart, { vm: uuid })
    expect(errorIn(await stage.run(poolStop, pool))).toMatchObject({
      code: 'pool_in_use',
      message: expect.stringContaining('"user" on h1')
    })
    await stage.done(vmDelete, { vm: uuid, force: true })
    await stage.done(poolDelete, pool)
    expect(await hosts.virsh('h1', 'pool-list', '--all', '--name')).not.toContain('fast')
    expect(existsSync(join(target, 'kept'))).toBe(true)
  }, 60_000)

  test('stores are shared when they are one, and not when they only look so', async () => {
    const pools = ['h1', 'h2'].map((host) => ({ host, pool: 'both' }))
    const target = join(hosts.shared, 'both')
    for (const handle of pools) await stage.done(poolCreate, { ...handle, target })
    await stage.done(storeShare, { store: 'both', pools })
    expect(await hosts.virsh('h2', 'vol-list', 'both')).toBe('')
    // Each host's own /var/lib/libvirt has the same path on both.
    const apart = ['h1', 'h2'].map((host) => ({ host, pool: 'images' }))
    for (const handle of apart) await stage.done(poolCreate, { ...handle, target: '/var/lib/libvirt/images' })
    expect(errorIn(await stage.run(storeShare, { store: 'images', pools: apart }))).toMatchObject({
      code: 'not_one_store'
    })
  }, 60_000)

  test('a check of two hosts says what real hosts of this kind lack', async () => {
    const result = await stage.done(hostCheck, { host: 'h1', peer: 'h2' })
    expect(result).toMatchObject({ uuid: hosts.host('h1').uuid, domainType: expect.stringMatching(/kvm|qemu/) })
    expect(JSON.stringify(result['findings'])).not.toContain('"error"')
  }, 60_000)
})

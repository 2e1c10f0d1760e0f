// Disks of VMs on simulated hosts: added, removed, twice, refused, and kept by guests that do not let go.
import { expect, test } from 'vitest'
import { vmCdromEject } from '../../src/actions/vm-cdrom-eject.ts'
import { vmCdromInsert } from '../../src/actions/vm-cdrom-insert.ts'
import { vmCreate } from '../../src/actions/vm-create.ts'
import { vmDiskAdd } from '../../src/actions/vm-disk-add.ts'
import { vmDiskMove } from '../../src/actions/vm-disk-move.ts'
import { vmDiskRemove } from '../../src/actions/vm-disk-remove.ts'
import { vmDiskResize } from '../../src/actions/vm-disk-resize.ts'
import { vmNicAdd } from '../../src/actions/vm-nic-add.ts'
import { vmNicRemove } from '../../src/actions/vm-nic-remove.ts'
import { vmSave } from '../../src/actions/vm-save.ts'
import { vmStart } from '../../src/actions/vm-start.ts'
import { vmStop } from '../../src/actions/vm-stop.ts'
import { volumeCreate } from '../../src/actions/volume-create.ts'
import { errorIn, textOf, withStage, type Stage } from './stage.ts'

const small = { memoryMiB: 64, disks: [{ store: 'nfs1', sizeMiB: 8 }] }

async function made(stage: Stage, name: string, more: object = {}): Promise<string> {
  const { uuid } = await stage.done(vmCreate, { name, host: 'h1', ...small, ...more })
  return textOf(uuid)
}

async function running(stage: Stage, name = 'web1', more: object = {}): Promise<string> {
  const uuid = await made(stage, name, more)
  await stage.done(vmStart, { vm: uuid })
  return uuid
}

const files = (stage: Stage) => [...(stage.fleet.stores.get('nfs')?.files.keys() ?? [])].toSorted()
const devices = (stage: Stage, uuid: string) => stage.hosts.host('h1').vmDevices(uuid)
const targets = async (stage: Stage, uuid: string) => {
  const both = await devices(stage, uuid)
  const of = (place: 'running' | 'definition') => both?.[place]?.disks.map(({ target }) => target) ?? null
  return { running: of('running'), definition: of('definition') }
}
const domain = (stage: Stage, uuid: string) => {
  const found = stage.fleet.host('h1').domains.get(uuid)
  if (!found) throw new Error(`h1 has no VM ${uuid}`)
  return found
}
/** The guest that does not answer when it is asked to give a device back. */
const clings = (stage: Stage, uuid: string) =>
  void (domain(stage, uuid).guest = { ...domain(stage, uuid).guest, releasesDevices: false })

test('undoing an added disk takes no other volume that came to its place', () =>
  withStage({}, async (stage) => {
    const vm = await made(stage, 'web1')
    const { args } = stage.task(vmDiskAdd, { vm, store: 'nfs1', sizeMiB: 16 })
    await stage.done(vmDiskAdd, args)
    const undo = vmDiskAdd.undo?.(args as never, stage.observed('h1'))
    if (!undo || 'impossible' in undo) throw new Error('an added disk can be undone')
    await stage.done(vmDiskRemove, { vm, disk: 'vdb' })
    await stage.done(vmDiskAdd, { vm, store: 'nfs1', sizeMiB: 1, name: 'other.qcow2', target: 'vdb' })
    expect(errorIn(await stage.run(vmDiskRemove, undo.args))).toMatchObject({ code: 'other_volume' })
    expect(files(stage)).toEqual(['/other.qcow2', '/web1-vdb.qcow2', '/web1.qcow2'])
    await stage.done(vmDiskRemove, { vm, disk: 'vdb' })
    await stage.done(vmDiskAdd, {
      ...args,
      volume: 'nfs1/web1-vdb.qcow2',
      store: undefined,
      sizeMiB: undefined,
      name: undefined
    })
    await stage.done(vmDiskRemove, undo.args)
    expect(files(stage)).toEqual(['/other.qcow2', '/web1.qcow2'])
  }))

test('a running VM gets a blank disk, in its definition as well, and loses it with its volume', () =>
  withStage({}, async (stage) => {
    const uuid = await running(stage)
    const added = await stage.done(vmDiskAdd, { vm: uuid, store: 'nfs1', sizeMiB: 16 })
    expect(added).toEqual({ host: 'h1', target: 'vdb', volume: 'nfs1/web1-vdb.qcow2' })
    expect(await targets(stage, uuid)).toEqual({ running: ['vda', 'vdb'], definition: ['vda', 'vdb'] })
    expect(files(stage)).toEqual(['/web1-vdb.qcow2', '/web1.qcow2'])
    expect(stage.memory.facts('volume/nfs1/web1-vdb.qcow2')).toMatchObject({
      usedBy: [uuid],
      capacityBytes: 16 * 1024 ** 2
    })
    const removed = await stage.done(vmDiskRemove, { vm: uuid, disk: 'nfs1/web1-vdb.qcow2', deleteVolume: true })
    expect(removed).toMatchObject({ target: 'vdb', volume: 'nfs1/web1-vdb.qcow2', deleted: true })
    expect(await targets(stage, uuid)).toEqual({ running: ['vda'], definition: ['vda'] })
    expect(files(stage)).toEqual(['/web1.qcow2'])
  }))

test('a VM that is off gets an existing volume and a copy, and has them when it starts', () =>
  withStage({}, async (stage) => {
    const uuid = await made(stage, 'web1')
    await stage.done(volumeCreate, { store: 'nfs1', name: 'data.raw', sizeMiB: 4, format: 'raw' })
    await stage.done(vmDiskAdd, { vm: uuid, volume: 'nfs1/data.raw' })
    await stage.done(vmDiskAdd, { vm: uuid, from: 'nfs1/data.raw', store: 'nfs1', name: 'copy.qcow2', bus: 'scsi' })
    await stage.done(vmStart, { vm: uuid })
    const both = await devices(stage, uuid)
    expect(both?.running?.disks).toMatchObject([
      { target: 'vda' },
      { target: 'vdb', source: '/shared/data.raw', format: 'raw', bus: 'virtio' },
      { target: 'sda', source: '/shared/copy.qcow2', format: 'qcow2', bus: 'scsi' }
    ])
    await stage.done(vmDiskRemove, { vm: uuid, disk: 'vdb' })
    expect(files(stage)).toContain('/data.raw')
    await stage.done(vmStop, { vm: uuid, force: true, timeoutSeconds: 0 })
    expect(await targets(stage, uuid)).toEqual({ running: null, definition: ['vda', 'sda'] })
  }))

test('adding and removing twice does it once', () =>
  withStage({}, async (stage) => {
    const uuid = await running(stage)
    const add = stage.task(vmDiskAdd, { vm: uuid, store: 'nfs1', sizeMiB: 16 })
    const first = await add.run()
    expect((await add.run()).outcome).toEqual(first.outcome)
    expect(await targets(stage, uuid)).toEqual({ running: ['vda', 'vdb'], definition: ['vda', 'vdb'] })
    expect(await add.probe()).toMatchObject({ happened: 'yes' })
    const remove = stage.task(vmDiskRemove, { vm: uuid, disk: 'vdb' })
    expect(await remove.probe()).toMatchObject({ happened: 'no' })
    await remove.run()
    expect((await remove.run()).outcome).toMatchObject({ outcome: 'complete', result: { target: 'vdb' } })
    expect(await remove.probe()).toMatchObject({ happened: 'yes' })
  }))

test('a guest that keeps its disk is an error that says so, and the definition keeps it too', () =>
  withStage({}, async (stage) => {
    const uuid = await running(stage)
    await stage.done(vmDiskAdd, { vm: uuid, store: 'nfs1', sizeMiB: 16 })
    clings(stage, uuid)
    const ran = await stage.run(vmDiskRemove, { vm: uuid, disk: 'vdb', deleteVolume: true, timeoutSeconds: 1 })
    expect(errorIn(ran)).toMatchObject({ code: 'guest_keeps_device', message: expect.stringContaining('after 1 s') })
    expect(await targets(stage, uuid)).toEqual({ running: ['vda', 'vdb'], definition: ['vda', 'vdb'] })
    expect(files(stage)).toContain('/web1-vdb.qcow2')
  }))

test('a disk that the guest lets go of late is gone then', () =>
  withStage({}, async (stage) => {
    const uuid = await running(stage)
    await stage.done(vmDiskAdd, { vm: uuid, store: 'nfs1', sizeMiB: 16 })
    clings(stage, uuid)
    const removing = stage.run(vmDiskRemove, { vm: uuid, disk: 'vdb', timeoutSeconds: 20 })
    await stage.hosts
      .host('h1')
      .untilVm(uuid, () => domain(stage, uuid).atReset.length > 0, { timeoutMs: 5000, pollMs: 10 })
    for (const effect of domain(stage, uuid).atReset.splice(0)) effect()
    expect((await removing).outcome.outcome).toBe('complete')
    expect(await targets(stage, uuid)).toEqual({ running: ['vda'], definition: ['vda'] })
  }))

test('what cannot be plugged is refused with the way out', () =>
  withStage({}, async (stage) => {
    const web1 = await running(stage)
    const web2 = await made(stage, 'web2')
    const saved = await running(stage, 'saved')
    await stage.done(vmSave, { vm: saved })
    const refusals = [
      [vmDiskAdd, { vm: web1, store: 'nfs1', sizeMiB: 1, bus: 'sata' }, 'not_pluggable'],
      [vmDiskAdd, { vm: web1, store: 'nfs1', sizeMiB: 1, target: 'vda' }, 'target_taken'],
      [vmDiskAdd, { vm: web1, volume: 'nfs1/web2.qcow2' }, 'volume_in_use'],
      [vmDiskAdd, { vm: web1, volume: 'nfs1/web1.qcow2' }, 'volume_twice'],
      [vmDiskAdd, { vm: web1, store: 'nfs1' }, 'bad_disk'],
      [vmDiskAdd, { vm: saved, store: 'nfs1', sizeMiB: 1 }, 'vm_has_saved_image'],
      [vmDiskRemove, { vm: web2, disk: 'vda', volume: 'nfs1/web1.qcow2' }, 'other_volume']
    ] as const
    for (const [of, args, code] of refusals) expect(errorIn(await stage.run(of, args))).toMatchObject({ code })
    expect(files(stage)).toEqual(['/saved.qcow2', '/web1.qcow2', '/web2.qcow2'])
  }))

/** A second store, which all hosts have as pool `fast`. */
async function withFast(stage: Stage): Promise<void> {
  for (const name of stage.memory.hosts.keys()) {
    await stage.hosts.host(name).definePool({ name: 'fast', type: 'dir', target: '/fast' })
    stage.memory.shares.set(`${name}/fast`, 'fast')
  }
  await stage.relist()
}
const twoStores = {
  sharedStores: [
    { name: 'nfs', path: '/shared' },
    { name: 'fast', path: '/fast' }
  ]
}
const fast = (stage: Stage) => [...(stage.fleet.stores.get('fast')?.files.keys() ?? [])].toSorted()
const sources = async (stage: Stage, uuid: string) => {
  const both = await devices(stage, uuid)
  const of = (place: 'running' | 'definition') => both?.[place]?.disks[0]?.source ?? null
  return { running: of('running'), definition: of('definition') }
}

test('a running guest is told that its disk is larger; of one that is off the volume grows', () =>
  withStage({}, async (stage) => {
    const uuid = await running(stage)
    const live = stage.task(vmDiskResize, { vm: uuid, disk: 'vda', sizeMiB: 32 })
    expect((await live.run()).outcome).toMatchObject({ outcome: 'complete', result: { capacityBytes: 32 * 1024 ** 2 } })
    expect((await live.run()).outcome.outcome).toBe('complete')
    expect(stage.fleet.journal.entries({ kind: 'volume_resized' })).toHaveLength(1)
    expect(errorIn(await stage.run(vmDiskResize, { vm: uuid, disk: 'vda', sizeMiB: 16 }))).toMatchObject({
      code: 'cannot_shrink',
      message: expect.stringContaining('32 MiB')
    })
    await stage.done(vmStop, { vm: uuid, force: true, timeoutSeconds: 0 })
    await stage.done(vmDiskResize, { vm: uuid, disk: 'nfs1/web1.qcow2', sizeMiB: 64 })
    expect(stage.memory.facts('volume/nfs1/web1.qcow2')).toMatchObject({ capacityBytes: 64 * 1024 ** 2 })
  }))

test('a disk moves to another store while its VM runs, and its old volume goes if asked', () =>
  withStage(twoStores, async (stage) => {
    await withFast(stage)
    const uuid = await running(stage)
    const move = stage.task(vmDiskMove, { vm: uuid, disk: 'vda', store: 'fast', deleteSource: true })
    expect(await move.probe()).toMatchObject({ happened: 'no' })
    const ran = await move.run()
    expect(ran.outcome).toEqual({
      outcome: 'complete',
      result: { host: 'h1', target: 'vda', from: 'nfs1/web1.qcow2', to: 'fast/web1.qcow2', deleted: true }
    })
    expect(await sources(stage, uuid)).toEqual({ running: '/fast/web1.qcow2', definition: '/fast/web1.qcow2' })
    expect([files(stage), fast(stage)]).toEqual([[], ['/web1.qcow2']])
    expect(ran.progress.at(-1)).toEqual({ done: 8 * 1024 ** 2, total: 8 * 1024 ** 2 })
    expect(await move.probe()).toMatchObject({ happened: 'yes' })
    expect(stage.memory.facts('volume/fast/web1.qcow2')).toMatchObject({ usedBy: [uuid] })
  }))

test('a disk of a VM that is off moves, into another format, and its old volume stays', () =>
  withStage(twoStores, async (stage) => {
    await withFast(stage)
    const uuid = await made(stage, 'web1')
    const move = stage.task(vmDiskMove, { vm: uuid, disk: 'vda', store: 'fast', name: 'web1.raw', format: 'raw' })
    const first = await move.run()
    expect(first.outcome).toMatchObject({ outcome: 'complete', result: { to: 'fast/web1.raw', deleted: false } })
    expect((await move.run()).outcome).toEqual(first.outcome)
    expect((await devices(stage, uuid))?.definition?.disks).toMatchObject([{ source: '/fast/web1.raw', format: 'raw' }])
    expect([files(stage), fast(stage)]).toEqual([['/web1.qcow2'], ['/web1.raw']])
    await stage.done(vmStart, { vm: uuid })
  }))

test('a move that is cancelled leaves the disk where it is, and nothing of the copy', () =>
  withStage({ ...twoStores, copyMsPerGiB: 100_000_000 }, async (stage) => {
    await withFast(stage)
    const uuid = await running(stage)
    const move = stage.task(vmDiskMove, { vm: uuid, disk: 'vda', store: 'fast' })
    const ran = move.run()
    await stage.hosts
      .host('h1')
      .untilVm(uuid, () => domain(stage, uuid).blockJobs.size > 0, { timeoutMs: 5000, pollMs: 10 })
    move.cancel()
    expect((await ran).outcome).toMatchObject({ outcome: 'cancelled', error: { code: 'cancelled' } })
    expect(await sources(stage, uuid)).toEqual({ running: '/shared/web1.qcow2', definition: '/shared/web1.qcow2' })
    expect([files(stage), fast(stage)]).toEqual([['/web1.qcow2'], []])
    expect(domain(stage, uuid).blockJobs.size).toBe(0)
  }))

test('a card comes and goes, running or not, and its address is nobody else’s meanwhile', () =>
  withStage({}, async (stage) => {
    const web1 = await running(stage)
    const web2 = await made(stage, 'web2')
    const add = stage.task(vmNicAdd, { vm: web1, network: 'default', model: 'e1000' })
    const first = await add.run()
    expect((await add.run()).outcome).toEqual(first.outcome)
    const { mac } = add.args as { mac: string }
    expect(first.outcome).toEqual({ outcome: 'complete', result: { host: 'h1', mac } })
    const card = { mac, kind: 'network', source: 'default', model: 'e1000' }
    expect(await devices(stage, web1)).toMatchObject({ running: { nics: [card] }, definition: { nics: [card] } })
    expect(errorIn(await stage.run(vmNicAdd, { vm: web2, network: 'default', mac }))).toMatchObject({
      code: 'mac_taken'
    })
    expect(errorIn(await stage.run(vmNicAdd, { vm: web2, network: 'nowhere' }))).toMatchObject({
      code: 'network_not_found'
    })
    expect(vmNicRemove.undo?.({ vm: web1, mac }, stage.observed(null))).toEqual({
      action: 'vm.nic.add',
      args: { vm: web1, mac, network: 'default', model: 'e1000' }
    })
    clings(stage, web1)
    const kept = await stage.run(vmNicRemove, { vm: web1, mac, timeoutSeconds: 1 })
    expect(errorIn(kept)).toMatchObject({ code: 'guest_keeps_device' })
    domain(stage, web1).guest = { ...domain(stage, web1).guest, releasesDevices: true }
    const remove = stage.task(vmNicRemove, { vm: web1, mac })
    await remove.run()
    expect((await remove.run()).outcome.outcome).toBe('complete')
    expect(await devices(stage, web1)).toMatchObject({ running: { nics: [] }, definition: { nics: [] } })
    await stage.done(vmNicAdd, { vm: web2, network: 'default', mac })
    expect((await devices(stage, web2))?.definition?.nics).toMatchObject([{ mac, model: 'virtio' }])
  }))

test('an image goes into a drive and comes out, running or not', () =>
  withStage({}, async (stage) => {
    for (const name of ['a.iso', 'b.iso'])
      await stage.done(volumeCreate, { store: 'nfs1', name, sizeMiB: 1, format: 'raw' })
    const uuid = await made(stage, 'web1')
    const media = async () => {
      const both = await devices(stage, uuid)
      const of = (place: 'running' | 'definition') =>
        both?.[place]?.disks.find(({ device }) => device === 'cdrom')?.source
      return { running: of('running'), definition: of('definition') }
    }
    const first = stage.task(vmCdromInsert, { vm: uuid, volume: 'nfs1/a.iso' })
    expect((await first.run()).outcome).toMatchObject({ outcome: 'complete', result: { drive: 'sda' } })
    expect((await first.run()).outcome.outcome).toBe('complete')
    expect(await media()).toEqual({ running: undefined, definition: '/shared/a.iso' })
    await stage.done(vmStart, { vm: uuid })
    expect(errorIn(await stage.run(vmCdromInsert, { vm: uuid, volume: 'nfs1/b.iso' }))).toMatchObject({
      code: 'drive_full'
    })
    expect(stage.memory.facts('volume/nfs1/a.iso')).toMatchObject({ usedBy: [uuid] })
    const eject = stage.task(vmCdromEject, { vm: uuid })
    expect(vmCdromEject.undo?.(eject.args as never, stage.observed(null))).toEqual({
      action: 'vm.cdrom.insert',
      args: { vm: uuid, drive: 'sda', volume: 'nfs1/a.iso' }
    })
    await eject.run()
    expect((await eject.run()).outcome.outcome).toBe('complete')
    expect(await media()).toEqual({ running: null, definition: null })
    await stage.done(vmCdromInsert, { vm: uuid, volume: 'nfs1/b.iso' })
    expect(await media()).toEqual({ running: '/shared/b.iso', definition: '/shared/b.iso' })
    const web2 = await running(stage, 'web2')
    expect(errorIn(await stage.run(vmCdromInsert, { vm: web2, volume: 'nfs1/b.iso' }))).toMatchObject({
      code: 'no_drive'
    })
  }))

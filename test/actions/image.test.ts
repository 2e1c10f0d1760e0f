// Images: what a VM takes over from one, and that nothing writes to a volume while it is one.
import { expect, test } from 'vitest'
import { imageAdd } from '../../src/actions/image-add.ts'
import { imageRemove } from '../../src/actions/image-remove.ts'
import { vmCreate } from '../../src/actions/vm-create.ts'
import { vmDelete } from '../../src/actions/vm-delete.ts'
import { vmDiskAdd } from '../../src/actions/vm-disk-add.ts'
import { vmStart } from '../../src/actions/vm-start.ts'
import { volumeCreate } from '../../src/actions/volume-create.ts'
import { volumeDelete } from '../../src/actions/volume-delete.ts'
import { volumeResize } from '../../src/actions/volume-resize.ts'
import { seedName } from '../../src/actions/cloud-init.ts'
import { errorIn, textOf, withStage, type Stage } from './stage.ts'

const files = (stage: Stage) => [...(stage.fleet.stores.get('nfs')?.files.keys() ?? [])].toSorted()
const volume = 'nfs1/debian.qcow2'
const refusalOf = async (stage: Stage, ...[of, args]: Parameters<Stage['run']>) =>
  errorIn(await stage.run(of, args)).code

async function withImage(stage: Stage, more: object = {}): Promise<void> {
  await stage.done(volumeCreate, { store: 'nfs1', name: 'debian.qcow2', sizeMiB: 16 })
  await stage.done(imageAdd, { name: 'debian', volume, memoryMiB: 64, bus: 'scsi', ...more })
}

test('a VM takes over what its request leaves open', () =>
  withStage({}, async (stage) => {
    await withImage(stage, { vcpus: 2, cloudInit: true })
    const create = stage.task(vmCreate, { name: 'web1', image: 'debian', host: 'h1' })
    expect((await create.run()).outcome.outcome).toBe('complete')
    const { uuid } = create.args as { uuid: string }
    expect(await stage.hosts.host('h1').vm(uuid)).toMatchObject({
      memoryMiB: 64,
      vcpus: 2,
      disks: [
        { target: 'sda', source: '/shared/web1.qcow2', bus: 'scsi' },
        { source: `/shared/${seedName(uuid)}`, device: 'cdrom' }
      ]
    })
    expect(stage.memory.facts('volume/nfs1/web1.qcow2')).toMatchObject({ backing: null, capacityBytes: 16 * 1024 ** 2 })
    const asked = {
      name: 'web2',
      image: 'debian',
      memoryMiB: 32,
      disks: [{ store: 'nfs1', sizeMiB: 32, bus: 'virtio' }]
    }
    expect(stage.task(vmCreate, asked).args).toMatchObject({
      memoryMiB: 32,
      vcpus: 2,
      cloudInit: {},
      disks: [{ from: volume, sizeMiB: 32, bus: 'virtio' }]
    })
  }))

test('a linked disk lies over its image, which stays as it is until nothing lies over it', () =>
  withStage({}, async (stage) => {
    await withImage(stage)
    const web1 = await stage.done(vmCreate, { name: 'web1', image: 'debian', host: 'h1', disks: [{ linked: true }] })
    const uuid = textOf(web1['uuid'])
    expect(stage.memory.facts('volume/nfs1/web1.qcow2')).toMatchObject({ backing: '/shared/debian.qcow2' })
    await stage.done(vmStart, { vm: uuid })
    await stage.done(vmDiskAdd, { vm: uuid, store: 'nfs1', from: volume, linked: true })
    await stage.done(imageRemove, { image: 'debian' })
    expect(await refusalOf(stage, volumeDelete, { volume })).toBe('volume_in_use')
    expect(await refusalOf(stage, volumeResize, { volume, sizeMiB: 32 })).toBe('volume_in_use')
    await stage.done(vmDelete, { vm: uuid, volumes: true, force: true })
    await stage.done(volumeDelete, { volume })
    expect(files(stage)).toEqual([])
  }))

test('nothing writes to an image, and an image is not made of what is written to', () =>
  withStage({}, async (stage) => {
    await withImage(stage)
    const web1 = await stage.done(vmCreate, {
      name: 'web1',
      memoryMiB: 64,
      host: 'h1',
      disks: [{ store: 'nfs1', sizeMiB: 1 }]
    })
    const vm = textOf(web1['uuid'])
    expect(await refusalOf(stage, volumeDelete, { volume })).toBe('volume_is_image')
    expect(await refusalOf(stage, volumeResize, { volume, sizeMiB: 32 })).toBe('volume_is_image')
    expect(await refusalOf(stage, vmDiskAdd, { vm, volume })).toBe('volume_is_image')
    expect(await refusalOf(stage, vmCreate, { name: 'x', memoryMiB: 64, disks: [{ volume }] })).toBe('volume_is_image')
    expect(await refusalOf(stage, imageAdd, { name: 'web', volume: 'nfs1/web1.qcow2' })).toBe('volume_in_use')
    expect(await refusalOf(stage, imageAdd, { name: 'other', volume })).toBe('volume_is_image')
    const over = { name: 'y', memoryMiB: 64, disks: [{ store: 'nfs1', from: 'nfs1/web1.qcow2', linked: true }] }
    expect(await refusalOf(stage, vmCreate, over)).toBe('volume_in_use')
    await stage.done(vmDiskAdd, { vm, volume, readOnly: true })
  }))

test('adding and removing an image are each other’s undo', () =>
  withStage({}, async (stage) => {
    await withImage(stage, { firmware: 'bios', description: 'Debian 13' })
    expect(imageAdd.undo?.({ name: 'debian', volume }, stage.observed(null))).toEqual({
      action: 'image.remove',
      args: { image: 'debian' }
    })
    const back = imageRemove.undo?.({ image: 'debian' }, stage.observed(null))
    const told = { memoryMiB: 64, bus: 'scsi', firmware: 'bios', description: 'Debian 13', cloudInit: false }
    expect(back).toEqual({ action: 'image.add', args: { name: 'debian', volume, ...told } })
    const remove = stage.task(imageRemove, { image: 'debian' })
    expect((await remove.run()).outcome.outcome).toBe('complete')
    expect((await remove.run()).outcome.outcome).toBe('complete')
    expect(files(stage)).toEqual(['/debian.qcow2'])
  }))

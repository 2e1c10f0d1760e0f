// Answers that are lost while devices change: whatever happened is found again, and nothing is made or taken twice.
import { expect, test } from 'vitest'
import type { Action } from '../../src/actions/action.ts'
import { vmCdromInsert } from '../../src/actions/vm-cdrom-insert.ts'
import { vmCreate } from '../../src/actions/vm-create.ts'
import { vmDiskAdd } from '../../src/actions/vm-disk-add.ts'
import { vmDiskMove } from '../../src/actions/vm-disk-move.ts'
import { vmDiskRemove } from '../../src/actions/vm-disk-remove.ts'
import { vmDiskResize } from '../../src/actions/vm-disk-resize.ts'
import { vmNicAdd } from '../../src/actions/vm-nic-add.ts'
import { vmNicRemove } from '../../src/actions/vm-nic-remove.ts'
import { vmStart } from '../../src/actions/vm-start.ts'
import { volumeCreate } from '../../src/actions/volume-create.ts'
import type { ProcedureName } from '../../src/libvirt/wire.gen.ts'
import { textOf, withStage, type Stage } from './stage.ts'

const mac = '52:54:00:00:00:77'

/** A running VM with two disks, a card, an empty drive, and an image beside it. */
async function made(stage: Stage): Promise<string> {
  await stage.hosts.host('h1').definePool({ name: 'fast', type: 'dir', target: '/fast' })
  await stage.relist()
  for (const name of ['empty.iso', 'a.iso'])
    await stage.done(volumeCreate, { store: 'nfs1', name, sizeMiB: 1, format: 'raw' })
  const disks = [
    { store: 'nfs1', sizeMiB: 8 },
    { store: 'nfs1', sizeMiB: 4 },
    { volume: 'nfs1/empty.iso', cdrom: true }
  ]
  const { uuid } = await stage.done(vmCreate, {
    name: 'web1',
    memoryMiB: 64,
    host: 'h1',
    disks,
    nics: [{ network: 'default', mac }]
  })
  await stage.done(vmStart, { vm: textOf(uuid) })
  return textOf(uuid)
}

/** The task again and again, as the dispatcher would, until it has ended. */
async function ended(stage: Stage, of: Action, args: object): Promise<number> {
  const task = stage.task(of, args)
  for (let attempts = 1; attempts <= 5; attempts++) {
    const { outcome } = await task.run()
    if (outcome.outcome === 'complete') {
      expect(await task.probe()).not.toMatchObject({ happened: 'unknown' })
      return attempts
    }
    expect(outcome.outcome, JSON.stringify(outcome)).toBe('retry')
    await stage.reachable('h1')
  }
  throw new Error(`${of.name} did not end`)
}

type Case = [string, Action, object, ProcedureName[]]
const cases: Case[] = [
  [
    'a disk is added',
    vmDiskAdd,
    { store: 'nfs1', sizeMiB: 4 },
    ['STORAGE_VOL_CREATE_XML', 'DOMAIN_ATTACH_DEVICE_FLAGS']
  ],
  [
    'a disk is removed',
    vmDiskRemove,
    { disk: 'vdb', deleteVolume: true },
    ['DOMAIN_DETACH_DEVICE_FLAGS', 'STORAGE_VOL_DELETE']
  ],
  ['a disk grows', vmDiskResize, { disk: 'vda', sizeMiB: 16 }, ['DOMAIN_BLOCK_RESIZE']],
  [
    'a disk moves',
    vmDiskMove,
    { disk: 'vda', store: 'h1/fast', deleteSource: true },
    ['DOMAIN_BLOCK_COPY', 'DOMAIN_BLOCK_JOB_ABORT', 'STORAGE_VOL_DELETE']
  ],
  ['a card is added', vmNicAdd, { network: 'default' }, ['DOMAIN_ATTACH_DEVICE_FLAGS']],
  ['a card is removed', vmNicRemove, { mac }, ['DOMAIN_DETACH_DEVICE_FLAGS']],
  ['a medium is put in', vmCdromInsert, { volume: 'nfs1/a.iso', force: true }, ['DOMAIN_UPDATE_DEVICE_FLAGS']]
]

/** What of the VM and of its stores can be compared between two worlds. */
async function world(stage: Stage, vm: string): Promise<unknown> {
  const devices = await stage.hosts.host('h1').vmDevices(vm)
  const files = [
    ...stage.fleet.host('h1').localStore.files.keys(),
    ...(stage.fleet.stores.get('nfs')?.files.keys() ?? [])
  ]
  return { devices, files: files.filter((file) => !file.includes('nvram')).toSorted() }
}

test.each(cases)('%s, and each answer on the way is lost once', (_, of, args, procedures) =>
  withStage({}, async (calm) => {
    const there = await made(calm)
    await ended(calm, of, { ...args, vm: there })
    const wanted = await world(calm, there)
    for (const on of procedures)
      await withStage({}, async (stage) => {
        const vm = await made(stage)
        stage.fleet.host('h1').faults.add({ on, fault: { kind: 'drop_after' }, times: 1 })
        expect(await ended(stage, of, { ...args, vm }), on).toBeLessThanOrEqual(3)
        expect(await world(stage, vm), on).toEqual(wanted)
      })
  })
)

// A volume that a guest of whichever host uses is neither deleted nor changed, nor is its pool stopped: not when others started the
// guest behind our back after everything was checked, just before the deed. The inventory knows of nothing here; only a look tells.
import { randomUUID } from 'node:crypto'
import { describe, expect, test } from 'vitest'
import type { Action } from '../../src/actions/action.ts'
import { poolDelete } from '../../src/actions/pool-delete.ts'
import { poolStop } from '../../src/actions/pool-stop.ts'
import { vmCreate } from '../../src/actions/vm-create.ts'
import { vmDelete } from '../../src/actions/vm-delete.ts'
import { volumeCreate } from '../../src/actions/volume-create.ts'
import { volumeDelete } from '../../src/actions/volume-delete.ts'
import { volumeResize } from '../../src/actions/volume-resize.ts'
import { errorIn, withStage, type Stage } from './stage.ts'

const mark = { instance: randomUUID(), task: 1, generation: 1 }
const files = (stage: Stage) => [...(stage.fleet.stores.get('nfs')?.files.keys() ?? [])].toSorted()

/** What somebody does with virsh: defines a guest on a host, and starts it. Nobody is told. */
async function startBehindOurBack(stage: Stage, host: string, path: string): Promise<void> {
  const handle = stage.hosts.host(host)
  const vm = await handle.defineVm(
    await handle.vmXmlFor(
      {
        uuid: randomUUID(),
        name: 'theirs',
        memoryMiB: 64,
        vcpus: 1,
        disks: [{ path, format: 'qcow2', bus: 'virtio', device: 'disk', readOnly: false }],
        nics: [],
        firmware: 'bios',
        graphics: 'none'
      },
      mark
    )
  )
  await handle.startVm(vm.uuid, { freshBoot: true, paused: false })
}

const deeds: [string, Action, object, string][] = [
  ['deleted', volumeDelete, { volume: 'nfs1/a.qcow2' }, 'volume_in_use'],
  ['grown', volumeResize, { volume: 'nfs1/a.qcow2', sizeMiB: 20 }, 'volume_in_use'],
  ['taken away with its pool', poolStop, { host: 'h1', pool: 'nfs1' }, 'pool_in_use'],
  ['taken away with its pool for good', poolDelete, { host: 'h1', pool: 'nfs1' }, 'pool_in_use']
]

describe('a volume of which a guest was started on another host in the last moment', () => {
  test.each(deeds)('is not %s', (_, of, args, code) =>
    withStage({}, async (stage) => {
      await stage.done(volumeCreate, { store: 'nfs1', name: 'a.qcow2', sizeMiB: 10 })
      await startBehindOurBack(stage, 'h2', '/shared/a.qcow2')
      expect(stage.memory.facts('volume/nfs1/a.qcow2')).toMatchObject({ usedBy: [] })
      const error = errorIn(await stage.run(of, args))
      expect(error).toMatchObject({ code, message: expect.stringContaining('"theirs" on h2 (running)') })
      expect(files(stage)).toEqual(['/a.qcow2'])
      expect(stage.fleet.stores.get('nfs')?.files.get('/a.qcow2')?.capacityBytes).toBe(10n * 1024n ** 2n)
      expect(await stage.hosts.host('h1').pool('nfs1')).toMatchObject({ active: true })
      expect(stage.fleet.journal.twoWriters).toBe(0)
    })
  )

  test('stays when the VM that it was made for is deleted with its volumes', () =>
    withStage({}, async (stage) => {
      const disks = [{ store: 'nfs1', sizeMiB: 1 }]
      const { uuid } = await stage.done(vmCreate, { name: 'web1', memoryMiB: 64, host: 'h1', disks })
      await startBehindOurBack(stage, 'h2', '/shared/web1.qcow2')
      expect(errorIn(await stage.run(vmDelete, { vm: uuid, volumes: true }))).toMatchObject({ code: 'volume_in_use' })
      expect(files(stage)).toEqual(['/web1.qcow2'])
      expect(stage.fleet.host('h1').domains.size).toBe(1)
    }))

  test('stays when only a layer over it is their disk', () =>
    withStage({}, async (stage) => {
      await stage.done(volumeCreate, { store: 'nfs1', name: 'a.qcow2', sizeMiB: 10 })
      // Their layer is in a place that no pool shows: only the running guest tells of the chain.
      const h2 = stage.fleet.host('h2').locate('/var/over.qcow2').store
      h2.makeDirectory('/var')
      h2.create('/var/over.qcow2', {
        format: 'qcow2',
        capacityBytes: 10n * 1024n ** 2n,
        backing: { path: '/shared/a.qcow2', format: 'qcow2' }
      })
      await startBehindOurBack(stage, 'h2', '/var/over.qcow2')
      expect(errorIn(await stage.run(volumeDelete, { volume: 'nfs1/a.qcow2' }))).toMatchObject({
        code: 'volume_in_use'
      })
      expect(errorIn(await stage.run(poolStop, { host: 'h2', pool: 'nfs1' }))).toMatchObject({ code: 'pool_in_use' })
    }))
})

// Rows of every-action: VMs, what is attached to them, and their snapshots.
import { digestOf } from '../../src/actions/vm-edit.ts'
import type { Place } from './every-action-place.ts'
import type { Row } from './every-action-rows.ts'

const off = async (p: Place) => ({ vm: await p.vm() })
const running = async (p: Place) => ({ vm: await p.vm({ on: true }) })
const mac = (p: Place) => /mac address='([^']*)'/.exec(p.domain('vm').current.xml)?.[1] ?? ''
/** One that nobody else has. */
const freshMac = (p: Place) =>
  `52:54:00:ee:${p.number.toString(16).padStart(2, '0')}:${p.stages.toString(16).padStart(2, '0')}`
const marker = {
  leaves: 'task-N',
  because: 'the host refuses to delete the marker beside a volume in use: the log names it'
}
const nics = [{ network: 'default' }]
const withSnapshot = async (p: Place) => {
  const vm = await p.vm({ on: true })
  await p.done('vm.snapshot.create', { vm, name: 'first' })
  return { vm }
}
const withDrive = async (p: Place) => {
  const volume = await p.volume('disc', { format: 'raw' })
  const vm = await p.vm({
    on: true,
    disks: [
      { store: p.store, sizeMiB: 8 },
      { volume, cdrom: true }
    ]
  })
  return { vm, volume }
}

export const vmRows: { readonly [action: string]: Row } = {
  'vm.create': {
    stage: async (p) => ({
      name: `vm-${p.of}`,
      memoryMiB: 64,
      host: p.host,
      disks: [
        { store: p.store, sizeMiB: 8 },
        { store: p.store, from: await p.volume('base') }
      ],
      nics,
      cloudInit: { hostname: 'web' }
    }),
    again: 'refused: name_taken',
    refused: { 'STORAGE_VOL_DELETE 0': marker, 'STORAGE_VOL_DELETE 1': marker, 'STORAGE_VOL_DELETE 2': marker },
    undo: 'undone'
  },
  'vm.delete': {
    stage: async (p) => ({ ...(await off(p)), volumes: true }),
    again: 'refused: not_found',
    refused: {
      'DOMAIN_UNDEFINE_FLAGS 0': {
        leaves: 'vm-@.qcow2',
        because: 'its volumes go first: who deletes wants them gone, and a retry ends it'
      }
    },
    undo: 'impossible: a deleted VM is gone'
  },
  'vm.clone': {
    stage: async (p) => ({ vm: await p.vm({ nics }), name: `twin-${p.of}` }),
    again: 'refused: name_taken',
    refused: { 'STORAGE_VOL_DELETE 0': marker },
    undo: 'undone'
  },
  'vm.start': { stage: off, again: 'nothing to do', undo: 'undone' },
  'vm.stop': { stage: running, again: 'nothing to do', undo: 'undone' },
  'vm.pause': { stage: running, again: 'nothing to do', undo: 'undone' },
  'vm.resume': {
    stage: async (p) => {
      const args = await running(p)
      await p.done('vm.pause', args)
      return args
    },
    again: 'nothing to do',
    undo: 'undone'
  },
  'vm.reboot': { stage: running, again: 'done again', undo: 'impossible: a reboot cannot be taken back' },
  'vm.reset': { stage: running, again: 'done again', undo: 'impossible: a reset cannot be taken back' },
  'vm.save': { stage: running, again: 'nothing to do', undo: 'undone' },
  'vm.rename': {
    stage: async (p) => ({ vm: await p.vm(), name: `new-${p.of}` }),
    again: 'refused: not_found',
    undo: 'undone'
  },
  'vm.label': {
    stage: async (p) => ({ vm: await p.vm(), set: { tier: 'web' } }),
    again: 'nothing to do',
    undo: 'undone'
  },
  'vm.set': {
    stage: async (p) => ({ vm: await p.vm({ vcpus: 2 }), vcpus: 3, memoryMiB: 96, autostart: true }),
    again: 'nothing to do',
    half: true,
    undo: 'undone'
  },
  'vm.edit': {
    stage: async (p) => {
      const vm = await p.vm()
      const { uuid } = p.domain('vm')
      const shown = await p.world.engine.hosts.host(p.host).vmXml(uuid, { inactive: true, secure: false })
      return { vm, xml: shown.replace('<os>', '<description>edited</description>\n  <os>'), was: digestOf(shown) }
    },
    again: 'refused: definition_changed',
    undo: 'undone'
  },
  'vm.adopt': {
    stage: async (p) => {
      const args = await off(p)
      await p.done('vm.adopt', { ...args, release: true })
      return args
    },
    again: 'nothing to do',
    undo: 'undone'
  },
  'vm.migrate': {
    peer: true,
    stage: async (p) => ({ vm: await p.vm({ on: true, store: p.common }), to: p.peer }),
    again: 'nothing to do',
    undo: 'undone'
  },
  'vm.disk.add': {
    stage: async (p) => ({ vm: await p.vm({ on: true }), store: p.store, sizeMiB: 8, target: 'vdb' }),
    again: 'refused: volume_exists',
    refused: { 'STORAGE_VOL_DELETE 0': marker },
    half: true,
    undo: 'undone'
  },
  'vm.disk.remove': {
    stage: async (p) => {
      const vm = await p.vm({ on: true })
      await p.done('vm.disk.add', { vm, store: p.store, sizeMiB: 8, target: 'vdb' })
      return { vm, disk: 'vdb' }
    },
    again: 'refused: disk_not_found',
    half: true,
    undo: 'undone'
  },
  'vm.disk.resize': {
    stage: async (p) => ({ ...(await running(p)), disk: 'vda', sizeMiB: 16 }),
    again: 'nothing to do',
    undo: 'impossible: a disk is never made smaller'
  },
  'vm.disk.move': {
    stage: async (p) => {
      await p.done('pool.create', { host: p.host, pool: `to-${p.of}`, target: `/srv/to-${p.of}` })
      return { ...(await running(p)), disk: 'vda', store: `${p.host}/to-${p.of}`, deleteSource: true }
    },
    again: 'refused: same_volume',
    undo: 'undone'
  },
  'vm.nic.add': {
    stage: async (p) => ({ ...(await running(p)), network: 'default', mac: freshMac(p) }),
    again: 'nothing to do',
    half: true,
    undo: 'undone'
  },
  'vm.nic.remove': {
    stage: async (p) => ({ vm: await p.vm({ on: true, nics }), mac: mac(p) }),
    again: 'refused: nic_not_found',
    half: true,
    undo: 'undone'
  },
  'vm.cdrom.insert': {
    stage: async (p) => {
      const { vm, volume } = await withDrive(p)
      await p.done('vm.cdrom.eject', { vm })
      return { vm, volume }
    },
    again: 'nothing to do',
    half: true,
    undo: 'undone'
  },
  'vm.cdrom.eject': {
    stage: async (p) => ({ vm: (await withDrive(p)).vm }),
    again: 'nothing to do',
    half: true,
    undo: 'undone'
  },
  'vm.snapshot.create': {
    stage: async (p) => ({ ...(await running(p)), name: 'first' }),
    again: 'refused: snapshot_exists',
    undo: 'undone'
  },
  'vm.snapshot.delete': {
    stage: async (p) => ({ ...(await withSnapshot(p)), snapshot: 'first' }),
    again: 'refused: snapshot_not_found',
    undo: 'impossible: a deleted snapshot is gone'
  },
  'vm.snapshot.revert': {
    stage: async (p) => ({ ...(await withSnapshot(p)), snapshot: 'first', before: 'kept' }),
    again: 'refused: snapshot_exists',
    undo: {
      leaves: 'before-revert|kept',
      because: 'a revert keeps what it replaces as a snapshot, and so does the revert back'
    }
  }
}

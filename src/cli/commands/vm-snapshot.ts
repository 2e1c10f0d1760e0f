// vm snapshot: create, list, revert, delete.
import type { VmView } from '../../api/fleet.ts'
import type { CommandSpec, OperandSpec } from '../command.ts'
import { ageText, printList, type View } from '../render.ts'
import { part } from './reading.ts'

const vm: OperandSpec = { name: 'vm', help: 'VM: NAME, NAME@HOST or UUID', kind: 'text', arg: 'vm', names: 'vm' }
const vms: OperandSpec = { ...vm, help: 'VMs: NAME, NAME@HOST or UUID', many: true }
const snapshot: OperandSpec = { name: 'snapshot', help: 'the snapshot', kind: 'text', arg: 'snapshot' }

type SnapshotView = VmView['snapshots'][number]

const snapshotView: View<SnapshotView> = {
  plural: 'snapshots',
  name: (item) => item.name,
  columns: [
    { title: 'NAME', value: (item) => (item.current ? `${item.name} *` : item.name) },
    { title: 'PARENT', value: (item) => item.parent ?? '' },
    { title: 'STATE', value: (item) => item.state },
    { title: 'AGE', value: (item) => ageText(item.createdAt), align: 'right' },
    { title: 'DESCRIPTION', value: (item) => item.description ?? '' },
    { title: 'MADE', value: (item) => item.createdAt, wide: true },
    { title: 'EXTERNAL', value: (item) => (item.external ? 'yes' : 'no'), wide: true }
  ]
}

export const vmSnapshotCommands: readonly CommandSpec[] = [
  {
    verb: 'snapshot create',
    summary: 'Keep the state of VMs: their disks, and their memory while they run',
    action: 'vm.snapshot.create',
    operands: [vms],
    options: [
      { flags: '--name <name>', help: 'default one with the time', kind: 'text', arg: 'name' },
      { flags: '--description <text>', help: 'what it is for', kind: 'text', arg: 'description' }
    ]
  },
  {
    verb: 'snapshot list',
    summary: 'List the snapshots of a VM; * is the current one, whose child the next will be',
    operands: [{ name: 'vm', help: vm.help, kind: 'text', names: 'vm' }],
    async run(cli, { operands }) {
      const found = await cli.client().get<VmView>(`/vms/${part(operands['vm']?.[0] ?? '')}`)
      await printList(cli, found.snapshots, snapshotView)
      return 'done'
    }
  },
  {
    verb: 'snapshot revert',
    summary: 'Bring a VM back to a snapshot; what it is now is kept as another',
    action: 'vm.snapshot.revert',
    operands: [vm, snapshot],
    options: [
      {
        flags: '--before <name>',
        help: 'name of the snapshot that keeps what it is now; default before-revert and the time',
        kind: 'text',
        arg: 'before'
      }
    ]
  },
  {
    verb: 'snapshot delete',
    summary: 'Delete a snapshot; the VM stays as it is',
    action: 'vm.snapshot.delete',
    irreversible: true,
    operands: [vm, snapshot],
    options: [{ flags: '--children', help: 'those that were made after it, too', kind: 'flag', arg: 'children' }]
  }
]

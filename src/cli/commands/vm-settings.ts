// vm rename, reset …: the words for what is set on a VM, and for its life beyond starting and stopping.
import type { CommandSpec, OperandSpec } from '../command.ts'

const vms: OperandSpec = {
  name: 'vm',
  help: 'VMs: NAME, NAME@HOST or UUID',
  kind: 'text',
  arg: 'vm',
  many: true,
  names: 'vm'
}
const oneVm: OperandSpec = { name: 'vm', help: 'VM: NAME, NAME@HOST or UUID', kind: 'text', arg: 'vm', names: 'vm' }

export const vmSettingsCommands: readonly CommandSpec[] = [
  {
    verb: 'reset',
    summary: 'Reset VMs without asking the guest: what it has not written is lost',
    action: 'vm.reset',
    operands: [vms]
  },
  {
    verb: 'save',
    aliases: ['managedsave'],
    summary: 'Save the memory of running VMs to their hosts and end them; their next start goes on from there',
    action: 'vm.save',
    operands: [vms]
  },
  {
    verb: 'rename',
    aliases: ['domrename'],
    summary: 'Give a VM that is off another name',
    action: 'vm.rename',
    operands: [oneVm, { name: 'name', help: 'its new name', kind: 'text', arg: 'name' }]
  }
]

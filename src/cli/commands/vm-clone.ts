// vm clone.
import type { CommandSpec } from '../command.ts'

export const vmCloneCommands: readonly CommandSpec[] = [
  {
    verb: 'clone',
    summary: 'Make VMs like one that is off, with copies of its disks or with disks laid over them',
    action: 'vm.clone',
    operands: [
      { name: 'vm', help: 'VM: NAME, NAME@HOST or UUID; it must be off', kind: 'text', arg: 'vm', names: 'vm' },
      { name: 'name', help: 'names of the clones', kind: 'text', arg: 'name', many: true }
    ],
    options: [
      {
        flags: '--linked',
        help: 'lay the disks over those of the VM: made at once, and the VM can no longer be started',
        kind: 'flag',
        arg: 'linked'
      },
      { flags: '--store <store>', help: 'where its disks are made', kind: 'text', arg: 'store', names: 'store' }
    ],
    more: 'Example: taskomatic vm clone golden web1 web2 web3 --linked'
  }
]

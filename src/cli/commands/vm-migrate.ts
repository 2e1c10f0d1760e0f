// vm migrate.
import type { CommandSpec, OperandSpec } from '../command.ts'

const vms: OperandSpec = {
  name: 'vm',
  help: 'VMs: NAME, NAME@HOST or UUID',
  kind: 'text',
  arg: 'vm',
  many: true,
  names: 'vm'
}

export const vmMigrateCommands: readonly CommandSpec[] = [
  {
    verb: 'migrate',
    aliases: ['move'],
    summary: 'Move VMs to another host: running ones live, those that are off with --offline',
    action: 'vm.migrate',
    operands: [vms],
    options: [
      { flags: '--to <host>', help: 'where to; default: the server chooses', kind: 'text', arg: 'to', names: 'host' },
      { flags: '--offline', help: 'move the definition of a VM that is off', kind: 'flag', arg: 'offline' },
      {
        flags: '--managed',
        help: 'carry it through from the server, not by the hosts among themselves',
        kind: 'flag',
        arg: 'managed'
      },
      {
        flags: '--auto-converge',
        help: 'slow the guest down if it writes faster than it can be copied',
        kind: 'flag',
        arg: 'autoConverge'
      },
      {
        flags: '--postcopy',
        help: 'switch over first and fetch the rest afterwards; a lost host then loses the VM',
        kind: 'flag',
        arg: 'postCopy'
      },
      {
        flags: '--copy-storage',
        help: 'copy the disks as well, where the hosts share no store',
        kind: 'flag',
        arg: 'copyStorage'
      },
      { flags: '--bandwidth <size>', help: 'per second at most, e.g. 100MiB', kind: 'mib', arg: 'bandwidthMiBps' },
      {
        flags: '--deadline <duration>',
        help: 'give up after this; the VM stays where it is',
        kind: 'seconds',
        arg: 'deadlineSeconds'
      },
      { flags: '--tls', help: 'encrypt the memory stream', kind: 'flag', arg: 'tls' },
      {
        flags: '--allow-unsafe',
        help: 'although libvirt does not know the storage as safe, e.g. a directory that both hosts have',
        kind: 'flag',
        arg: 'unsafe'
      }
    ],
    more: 'With --dry-run it says whether each VM may go there, and what is in the way.'
  }
]

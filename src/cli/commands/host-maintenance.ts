// host: emptying hosts, bringing back what was there, and saying that one is off.
import type { CommandSpec, OperandSpec } from '../command.ts'

const oneHost: OperandSpec = { name: 'host', help: 'host, by name', kind: 'text', arg: 'host', names: 'host' }

export const hostMaintenance: readonly CommandSpec[] = [
  {
    verb: 'confirm-off',
    summary: 'State that a silent host is off, so that its VMs may be started elsewhere',
    action: 'host.confirm-off',
    irreversible: true,
    operands: [oneHost],
    options: [{ flags: '--reason <text>', help: 'how you know', kind: 'text', arg: 'reason', required: true }],
    more: 'Nothing is switched off. If it runs after all, VMs that are started elsewhere will run twice and destroy their disks.'
  }
]

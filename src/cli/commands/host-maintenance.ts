// host: emptying hosts, bringing back what was there, and saying that one is off.
import type { CommandSpec, OperandSpec } from '../command.ts'

const oneHost: OperandSpec = { name: 'host', help: 'host, by name', kind: 'text', arg: 'host', names: 'host' }
const hosts: OperandSpec = { ...oneHost, help: 'hosts, by name', many: true }

const moving = [
  { flags: '--auto-converge', help: 'slow guests down that write too fast', kind: 'flag', arg: 'autoConverge' },
  {
    flags: '--postcopy',
    help: 'switch over after one pass: always ends, but a lost host then loses the VM',
    kind: 'flag',
    arg: 'postCopy'
  },
  { flags: '--allow-unsafe', help: 'although libvirt does not know the storage as safe', kind: 'flag', arg: 'unsafe' }
] as const

export const hostMaintenance: readonly CommandSpec[] = [
  {
    verb: 'clear',
    aliases: ['evacuate', 'drain'],
    summary: 'Empty hosts for maintenance: close them, and move their VMs',
    action: 'host.clear',
    irreversible: ({ vms }) => vms === 'delete',
    operands: [hosts],
    options: [
      {
        flags: '--vms <what>',
        help: 'what becomes of its VMs: migrate (default), shut-down, delete',
        kind: 'text',
        arg: 'vms',
        choices: ['migrate', 'shut-down', 'delete']
      },
      {
        flags: '--pools <what>',
        help: 'what becomes of its pools: leave (default), stop, delete; their data stays',
        kind: 'text',
        arg: 'pools',
        choices: ['leave', 'stop', 'delete']
      },
      {
        flags: '--unmovable <what>',
        help: 'what becomes of a running VM that cannot be moved: leave it running (default), shut-down',
        kind: 'text',
        arg: 'onFailure',
        choices: ['leave', 'shut-down']
      },
      ...moving,
      {
        flags: '--copy-storage',
        help: 'copy disks as well, where hosts share no store',
        kind: 'flag',
        arg: 'copyStorage'
      },
      { flags: '--tls', help: 'encrypt memory streams', kind: 'flag', arg: 'tls' },
      {
        flags: '--bandwidth <size>',
        help: 'of each migration, per second at most, e.g. 100MiB',
        kind: 'mib',
        arg: 'bandwidthMiBps'
      },
      { flags: '--vm-timeout <time>', help: 'for each VM at most, e.g. 10m', kind: 'seconds', arg: 'timeoutSeconds' },
      { flags: '--force', help: 'switch guests off that do not shut down in time', kind: 'flag', arg: 'force' },
      { flags: '--volumes', help: 'with --vms delete: their disks as well', kind: 'flag', arg: 'volumes' },
      { flags: '--reason <text>', help: 'why, for whoever finds it closed', kind: 'text', arg: 'reason' }
    ],
    more: '--dry-run shows where each VM would go, or why it cannot. `host show` says when it is safe to reboot; `host restore` brings all back.'
  },
  {
    verb: 'restore',
    summary: 'Open cleared hosts, and bring back what came from there',
    action: 'host.restore',
    operands: [hosts],
    options: [...moving]
  },
  {
    verb: 'balance',
    summary: 'Even out how full hosts are, by moving running VMs',
    action: 'host.balance',
    operands: [],
    options: [
      {
        flags: '--among <host>',
        help: 'only these hosts; repeat it',
        kind: 'text',
        arg: 'hosts',
        many: true,
        names: 'host'
      },
      {
        flags: '--within <percent>',
        help: 'leave hosts as they are that differ by no more; default 10',
        kind: 'count',
        arg: 'withinPercent',
        max: 100
      },
      { flags: '--max-moves <number>', help: 'at most so many; default 20', kind: 'count', arg: 'maxMoves', max: 1000 },
      { flags: '--auto-converge', help: 'slow guests down that write too fast', kind: 'flag', arg: 'autoConverge' }
    ],
    more: '--dry-run shows the moves, and how full the hosts are before and after each.'
  },
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

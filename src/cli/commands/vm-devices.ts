// vm disk, vm nic, vm cdrom: what is attached to a VM.
import type { CommandSpec, OperandSpec } from '../command.ts'

const vm: OperandSpec = { name: 'vm', help: 'VM: NAME, NAME@HOST or UUID', kind: 'text', arg: 'vm', names: 'vm' }
const disk: OperandSpec = {
  name: 'disk',
  help: 'its name on the bus (vdb) or its volume (STORE/NAME)',
  kind: 'text',
  arg: 'disk'
}
const grace = {
  flags: '--grace <duration>',
  help: 'how long a running guest may take to let go of it; default 30s',
  kind: 'seconds',
  arg: 'timeoutSeconds'
} as const

const drive = { flags: '--drive <name>', help: 'e.g. sda; default the first one', kind: 'text', arg: 'drive' } as const
const force = { flags: '--force', help: 'although the guest has locked the drive', kind: 'flag', arg: 'force' } as const

export const deviceCommands: readonly CommandSpec[] = [
  {
    verb: 'disk add',
    summary: 'Give a VM another disk, running or not',
    action: 'vm.disk.add',
    operands: [
      vm,
      {
        name: 'volume',
        help: 'a volume that exists, STORE/NAME; else say what to make by --size, --store, --from',
        kind: 'text',
        arg: 'volume',
        names: 'volume',
        optional: true
      }
    ],
    options: [
      { flags: '--size <size>', help: 'of a new volume, e.g. 10GiB', kind: 'mib', arg: 'sizeMiB' },
      { flags: '--store <store>', help: 'where to make the volume', kind: 'text', arg: 'store', names: 'store' },
      { flags: '--name <name>', help: 'of the new volume; default VM-DISK.FORMAT', kind: 'text', arg: 'name' },
      { flags: '--from <volume>', help: 'make it a copy of this one', kind: 'text', arg: 'from', names: 'volume' },
      { flags: '--linked', help: 'lay it over --from instead of copying that', kind: 'flag', arg: 'linked' },
      { flags: '--format <format>', help: 'qcow2 or raw', kind: 'text', arg: 'format', choices: ['qcow2', 'raw'] },
      {
        flags: '--bus <bus>',
        help: 'default virtio',
        kind: 'text',
        arg: 'bus',
        choices: ['virtio', 'scsi', 'sata', 'ide']
      },
      {
        flags: '--target <name>',
        help: 'name on its bus, e.g. vdb; default the first free one',
        kind: 'text',
        arg: 'target'
      },
      { flags: '--read-only', help: 'the guest may only read it', kind: 'flag', arg: 'readOnly' },
      {
        flags: '--shareable',
        help: 'other VMs may write to it as well: only for a file system made for that',
        kind: 'flag',
        arg: 'shareable'
      }
    ],
    more: 'Example: taskomatic vm disk add web1 --size 10GiB --store nfs1'
  },
  {
    verb: 'disk remove',
    summary: 'Take a disk away from a VM; its volume stays unless it is to be deleted',
    action: 'vm.disk.remove',
    operands: [vm, disk],
    options: [
      { flags: '--delete-volume', help: 'delete its volume as well', kind: 'flag', arg: 'deleteVolume' },
      grace
    ],
    more: 'A running guest has to let go of the disk. One that does not keeps it, and the task fails and says so.'
  },
  {
    verb: 'disk resize',
    summary: "Make a VM's disk larger, also while it runs",
    action: 'vm.disk.resize',
    operands: [vm, disk, { name: 'size', help: 'new size, e.g. 20GiB', kind: 'mib', arg: 'sizeMiB' }]
  },
  {
    verb: 'disk move',
    summary: "Move a VM's disk to another store, also while it runs",
    action: 'vm.disk.move',
    operands: [vm, disk],
    options: [
      { flags: '--to <store>', help: 'where to', kind: 'text', arg: 'store', names: 'store', required: true },
      { flags: '--name <name>', help: 'of the new volume; default as it is named now', kind: 'text', arg: 'name' },
      {
        flags: '--format <format>',
        help: 'qcow2 or raw; default as it is',
        kind: 'text',
        arg: 'format',
        choices: ['qcow2', 'raw']
      },
      {
        flags: '--delete-source',
        help: 'delete the old volume once the VM has the new one',
        kind: 'flag',
        arg: 'deleteSource'
      }
    ],
    more: 'The VM keeps its old volume until the new one is whole. `taskomatic task cancel` stops the copying.'
  },
  {
    verb: 'nic add',
    summary: 'Give a VM another card, running or not',
    action: 'vm.nic.add',
    operands: [vm],
    options: [
      { flags: '--network <network>', help: "a network of the VM's host", kind: 'text', arg: 'network' },
      { flags: '--bridge <bridge>', help: "or a bridge of the VM's host", kind: 'text', arg: 'bridge' },
      {
        flags: '--model <model>',
        help: 'default virtio',
        kind: 'text',
        arg: 'model',
        choices: ['virtio', 'e1000', 'e1000e', 'rtl8139']
      },
      { flags: '--mac <address>', help: 'default a new one', kind: 'text', arg: 'mac' }
    ]
  },
  {
    verb: 'nic remove',
    summary: 'Take a card away from a VM',
    action: 'vm.nic.remove',
    operands: [vm, { name: 'mac', help: 'MAC address of the card', kind: 'text', arg: 'mac' }],
    options: [grace]
  },
  {
    verb: 'cdrom insert',
    summary: "Put a volume into a VM's drive; a VM that is off and has none gets one",
    action: 'vm.cdrom.insert',
    operands: [vm, { name: 'volume', help: 'image, STORE/NAME', kind: 'text', arg: 'volume', names: 'volume' }],
    options: [drive, force]
  },
  {
    verb: 'cdrom eject',
    summary: "Take the medium out of a VM's drive",
    action: 'vm.cdrom.eject',
    operands: [vm],
    options: [drive, force]
  }
]

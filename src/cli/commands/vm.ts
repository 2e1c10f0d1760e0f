// vm: create, start, stop, migrate, delete … Words of other managers are aliases; `destroy` is refused, since it means two things.
import type { VmView } from '../../api/fleet.ts'
import type { ActionCommand, NounSpec, OperandSpec } from '../command.ts'
import { usage } from '../failure.ts'
import { ageText, mibText, printOne, sheet, type Tone, type View } from '../render.ts'
import { labelOption } from '../select.ts'
import { labelCommand, labelsText } from './label.ts'
import { part, printFrom, textOption } from './reading.ts'
import { deviceCommands } from './vm-devices.ts'
import { vmCloneCommands } from './vm-clone.ts'
import { vmMigrateCommands } from './vm-migrate.ts'
import { vmSettingsCommands } from './vm-settings.ts'
import { vmSnapshotCommands } from './vm-snapshot.ts'

const vms: OperandSpec = {
  name: 'vm',
  help: 'VMs: NAME, NAME@HOST or UUID',
  kind: 'text',
  arg: 'vm',
  many: true,
  names: 'vm'
}

const oneVm: OperandSpec = { name: 'vm', help: 'VM: NAME, NAME@HOST or UUID', kind: 'text', names: 'vm' }

const toneOf = (vm: VmView): Tone | undefined => {
  if (vm.power === 'running') return 'good'
  if (vm.power === 'crashed') return 'bad'
  return vm.power === 'off' ? 'dim' : 'busy'
}

const vmView: View<VmView> = {
  plural: 'VMs',
  name: (vm) => vm.name,
  columns: [
    { title: 'NAME', value: (vm) => vm.name },
    { title: 'POWER', value: (vm) => vm.power, tone: toneOf },
    { title: 'HOST', value: (vm) => vm.activeOn ?? vm.home },
    { title: 'MEMORY', value: (vm) => mibText(vm.memoryMiB), align: 'right' },
    { title: 'VCPUS', value: (vm) => vm.vcpus, align: 'right' },
    { title: 'UUID', value: (vm) => vm.uuid, wide: true },
    { title: 'HOME', value: (vm) => vm.home, wide: true },
    { title: 'REASON', value: (vm) => vm.reason, wide: true },
    { title: 'OWNER', value: (vm) => vm.owner, wide: true },
    { title: 'SEEN', value: (vm) => ageText(vm.observedAt), wide: true, align: 'right' }
  ]
}

const autostartText = ({ autostart, startsWithHost }: VmView): string | undefined => {
  if (autostart) return "yes, the host's own"
  return startsWithHost ? `in order ${startsWithHost.order}, then ${startsWithHost.delaySeconds} s` : undefined
}

const vmSheet = (vm: VmView): string =>
  sheet([
    ['VM', vm.name],
    ['UUID', vm.uuid],
    ['Power', `${vm.power} (${vm.reason})`],
    ['Home', vm.home],
    ['Active on', vm.activeOn],
    [
      'Also seen on',
      Object.entries(vm.elsewhere)
        .map(([host, state]) => `${host}: ${state}`)
        .join('\n')
    ],
    ['Memory', `${mibText(vm.memoryMiB)} of at most ${mibText(vm.maxMemoryMiB)}`],
    ['vCPUs', vm.vcpus],
    [
      'Disks',
      vm.disks
        .map(
          (disk) =>
            `${disk.target} ${disk.device} ${disk.store === null ? (disk.source ?? 'empty') : `${disk.store}/${disk.volume}`}${disk.readOnly ? ' read-only' : ''}`
        )
        .join('\n')
    ],
    ['NICs', vm.nics.map((nic) => `${nic.mac} ${nic.kind} ${nic.source ?? ''}`).join('\n')],
    ['Snapshots', vm.snapshots.map(({ name, current }) => (current ? `${name} (current)` : name)).join('\n')],
    [
      'Saved image',
      vm.hasSavedImage ? (vm.restorable ? 'yes, the next start goes on from it' : 'yes, not restored') : undefined
    ],
    ['Autostart', autostartText(vm)],
    ['Tied to its host by', (vm.pins ?? []).map(({ what }) => what).join('\n')],
    ['Owner', vm.owner],
    ['Job', vm.job],
    ['Labels', labelsText(vm.labels)],
    ['Seen', vm.observedAt]
  ])

const create: ActionCommand = {
  verb: 'create',
  summary: 'Create VMs',
  action: 'vm.create',
  operands: [{ name: 'name', help: 'names of the new VMs', kind: 'text', arg: 'name', many: true }],
  options: [
    { flags: '--memory <size>', help: 'e.g. 2GiB', kind: 'mib', arg: 'memoryMiB' },
    { flags: '--vcpus <number>', help: 'how many CPUs', kind: 'count', arg: 'vcpus', max: 4096 },
    {
      flags: '--disk <disk>',
      help: 'size=10GiB,store=nfs1[,name=,from=STORE/VOLUME[,linked],format=] or volume=STORE/NAME; may be repeated',
      kind: 'disk',
      arg: 'disks',
      many: true
    },
    {
      flags: '--nic <nic>',
      help: 'network=NAME or bridge=NAME[,mac=,model=]; may be repeated',
      kind: 'nic',
      arg: 'nics',
      many: true
    },
    { flags: '--vnc', help: 'a display, by VNC', kind: 'flag' },
    { flags: '--uefi', help: 'UEFI firmware instead of BIOS', kind: 'flag' },
    {
      flags: '--image <image>',
      help: 'make the first disk from it, and take over what else is left open',
      kind: 'text',
      arg: 'image',
      names: 'image'
    },
    {
      flags: '--cloud-init <what>',
      help: 'for the first boot: user-data=FILE[,meta-data=FILE,network-config=FILE], or hostname=,user=,ssh-key=FILE,password-file=FILE',
      kind: 'cloudInit',
      arg: 'cloudInit'
    },
    { flags: '--host <host>', help: 'where; else the server chooses', kind: 'text', arg: 'host', names: 'host' },
    { flags: '--xml <file>', help: 'the whole definition, as libvirt XML', kind: 'file', arg: 'xml' },
    { flags: '--start', help: 'start it as well', kind: 'flag' }
  ],
  finish: (args, { options }) => ({
    ...args,
    ...(options['uefi'] ? { firmware: 'uefi' } : {}),
    ...(options['vnc'] ? { graphics: 'vnc' } : {})
  }),
  followedBy: (args, { options }) => (options['start'] ? [{ action: 'vm.start', args: { vm: args['name'] } }] : []),
  more: 'Example: taskomatic vm create web1 web2 --memory 2GiB --vcpus 2 --disk size=10GiB,store=nfs1 --start'
}

const refused = (verb: string, why: string, next: string) => ({
  verb,
  summary: 'Not done here, since it means two things: see stop --force, and delete',
  operands: [{ ...vms, optional: true as const }],
  run: () => Promise.reject(usage(why, next))
})

export const vm: NounSpec = {
  noun: 'vm',
  summary: 'Virtual machines',
  commands: [
    {
      verb: 'list',
      aliases: ['ls'],
      summary: 'List VMs',
      options: [
        { flags: '--host <host>', help: 'only at home or active there', kind: 'text', names: 'host' },
        { flags: '--state <power>', help: 'only running, paused, off …', kind: 'text' },
        { ...labelOption, help: 'only with such labels: role=web,tier!=test,zone in (a,b)' }
      ],
      run: (cli, { options }) =>
        printFrom(
          cli,
          '/vms',
          {
            host: textOption(options['host']),
            power: textOption(options['state']),
            labels: textOption(options['label'])
          },
          vmView
        )
    },
    {
      verb: 'show',
      summary: 'Show a VM',
      operands: [oneVm],
      async run(cli, { operands }) {
        const found = await cli.client().get<VmView>(`/vms/${part(operands['vm']?.[0] ?? '')}`)
        await printOne(cli, found, vmView.name, () => vmSheet(found))
        return 'done'
      }
    },
    create,
    labelCommand('vm', vms),
    {
      verb: 'start',
      aliases: ['poweron'],
      summary: 'Start VMs',
      action: 'vm.start',
      operands: [vms],
      options: [
        {
          flags: '--host <host>',
          help: 'start it there, which becomes its home; default: at home, or elsewhere if its home is closed',
          kind: 'text',
          arg: 'host',
          names: 'host'
        },
        { flags: '--paused', help: 'leave it paused at its first instruction', kind: 'flag', arg: 'paused' },
        {
          flags: '--discard-saved',
          help: 'boot afresh although there is a saved image, which is thrown away',
          kind: 'flag',
          arg: 'discardSaved'
        }
      ]
    },
    {
      verb: 'stop',
      aliases: ['shutdown', 'poweroff'],
      summary: 'Stop VMs: ask the guest to shut down',
      action: 'vm.stop',
      operands: [vms],
      options: [
        {
          flags: '--grace <duration>',
          help: 'how long the guest may take; default 60s, 0 does not ask it',
          kind: 'seconds',
          arg: 'timeoutSeconds'
        },
        { flags: '--force', help: 'switch it off when that time is over', kind: 'flag', arg: 'force' },
        { flags: '--now', help: 'first cancel its unfinished stops, reboots and migrations', kind: 'flag', arg: 'now' }
      ]
    },
    {
      verb: 'reboot',
      summary: 'Reboot VMs',
      action: 'vm.reboot',
      operands: [vms],
      options: [
        {
          flags: '--grace <duration>',
          help: 'how long the guest may take until it reboots',
          kind: 'seconds',
          arg: 'timeoutSeconds'
        }
      ]
    },
    { verb: 'pause', aliases: ['suspend'], summary: 'Pause VMs', action: 'vm.pause', operands: [vms] },
    { verb: 'resume', aliases: ['unpause'], summary: 'Let paused VMs go on', action: 'vm.resume', operands: [vms] },
    ...vmMigrateCommands,
    ...vmCloneCommands,
    {
      verb: 'delete',
      aliases: ['rm', 'undefine'],
      summary: 'Delete VMs',
      action: 'vm.delete',
      irreversible: true,
      operands: [vms],
      options: [
        { flags: '--volumes', help: 'delete its disks as well; images below them stay', kind: 'flag', arg: 'volumes' },
        { flags: '--force', help: 'switch it off first if it runs', kind: 'flag', arg: 'force' }
      ]
    },
    ...vmSettingsCommands,
    ...vmSnapshotCommands,
    ...deviceCommands,
    refused(
      'destroy',
      'destroy is a power-off to virsh and a deletion to other managers: it is not done here',
      'to switch off: `taskomatic vm stop --force --grace 0 NAME`; to delete: `taskomatic vm delete NAME`'
    )
  ]
}

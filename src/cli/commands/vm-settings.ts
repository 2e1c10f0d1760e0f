// vm rename, reset …: the words for what is set on a VM, and for its life beyond starting and stopping.
import type { CommandSpec, Kind, OperandSpec } from '../command.ts'
import { usage } from '../failure.ts'
import { valueOf } from '../values.ts'
import { vmAdopt } from './vm-adopt.ts'
import { vmEdit } from './vm-edit.ts'

const vms: OperandSpec = {
  name: 'vm',
  help: 'VMs: NAME, NAME@HOST or UUID',
  kind: 'text',
  arg: 'vm',
  many: true,
  names: 'vm'
}
const oneVm: OperandSpec = { name: 'vm', help: 'VM: NAME, NAME@HOST or UUID', kind: 'text', arg: 'vm', names: 'vm' }

/** How each setting's text becomes an argument. */
const settings: Readonly<Record<string, { arg: string; kind: Kind | 'onOff'; min?: number }>> = {
  vcpus: { arg: 'vcpus', kind: 'count', min: 1 },
  maxVcpus: { arg: 'maxVcpus', kind: 'count', min: 1 },
  memory: { arg: 'memoryMiB', kind: 'mib' },
  maxMemory: { arg: 'maxMemoryMiB', kind: 'mib' },
  autostart: { arg: 'autostart', kind: 'onOff' },
  order: { arg: 'order', kind: 'count', min: 0 },
  delay: { arg: 'delaySeconds', kind: 'seconds' }
}

/** `web1 web2 vcpus=4 memory=2GiB`: words without `=` are VMs, each a task. */
function settingsOf(args: Record<string, unknown>, words: readonly string[]): Record<string, unknown>[] {
  const names = words.filter((word) => !word.includes('='))
  if (names.length === 0) throw usage('no VM is named', `e.g. taskomatic vm set web1 vcpus=4`)
  const values: Record<string, unknown> = {}
  for (const word of words.filter((each) => each.includes('='))) {
    const at = word.indexOf('=')
    const name = word.slice(0, at)
    const setting = settings[name]
    if (!setting)
      throw usage(`there is no setting ${JSON.stringify(name)}`, `one of ${Object.keys(settings).join(', ')}`)
    if (setting.arg in values) throw usage(`${name} is given twice`, 'give it once')
    values[setting.arg] =
      setting.kind === 'onOff'
        ? onOff(name, word.slice(at + 1))
        : valueOf(setting.kind, word.slice(at + 1), name, setting)
  }
  if (Object.keys(values).length === 0)
    throw usage('nothing is to be set', `name a setting: ${Object.keys(settings).join(', ')}`)
  return names.map((vm) => ({ ...args, ...values, vm }))
}

function onOff(name: string, text: string): boolean {
  if (/^(on|yes|true)$/.test(text)) return true
  if (/^(off|no|false)$/.test(text)) return false
  throw usage(`${name}=${text}`, `write ${name}=on or ${name}=off`)
}

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
    verb: 'set',
    summary: 'Set processors, memory, autostart of VMs',
    action: 'vm.set',
    operands: [{ name: 'vm-or-setting', help: 'VMs, then SETTING=VALUE …', kind: 'text', many: true, names: 'vm' }],
    options: [
      { flags: '--live', help: 'only the guest as it runs', kind: 'flag', arg: 'live' },
      { flags: '--next-boot', help: 'only from its next boot on', kind: 'flag', arg: 'nextBoot' }
    ],
    finish: (args, { operands }) => settingsOf(args, operands['vm-or-setting'] ?? []),
    more:
      'Settings: vcpus=, maxVcpus=, memory=, maxMemory=, autostart=on|off, order=, delay=\n' +
      'Example: taskomatic vm set web1 vcpus=4 memory=8GiB --next-boot'
  },
  vmEdit,
  vmAdopt,
  {
    verb: 'rename',
    aliases: ['domrename'],
    summary: 'Give a VM that is off another name',
    action: 'vm.rename',
    operands: [oneVm, { name: 'name', help: 'its new name', kind: 'text', arg: 'name' }]
  }
]

// vm adopt: what is there and what clashes first, then the adoption of what can be.
import type { StoreView, VmView } from '../../api/fleet.ts'
import type { Given, OwnCommand } from '../command.ts'
import type { Cli } from '../context.ts'
import { adoptionReport, type Adoption } from '../diagnose.ts'
import { usage, type ExitName } from '../failure.ts'
import type { CommonOptions } from '../program.ts'
import { printList, type View } from '../render.ts'
import { follow, submit } from '../submit.ts'
import { everything, part } from './reading.ts'

export const vmAdopt: OwnCommand = {
  verb: 'adopt',
  summary: 'Take VMs over that another manager or nobody had; --dry-run says what that would meet',
  submits: 'vm.adopt',
  waits: true,
  operands: [
    { name: 'vm', help: 'VMs: NAME, NAME@HOST or UUID', kind: 'text', many: true, optional: true, names: 'vm' }
  ],
  options: [
    { flags: '--all', help: 'all that are not ours', kind: 'flag' },
    { flags: '--host <host>', help: 'with --all: only those on this host', kind: 'text', names: 'host' },
    { flags: '--dry-run', help: 'only say what is there and what clashes', kind: 'flag' },
    {
      flags: '--clear-autostart',
      help: "take the hosts' own autostart away, which starts a second copy of what has moved",
      kind: 'flag'
    },
    { flags: '--release', help: 'take our mark away again instead', kind: 'flag' }
  ],
  more: 'Metadata of other managers stays. Until it is adopted, a VM with such metadata is read-only here.',
  run: adopt
}

const view: View<Adoption> = {
  name: ({ vm }) => vm.name,
  columns: [
    { title: 'NAME', value: ({ vm }) => vm.name },
    { title: 'HOST', value: ({ vm }) => vm.activeOn ?? vm.home },
    { title: 'OWNER', value: ({ vm }) => vm.owner },
    { title: 'POWER', value: ({ vm }) => vm.power },
    { title: 'ADOPT', value: ({ obstacle }) => (obstacle === null ? 'yes' : `no: ${obstacle}`) },
    { title: 'REMARKS', value: ({ remarks }) => remarks.join('; ') },
    { title: 'UUID', value: ({ vm }) => vm.uuid, wide: true }
  ]
}

async function adopt(cli: Cli, given: Given, common: CommonOptions): Promise<ExitName> {
  const { options } = given
  const vms = await everything<VmView>(cli, '/vms')
  const stores = await everything<StoreView>(cli, '/stores')
  const chosen = await choose(cli, given, vms)
  if (options['release']) return send(cli, chosen, { release: true }, common)
  const report = adoptionReport(chosen, { vms, stores })
  if (options['dryRun']) {
    await printList(cli, report, view)
    return 'done'
  }
  for (const { vm, obstacle, remarks } of report)
    for (const line of [...(obstacle === null ? [] : [`not adopted, ${obstacle}`]), ...remarks])
      cli.say(`${vm.name}: ${line}`)
  const able = report.filter(({ obstacle }) => obstacle === null).map(({ vm }) => vm)
  return send(cli, able, options['clearAutostart'] ? { clearAutostart: true } : {}, common)
}

async function choose(cli: Cli, { operands, options }: Given, vms: readonly VmView[]): Promise<VmView[]> {
  const names = operands['vm'] ?? []
  if (names.length > 0 === Boolean(options['all']))
    throw usage('name VMs, or say --all', 'e.g. taskomatic vm adopt --all --host h1 --dry-run')
  if (names.length > 0) return Promise.all(names.map((name) => cli.client().get<VmView>(`/vms/${part(name)}`)))
  const host = options['host']
  const there = (vm: VmView) => host === undefined || vm.home === host || vm.activeOn === host
  return vms.filter((vm) => (vm.owner === 'ours') === Boolean(options['release']) && there(vm))
}

async function send(cli: Cli, vms: readonly VmView[], args: object, common: CommonOptions): Promise<ExitName> {
  if (vms.length === 0) {
    cli.say('there is nothing to adopt')
    return 'done'
  }
  const body = {
    onFailure: 'continue',
    ...(common.reason === undefined ? {} : { reason: common.reason }),
    tasks: vms.map(({ uuid }) => ({ action: 'vm.adopt', args: { vm: uuid, ...args } }))
  }
  return follow(cli, await submit(cli, '/plans', body), common)
}

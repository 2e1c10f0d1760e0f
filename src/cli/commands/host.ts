// host: the machines that VMs run on.
import type { HostView } from '../../api/fleet.ts'
import type { NounSpec, OperandSpec } from '../command.ts'
import { mibText, printOne, sheet, type View } from '../render.ts'
import { hostMaintenance } from './host-maintenance.ts'
import { doctor } from './doctor.ts'
import { labelOption } from '../select.ts'
import { labelCommand, labelsText } from './label.ts'
import { part, printFrom, textOption } from './reading.ts'

const hosts: OperandSpec = {
  name: 'host',
  help: 'hosts, by name',
  kind: 'text',
  arg: 'host',
  many: true,
  names: 'host'
}
const oneHost: OperandSpec = { name: 'host', help: 'host, by name', kind: 'text', names: 'host' }

function noteOf(host: HostView): string {
  if (host.inMaintenance) return `in maintenance: ${host.cordonReason ?? ''}`
  if (host.confirmedOff !== null) return `confirmed off: ${host.confirmedOff}`
  if (host.maintenanceSince !== null) return `cleared, but not empty: ${host.cordonReason ?? ''}`
  return host.cordoned ? `cordoned: ${host.cordonReason ?? ''}` : (host.connectionReason ?? '')
}

const hostView: View<HostView> = {
  plural: 'hosts',
  name: (host) => host.name,
  columns: [
    { title: 'NAME', value: (host) => host.name },
    {
      title: 'CONNECTION',
      value: (host) => host.connection,
      tone: (host) => (host.connection === 'up' ? 'good' : 'bad')
    },
    { title: 'VMS', value: (host) => `${host.activeVms}/${host.definitions}`, align: 'right' },
    { title: 'COMMITTED', value: (host) => `${mibText(host.committedMiB)}/${mibText(host.memoryMiB)}`, align: 'right' },
    { title: 'CPUS', value: (host) => host.cpus, align: 'right' },
    {
      title: 'NOTE',
      value: noteOf
    },
    { title: 'URI', value: (host) => host.controlUri, wide: true },
    { title: 'UUID', value: (host) => host.uuid, wide: true }
  ]
}

function maintenanceOf({ inMaintenance, maintenanceSince, activeVms }: HostView): string | undefined {
  if (inMaintenance) return `since ${maintenanceSince ?? ''}: nothing runs here, safe to reboot`
  if (maintenanceSince === null) return undefined
  return `cleared at ${maintenanceSince}, but ${activeVms === 0 ? 'something is arriving' : `${activeVms} VMs run here`}: not safe to reboot`
}

const hostSheet = (host: HostView): string =>
  sheet([
    ['Host', host.name],
    ['UUID', host.uuid],
    ['Connection', host.connectionReason ? `${host.connection}: ${host.connectionReason}` : host.connection],
    ['Cordoned', host.cordoned ? (host.cordonReason ?? 'yes') : undefined],
    ['Maintenance', maintenanceOf(host)],
    [
      'Confirmed off',
      host.confirmedOff ?? (host.unreconciled ? 'it answers again: reconciled when it is uncordoned' : undefined)
    ],
    ['Control URI', host.controlUri],
    ['Peer URI', host.peerUri],
    ['Migration URI', host.migrationUri],
    ['Machine', [host.arch, host.domainType, host.machine].filter(Boolean).join(', ')],
    ['CPUs', host.cpus],
    ['Memory', `${mibText(host.memoryMiB)}, ${mibText(host.committedMiB)} promised`],
    ['Labels', labelsText(host.labels)],
    ['VMs', `${host.activeVms} active, ${host.definitions} defined`]
  ])

export const host: NounSpec = {
  noun: 'host',
  summary: 'Hosts of virtual machines',
  commands: [
    {
      verb: 'list',
      aliases: ['ls'],
      summary: 'List hosts',
      options: [{ ...labelOption, help: 'only with such labels: zone=a,rack!=3' }],
      run: (cli, { options }) => printFrom(cli, '/hosts', { labels: textOption(options['label']) }, hostView)
    },
    {
      verb: 'show',
      summary: 'Show a host',
      operands: [oneHost],
      async run(cli, { operands }) {
        const found = await cli.client().get<HostView>(`/hosts/${part(operands['host']?.[0] ?? '')}`)
        await printOne(cli, found, hostView.name, () => hostSheet(found))
        return 'done'
      }
    },
    {
      verb: 'add',
      summary: 'Add a host',
      action: 'host.add',
      operands: [
        { name: 'name', help: 'what to call it', kind: 'text', arg: 'host' },
        {
          name: 'uri',
          help: 'its libvirtd as the server reaches it, e.g. qemu+ssh://root@h1/system',
          kind: 'text',
          arg: 'controlUri'
        }
      ],
      options: [
        {
          flags: '--peer-uri <uri>',
          help: 'its libvirtd as other hosts reach it, for migration',
          kind: 'text',
          arg: 'peerUri'
        },
        {
          flags: '--migration-uri <uri>',
          help: 'the network for memory, e.g. tcp://10.0.0.1',
          kind: 'text',
          arg: 'migrationUri'
        }
      ],
      more: 'For migration every host must reach the others with full rights: whoever is root on one is root on all.'
    },
    {
      verb: 'check',
      summary: 'Look at hosts: clock, versions, stores, reachability',
      action: 'host.check',
      operands: [hosts],
      options: [
        {
          flags: '--peer <host>',
          help: 'and whether VMs could move between the two',
          kind: 'text',
          arg: 'peer',
          names: 'host'
        }
      ]
    },
    {
      verb: 'cordon',
      summary: 'Close hosts: no VM is placed on them, none moves there',
      action: 'host.cordon',
      operands: [hosts],
      options: [
        {
          flags: '--reason <text>',
          help: 'why, for whoever finds it closed',
          kind: 'text',
          arg: 'reason',
          required: true
        }
      ]
    },
    ...hostMaintenance,
    labelCommand('host', hosts),
    { verb: 'uncordon', summary: 'Open hosts again', action: 'host.uncordon', operands: [hosts] },
    doctor,
    { verb: 'refresh', summary: 'List everything on hosts anew', action: 'host.refresh', operands: [hosts] },
    {
      verb: 'remove',
      aliases: ['rm'],
      summary: 'Forget hosts',
      action: 'host.remove',
      operands: [hosts],
      options: [
        {
          flags: '--forget',
          help: 'although VMs are defined there: they are forgotten too',
          kind: 'flag',
          arg: 'forget'
        }
      ]
    }
  ]
}

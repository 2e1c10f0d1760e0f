// network: hosts' virtual networks.
import type { NetworkView } from '../../api/fleet.ts'
import type { Given, NounSpec, OperandSpec, OptionSpec } from '../command.ts'
import { usage } from '../failure.ts'
import type { View } from '../render.ts'
import { printFrom, textOption } from './reading.ts'

const networkView: View<NetworkView> = {
  name: (network) => `${network.name}@${network.host}`,
  columns: [
    { title: 'NAME', value: (network) => network.name },
    { title: 'HOST', value: (network) => network.host },
    {
      title: 'STATE',
      value: (network) => (network.active ? 'active' : 'off'),
      tone: (network) => (network.active ? 'good' : 'dim')
    },
    { title: 'BRIDGE', value: (network) => network.bridge }
  ]
}

const networks: OperandSpec = {
  name: 'network',
  help: 'networks: NETWORK@HOST',
  kind: 'text',
  arg: 'network',
  many: true
}

const hostsOption: OptionSpec = {
  flags: '--host <hosts>',
  help: 'on these hosts, with commas, instead of NETWORK@HOST',
  kind: 'text',
  names: 'host'
}

/** `lan@h1`, or `lan` with `--host h1,h2`: one task for each host. */
function onHosts(args: Record<string, unknown>, { options }: Given): Record<string, unknown>[] {
  const text = String(args['network'])
  const at = text.indexOf('@')
  const listed = textOption(options['host'])
    ?.split(',')
    .filter((host) => host !== '')
  if (at >= 0 && listed)
    throw usage(`network ${JSON.stringify(text)} names its host, and --host others`, 'say it in one place')
  if (at >= 0) return [{ ...args, host: text.slice(at + 1), network: text.slice(0, at) }]
  if (!listed?.length)
    throw usage(`network ${JSON.stringify(text)} does not say on which host`, `write ${text}@HOST, or add --host HOST`)
  return [...new Set(listed)].map((host) => ({ ...args, network: text, host }))
}

function create(args: Record<string, unknown>, given: Given): Record<string, unknown>[] {
  const range = textOption(given.options['dhcpRange'])
  const [from, to] = range?.split('-') ?? []
  if (range !== undefined && (!from || !to))
    throw usage(`${JSON.stringify(range)} is no range`, 'write FIRST-LAST, e.g. 192.168.150.100-192.168.150.200')
  const { dhcpRange: _, ...rest } = args
  return onHosts(
    {
      ...rest,
      ...(range === undefined ? {} : { dhcpRange: { from, to } }),
      ...(given.options['dhcp'] === false ? { dhcp: false } : {})
    },
    given
  )
}

export const network: NounSpec = {
  noun: 'network',
  summary: "Networks: hosts' virtual networks",
  commands: [
    {
      verb: 'list',
      aliases: ['ls'],
      summary: 'List networks',
      options: [{ flags: '--host <host>', help: 'only there', kind: 'text', names: 'host' }],
      run: (cli, { options }) => printFrom(cli, '/networks', { host: textOption(options['host']) }, networkView)
    },
    {
      verb: 'create',
      summary: 'Make and start networks',
      action: 'network.create',
      operands: [{ name: 'network', help: 'new networks: NETWORK@HOST', kind: 'text', arg: 'network', many: true }],
      options: [
        hostsOption,
        {
          flags: '--mode <mode>',
          help: 'nat (default), isolated, or bridge: a bridge that the host has',
          kind: 'text',
          arg: 'mode',
          choices: ['nat', 'isolated', 'bridge']
        },
        { flags: '--bridge <name>', help: "the bridge's name on the host", kind: 'text', arg: 'bridge' },
        { flags: '--cidr <network>', help: 'addresses, e.g. 192.168.150.0/24', kind: 'text', arg: 'cidr' },
        { flags: '--dhcp-range <first-last>', help: 'addresses that guests are given', kind: 'text' },
        { flags: '--no-dhcp', help: 'guests are given no addresses', kind: 'flag' },
        { flags: '--xml <file>', help: "libvirt's XML instead of all this", kind: 'file', arg: 'xml' }
      ],
      finish: create,
      more: 'Example: taskomatic network create lan --host h1,h2 --cidr 192.168.150.0/24'
    },
    {
      verb: 'start',
      summary: 'Start networks',
      action: 'network.start',
      operands: [networks],
      options: [hostsOption],
      finish: onHosts
    },
    {
      verb: 'stop',
      summary: 'Stop networks; refused while a running VM uses them',
      action: 'network.stop',
      operands: [networks],
      options: [hostsOption],
      finish: onHosts
    },
    {
      verb: 'delete',
      aliases: ['rm', 'undefine'],
      summary: 'Stop and remove networks; refused while a running VM uses them',
      action: 'network.delete',
      operands: [networks],
      options: [hostsOption],
      finish: onHosts
    }
  ]
}

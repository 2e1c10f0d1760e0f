// Makes a virtual network on a host: defined, started, and started again with its host. In a file of its own words, or as XML.
import { Type, type Static } from 'typebox'
import type { Host } from '../host/host.ts'
import { isRangeOf, networkNameIn, subnetOf, type NetworkSpec } from '../host/network-xml.ts'
import { quote } from '../model/name.ts'
import { resource } from '../model/resource.ts'
import type { ObservedNetwork } from '../model/storage.ts'
import {
  action,
  complete,
  failed,
  impossible,
  nothingToDo,
  possible,
  type ActionContext,
  type Outcome,
  type Probe,
  type Verdict
} from './action.ts'
import { attempt, type Step } from './attempt.ts'
import { ownError } from './error.ts'
import { refuseUnknownHost } from './host-refusal.ts'
import { networkClaims, networkFields, networkId } from './network-args.ts'
import { isRefused, putBack } from './put-back.ts'

const ipv4 = (description: string) =>
  Type.Object(
    {
      from: Type.String({ description: 'First address', minLength: 7, maxLength: 15 }),
      to: Type.String({ description: 'Last address', minLength: 7, maxLength: 15 })
    },
    { additionalProperties: false, description }
  )

const args = Type.Object(
  {
    ...networkFields,
    mode: Type.Optional(
      Type.Union([Type.Literal('nat'), Type.Literal('isolated'), Type.Literal('bridge')], {
        description:
          'nat: guests reach out through the host; isolated: only each other and the host; bridge: a bridge that the host has; default nat',
        default: 'nat'
      })
    ),
    bridge: Type.Optional(
      Type.String({
        description: 'Name of the bridge on the host; default: one that libvirt chooses',
        pattern: '^[A-Za-z0-9][A-Za-z0-9._-]*$',
        minLength: 1,
        maxLength: 15,
        'x-rule': 'up to 15 letters, digits, ".", "_" and "-"'
      })
    ),
    cidr: Type.Optional(
      Type.String({
        description:
          "The network's addresses, e.g. 192.168.150.0/24; the host has the first, or the one that is written",
        minLength: 9,
        maxLength: 18
      })
    ),
    dhcp: Type.Optional(Type.Boolean({ description: 'Give guests addresses; default: where there is a cidr' })),
    dhcpRange: Type.Optional(ipv4('Addresses that guests are given; default: all but the host’s')),
    xml: Type.Optional(
      Type.String({ description: "libvirt's XML instead of all this", minLength: 1, maxLength: 262_144 })
    ),
    autostart: Type.Optional(
      Type.Boolean({ description: 'Start it when its host starts; default true', default: true })
    )
  },
  { additionalProperties: false }
)

type Args = Static<typeof args>

export const networkCreate = action({
  name: 'network.create',
  summary: 'Make a virtual network on a host',
  args,
  title: ({ host, network }) => `Create network ${network} on ${host}`,
  claims: networkClaims,
  check(given, state) {
    const refusal = refuseUnknownHost(state, given.host) ?? badNetwork(given)
    if (refusal) return refusal
    const network = state.network(given.host, given.network)
    // When it starts, another attempt may find what the first one made.
    if (!network || state.phase === 'starting') return possible
    if (!sameBridge(given, network.bridge)) {
      return impossible(
        'network_exists',
        `there is a ${networkId(given)} already, on bridge ${network.bridge ?? 'none'}`,
        'choose another name, or `taskomatic network delete` it first'
      )
    }
    return network.active ? nothingToDo(`${networkId(given)} is there and active already`) : possible
  },
  effect: ({ host, network, bridge }) => [
    { subject: resource.network(host, network), facts: { host, name: network, active: true, bridge: bridge ?? null } }
  ],
  bindTo: ({ host }) => ({ host }),
  run: (ctx, given) => attempt(ctx, (step) => create(ctx, given, step), { probe: () => probe(ctx, given) }),
  probe,
  undo({ host, network }, state) {
    const before = state.network(host, network)
    if (!before) return { action: 'network.delete', args: { host, network } }
    // What was there stays; that it was started can be taken back.
    return before.active ? { impossible: 'it was there before' } : { action: 'network.stop', args: { host, network } }
  }
})

/** A network that is there is the asked one unless its bridge says otherwise: what else it is, its host need not tell. */
const sameBridge = ({ bridge }: Args, has: string | null): boolean => bridge === undefined || bridge === has

const bad = (message: string, next: string): Verdict => impossible('bad_network', message, next)

function badNetwork(given: Args): Verdict | undefined {
  const { mode = 'nat', bridge, cidr, dhcp, dhcpRange, xml } = given
  if (xml !== undefined) return badXml(given, xml)
  if (mode === 'bridge') {
    if (bridge === undefined)
      return bad('a network of mode bridge needs a "bridge" that the host has', 'name the bridge')
    if (cidr !== undefined || dhcp !== undefined || dhcpRange !== undefined)
      return bad('in a network of mode bridge addresses are given by others', 'leave out cidr and dhcp')
    return undefined
  }
  if (cidr === undefined) {
    if (mode === 'nat') return bad('a network of mode nat needs a "cidr"', 'give it, e.g. 192.168.150.0/24')
    if (dhcp || dhcpRange)
      return bad('without a "cidr" there are no addresses to give', 'give it, e.g. 192.168.150.0/24')
    return undefined
  }
  const subnet = subnetOf(cidr)
  if (!subnet)
    return bad(`${quote(cidr)} is no network of IPv4 addresses, /8 to /30`, 'write it as e.g. 192.168.150.0/24')
  if (dhcpRange && dhcp === false) return bad('a DHCP range without DHCP says nothing', 'leave one of them out')
  if (dhcpRange && !isRangeOf(subnet, dhcpRange))
    return bad(
      `${quote(`${dhcpRange.from}-${dhcpRange.to}`)} is no range of addresses of ${cidr} without the host's own, ${subnet.address.ip}`,
      `choose from ${subnet.first}-${subnet.last}`
    )
  return undefined
}

function badXml(given: Args, xml: string): Verdict | undefined {
  const other = (['bridge', 'cidr', 'dhcp', 'dhcpRange'] as const).find((field) => given[field] !== undefined)
  if (other) return impossible('xml_and_fields', `"xml" says all: "${other}" beside it says nothing`, 'give either')
  try {
    const name = networkNameIn(xml)
    if (name === given.network) return undefined
    return impossible(
      'bad_xml',
      `the XML names the network ${quote(name)}, and ${quote(given.network)} was asked for`,
      'give it one name'
    )
  } catch (error) {
    return impossible('bad_xml', error instanceof Error ? error.message : String(error), 'correct the XML')
  }
}

function specOf({ network, mode = 'nat', bridge, cidr, dhcp, dhcpRange }: Args): NetworkSpec {
  const subnet = cidr === undefined ? undefined : subnetOf(cidr)
  const gives = subnet && (dhcp ?? true)
  return {
    name: network,
    mode,
    bridge: bridge ?? null,
    address: subnet?.address ?? null,
    dhcp: gives ? (dhcpRange ?? { from: subnet.first, to: subnet.last }) : null
  }
}

const isMade = (network: ObservedNetwork | undefined, given: Args): boolean =>
  network !== undefined && network.active && network.persistent && network.autostart === (given.autostart ?? true)

async function create(ctx: ActionContext, given: Args, step: Step): Promise<Outcome> {
  const host = ctx.host(given.host)
  step('look at the network')
  const before = await host.network(given.network)
  if (before && !sameBridge(given, before.bridge)) return failed(taken(given, before))
  try {
    await make(host, given, before, step)
  } catch (error) {
    if (!before && isRefused(error)) await takeBack(ctx, given)
    throw error
  }
  step('look whether it is active')
  const network = await host.network(given.network)
  await ctx.observe.host(given.host)
  if (!isMade(network, given))
    return failed(
      ownError(
        'network_not_active',
        `${networkId(given)} was made and is ${network ? 'not as asked' : 'not there'}`,
        'look whether it is active',
        'look at the log of libvirtd on the host, then retry the task'
      )
    )
  return complete({ host: given.host, network: given.network, bridge: network?.bridge ?? null })
}

async function make(host: Host, given: Args, before: ObservedNetwork | undefined, step: Step): Promise<void> {
  if (!before) {
    step('define the network')
    await host.defineNetwork(given.xml ?? specOf(given))
  }
  if (before?.autostart !== (given.autostart ?? true)) {
    step('set autostart')
    await host.setNetworkAutostart(given.network, given.autostart ?? true)
  }
  if (!before?.active) {
    step('start the network')
    await host.startNetwork(given.network)
  }
}

/** What the host refused to start or to keep was defined by us, and is undefined again. */
function takeBack(ctx: ActionContext, given: Args): Promise<void> {
  const host = ctx.host(given.host)
  return putBack(ctx, `${networkId(given)} may be left defined`, async () => {
    const left = await host.network(given.network)
    if (left?.active) await host.stopNetwork(given.network)
    if (left) await host.undefineNetwork(given.network)
    await ctx.observe.host(given.host)
  })
}

async function probe(ctx: ActionContext, given: Args): Promise<Probe> {
  const network = await ctx.host(given.host).network(given.network)
  const evidence = network ? { active: network.active, autostart: network.autostart, bridge: network.bridge } : null
  if (!isMade(network, given) || !sameBridge(given, network?.bridge ?? null)) return { happened: 'no', evidence }
  await ctx.observe.host(given.host)
  return {
    happened: 'yes',
    evidence,
    result: { host: given.host, network: given.network, bridge: network?.bridge ?? null }
  }
}

const taken = (given: Args, network: ObservedNetwork) =>
  ownError(
    'network_exists',
    `there is a ${networkId(given)} already, on bridge ${network.bridge ?? 'none'}`,
    'look at the network',
    'choose another name, or `taskomatic network delete` it first',
    { host: given.host }
  )

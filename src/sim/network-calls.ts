// Procedures about virtual networks.

import { randomBytes, randomUUID } from 'node:crypto'
import { ListAllNetworksFlags, NetworkEventLifecycleType } from '../libvirt/constants.gen.ts'
import { type Handlers, listed, passes } from './call.ts'
import type { SimHost } from './host.ts'
import type { SimNetwork } from './network.ts'
import { notValid, refuse } from './refusal.ts'
import { elements, find, node, parseXml, printXml, putChild, textAt } from './xml.ts'

type Ref = { name: string; uuid: string }

const refOf = ({ name, uuid }: SimNetwork): Ref => ({ name, uuid })

function networkOf(host: SimHost, ref: Ref): SimNetwork {
  for (const network of host.networks.values()) if (network.uuid === ref.uuid) return network
  throw refuse('NO_NETWORK', 'NETWORK', `no network with matching uuid '${ref.uuid}' (${ref.name})`)
}

function tell(host: SimHost, network: SimNetwork, event: keyof typeof NetworkEventLifecycleType): void {
  host.note('network_changed', network, { detail: event.toLowerCase() })
  host.emit('NETWORK_EVENT_LIFECYCLE', network.uuid, {
    net: refOf(network),
    event: NetworkEventLifecycleType[event],
    detail: 0
  })
}

const order = [
  'name',
  'uuid',
  'title',
  'description',
  'metadata',
  'forward',
  'bridge',
  'mtu',
  'mac',
  'domain',
  'dns',
  'ip',
  'route',
  'portgroup'
]

/** Parses a network's XML; a bridge name is given where the network makes its own. */
function parse(host: SimHost, text: string, persistent: boolean): SimNetwork {
  const tree = parseXml(text, 'network')
  const name = textAt(tree, 'name')
  if (name === null) throw refuse('NO_NAME', 'NETWORK', 'missing network name')
  if (name.includes('/')) throw refuse('XML_ERROR', 'NETWORK', `name ${name} cannot contain '/'`)
  const known = host.networks.get(name)
  const uuid = textAt(tree, 'uuid') ?? randomUUID()
  if (known && known.uuid !== uuid)
    throw refuse('OPERATION_FAILED', 'NETWORK', `network '${name}' already exists with uuid ${known.uuid}`)
  putChild(tree, node('uuid', {}, [uuid]))
  const mode = find(tree, 'forward')?.attrs['mode'] ?? 'nat'
  let bridge = find(tree, 'bridge')?.attrs['name']
  if (mode !== 'bridge' || bridge === undefined) {
    bridge ??= `virbr${host.networks.size}`
    if (mode !== 'bridge') {
      putChild(tree, node('bridge', { name: bridge, stp: 'on', delay: '0' }))
      const address = ['52', '54', '00', ...[...randomBytes(3)].map((byte) => byte.toString(16).padStart(2, '0'))]
      if (!find(tree, 'mac')) tree.children.push(node('mac', { address: address.join(':') }))
    }
  }
  const rank = (element: string): number => order.indexOf(element)
  tree.children = elements(tree).toSorted((a, b) => rank(a.name) - rank(b.name))
  return { name, uuid, bridge, xml: printXml(tree), active: false, persistent, autostart: false }
}

/** Puts a network there and starts it, as `default` is on a fresh host. */
export function addNetwork(host: SimHost, name: string): void {
  const network = parse(host, `<network><name>${name}</name><forward mode='nat'/></network>`, true)
  host.networks.set(name, { ...network, active: true, autostart: true })
}

function start(host: SimHost, network: SimNetwork): void {
  if (network.active) throw notValid('network is already active', 'NETWORK')
  network.active = true
  tell(host, network, 'STARTED')
}

function stop(host: SimHost, network: SimNetwork): void {
  if (!network.active) throw notValid(`network '${network.name}' is not active`, 'NETWORK')
  network.active = false
  if (!network.persistent) host.networks.delete(network.name)
  tell(host, network, 'STOPPED')
}

function undefine(host: SimHost, network: SimNetwork): void {
  if (!network.persistent) throw notValid("can't undefine transient network", 'NETWORK')
  network.persistent = false
  network.autostart = false
  if (!network.active) host.networks.delete(network.name)
  tell(host, network, 'UNDEFINED')
}

function filtered(host: SimHost, flags: number): SimNetwork[] {
  const f = ListAllNetworksFlags
  return [...host.networks.values()].filter((network) =>
    passes(flags, [
      [
        [f.ACTIVE, network.active],
        [f.INACTIVE, !network.active]
      ],
      [
        [f.PERSISTENT, network.persistent],
        [f.TRANSIENT, !network.persistent]
      ],
      [
        [f.AUTOSTART, network.autostart],
        [f.NO_AUTOSTART, !network.autostart]
      ]
    ])
  )
}

export const networkCalls: Handlers = {
  CONNECT_LIST_ALL_NETWORKS: ({ need_results, flags }, host) => {
    const { items, ret } = listed(filtered(host, flags), need_results)
    return { nets: items.map(refOf), ret }
  },
  NETWORK_LOOKUP_BY_NAME: ({ name }, host) => {
    const network = host.networks.get(name)
    if (!network) throw refuse('NO_NETWORK', 'NETWORK', `no network with matching name '${name}'`)
    return { net: refOf(network) }
  },
  NETWORK_LOOKUP_BY_UUID: ({ uuid }, host) => {
    for (const network of host.networks.values()) if (network.uuid === uuid) return { net: refOf(network) }
    throw refuse('NO_NETWORK', 'NETWORK', `no network with matching uuid '${uuid}'`)
  },
  NETWORK_DEFINE_XML: ({ xml }, host) => {
    const parsed = parse(host, xml, true)
    const known = host.networks.get(parsed.name)
    const network = known ? Object.assign(known, { xml: parsed.xml, persistent: true }) : parsed
    host.networks.set(network.name, network)
    tell(host, network, 'DEFINED')
    return { net: refOf(network) }
  },
  NETWORK_CREATE_XML: ({ xml }, host) => {
    const network = parse(host, xml, false)
    if (host.networks.get(network.name)?.active) throw notValid('network is already active', 'NETWORK')
    host.networks.set(network.name, network)
    start(host, network)
    return { net: refOf(network) }
  },
  NETWORK_CREATE: ({ net }, host) => start(host, networkOf(host, net)) ?? {},
  NETWORK_DESTROY: ({ net }, host) => stop(host, networkOf(host, net)) ?? {},
  NETWORK_UNDEFINE: ({ net }, host) => undefine(host, networkOf(host, net)) ?? {},
  NETWORK_GET_XML_DESC: ({ net }, host) => ({ xml: networkOf(host, net).xml }),
  NETWORK_GET_BRIDGE_NAME: ({ net }, host) => ({ name: networkOf(host, net).bridge }),
  NETWORK_GET_AUTOSTART: ({ net }, host) => ({ autostart: networkOf(host, net).autostart ? 1 : 0 }),
  NETWORK_SET_AUTOSTART: ({ net, autostart }, host) => {
    const network = networkOf(host, net)
    if (!network.persistent) throw notValid('cannot set autostart for transient network', 'NETWORK')
    network.autostart = autostart !== 0
    return {}
  },
  NETWORK_IS_ACTIVE: ({ net }, host) => ({ active: networkOf(host, net).active ? 1 : 0 }),
  NETWORK_IS_PERSISTENT: ({ net }, host) => ({ persistent: networkOf(host, net).persistent ? 1 : 0 }),
  NETWORK_GET_DHCP_LEASES: ({ net }, host) => (networkOf(host, net), { leases: [], ret: 0 })
}

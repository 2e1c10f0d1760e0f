// How networks are named in arguments, what they claim, and who uses them.
import { Type, type Static } from 'typebox'
import type { NetworkFacts } from '../inventory/facts.ts'
import type { FleetState } from '../inventory/fleet-state.ts'
import { quote } from '../model/name.ts'
import { resource } from '../model/resource.ts'
import { isActive, type ObservedVm } from '../model/vm.ts'
import type { Claim, Effect } from '../queue/task.ts'
import { failed, impossible, type ActionContext, type Outcome, type Verdict } from './action.ts'
import { ownError } from './error.ts'
import { refuseUnknownHost } from './host-refusal.ts'
import { HostRef, newName } from './refs.ts'
import { exclusive, shared } from './vm-place.ts'

export const networkFields = { host: HostRef, network: newName('network', 'Network of that host') }

export const networkArgs = Type.Object(networkFields, { additionalProperties: false })

export type NetworkArgs = Static<typeof networkArgs>

export const networkId = ({ host, network }: NetworkArgs): string => `network ${quote(network)} on ${host}`

export const networkClaims = ({ host, network }: NetworkArgs): Claim[] => [
  shared(resource.host(host)),
  exclusive(resource.network(host, network))
]

/** The network, or why there is none to act on. */
export function knownNetwork(
  args: NetworkArgs,
  state: FleetState
): { network: NetworkFacts; refusal?: never } | { network?: never; refusal: Verdict } {
  const refusal = refuseUnknownHost(state, args.host)
  if (refusal) return { refusal }
  const network = state.network(args.host, args.network)
  if (network) return { network }
  return {
    refusal: impossible(
      'network_not_found',
      `there is no ${networkId(args)}`,
      `see \`taskomatic network list --host ${args.host}\``
    )
  }
}

export const networkEffect = (args: NetworkArgs, active: boolean | null): Effect[] => [
  { subject: resource.network(args.host, args.network), facts: active === null ? null : { active } }
]

const shownUsers = 5

/** Running VMs of the host with an interface in the network lose it when it stops: refused. libvirt stops it without a word. */
export async function refuseUsedNetwork(
  ctx: ActionContext,
  args: NetworkArgs,
  bridge: string | null
): Promise<Outcome | undefined> {
  const { vms } = await ctx.host(args.host).list()
  const isIn = (vm: ObservedVm) =>
    vm.nics.some(
      ({ kind, source }) =>
        source !== null && ((kind === 'network' && source === args.network) || (kind === 'bridge' && source === bridge))
    )
  const users = vms.filter((vm) => isActive(vm.power) && isIn(vm)).map(({ name }) => quote(name))
  if (users.length === 0) return undefined
  const more = users.length > shownUsers ? ` and ${users.length - shownUsers} more` : ''
  return failed(
    ownError(
      'network_in_use',
      `${networkId(args)} is in use: ${users.slice(0, shownUsers).join(', ')}${more} run with an interface in it`,
      'look who uses it',
      'stop or migrate these VMs first, or take their interfaces out of it',
      { host: args.host, network: args.network }
    )
  )
}

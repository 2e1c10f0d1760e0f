// Makes a network inactive. Refused while running VMs of its host have an interface in it.
import {
  action,
  complete,
  failed,
  nothingToDo,
  possible,
  type ActionContext,
  type Outcome,
  type Probe
} from './action.ts'
import { attempt, type Step } from './attempt.ts'
import { ownError } from './error.ts'
import {
  knownNetwork,
  networkArgs,
  networkClaims,
  networkEffect,
  networkId,
  refuseUsedNetwork,
  type NetworkArgs
} from './network-args.ts'

export const networkStop = action({
  name: 'network.stop',
  summary: 'Stop a network that no running VM uses',
  args: networkArgs,
  title: ({ host, network }) => `Stop network ${network} on ${host}`,
  claims: networkClaims,
  check(given, state) {
    const { network, refusal } = knownNetwork(given, state)
    if (refusal) return refusal
    return network.active ? possible : nothingToDo(`${networkId(given)} is not active`)
  },
  effect: (given) => networkEffect(given, false),
  bindTo: ({ host }) => ({ host }),
  run: (ctx, given) => attempt(ctx, (step) => stop(ctx, given, step), { probe: () => probe(ctx, given) }),
  probe,
  undo: ({ host, network }) => ({ action: 'network.start', args: { host, network } })
})

async function stop(ctx: ActionContext, given: NetworkArgs, step: Step): Promise<Outcome> {
  const host = ctx.host(given.host)
  step('look at the network')
  const before = await host.network(given.network)
  if (before?.active) {
    step('look who uses it')
    const refusal = await refuseUsedNetwork(ctx, given, before.bridge)
    if (refusal) return refusal
    step('stop the network')
    await host.stopNetwork(given.network)
  }
  step('look whether it is inactive')
  const after = await host.network(given.network)
  await ctx.observe.host(given.host)
  if (!after?.active) return complete({ host: given.host, network: given.network })
  return failed(
    ownError(
      'network_still_active',
      `${networkId(given)} was stopped and is active`,
      'look whether it is inactive',
      'look what holds it on the host, then retry the task'
    )
  )
}

async function probe(ctx: ActionContext, given: NetworkArgs): Promise<Probe> {
  const network = await ctx.host(given.host).network(given.network)
  const evidence = network ? { active: network.active } : null
  if (network?.active) return { happened: 'no', evidence }
  await ctx.observe.host(given.host)
  return { happened: 'yes', evidence, result: { host: given.host, network: given.network } }
}

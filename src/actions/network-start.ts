// Makes a defined network active.
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
import { knownNetwork, networkArgs, networkClaims, networkEffect, networkId, type NetworkArgs } from './network-args.ts'

export const networkStart = action({
  name: 'network.start',
  summary: 'Start a network',
  args: networkArgs,
  title: ({ host, network }) => `Start network ${network} on ${host}`,
  claims: networkClaims,
  check(given, state) {
    const { network, refusal } = knownNetwork(given, state)
    if (refusal) return refusal
    return network.active ? nothingToDo(`${networkId(given)} is active already`) : possible
  },
  effect: (given) => networkEffect(given, true),
  bindTo: ({ host }) => ({ host }),
  run: (ctx, given) => attempt(ctx, (step) => start(ctx, given, step), { probe: () => probe(ctx, given) }),
  probe,
  undo: ({ host, network }) => ({ action: 'network.stop', args: { host, network } })
})

async function start(ctx: ActionContext, given: NetworkArgs, step: Step): Promise<Outcome> {
  const host = ctx.host(given.host)
  step('look at the network')
  const before = await host.network(given.network)
  if (before && !before.active) {
    step('start the network')
    await host.startNetwork(given.network)
  }
  step('look whether it is active')
  const after = await host.network(given.network)
  await ctx.observe.host(given.host)
  if (after?.active) return complete({ host: given.host, network: given.network, already: before?.active ?? false })
  return failed(
    ownError(
      after ? 'network_not_active' : 'network_not_found',
      after ? `${networkId(given)} was started and is not active` : `there is no ${networkId(given)}`,
      'look whether it is active',
      after ? 'look at the log of libvirtd on the host, then retry the task' : 'create it: `taskomatic network create`'
    )
  )
}

async function probe(ctx: ActionContext, given: NetworkArgs): Promise<Probe> {
  const network = await ctx.host(given.host).network(given.network)
  const evidence = network ? { active: network.active } : null
  if (!network?.active) return { happened: 'no', evidence }
  await ctx.observe.host(given.host)
  return { happened: 'yes', evidence, result: { host: given.host, network: given.network } }
}

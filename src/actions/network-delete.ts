// Takes a network off its host: stopped and undefined. Refused while running VMs of its host have an interface in it.
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
import { isRefused, putBack } from './put-back.ts'

export const networkDelete = action({
  name: 'network.delete',
  summary: 'Stop and undefine a network that no running VM uses',
  args: networkArgs,
  irreversible: true,
  title: ({ host, network }) => `Delete network ${network} on ${host}`,
  claims: networkClaims,
  check(given, state) {
    if (state.phase === 'starting' && state.host(given.host) && !state.network(given.host, given.network)) {
      return nothingToDo(`${networkId(given)} is gone already`)
    }
    return knownNetwork(given, state).refusal ?? possible
  },
  effect: (given) => networkEffect(given, null),
  bindTo: ({ host }) => ({ host }),
  run: (ctx, given) => attempt(ctx, (step) => remove(ctx, given, step), { probe: () => probe(ctx, given) }),
  probe,
  undo: () => ({ impossible: 'make the network again with `taskomatic network create`' })
})

async function remove(ctx: ActionContext, given: NetworkArgs, step: Step): Promise<Outcome> {
  const host = ctx.host(given.host)
  step('look at the network')
  const network = await host.network(given.network)
  if (network) {
    step('look who uses it')
    const refusal = await refuseUsedNetwork(ctx, given, network.bridge)
    if (refusal) return refusal
    if (network.active) {
      step('stop the network')
      await host.stopNetwork(given.network)
    }
    if (network.persistent) {
      step('undefine the network')
      try {
        await host.undefineNetwork(given.network)
      } catch (error) {
        if (network.active && isRefused(error)) await startAgain(ctx, given)
        throw error
      }
    }
  }
  step('look whether it is gone')
  const after = await host.network(given.network)
  await ctx.observe.host(given.host)
  if (!after) return complete({ host: given.host, network: given.network })
  return failed(
    ownError(
      'network_still_there',
      `${networkId(given)} was undefined and is there`,
      'look whether it is gone',
      'look at the host, then retry the task'
    )
  )
}

/** What stays is as it was. */
const startAgain = (ctx: ActionContext, given: NetworkArgs): Promise<void> =>
  putBack(ctx, `${networkId(given)} is left stopped`, async () => {
    await ctx.host(given.host).startNetwork(given.network)
    await ctx.observe.host(given.host)
  })

async function probe(ctx: ActionContext, given: NetworkArgs): Promise<Probe> {
  const network = await ctx.host(given.host).network(given.network)
  if (network) return { happened: 'no', evidence: { active: network.active } }
  await ctx.observe.host(given.host)
  return { happened: 'yes', evidence: null, result: { host: given.host, network: given.network } }
}

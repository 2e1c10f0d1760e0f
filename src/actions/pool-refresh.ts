// Lets a host look through a pool again: files that came from elsewhere become volumes. Runs beside whatever uses the pool.
import { resource } from '../model/resource.ts'
import {
  action,
  complete,
  failed,
  impossible,
  possible,
  type ActionContext,
  type Outcome,
  type Probe
} from './action.ts'
import { attempt, type Step } from './attempt.ts'
import { ownError } from './error.ts'
import { knownPool, poolArgs, poolId, type PoolArgs } from './pool-args.ts'
import { exclusive } from './vm-place.ts'

export const poolRefresh = action({
  name: 'pool.refresh',
  summary: 'Look through a pool again',
  args: poolArgs,
  title: ({ host, pool }) => `Refresh pool ${pool} on ${host}`,
  claims: ({ host, pool }) => [exclusive(resource.poolRefresh(host, pool))],
  check(given, state) {
    const { pool, refusal } = knownPool(given, state)
    if (refusal) return refusal
    return pool.active
      ? possible
      : impossible(
          'pool_inactive',
          `${poolId(given)} is not active: there is nothing to look through`,
          `\`taskomatic pool start ${given.pool} --host ${given.host}\``
        )
  },
  effect: () => [],
  run: (ctx, given) => attempt(ctx, (step) => refresh(ctx, given, step), { probe }),
  probe,
  undo: () => ({ impossible: 'looking changes nothing' })
})

async function refresh(ctx: ActionContext, given: PoolArgs, step: Step): Promise<Outcome> {
  const host = ctx.host(given.host)
  step('refresh the pool')
  await host.refreshPool(given.pool)
  step('list its volumes')
  const pool = await host.pool(given.pool)
  await ctx.observe.pool(given.host, given.pool)
  if (pool?.active) return complete({ host: given.host, pool: given.pool, volumes: pool.volumes.length })
  return failed(
    ownError(
      'pool_inactive',
      `${poolId(given)} is ${pool ? 'not active' : 'not there'}`,
      'list its volumes',
      `\`taskomatic pool start ${given.pool} --host ${given.host}\``
    )
  )
}

/** A look leaves no trace: it is done again. */
async function probe(): Promise<Probe> {
  return { happened: 'no', evidence: null }
}

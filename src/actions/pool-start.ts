// Makes a defined pool active.
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
import { knownPool, poolArgs, poolClaims, poolEffects, poolId, type PoolArgs } from './pool-args.ts'

export const poolStart = action({
  name: 'pool.start',
  summary: 'Start a pool',
  args: poolArgs,
  title: ({ host, pool }) => `Start pool ${pool} on ${host}`,
  claims: (given, state) => poolClaims(given, state, 'shared'),
  check(given, state) {
    const { pool, refusal } = knownPool(given, state)
    if (refusal) return refusal
    return pool.active ? nothingToDo(`${poolId(given)} is active already`) : possible
  },
  effect: (given, state) => poolEffects(given, state, true),
  bindTo: ({ host }) => ({ host }),
  run: (ctx, given) => attempt(ctx, (step) => start(ctx, given, step), { probe: () => probe(ctx, given) }),
  probe,
  undo: ({ host, pool }) => ({ action: 'pool.stop', args: { host, pool } })
})

async function start(ctx: ActionContext, given: PoolArgs, step: Step): Promise<Outcome> {
  const host = ctx.host(given.host)
  step('look at the pool')
  const before = await host.pool(given.pool)
  if (before && !before.active) {
    step('start the pool')
    await host.startPool(given.pool)
  }
  step('look whether it is active')
  const after = await host.pool(given.pool)
  await ctx.observe.pool(given.host, given.pool)
  if (after?.active) return complete({ host: given.host, pool: given.pool, already: before?.active ?? false })
  return failed(
    after
      ? ownError(
          'pool_not_active',
          `${poolId(given)} was started and is not active`,
          'look whether it is active',
          'look at its source on the host, then retry the task'
        )
      : ownError(
          'pool_not_found',
          `there is no ${poolId(given)}`,
          'look at the pool',
          'create it: `taskomatic pool create`'
        )
  )
}

async function probe(ctx: ActionContext, given: PoolArgs): Promise<Probe> {
  const pool = await ctx.host(given.host).pool(given.pool)
  const evidence = pool ? { active: pool.active } : null
  if (!pool?.active) return { happened: 'no', evidence }
  await ctx.observe.pool(given.host, given.pool)
  return { happened: 'yes', evidence, result: { host: given.host, pool: given.pool } }
}

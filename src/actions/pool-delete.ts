// Takes a pool off its host: stopped and undefined. What is in it stays: data is only deleted volume by volume.
import { Type, type Static } from 'typebox'
import type { Host } from '../host/host.ts'
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
import { knownPool, poolClaims, poolEffects, poolFields, poolId } from './pool-args.ts'
import { onlyThisHost } from './pool-stop.ts'
import { refuseUsedPool } from './pool-use.ts'
import { isRefused, putBack } from './put-back.ts'

const args = Type.Object({ ...poolFields, onlyThisHost }, { additionalProperties: false })

type Args = Static<typeof args>

export const poolDelete = action({
  name: 'pool.delete',
  summary: 'Stop and undefine a pool; its data stays',
  args,
  irreversible: true,
  title: ({ host, pool }) => `Delete pool ${pool} on ${host}`,
  claims: (given, state) => poolClaims(given, state, given.onlyThisHost ? 'shared' : 'exclusive'),
  check(given, state) {
    if (state.phase === 'starting' && state.host(given.host) && !state.pool(given.host, given.pool)) {
      return nothingToDo(`${poolId(given)} is gone already`)
    }
    return knownPool(given, state).refusal ?? possible
  },
  effect: (given, state) => poolEffects(given, state, null),
  bindTo: ({ host }) => ({ host }),
  run: (ctx, given) => attempt(ctx, (step) => remove(ctx, given, step), { probe: () => probe(ctx, given) }),
  probe,
  undo: () => ({ impossible: 'make the pool again with `taskomatic pool create`: its data is still there' })
})

async function remove(ctx: ActionContext, given: Args, step: Step): Promise<Outcome> {
  const host = ctx.host(given.host)
  step('look at the pool')
  const pool = await host.pool(given.pool)
  if (pool) {
    step('look who uses it')
    const refusal = await refuseUsedPool(ctx, given, {
      target: pool.target,
      defined: true,
      onlyThisHost: given.onlyThisHost ?? false
    })
    if (refusal) return refusal
    await takeAway(ctx, given, pool, step)
  }
  step('look whether it is gone')
  const after = await host.pool(given.pool)
  await ctx.observe.pool(given.host, given.pool)
  if (!after) return complete({ host: given.host, pool: given.pool, target: pool?.target ?? null })
  return failed(
    ownError(
      'pool_still_there',
      `${poolId(given)} was undefined and is there`,
      'look whether it is gone',
      'look at the host, then retry the task'
    )
  )
}

async function takeAway(
  ctx: ActionContext,
  { host: at, pool: name }: Args,
  pool: { active: boolean; persistent: boolean },
  step: Step
): Promise<void> {
  const host = ctx.host(at)
  if (pool.active) {
    step('stop the pool')
    await host.stopPool(name)
  }
  // A pool without a definition is gone once it is stopped.
  if (!pool.persistent) return
  step('undefine the pool')
  try {
    await host.undefinePool(name)
  } catch (error) {
    if (pool.active && isRefused(error)) await startAgain(ctx, host, name)
    throw error
  }
}

/** What stays is as it was. */
const startAgain = (ctx: ActionContext, host: Host, name: string): Promise<void> =>
  putBack(ctx, `pool ${name} is left stopped`, async () => {
    await host.startPool(name)
    await ctx.observe.pool(host.name, name)
  })

async function probe(ctx: ActionContext, given: Args): Promise<Probe> {
  const pool = await ctx.host(given.host).pool(given.pool)
  if (pool) return { happened: 'no', evidence: { active: pool.active } }
  await ctx.observe.pool(given.host, given.pool)
  return { happened: 'yes', evidence: null, result: { host: given.host, pool: given.pool } }
}

// Makes a pool inactive. Refused while running VMs have disks in its store, on whichever host.
import { Type, type Static } from 'typebox'
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
import { refuseUsedPool } from './pool-use.ts'

export const onlyThisHost = Type.Optional(
  Type.Boolean({
    description: 'Do not mind VMs of other hosts that have the same store: takes this host off it; default false',
    default: false
  })
)

const args = Type.Object({ ...poolFields, onlyThisHost }, { additionalProperties: false })

type Args = Static<typeof args>

export const poolStop = action({
  name: 'pool.stop',
  summary: 'Stop a pool that no running VM uses',
  args,
  title: ({ host, pool }) => `Stop pool ${pool} on ${host}`,
  claims: (given, state) => poolClaims(given, state, given.onlyThisHost ? 'shared' : 'exclusive'),
  check(given, state) {
    const { pool, refusal } = knownPool(given, state)
    if (refusal) return refusal
    return pool.active ? possible : nothingToDo(`${poolId(given)} is not active`)
  },
  effect: (given, state) => poolEffects(given, state, false),
  bindTo: ({ host }) => ({ host }),
  run: (ctx, given) => attempt(ctx, (step) => stop(ctx, given, step), { probe: () => probe(ctx, given) }),
  probe,
  undo: ({ host, pool }) => ({ action: 'pool.start', args: { host, pool } })
})

async function stop(ctx: ActionContext, given: Args, step: Step): Promise<Outcome> {
  const host = ctx.host(given.host)
  step('look at the pool')
  const before = await host.pool(given.pool)
  if (before?.active) {
    step('look who uses it')
    const refusal = await refuseUsedPool(ctx, given, {
      target: before.target,
      defined: false,
      onlyThisHost: given.onlyThisHost ?? false
    })
    if (refusal) return refusal
    step('stop the pool')
    await host.stopPool(given.pool)
  }
  step('look whether it is inactive')
  const after = await host.pool(given.pool)
  await ctx.observe.pool(given.host, given.pool)
  if (!after?.active) return complete({ host: given.host, pool: given.pool })
  return failed(
    ownError(
      'pool_still_active',
      `${poolId(given)} was stopped and is active`,
      'look whether it is inactive',
      'look what holds it on the host, then retry the task'
    )
  )
}

async function probe(ctx: ActionContext, given: Args): Promise<Probe> {
  const pool = await ctx.host(given.host).pool(given.pool)
  const evidence = pool ? { active: pool.active } : null
  if (pool?.active) return { happened: 'no', evidence }
  await ctx.observe.pool(given.host, given.pool)
  return { happened: 'yes', evidence, result: { host: given.host, pool: given.pool } }
}

// Makes a directory pool on one host: define, build (never over existing data), start, autostart.
// It is a store of its own until it is declared, and proven, to be one with other hosts' pools (store.share).
import { Type, type Static } from 'typebox'
import { resource } from '../model/resource.ts'
import { quote } from '../model/name.ts'
import type { ObservedPool } from '../model/storage.ts'
import {
  action,
  complete,
  failed,
  impossible,
  nothingToDo,
  possible,
  type ActionContext,
  type Outcome,
  type Probe
} from './action.ts'
import { attempt, type Step } from './attempt.ts'
import { ownError } from './error.ts'
import { refuseUnknownHost } from './host-refusal.ts'
import { poolClaims, poolFields, poolId } from './pool-args.ts'

const args = Type.Object(
  {
    ...poolFields,
    type: Type.Optional(Type.Literal('dir', { description: 'A directory of the host; default dir', default: 'dir' })),
    target: Type.String({
      description: 'Absolute path of the directory on the host; made if it is not there',
      minLength: 2,
      maxLength: 1024,
      pattern: '^(/[^/\\x00-\\x1f\\x7f]+)+$',
      'x-rule': 'an absolute path without a slash at its end'
    }),
    autostart: Type.Optional(
      Type.Boolean({ description: 'Start it when its host starts; default true', default: true })
    )
  },
  { additionalProperties: false }
)

type Args = Static<typeof args>

export const poolCreate = action({
  name: 'pool.create',
  summary: 'Make a directory pool on a host',
  args,
  title: ({ host, pool }) => `Create pool ${pool} on ${host}`,
  claims: (given, state) => poolClaims(given, state, 'exclusive'),
  check(given, state) {
    const refusal = refuseUnknownHost(state, given.host)
    if (refusal) return refusal
    if (given.target.split('/').some((part) => part === '.' || part === '..')) {
      return impossible(
        'bad_path',
        `${quote(given.target)} has a part "." or "..": a target is written plainly`,
        'write the path without them'
      )
    }
    const pool = state.pool(given.host, given.pool)
    if (!pool) return possible
    if (pool.type === 'dir' && pool.target === given.target) {
      return pool.active ? nothingToDo(`${poolId(given)} is there and active already`) : possible
    }
    return impossible(
      'pool_exists',
      `there is a ${poolId(given)} already: ${pool.type} at ${pool.target ?? 'no path'}`,
      'choose another name, or `taskomatic pool delete` it first'
    )
  },
  effect(given, state) {
    const { host, pool, target } = given
    const before = state.pool(host, pool)
    const store = before?.store ?? `${host}/${pool}`
    const pools = { ...state.store(store)?.pools, [host]: { pool, target, active: true } }
    return [
      {
        subject: resource.pool(host, pool),
        facts: {
          ...(before ?? {
            host,
            name: pool,
            uuid: null,
            type: 'dir',
            store,
            target,
            capacityBytes: 0,
            availableBytes: 0
          }),
          active: true,
          autostart: given.autostart ?? true
        }
      },
      {
        subject: resource.store(store),
        facts: { name: store, shared: state.store(store)?.shared ?? false, type: 'dir', pools }
      }
    ]
  },
  bindTo: ({ host }) => ({ host }),
  run: (ctx, given) => attempt(ctx, (step) => create(ctx, given, step), { probe: () => probe(ctx, given) }),
  probe,
  undo: ({ host, pool }) => ({ action: 'pool.delete', args: { host, pool } })
})

const isMade = (pool: ObservedPool | undefined, given: Args): boolean =>
  pool?.type === 'dir' && pool.target === given.target && pool.active && pool.autostart === (given.autostart ?? true)

async function create(ctx: ActionContext, given: Args, step: Step): Promise<Outcome> {
  const host = ctx.host(given.host)
  step('look at the pool')
  const before = await host.pool(given.pool)
  if (before && (before.type !== 'dir' || before.target !== given.target)) return failed(taken(given, before))
  if (!isMade(before, given)) {
    step('define, build and start the pool')
    await host.definePool({ name: given.pool, type: 'dir', target: given.target })
    step('set autostart')
    await host.setPoolAutostart(given.pool, given.autostart ?? true)
  }
  step('look whether it is active')
  const pool = await host.pool(given.pool)
  if (!isMade(pool, given)) return failed(notMade(given, pool))
  await ctx.observe.pool(given.host, given.pool)
  return complete({ host: given.host, pool: given.pool, target: given.target, volumes: pool?.volumes.length ?? 0 })
}

async function probe(ctx: ActionContext, given: Args): Promise<Probe> {
  const pool = await ctx.host(given.host).pool(given.pool)
  const evidence = pool
    ? { type: pool.type, target: pool.target, active: pool.active, autostart: pool.autostart }
    : null
  if (!isMade(pool, given)) return { happened: 'no', evidence }
  await ctx.observe.pool(given.host, given.pool)
  return { happened: 'yes', evidence, result: { host: given.host, pool: given.pool, target: given.target } }
}

const taken = (given: Args, pool: ObservedPool) =>
  ownError(
    'pool_exists',
    `there is a ${poolId(given)} already: ${pool.type} at ${pool.target ?? 'no path'}`,
    'look at the pool',
    'choose another name, or `taskomatic pool delete` it first',
    { host: given.host }
  )

const notMade = (given: Args, pool: ObservedPool | undefined) =>
  ownError(
    'pool_not_active',
    `${poolId(given)} was made and is ${pool ? (pool.active ? 'not as asked' : 'not active') : 'not there'}`,
    'look whether it is active',
    'look at the directory on the host, then retry the task',
    { host: given.host }
  )

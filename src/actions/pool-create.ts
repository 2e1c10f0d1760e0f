// Makes a pool on one host: define, build (never over existing data), start, autostart. Pools with one remote source are one store by
// themselves; of others it is declared, and proven (store.share).
import { Type, type Static } from 'typebox'
import { poolProblem, targetOf, type PoolSpec } from '../host/pool-xml.ts'
import { isSamePool } from '../host/storage.ts'
import type { FleetState } from '../inventory/fleet-state.ts'
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
import { poolClaims, poolFields, poolId, storeNameOf } from './pool-args.ts'
import { exclusive } from './vm-place.ts'
import { isRefused, putBack } from './put-back.ts'

const text = (description: string, maxLength = 255) => Type.String({ description, minLength: 1, maxLength })

const source = Type.Object(
  {
    hosts: Type.Optional(
      Type.Array(text('Name or address, with :PORT where it is not the usual one'), { maxItems: 16 })
    ),
    path: Type.Optional(text('Directory that the host exports', 1024)),
    devices: Type.Optional(Type.Array(text('Block device, or the IQN of an iSCSI target', 1024), { maxItems: 64 })),
    name: Type.Optional(text('Volume group, or pool of the cluster')),
    format: Type.Optional(text('Of a file system ext4, xfs …; of netfs nfs, cifs, glusterfs', 32)),
    auth: Type.Optional(
      Type.Object(
        {
          username: text('User'),
          secret: Type.String({ description: 'UUID of a secret on the host', format: 'uuid', maxLength: 36 })
        },
        { additionalProperties: false, description: 'CHAP of iSCSI, cephx of rbd' }
      )
    )
  },
  { additionalProperties: false, description: 'Where the bytes are, as the type needs it' }
)

const args = Type.Object(
  {
    ...poolFields,
    type: Type.Optional(
      Type.Union(
        [
          Type.Literal('dir'),
          Type.Literal('fs'),
          Type.Literal('netfs'),
          Type.Literal('logical'),
          Type.Literal('iscsi'),
          Type.Literal('rbd')
        ],
        { description: 'dir: a directory of the host; fs, netfs, logical, iscsi, rbd; default dir', default: 'dir' }
      )
    ),
    target: Type.Optional(
      Type.String({
        description: 'Absolute path at which it appears on the host; made if it is not there',
        minLength: 2,
        maxLength: 1024,
        pattern: '^(/[^/\\x00-\\x1f\\x7f]+)+$',
        'x-rule': 'an absolute path without a slash at its end'
      })
    ),
    source: Type.Optional(source),
    build: Type.Optional(
      Type.Boolean({
        description: 'Make the file system or volume group, only where there is nothing yet; default false',
        default: false
      })
    ),
    autostart: Type.Optional(
      Type.Boolean({ description: 'Start it when its host starts; default true', default: true })
    )
  },
  { additionalProperties: false }
)

type Args = Static<typeof args>

const specOf = ({ pool, type = 'dir', target, source: from, build }: Args): PoolSpec => ({
  name: pool,
  type,
  target: target ?? null,
  ...(from ? { source: from } : {}),
  ...(build ? { build } : {})
})

/** Of what is reached from every host alike there is one store, which takes the pool's name; else each host has its own. */
function storeOf(given: Args, state: FleetState): string {
  const known = state.pool(given.host, given.pool)?.store
  if (known !== undefined) return known
  const isRemote = given.type === 'netfs' || given.type === 'iscsi' || given.type === 'rbd'
  const same = isRemote ? state.store(given.pool) : undefined
  return isRemote && (!same || same.type === given.type) ? given.pool : `${given.host}/${given.pool}`
}

export const poolCreate = action({
  name: 'pool.create',
  summary: 'Make a pool on a host',
  args,
  title: ({ host, pool }) => `Create pool ${pool} on ${host}`,
  claims(given, state) {
    const store = storeOf(given, state)
    const isOther = store !== storeNameOf(state, given)
    return [...poolClaims(given, state, 'exclusive'), ...(isOther ? [exclusive(resource.store(store))] : [])]
  },
  check(given, state) {
    const refusal = refuseUnknownHost(state, given.host)
    if (refusal) return refusal
    const spec = specOf(given)
    const problem = poolProblem(spec)
    if (problem !== undefined) return impossible('bad_pool', problem, 'see `taskomatic pool create --help`')
    if ((given.target ?? '').split('/').some((part) => part === '.' || part === '..')) {
      return impossible(
        'bad_path',
        `${quote(given.target ?? '')} has a part "." or "..": a target is written plainly`,
        'write the path without them'
      )
    }
    const pool = state.pool(given.host, given.pool)
    if (!pool) return possible
    if (pool.type === spec.type && pool.target === targetOf(spec)) {
      return pool.active ? nothingToDo(`${poolId(given)} is there and active already`) : possible
    }
    return impossible(
      'pool_exists',
      `there is a ${poolId(given)} already: ${pool.type} at ${pool.target ?? 'no path'}`,
      'choose another name, or `taskomatic pool delete` it first'
    )
  },
  effect(given, state) {
    const { host, pool } = given
    const spec = specOf(given)
    const target = targetOf(spec)
    const before = state.pool(host, pool)
    const store = storeOf(given, state)
    const pools = { ...state.store(store)?.pools, [host]: { pool, target, active: true } }
    return [
      {
        subject: resource.pool(host, pool),
        facts: {
          ...(before ?? {
            host,
            name: pool,
            uuid: null,
            type: spec.type,
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
        facts: {
          name: store,
          shared: state.store(store)?.shared ?? !store.includes('/'),
          type: spec.type,
          pools
        }
      }
    ]
  },
  bindTo: ({ host }) => ({ host }),
  run: (ctx, given) => attempt(ctx, (step) => create(ctx, given, step), { probe: () => probe(ctx, given) }),
  probe,
  undo({ host, pool }, state) {
    const before = state.pool(host, pool)
    if (!before) return { action: 'pool.delete', args: { host, pool } }
    // What was there stays; that it was started can be taken back.
    return before.active ? { impossible: 'it was there before' } : { action: 'pool.stop', args: { host, pool } }
  }
})

const isMade = (pool: ObservedPool | undefined, given: Args): boolean =>
  pool !== undefined && isSamePool(pool, specOf(given)) && pool.active && pool.autostart === (given.autostart ?? true)

async function create(ctx: ActionContext, given: Args, step: Step): Promise<Outcome> {
  const host = ctx.host(given.host)
  step('look at the pool')
  const before = await host.pool(given.pool)
  if (before && !isSamePool(before, specOf(given))) return failed(taken(given, before))
  if (!isMade(before, given)) {
    try {
      step('define, build and start the pool')
      await host.definePool(specOf(given))
      step('set autostart')
      await host.setPoolAutostart(given.pool, given.autostart ?? true)
    } catch (error) {
      if (!before && isRefused(error)) await takeBack(ctx, given)
      throw error
    }
  }
  step('look whether it is active')
  const pool = await host.pool(given.pool)
  if (!isMade(pool, given)) return failed(notMade(given, pool))
  await ctx.observe.pool(given.host, given.pool)
  const target = pool?.target ?? null
  return complete({ host: given.host, pool: given.pool, target, volumes: pool?.volumes.length ?? 0 })
}

/** What the host refused to build, to start or to keep was defined by us, and is undefined again; a build is never undone. */
function takeBack(ctx: ActionContext, given: Args): Promise<void> {
  const host = ctx.host(given.host)
  return putBack(ctx, `${poolId(given)} may be left defined`, async () => {
    const left = await host.pool(given.pool)
    if (left?.active) await host.stopPool(given.pool)
    if (left) await host.undefinePool(given.pool)
    await ctx.observe.pool(given.host, given.pool)
  })
}

async function probe(ctx: ActionContext, given: Args): Promise<Probe> {
  const pool = await ctx.host(given.host).pool(given.pool)
  const evidence = pool
    ? { type: pool.type, target: pool.target, active: pool.active, autostart: pool.autostart }
    : null
  if (!isMade(pool, given)) return { happened: 'no', evidence }
  await ctx.observe.pool(given.host, given.pool)
  return { happened: 'yes', evidence, result: { host: given.host, pool: given.pool, target: pool?.target ?? null } }
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

// Declares that pools of several hosts are one store, after proving it: a marker volume that is made through one pool must be
// found through every other. That the paths or names are equal proves nothing.
import { Type, type Static } from 'typebox'
import { HostError } from '../host/error.ts'
import type { FleetState } from '../inventory/fleet-state.ts'
import { quote } from '../model/name.ts'
import { resource } from '../model/resource.ts'
import {
  action,
  complete,
  failed,
  impossible,
  nothingToDo,
  possible,
  type ActionContext,
  type Outcome,
  type Probe,
  type Verdict
} from './action.ts'
import { attempt, type Step } from './attempt.ts'
import { ownError } from './error.ts'
import { knownPool, poolFields, poolId, type PoolArgs } from './pool-args.ts'
import { newName } from './refs.ts'
import { exclusive, shared } from './vm-place.ts'

const maxPools = 500
const markerBytes = 512
/** Types of which libvirt cannot tell by their source that two are one. */
const declarable: ReadonlySet<string> = new Set(['dir', 'fs', 'logical', 'netfs'])

const args = Type.Object(
  {
    store: newName('pool', 'Name of the shared store, without a slash'),
    pools: Type.Array(Type.Object(poolFields, { additionalProperties: false, description: "One host's pool" }), {
      description: 'Pools that are handles on it, one a host; those that it has already may be left out, except one',
      minItems: 2,
      maxItems: maxPools
    })
  },
  { additionalProperties: false }
)

type Args = Static<typeof args>

export const storeShare = action({
  name: 'store.share',
  summary: 'Declare, and prove, that pools of several hosts are one store',
  args,
  irreversible: true,
  title: ({ store, pools }) => `Share store ${store} among ${pools.map(({ host }) => host).join(', ')}`,
  claims: ({ store, pools }, state) => [
    exclusive(resource.store(store)),
    ...pools.flatMap(({ host, pool }) => {
      const now = state.pool(host, pool)?.store
      return [
        shared(resource.host(host)),
        exclusive(resource.pool(host, pool)),
        ...(now === undefined ? [] : [exclusive(resource.store(now))])
      ]
    })
  ],
  check: checkShare,
  effect({ store, pools }, state) {
    const type = state.pool(pools[0]?.host ?? '', pools[0]?.pool ?? '')?.type ?? 'dir'
    const handles = pools.map(({ host, pool }) => {
      const facts = state.pool(host, pool)
      return [host, { pool, target: facts?.target ?? null, active: facts?.active ?? true }] as const
    })
    const before = pools.flatMap(({ host, pool }) => state.pool(host, pool)?.store ?? [])
    return [
      {
        subject: resource.store(store),
        facts: {
          name: store,
          shared: true,
          type,
          pools: { ...state.store(store)?.pools, ...Object.fromEntries(handles) }
        }
      },
      ...pools.map(({ host, pool }) => ({ subject: resource.pool(host, pool), facts: { store } })),
      ...[...new Set(before)]
        .filter((name) => name !== store)
        .map((name) => ({ subject: resource.store(name), facts: null }))
    ]
  },
  run: (ctx, given) => attempt(ctx, (step) => share(ctx, given, step), { probe }),
  probe,
  undo: () => ({ impossible: 'that pools are one store is a fact, and stays one' })
})

function checkShare({ store, pools }: Args, state: FleetState): Verdict {
  const hosts = new Set(pools.map(({ host }) => host))
  if (hosts.size < pools.length)
    return impossible('host_twice', 'a host is named twice: a store has one pool a host', 'name one pool of each host')
  let type: string | undefined
  for (const handle of pools) {
    const { pool, refusal } = knownPool(handle, state)
    if (refusal) return refusal
    if (!declarable.has(pool.type))
      return impossible(
        'pool_type',
        `${poolId(handle)} is ${pool.type}: whether such pools are one store is told by their source`,
        'share pools of type dir, fs, logical or netfs'
      )
    if (type !== undefined && pool.type !== type)
      return impossible(
        'pool_type',
        `${poolId(handle)} is ${pool.type} and another one is ${type}: they cannot be one store`,
        'name pools of one type'
      )
    type = pool.type
    if (!pool.active)
      return impossible(
        'pool_inactive',
        `${poolId(handle)} is not active: nothing can be looked for in it`,
        `\`taskomatic pool start ${handle.pool} --host ${handle.host}\``
      )
    const now = state.store(pool.store)
    if (now?.shared && pool.store !== store)
      return impossible(
        'store_conflict',
        `${poolId(handle)} is part of the shared store ${quote(pool.store)} already`,
        `share it as ${quote(pool.store)}`
      )
  }
  const known = state.store(store)
  if (known && !known.shared)
    return impossible('store_conflict', `${quote(store)} is the name of a local store`, 'choose another name')
  const all = pools.every(({ host, pool }) => state.pool(host, pool)?.store === store)
  if (all) return nothingToDo(`they are store ${quote(store)} already`)
  // Else the new pools would be proven to be one with each other only, and not with the store.
  const member = known && pools.some(({ host, pool }) => state.pool(host, pool)?.store === store)
  if (known && Object.values(known.pools).some((pool) => pool !== null) && !member) {
    return impossible(
      'store_exists',
      `there is a shared store ${quote(store)} already, and none of these pools is part of it`,
      'name one of its pools as well, or choose another name'
    )
  }
  return possible
}

async function share(ctx: ActionContext, { store, pools }: Args, step: Step): Promise<Outcome> {
  // A member of the store makes the marker, so that the others are proven against the store itself.
  const maker = pools.find(({ host, pool }) => ctx.state.pool(host, pool)?.store === store) ?? pools[0]
  if (!maker) throw new Error('a store is shared among pools')
  const marker = `taskomatic-share-${ctx.task.id}-${ctx.instance.replaceAll(/[^A-Za-z0-9]/g, '').slice(0, 8)}`
  const others = pools.filter((pool) => pool !== maker)
  let apart: PoolArgs[]
  try {
    step(`make a marker in ${poolId(maker)}`)
    const host = ctx.host(maker.host)
    // Left by an earlier attempt; then it could be found without being there now.
    if (await host.volume(maker.pool, marker)) await host.deleteVolume(maker.pool, marker)
    await host.createVolume(maker.pool, { name: marker, format: 'raw', capacityBytes: markerBytes })
    step('look for the marker through the other pools')
    const found = await Promise.all(others.map((pool) => finds(ctx, pool, marker)))
    apart = others.filter((_, index) => !found[index])
  } finally {
    await removeMarker(ctx, maker, others, marker)
  }
  if (apart.length > 0) return failed(notOne(maker, apart))
  step('record the store')
  await ctx.observe.shareStore(
    store,
    pools.map(({ host, pool }) => ({ host, pool }))
  )
  for (const { host, pool } of pools) await ctx.observe.pool(host, pool)
  return complete({ store, pools: pools.map(({ host, pool }) => ({ host, pool })) })
}

async function finds(ctx: ActionContext, { host, pool }: PoolArgs, marker: string): Promise<boolean> {
  await ctx.host(host).refreshPool(pool)
  return (await ctx.host(host).volume(pool, marker)) !== undefined
}

/** As well as can be: a marker that stays is named in the log, and hides no error of the proof. */
async function removeMarker(
  ctx: ActionContext,
  maker: PoolArgs,
  others: readonly PoolArgs[],
  marker: string
): Promise<void> {
  try {
    const host = ctx.host(maker.host)
    if (await host.volume(maker.pool, marker)) await host.deleteVolume(maker.pool, marker)
    await Promise.all(others.map(({ host: name, pool }) => ctx.host(name).refreshPool(pool)))
  } catch (error) {
    if (!(error instanceof HostError)) throw error
    ctx.log('warn', `the marker ${marker} in ${poolId(maker)} may be left: ${error.message}`, {
      host: error.host,
      code: error.code
    })
  }
}

const notOne = (maker: PoolArgs, apart: readonly PoolArgs[]) =>
  ownError(
    'not_one_store',
    `a marker that was made in ${poolId(maker)} is not in ${apart.map(poolId).join(', ')}: they are not one store`,
    'look for the marker through the other pools',
    'mount the same storage on all of these hosts, then share it again',
    { apart: apart.map(({ host, pool }) => ({ host, pool })) }
  )

/** Proving and recording again changes nothing. */
async function probe(): Promise<Probe> {
  return { happened: 'no', evidence: null }
}

// How pools are named in arguments: a pool is one host's, so that its host stands beside its name.
import { Type, type Static } from 'typebox'
import type { FleetState } from '../inventory/fleet-state.ts'
import type { PoolFacts } from '../inventory/facts.ts'
import { quote } from '../model/name.ts'
import { resource } from '../model/resource.ts'
import type { Claim, Effect } from '../queue/task.ts'
import { impossible, type Verdict } from './action.ts'
import { refuseUnknownHost } from './host-refusal.ts'
import { HostRef, newName } from './refs.ts'
import { exclusive, shared } from './vm-place.ts'
import { readHostsOf } from './volume-use.ts'

export const poolFields = { host: HostRef, pool: newName('pool', 'Pool of that host') }

export const poolArgs = Type.Object(poolFields, { additionalProperties: false })

export type PoolArgs = Static<typeof poolArgs>

export const poolId = ({ host, pool }: PoolArgs): string => `pool ${quote(pool)} on ${host}`

/** A pool that nobody has recorded yet becomes a store of its own. */
export const storeNameOf = (state: FleetState, { host, pool }: PoolArgs): string =>
  state.pool(host, pool)?.store ?? `${host}/${pool}`

/** The pool itself, and what it is a handle on. `mode` is that of the store: exclusive it must not be in use meanwhile. */
export function poolClaims(args: PoolArgs, state: FleetState, mode: 'shared' | 'exclusive'): Claim[] {
  const store = storeNameOf(state, args)
  // The run asks the other hosts that have the store.
  readHostsOf(state, store)
  return [
    shared(resource.host(args.host)),
    exclusive(resource.pool(args.host, args.pool)),
    { resource: resource.store(store), mode }
  ]
}

/** The pool, or why there is none to act on. */
export function knownPool(
  args: PoolArgs,
  state: FleetState
): { pool: PoolFacts; refusal?: never } | { pool?: never; refusal: Verdict } {
  const refusal = refuseUnknownHost(state, args.host)
  if (refusal) return { refusal }
  const pool = state.pool(args.host, args.pool)
  if (pool) return { pool }
  return {
    refusal: impossible(
      'pool_not_found',
      `there is no ${poolId(args)}`,
      `see \`taskomatic pool list --host ${args.host}\``
    )
  }
}

/** The pool's and its store's facts when it becomes active, inactive, or goes away (null). */
export function poolEffects(args: PoolArgs, state: FleetState, active: boolean | null): Effect[] {
  const pool = state.pool(args.host, args.pool)
  if (!pool) return []
  const subject = resource.store(pool.store)
  const store = state.store(pool.store)
  const pools = { ...store?.pools }
  if (active === null) delete pools[args.host]
  else pools[args.host] = { pool: args.pool, target: pool.target, active }
  const last = Object.keys(pools).length === 0 && !store?.shared
  return [
    { subject: resource.pool(args.host, args.pool), facts: active === null ? null : { active } },
    { subject, facts: last ? null : { pools } }
  ]
}

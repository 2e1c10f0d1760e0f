// Where a volume is: the pool through which a host reaches its store, who uses it, and how it is deleted safely.
// A store may be reached by several hosts; what one of them does to a volume, all of them must learn.
import { HostError } from '../host/error.ts'
import type { FleetState } from '../inventory/fleet-state.ts'
import type { StoreFacts, VmFacts } from '../inventory/facts.ts'
import { quote } from '../model/name.ts'
import type { ObservedVolume } from '../model/storage.ts'
import { impossible, type ActionContext, type Verdict } from './action.ts'

export type PlacedVolume = { store: string; volume: string }

export const volumeId = ({ store, volume }: PlacedVolume): string => `${store}/${volume}`

/** Disks of the VM that are volumes of known stores and that it writes to: images in a drive are somebody else's. */
export function ownVolumes(vm: VmFacts | undefined): PlacedVolume[] {
  const volumes = (vm?.disks ?? []).flatMap(({ store, volume, device, readOnly }) =>
    store === null || volume === null || device !== 'disk' || readOnly ? [] : [{ store, volume }]
  )
  return [...new Map(volumes.map((volume) => [volumeId(volume), volume])).values()]
}

/** Names of the other VMs that use a volume, as `"web2" on h1`. */
export function volumeUsers(state: FleetState, store: string, volume: string, but?: string): string[] {
  const users = state.volume(store, volume)?.usedBy ?? []
  return users
    .filter((uuid) => uuid !== but)
    .map((uuid) => {
      const vm = state.vm(uuid)
      return vm ? `${quote(vm.name)} on ${vm.activeOn || vm.home}` : `VM ${uuid}`
    })
}

/** The name of the active pool through which `host` reaches the store. */
export function poolOn(store: StoreFacts | undefined, host: string): string | undefined {
  const pool = store?.pools[host]
  return pool?.active ? pool.pool : undefined
}

/** Hosts with an active pool on the store, in order of name. */
export const hostsWith = (store: StoreFacts | undefined): string[] =>
  Object.keys(store?.pools ?? {})
    .filter((host) => poolOn(store, host) !== undefined)
    .toSorted()

/** A host that can work on the store now: up, with an active pool. */
export function workingHost(state: FleetState, store: string): string | undefined {
  const hosts = hostsWith(state.store(store))
  return hosts.find((host) => state.host(host)?.connection === 'up') ?? hosts[0]
}

export function refuseStore(state: FleetState, store: string, host: string | undefined): Verdict | undefined {
  const facts = state.store(store)
  if (!facts) return impossible('store_not_found', `there is no store ${quote(store)}`, 'see `taskomatic store list`')
  if (host === undefined) {
    if (hostsWith(facts).length > 0) return undefined
    return impossible(
      'store_inactive',
      `store ${quote(store)} has no active pool on any host`,
      '`taskomatic pool start`'
    )
  }
  if (poolOn(facts, host) !== undefined) return undefined
  const has = facts.pools[host]
  return has
    ? impossible(
        'pool_inactive',
        `pool ${quote(has.pool)} on ${host} is not active`,
        `\`taskomatic pool start ${has.pool} --host ${host}\``
      )
    : impossible(
        'store_not_on_host',
        `${host} has no pool on store ${quote(store)}`,
        `choose one of: ${hostsWith(facts).join(', ') || 'none'}`
      )
}

/** Pool and host at run time. @throws Error when the checks were skipped: no pool */
export function poolFor(ctx: ActionContext, store: string, host: string): string {
  const pool = poolOn(ctx.state.store(store), host)
  if (pool === undefined) throw new HostError('bad_input', host, `${host} has no active pool on store ${quote(store)}`)
  return pool
}

/**
 * Deletes a volume through the bound host, or another that has the store, and tells the other hosts' pools.
 * Gone already is fine. Returns what it was. @throws HostError
 */
export async function deletePlaced(
  ctx: ActionContext,
  store: string,
  volume: string
): Promise<ObservedVolume | undefined> {
  const hosts = hostsWith(ctx.state.store(store))
  const host = ctx.boundHost !== null && hosts.includes(ctx.boundHost) ? ctx.boundHost : hosts[0]
  if (host === undefined) throw new HostError('bad_input', '', `store ${quote(store)} has no active pool on any host`)
  const pool = poolFor(ctx, store, host)
  const found = await ctx.host(host).volume(pool, volume)
  if (found) {
    await ctx.host(host).deleteVolume(pool, volume)
    const left = await ctx.host(host).volume(pool, volume)
    if (left)
      throw new HostError(
        'timeout',
        host,
        `volume ${quote(`${store}/${volume}`)} is still on ${host} after it was deleted`
      )
  }
  await tellPools(ctx, store, host)
  return found
}

/** Records the pool that was changed, and lets the other hosts' pools on the store look again, as far as they can be reached. */
export async function tellPools(ctx: ActionContext, store: string, changedOn: string): Promise<void> {
  const facts = ctx.state.store(store)
  await ctx.observe.pool(changedOn, poolFor(ctx, store, changedOn))
  for (const host of hostsWith(facts)) {
    if (host === changedOn) continue
    const pool = poolFor(ctx, store, host)
    try {
      await ctx.host(host).refreshPool(pool)
      await ctx.observe.pool(host, pool)
    } catch (error) {
      if (!(error instanceof HostError) || error.code === 'fenced') throw error
      ctx.log('warn', `pool ${pool} on ${host} was not refreshed: ${error.message}`, { host, pool, code: error.code })
    }
  }
}

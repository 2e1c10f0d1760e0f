// Where a volume is: the pool through which a host reaches its store, who uses it, and how it is deleted safely.
// A store may be reached by several hosts; what one of them does to a volume, all of them must learn.
import { HostError } from '../host/error.ts'
import type { Host } from '../host/host.ts'
import type { FleetState } from '../inventory/fleet-state.ts'
import type { StoreFacts, VmFacts } from '../inventory/facts.ts'
import { quote } from '../model/name.ts'
import { resource } from '../model/resource.ts'
import type { ObservedVolume } from '../model/storage.ts'
import type { Claim } from '../queue/task.ts'
import { impossible, type ActionContext, type Verdict } from './action.ts'
import { refuseUsedVolume, VolumeInUse } from './volume-use.ts'

export type PlacedVolume = { store: string; volume: string }

const volumeId = ({ store, volume }: PlacedVolume): string => `${store}/${volume}`

/** Disks of the VM that are volumes of known stores and that it writes to: images in a drive are somebody else's. */
export function ownVolumes(vm: VmFacts | undefined): PlacedVolume[] {
  const volumes = (vm?.disks ?? []).flatMap(({ store, volume, device, readOnly }) =>
    store === null || volume === null || device !== 'disk' || readOnly ? [] : [{ store, volume }]
  )
  return [...new Map(volumes.map((volume) => [volumeId(volume), volume])).values()]
}

/** Names of the other VMs that use a volume, as `"web2" on h1`. One that is going away uses nothing any more. */
export function volumeUsers(state: FleetState, store: string, volume: string, but?: string): string[] {
  const users = (state.volume(store, volume)?.usedBy ?? []).filter((uuid) => uuid !== but)
  return users.flatMap((uuid) => {
    const vm = state.vm(uuid)
    return vm ? [`${quote(vm.name)} on ${vm.activeOn || vm.home}`] : []
  })
}

/** The name of the active pool through which `host` reaches the store. */
function poolOn(store: StoreFacts | undefined, host: string): string | undefined {
  const pool = store?.pools[host]
  return pool?.active ? pool.pool : undefined
}

/** Hosts with an active pool on the store, in order of name. */
const hostsWith = (store: StoreFacts | undefined): string[] =>
  Object.keys(store?.pools ?? {})
    .filter((host) => poolOn(store, host) !== undefined)
    .toSorted()

/** Hosts with active pools on all of the stores. */
const hostsWithAll = (state: FleetState, stores: readonly string[]): string[] =>
  stores
    .map((store) => hostsWith(state.store(store)))
    .reduce((all, hosts) => all.filter((host) => hosts.includes(host)))

/** What making, growing and deleting volumes claims of their store: volume groups that several hosts see have one writer at a time. */
export function storeWork(state: FleetState, store: string): Claim {
  const facts = state.store(store)
  const alone = facts?.type === 'logical' && facts.shared
  return { resource: resource.store(store), mode: alone ? 'exclusive' : 'shared' }
}

/** A host that can work on the stores now: up, with an active pool on each. */
export function workingHost(state: FleetState, ...stores: [string, ...string[]]): string | undefined {
  const hosts = hostsWithAll(state, stores)
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

/** The volume as the host has it now: a pool that another host wrote to is looked through again first. */
export async function findVolume(host: Host, pool: string, volume: string): Promise<ObservedVolume | undefined> {
  const known = await host.volume(pool, volume)
  if (known) return known
  await host.refreshPool(pool)
  return host.volume(pool, volume)
}

/** @throws VolumeInUse when another volume of the pool is an overlay of this one */
export async function refuseOverlaid(host: Host, pool: string, volume: ObservedVolume): Promise<void> {
  // What another host laid over it is listed once the pool was looked through again.
  await host.refreshPool(pool)
  const over = (await host.pool(pool))?.volumes.find((other) => other.backing === volume.path)
  if (over)
    throw new VolumeInUse(
      `volume ${quote(over.name)} is an overlay of ${quote(volume.name)}, which it cannot do without`
    )
}

/** The host to work on a store through, that has `also` as well: the bound one, or another. @throws HostError when there is none */
export function handleOn(ctx: ActionContext, store: string, ...also: string[]): { host: Host; pool: string } {
  const hosts = hostsWithAll(ctx.state, [store, ...also])
  const host = ctx.boundHost !== null && hosts.includes(ctx.boundHost) ? ctx.boundHost : hosts[0]
  if (host === undefined)
    throw new HostError('bad_input', ctx.boundHost ?? '', `store ${quote(store)} has no active pool on any host`)
  return { host: ctx.host(host), pool: poolFor(ctx, store, host) }
}

/**
 * Deletes a volume that no VM of any host uses, and tells all pools on its store. Gone already is fine. Returns what it was.
 * @param but the VM whose disk it was: it does not count while it is off
 * @throws VolumeInUse; CannotTell while a host that has the store does not answer; HostError
 */
export async function deletePlaced(
  ctx: ActionContext,
  store: string,
  volume: string,
  but?: string
): Promise<ObservedVolume | undefined> {
  const { host, pool } = handleOn(ctx, store)
  const found = await findVolume(host, pool, volume)
  if (found) {
    await refuseOverlaid(host, pool, found)
    // Last, so that little time is left between the look and the deed.
    await refuseUsedVolume(ctx, store, volume, { defined: true, but })
    await host.deleteVolume(pool, volume)
    const left = await host.volume(pool, volume)
    if (left)
      throw new HostError(
        'timeout',
        host.name,
        `volume ${quote(`${store}/${volume}`)} is still on ${host.name} after it was deleted`
      )
  }
  await tellPools(ctx, store, host.name)
  return found
}

/** Records the pool that was changed, and lets the other hosts' pools on the store look again, as far as they can be reached. */
export async function tellPools(ctx: ActionContext, store: string, changedOn: string): Promise<void> {
  const facts = ctx.state.store(store)
  await ctx.observe.pool(changedOn, poolFor(ctx, store, changedOn))
  const others = hostsWith(facts).filter((host) => host !== changedOn)
  await Promise.all(others.map((host) => refresh(ctx, host, poolFor(ctx, store, host))))
}

/** A host that cannot be reached looks again when it returns. */
async function refresh(ctx: ActionContext, host: string, pool: string): Promise<void> {
  try {
    await ctx.host(host).refreshPool(pool)
    await ctx.observe.pool(host, pool)
  } catch (error) {
    if (!(error instanceof HostError) || error.code === 'fenced') throw error
    ctx.log('warn', `pool ${pool} on ${host} was not refreshed: ${error.message}`, { host, pool, code: error.code })
  }
}

// Who uses a volume or a pool now, asked of every host that has the store: libvirt lets one host delete or grow what another host's
// guest writes to, and stops a pool under a running guest without a word. Claims order what goes through the queue; this look is
// for what others did behind it. A host that cannot be asked leaves the question open, and what is asked for waits.
import type { DiskUser } from '../host/disk-users.ts'
import { HostError } from '../host/error.ts'
import { NotLoaded, type FleetState } from '../inventory/fleet-state.ts'
import { quote } from '../model/name.ts'
import type { ObservedPool } from '../model/storage.ts'
import { isActive } from '../model/vm.ts'
import { failed, impossible, type ActionContext, type Outcome, type Verdict } from './action.ts'
import { CannotTell } from './attempt.ts'
import { ownError } from './error.ts'

export type User = { host: string; uuid: string; name: string; active: boolean }

/** A volume that others lie over, or that is in use, is not touched. */
export class VolumeInUse extends Error {
  override readonly name = 'VolumeInUse'
}

type Handle = { host: string; pool: string; target: string | null }

/** The pools through which hosts reach a store; an operator's word that a host is off counts as its answer. */
export const handlesOn = (ctx: ActionContext, store: string): Handle[] =>
  Object.entries(ctx.state.store(store)?.pools ?? {}).flatMap(([host, pool]) =>
    pool && !isConfirmedOff(ctx.state, host) ? [{ host, ...pool }] : []
  )

/** Loads what the look at a store's hosts needs when the task runs: to be called by `claims`. */
export function readHostsOf(state: FleetState, store: string): void {
  if (state.phase === 'starting') for (const host of Object.keys(state.store(store)?.pools ?? {})) state.host(host)
}

function isConfirmedOff(state: FleetState, host: string): boolean {
  try {
    return Boolean(state.host(host)?.confirmedOff)
  } catch (error) {
    // Who did not ask for it has not been told so.
    if (error instanceof NotLoaded) return false
    throw error
  }
}

/**
 * VMs of any host that has the store, that have the volume as a disk or under a disk.
 * @param but a VM that does not count while it is off
 * @throws CannotTell when a host does not answer and none that does has a user
 */
export async function volumeUsersNow(
  ctx: ActionContext,
  store: string,
  volume: string,
  options: { defined: boolean; but?: string | undefined }
): Promise<User[]> {
  const isCounted = (user: User) => (user.active || options.defined) && (user.active || user.uuid !== options.but)
  return askAll(ctx, handlesOn(ctx, store), `volume ${quote(`${store}/${volume}`)}`, async (handle) => {
    const host = ctx.host(handle.host)
    const users = await host.diskUsers([volume])
    // Only where somebody mentions the name is it worth asking for the path.
    if (users.length === 0) return []
    const path = (await poolOrNone(() => host.volume(handle.pool, volume)))?.path
    const ways = new Set([`${handle.pool}/${volume}`, `${handle.target ?? ''}/${volume}`, ...(path ? [path] : [])])
    return usersOf(handle.host, users, (used) => ways.has(used)).filter(isCounted)
  })
}

/** VMs that have disks, or layers of disks, in what the pools are handles on. @throws CannotTell */
export async function poolUsersNow(
  ctx: ActionContext,
  handles: readonly Handle[],
  what: string,
  options: { defined: boolean }
): Promise<User[]> {
  return askAll(ctx, handles, what, async (handle) => {
    const host = ctx.host(handle.host)
    const pool = await host.pool(handle.pool)
    const prefixes = prefixesOf(handle, pool)
    const users = await host.diskUsers([handle.pool, ...prefixes])
    return usersOf(handle.host, users, (used) => prefixes.some((prefix) => used.startsWith(prefix))).filter(
      (user) => user.active || options.defined
    )
  })
}

/** Where a pool's volumes are: below its target, and wherever it says that one is (an image of a cluster has no target). */
function prefixesOf(handle: { pool: string; target: string | null }, pool: ObservedPool | undefined): string[] {
  const parents = (pool?.volumes ?? []).map(({ path }) => path.slice(0, path.lastIndexOf('/') + 1))
  const target = pool?.target ?? handle.target
  return [...new Set([`${handle.pool}/`, ...(target === null ? [] : [`${target}/`]), ...parents])].filter(
    (prefix) => prefix !== '' && prefix !== '/'
  )
}

const usersOf = (host: string, users: readonly DiskUser[], isIn: (used: string) => boolean): User[] =>
  users.filter(({ uses }) => uses.some(isIn)).map(({ uuid, name, active }) => ({ host, uuid, name, active }))

async function askAll(
  ctx: ActionContext,
  handles: readonly Handle[],
  what: string,
  ask: (handle: Handle) => Promise<User[]>
): Promise<User[]> {
  const answers = await Promise.all(
    handles.map(async (handle) => {
      try {
        return await ask(handle)
      } catch (error) {
        if (!(error instanceof HostError) || error.code === 'fenced') throw error
        return error
      }
    })
  )
  const users = answers.flatMap((answer) => (answer instanceof HostError ? [] : answer))
  const silent = answers.find((answer) => answer instanceof HostError)
  if (users.length > 0 || !silent) return users
  throw new CannotTell(silent, `cannot tell whether ${what} is in use: ${silent.message}`)
}

/** A pool that is not active, or not there, lists nothing. */
async function poolOrNone<T>(look: () => Promise<T>): Promise<T | undefined> {
  try {
    return await look()
  } catch (error) {
    if (error instanceof HostError && error.code === 'refused') return undefined
    throw error
  }
}

const shownUsers = 5

/** `"web1" on h2 (running), "web2" on h1 and 3 more`. */
export function namesOf(users: readonly User[]): string {
  const shown = users.slice(0, shownUsers).map(({ host, name, active }) => {
    return `${quote(name)} on ${host}${active ? ' (running)' : ''}`
  })
  const more = users.length > shownUsers ? ` and ${users.length - shownUsers} more` : ''
  return shown.join(', ') + more
}

/** @throws VolumeInUse, CannotTell */
export async function refuseUsedVolume(
  ctx: ActionContext,
  store: string,
  volume: string,
  options: { defined: boolean; but?: string | undefined }
): Promise<void> {
  const users = await volumeUsersNow(ctx, store, volume, options)
  if (users.length > 0)
    throw new VolumeInUse(
      `volume ${quote(`${store}/${volume}`)} is in use: ${namesOf(users)} has it as a disk or under one`
    )
}

const savedImage = (store: string, volume: string, name: string) => ({
  code: 'vm_has_saved_image',
  message: `${quote(name)} has a saved image, which knows volume ${quote(`${store}/${volume}`)} as it is now: restored over another disk it would ruin it`,
  next: `start it, so that it goes on from there, then stop it; or throw the image away: \`taskomatic vm start ${name} --discard-saved\``
})

/** What is in the memory of a VM that was saved goes with the bytes that its disks have: they stay as they are. */
export function refuseSavedUser(state: FleetState, store: string, volume: string): Verdict | undefined {
  const users = (state.volume(store, volume)?.usedBy ?? []).map((uuid) => state.vm(uuid))
  const saved = users.find((vm) => vm?.hasSavedImage && !isActive(vm.power))
  if (!saved) return undefined
  const { code, message, next } = savedImage(store, volume, saved.name)
  return impossible(code, message, next)
}

/** The same, asked of the hosts. @throws CannotTell, HostError */
export async function refuseSavedUserNow(
  ctx: ActionContext,
  store: string,
  volume: string
): Promise<Outcome | undefined> {
  for (const user of await volumeUsersNow(ctx, store, volume, { defined: true })) {
    if (user.active || !(await ctx.host(user.host).vm(user.uuid))?.hasSavedImage) continue
    const { code, message, next } = savedImage(store, volume, user.name)
    return failed(ownError(code, message, 'look at the volume', next, { host: user.host }))
  }
  return undefined
}

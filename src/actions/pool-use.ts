// Who uses what a pool is a handle on: asked of every host that has the store, since libvirt stops a pool under a running guest
// without a word, and lets one host delete what another host's guest writes to.
import { HostError } from '../host/error.ts'
import { quote } from '../model/name.ts'
import { isActive, type ObservedVm, type VmDisk } from '../model/vm.ts'
import { failed, park, type ActionContext, type Outcome } from './action.ts'
import { hostKey } from './attempt.ts'
import { ownError } from './error.ts'
import { poolId, storeNameOf, type PoolArgs } from './pool-args.ts'

/** Is the disk in the pool? Directory pools have their volumes right below the target. */
export function isIn(disk: VmDisk, pool: { name: string; target: string | null }): boolean {
  if (disk.source === null) return false
  if (disk.kind === 'volume') return disk.source.startsWith(`${pool.name}/`)
  return pool.target !== null && disk.source.startsWith(`${pool.target}/`)
}

/**
 * Refuses while VMs use the store: running ones, or with `defined` any that has a disk there. With `onlyThisHost` other hosts'
 * VMs do not count. Waits for a host that cannot be asked. Undefined = nobody uses it.
 */
export async function refuseUsedPool(
  ctx: ActionContext,
  args: PoolArgs,
  options: { target: string | null; defined: boolean; onlyThisHost: boolean }
): Promise<Outcome | undefined> {
  const own = { host: args.host, pool: args.pool, target: options.target }
  const store = ctx.state.store(storeNameOf(ctx.state, args))
  const others = Object.entries(options.onlyThisHost ? {} : (store?.pools ?? {})).flatMap(([host, pool]) =>
    pool && host !== args.host ? [{ host, ...pool }] : []
  )
  const asked = [own, ...others]
  const answers = await Promise.all(asked.map((place) => usersOn(ctx, place, options.defined)))
  const silent = answers.find((answer) => answer instanceof HostError)
  const users = answers.flatMap((answer) => (answer instanceof HostError ? [] : answer))
  if (users.length > 0) return failed(inUse(args, users, options.defined))
  if (!silent) return undefined
  return park(`cannot tell whether ${poolId(args)} is in use: ${silent.message}`, hostKey(silent.host))
}

type User = { host: string; name: string; power: string }

async function usersOn(
  ctx: ActionContext,
  place: { host: string; pool: string; target: string | null },
  defined: boolean
): Promise<User[] | HostError> {
  const counts = (vm: ObservedVm) =>
    (defined || isActive(vm.power)) && vm.disks.some((disk) => isIn(disk, { name: place.pool, target: place.target }))
  try {
    const { vms } = await ctx.host(place.host).list()
    return vms.filter(counts).map(({ name, power }) => ({ host: place.host, name, power }))
  } catch (error) {
    if (error instanceof HostError && error.code !== 'fenced') return error
    throw error
  }
}

const shownUsers = 5

function inUse(args: PoolArgs, users: readonly User[], defined: boolean) {
  const shown = users.slice(0, shownUsers).map(({ host, name, power }) => `${quote(name)} on ${host} (${power})`)
  const more = users.length > shownUsers ? ` and ${users.length - shownUsers} more` : ''
  const elsewhere = users.every(({ host }) => host !== args.host)
  return ownError(
    'pool_in_use',
    `${poolId(args)} is in use: ${shown.join(', ')}${more} ${users.length === 1 ? 'has its disk' : 'have their disks'} there`,
    'look who uses it',
    elsewhere
      ? `to take only ${args.host} off the store, ask with \`--only-this-host\``
      : defined
        ? 'delete these VMs or move their disks first'
        : 'stop or migrate these VMs first',
    {
      host: args.host,
      pool: args.pool,
      users: users.slice(0, shownUsers).map(({ host, name, power }) => ({ host, name, power }))
    }
  )
}

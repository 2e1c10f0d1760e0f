// Whether a pool may be taken away: not while VMs of any host use what it is a handle on.
import type { VmDisk } from '../model/vm.ts'
import { failed, type ActionContext, type Outcome } from './action.ts'
import { ownError } from './error.ts'
import { poolId, storeNameOf, type PoolArgs } from './pool-args.ts'
import { handlesOn, namesOf, poolUsersNow, type User } from './volume-use.ts'

/** Is the disk in the pool? Directory pools have their volumes right below the target. */
export function isIn(disk: VmDisk, pool: { name: string; target: string | null }): boolean {
  if (disk.source === null) return false
  if (disk.kind === 'volume') return disk.source.startsWith(`${pool.name}/`)
  return pool.target !== null && disk.source.startsWith(`${pool.target}/`)
}

/**
 * Refuses while VMs use the store: running ones, or with `defined` any that has a disk there. With `onlyThisHost` other hosts'
 * VMs do not count. Undefined = nobody uses it.
 * @throws CannotTell while a host that has the store does not answer
 */
export async function refuseUsedPool(
  ctx: ActionContext,
  args: PoolArgs,
  options: { target: string | null; defined: boolean; onlyThisHost: boolean }
): Promise<Outcome | undefined> {
  const own = { host: args.host, pool: args.pool, target: options.target }
  const others = options.onlyThisHost
    ? []
    : handlesOn(ctx, storeNameOf(ctx.state, args)).filter(({ host }) => host !== args.host)
  const users = await poolUsersNow(ctx, [own, ...others], poolId(args), { defined: options.defined })
  return users.length > 0 ? failed(inUse(args, users, options.defined)) : undefined
}

function inUse(args: PoolArgs, users: readonly User[], defined: boolean) {
  const elsewhere = users.every(({ host }) => host !== args.host)
  return ownError(
    'pool_in_use',
    `${poolId(args)} is in use: ${namesOf(users)} ${users.length === 1 ? 'has its disk' : 'have their disks'} there`,
    'look who uses it',
    elsewhere
      ? `to take only ${args.host} off the store, ask with \`--only-this-host\``
      : defined
        ? 'delete these VMs or move their disks first'
        : 'stop or migrate these VMs first',
    { host: args.host, pool: args.pool, users: users.slice(0, 5).map(({ host, name }) => ({ host, name })) }
  )
}

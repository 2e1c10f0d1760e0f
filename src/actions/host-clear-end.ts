// How a clear goes on after its parts, and how it ends: what has moved is recorded for the restore, what failed is shut down if asked, what
// came meanwhile is dealt with too, pools follow, and the host is in maintenance only when nothing active is observed there.
import type { Taken } from '../inventory/clearing.ts'
import type { EndedChild } from '../queue/dispatch.ts'
import type { JsonObject } from '../db/json.ts'
import { complete, expand, failed, type ActionContext, type Outcome } from './action.ts'
import type { Step } from './attempt.ts'
import { ownError } from './error.ts'
import type { HostClearArgs } from './host-clear-args.ts'
import { childOf, poolChild, stopChild } from './host-clear-parts.ts'
import type { RequestedTask } from './submission.ts'

/** VMs that come back, or were started behind our back, are dealt with again this often. */
const mostRounds = 5
/** So many are named in a message. */
const mostNamed = 8

export async function afterClear(
  ctx: ActionContext,
  given: HostClearArgs,
  children: readonly EndedChild[],
  step: Step
): Promise<Outcome> {
  await ctx.clearing.record(given.host, takenBy(children))
  const cancelled = await ctx.clearing.cancelled()
  if (cancelled) return cancelledClear(ctx, given, children)
  step('look at the host again')
  await ctx.observe.host(given.host)
  const next = await nextParts(ctx, given, children)
  if (next.length > 0 && ctx.task.attempt <= mostRounds) {
    const { children: more, refused } = await ctx.planChildren(next)
    for (const { error } of refused) ctx.log('error', `not possible: ${error.message}`)
    if (more.length > 0) return expand(more)
  }
  return endClear(ctx, given, children, step)
}

const textOf = (args: JsonObject, key: string): string => (typeof args[key] === 'string' ? args[key] : '')

const vmOf = ({ args }: EndedChild): string => textOf(args, 'vm')

function takenBy(parts: readonly EndedChild[]): { vm: string; how: Taken }[] {
  return parts
    .filter(({ state }) => state === 'complete')
    .flatMap((part): { vm: string; how: Taken }[] => {
      if (part.action === 'vm.migrate')
        return [{ vm: vmOf(part), how: part.args['offline'] === true ? 'moved off' : 'moved' }]
      return part.action === 'vm.stop' ? [{ vm: vmOf(part), how: 'stopped' }] : []
    })
}

/** What is left to do: VMs that nobody has dealt with yet, those that failed and are to be shut down, then pools. */
async function nextParts(
  ctx: ActionContext,
  given: HostClearArgs,
  parts: readonly EndedChild[]
): Promise<RequestedTask[]> {
  const vms = await ctx.clearing.vms(given.host)
  const tried = new Set(parts.filter(({ state }) => state !== 'complete').map(vmOf))
  const asked = new Set(parts.filter(({ action }) => action === 'vm.stop').map(vmOf))
  const fresh = vms.filter(({ uuid }) => !tried.has(uuid)).map(({ uuid }) => uuid)
  const rows = fresh.length > 0 ? await ctx.clearing.preflight(given, new Set(fresh)) : []
  const next = rows.flatMap((row) => (asked.has(row.vm) ? [] : (childOf(given, row) ?? [])))
  if (given.onFailure === 'shut-down') {
    const still = vms.filter(({ uuid, active }) => active && tried.has(uuid) && !asked.has(uuid))
    next.push(...still.map(({ uuid }) => stopChild(given, uuid)))
  }
  const wantsPools = (given.pools ?? 'leave') !== 'leave'
  if (next.length > 0 || !wantsPools || vms.some(({ active }) => active)) return next
  if (parts.some(({ action }) => action.startsWith('pool.'))) return next
  const pools = (await ctx.clearing.pools(given.host)).filter(({ active }) => active || given.pools === 'delete')
  return pools.map(({ name }) => poolChild(given, name))
}

/** The parts' errors, by VM or pool. */
function reasons(parts: readonly EndedChild[]): Map<string, string> {
  return new Map(
    parts
      .filter(({ state }) => state !== 'complete')
      .map((part) => [vmOf(part) || textOf(part.args, 'pool'), part.error?.message ?? part.state])
  )
}

export async function endClear(
  ctx: ActionContext,
  given: HostClearArgs,
  parts: readonly EndedChild[],
  step: Step
): Promise<Outcome> {
  const { host } = given
  step('see whether the host is empty')
  await ctx.observe.host(host)
  const { active, arriving } = await ctx.clearing.begin(host)
  const left = await ctx.clearing.vms(host)
  const why = reasons(parts)
  const rows = left.length > 0 ? await ctx.clearing.preflight(given, new Set(left.map(({ uuid }) => uuid))) : []
  for (const row of rows) if (!why.has(row.vm)) why.set(row.vm, row.why ?? `it could ${row.does} now`)
  const remain = left.map(({ uuid, name, active: runs }) => ({
    vm: uuid,
    name,
    active: runs,
    why: why.get(uuid) ?? ''
  }))
  const counts = {
    moved: count(parts, 'vm.migrate'),
    stopped: count(parts, 'vm.stop'),
    deleted: count(parts, 'vm.delete')
  }
  const badPools = parts.filter(({ action, state }) => action.startsWith('pool.') && state !== 'complete')
  const details = { host, ...counts, inMaintenance: active + arriving === 0, left: remain }
  if (active + arriving > 0 || (given.vms === 'delete' && remain.length > 0)) {
    return failed(
      ownError(
        'not_cleared',
        `${host} is not empty, and not in maintenance: ${told(remain.filter((vm) => vm.active || given.vms === 'delete'))}${arriving > 0 ? `${arriving} may be arriving; ` : ''}${done(counts)}`,
        'see whether the host is empty',
        `clear it again when that is mended; \`--auto-converge\` or \`--postcopy\` moves guests that write too fast, \`--unmovable shut-down\` shuts down what cannot be moved`,
        details
      )
    )
  }
  if (badPools.length > 0) {
    const what = badPools.map(({ title, error }) => `${title}: ${error?.message ?? 'not done'}`).join('; ')
    return failed(
      ownError(
        'pools_left',
        `${host} is in maintenance, but not all pools are done with: ${what}`,
        'pools',
        'see the tasks of those pools',
        details
      )
    )
  }
  return complete(details)
}

const count = (parts: readonly EndedChild[], action: string): number =>
  parts.filter((part) => part.action === action && part.state === 'complete').length

const done = ({ moved, stopped, deleted }: { moved: number; stopped: number; deleted: number }): string =>
  [
    `${moved} moved`,
    ...(stopped > 0 ? [`${stopped} shut down`] : []),
    ...(deleted > 0 ? [`${deleted} deleted`] : [])
  ].join(', ')

function told(vms: readonly { name: string; active: boolean; why: string }[]): string {
  const named = vms
    .slice(0, mostNamed)
    .map(({ name, active, why }) => `${name} ${active ? 'still runs' : 'is still there'} (${why})`)
  const more = vms.length - named.length
  return vms.length === 0 ? '' : `${named.join('; ')}${more > 0 ? `; and ${more} more` : ''}; `
}

async function cancelledClear(
  ctx: ActionContext,
  given: HostClearArgs,
  parts: readonly EndedChild[]
): Promise<Outcome> {
  await ctx.observe.host(given.host)
  const moved = parts.filter(({ state }) => state === 'complete').map(({ title }) => title)
  const left = (await ctx.clearing.vms(given.host)).filter(({ active }) => active).map(({ name }) => name)
  const some = (names: readonly string[]) =>
    names.length <= mostNamed
      ? names.join(', ')
      : `${names.slice(0, mostNamed).join(', ')} and ${names.length - mostNamed} more`
  return {
    outcome: 'cancelled',
    error: ownError(
      'cancelled',
      `cancelled: ${moved.length === 0 ? 'nothing was done' : `done before that: ${some(moved)}`}; ${left.length === 0 ? 'nothing runs there' : `still on ${given.host}: ${some(left)}`}`,
      'clear the host',
      `\`taskomatic host restore ${given.host}\` opens it and brings back what was moved`,
      { host: given.host, moved, left }
    )
  }
}

// Opens a host again after its maintenance, and brings back what a clear took from it: VMs that were moved come back as they are now,
// those that were shut down there are started.
import { Type, type Static } from 'typebox'
import type { ClearedVm } from '../inventory/clearing.ts'
import { resource } from '../model/resource.ts'
import type { EndedChild } from '../queue/dispatch.ts'
import {
  action,
  complete,
  expand,
  failed,
  nothingToDo,
  possible,
  type ActionContext,
  type Outcome,
  type Probe
} from './action.ts'
import { attempt, type Step } from './attempt.ts'
import { ownError } from './error.ts'
import { reconcile } from './host-reconcile.ts'
import { refuseUnknownHost } from './host-refusal.ts'
import { HostRef } from './refs.ts'
import type { RequestedTask } from './submission.ts'
import { exclusive } from './vm-place.ts'

const args = Type.Object(
  {
    host: HostRef,
    autoConverge: Type.Optional(
      Type.Boolean({
        description: 'Slow guests down that write faster than the network copies; default false',
        default: false
      })
    ),
    postCopy: Type.Optional(
      Type.Boolean({
        description: 'Switch over after one pass over the memory; a lost host then loses the VM; default false',
        default: false
      })
    ),
    unsafe: Type.Optional(
      Type.Boolean({
        description: 'Migrate although libvirt does not know the storage as safe; default false',
        default: false
      })
    )
  },
  { additionalProperties: false }
)

type Args = Static<typeof args>

export const hostRestore = action({
  name: 'host.restore',
  summary: 'Open a cleared host, and bring back what came from there',
  args,
  title: ({ host }) => `Restore ${host}`,
  claims: ({ host }) => [exclusive(resource.hostGate(host))],
  check: ({ host }, state) =>
    refuseUnknownHost(state, host) ?? (state.host(host)?.cordoned ? possible : nothingToDo(`${host} is open already`)),
  effect: ({ host }) => [{ subject: resource.host(host), facts: { cordoned: false, cordonReason: null } }],
  run: (ctx, given) => attempt(ctx, (step) => restore(ctx, given, step), { probe }),
  probe,
  afterChildren: (ctx, given, children) => attempt(ctx, () => afterRestore(ctx, given, children), { probe }),
  undo({ host }, state) {
    const reason = state.host(host)?.cordonReason
    return { action: 'host.clear', args: { host, ...(reason ? { reason } : {}) } }
  }
})

async function restore(ctx: ActionContext, given: Args, step: Step): Promise<Outcome> {
  const { host } = given
  const unready = await reconcile(ctx, host, step)
  if (unready) return unready
  step('open the host')
  await ctx.observe.setCordon(host, null)
  step('see what was taken from it')
  const taken = await ctx.clearing.taken(host)
  const wanted: RequestedTask[] = []
  const over: string[] = []
  for (const one of taken) {
    const child = await childFor(ctx, given, one)
    if (child) wanted.push(child)
    else over.push(one.vm)
  }
  await ctx.clearing.forget(host, over)
  const { children, refused } = await ctx.planChildren(wanted)
  for (const { error } of refused) ctx.log('error', `not possible: ${error.message}`)
  if (children.length > 0) return expand(children)
  if (refused.length === 0) return complete({ host, broughtBack: 0 })
  return failed(
    notAll(
      host,
      refused.map(({ error }) => error.message)
    )
  )
}

/** Undefined when there is nothing to bring back: it is gone, or there already. */
async function childFor(ctx: ActionContext, given: Args, { vm, how }: ClearedVm): Promise<RequestedTask | undefined> {
  const places = await ctx.observe.whereabouts(vm)
  const active = places.find(({ state }) => state === 'active')
  const defined = places.find(({ state }) => state === 'defined')
  if (how === 'stopped') {
    return !active && defined?.host === given.host ? { action: 'vm.start', args: { vm } } : undefined
  }
  const at = active ?? defined
  if (!at || at.host === given.host) return undefined
  const { autoConverge, postCopy, unsafe } = given
  return {
    action: 'vm.migrate',
    args: {
      vm,
      to: given.host,
      ...(active
        ? {
            ...(autoConverge ? { autoConverge } : {}),
            ...(postCopy ? { postCopy } : {}),
            ...(unsafe ? { unsafe } : {})
          }
        : { offline: true })
    }
  }
}

async function afterRestore(ctx: ActionContext, given: Args, children: readonly EndedChild[]): Promise<Outcome> {
  const good = children.filter(({ state }) => state === 'complete')
  await ctx.clearing.forget(
    given.host,
    good.flatMap(({ args: { vm } }) => (typeof vm === 'string' ? [vm] : []))
  )
  const bad = children.filter(({ state }) => state !== 'complete')
  const cancelled = await ctx.clearing.cancelled()
  if (cancelled) {
    return {
      outcome: 'cancelled',
      error: {
        code: 'cancelled',
        message: `cancelled: ${good.length} of ${children.length} VMs are back on ${given.host}`
      }
    }
  }
  if (bad.length === 0) return complete({ host: given.host, broughtBack: good.length })
  return failed(
    notAll(
      given.host,
      bad.map(({ title, error }) => `${title}: ${error?.message ?? 'not done'}`)
    )
  )
}

const notAll = (host: string, why: readonly string[]) =>
  ownError(
    'not_all_back',
    `${host} is open, but not everything is back: ${why.slice(0, 8).join('; ')}${why.length > 8 ? `; and ${why.length - 8} more` : ''}`,
    'bring back what was taken',
    'mend that and cordon and restore it again, or migrate them by hand: `taskomatic vm migrate`',
    { host }
  )

/** Every step is safe to repeat: what is back already is not brought again. */
async function probe(): Promise<Probe> {
  return { happened: 'no', evidence: null }
}

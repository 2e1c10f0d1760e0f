// Empties a host for maintenance: closes it, sends what was queued for it elsewhere, waits for what is arriving, and then makes one
// task for each of its VMs. What becomes of them, and whether the host is safe to reboot, is told by host-clear-end.ts.
// It claims the gate and not the host: its parts claim that, and so does whoever waits to remove it.
import { resource } from '../model/resource.ts'
import {
  action,
  complete,
  expand,
  impossible,
  possible,
  type ActionContext,
  type Outcome,
  type Probe
} from './action.ts'
import { attempt, type Step } from './attempt.ts'
import { hostClearArgs, type HostClearArgs } from './host-clear-args.ts'
import { afterClear, endClear } from './host-clear-end.ts'
import { childOf } from './host-clear-parts.ts'
import { asJson, preflightClear } from './host-clear-preflight.ts'
import { refuseUnknownHost } from './host-refusal.ts'
import { exclusive } from './vm-place.ts'

export const hostClear = action({
  name: 'host.clear',
  summary: 'Empty a host for maintenance',
  args: hostClearArgs,
  title: ({ host, vms }) => {
    if (vms === 'delete') return `Clear ${host}: delete its VMs`
    return vms === 'shut-down' ? `Clear ${host}: shut its VMs down` : `Clear ${host}`
  },
  claims: ({ host }) => [exclusive(resource.hostGate(host))],
  check({ host }, state) {
    const refusal = refuseUnknownHost(state, host)
    if (refusal) return refusal
    const facts = state.host(host)
    if (state.phase === 'starting' || facts?.connection !== 'down' || facts.confirmedOff !== null) return possible
    return impossible(
      'host_down',
      `${host} is down (${facts.connectionReason ?? 'it does not answer'}): nobody can tell what became of the ${facts.activeVms} VMs that ran there, and nothing can be moved from it`,
      `bring it back; or, if you know that it is off: \`taskomatic host confirm-off ${host} --reason …\`, and start its VMs elsewhere`
    )
  },
  effect: (given) => [
    { subject: resource.host(given.host), facts: { cordoned: true, cordonReason: given.reason ?? 'being cleared' } }
  ],
  run: (ctx, given) => attempt(ctx, (step) => clear(ctx, given, step), { probe }),
  probe,
  afterChildren: (ctx, given, children) => attempt(ctx, (step) => afterClear(ctx, given, children, step), { probe }),
  preflight: async (sql, given) => asJson(await preflightClear(sql, given)),
  undo: ({ host }) => ({ action: 'host.restore', args: { host } })
})

async function clear(ctx: ActionContext, given: HostClearArgs, step: Step): Promise<Outcome> {
  const { host } = given
  step('close the host')
  const reason = given.reason ?? `being cleared by task ${ctx.task.id}`
  const { rewritten, held, unbound } = await ctx.clearing.close(host, reason)
  for (const { task, title, to } of rewritten) ctx.log('info', `task ${task} goes to ${to} instead: ${title}`, { task })
  for (const { task, title, why } of held)
    ctx.log('warn', `task ${task} is held, no other host takes it: ${title}`, { task, why })
  const facts = ctx.state.host(host)
  if (facts?.confirmedOff != null) {
    return complete({ host, rewritten: rewritten.length, held: held.length, confirmedOff: facts.confirmedOff })
  }

  step('wait for what is starting or arriving')
  try {
    await ctx.clearing.quiet(host, unbound, ctx.signal)
  } catch (error) {
    if (!ctx.signal.aborted) throw error
    return { outcome: 'cancelled', error: { code: 'cancelled', message: `nothing was moved; ${host} stays cordoned` } }
  }
  step('look at the host')
  await ctx.observe.host(host)
  step('find each VM its place')
  const rows = await ctx.clearing.preflight(given)
  for (const { name, does, why } of rows) if (does === 'stays') ctx.log('warn', `${name} stays: ${why}`)
  const wanted = rows.flatMap((row) => childOf(given, row) ?? [])
  const { children, refused } = await ctx.planChildren(wanted)
  for (const { error } of refused) ctx.log('error', `not possible: ${error.message}`)
  ctx.log(
    'info',
    `${rewritten.length} queued tasks rewritten, ${held.length} held, ${children.length} VMs to deal with`
  )
  return children.length > 0 ? expand(children) : endClear(ctx, given, [], step)
}

/** Every step is safe to repeat: what was moved is not there any more. */
async function probe(): Promise<Probe> {
  return { happened: 'no', evidence: null }
}

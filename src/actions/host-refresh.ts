// Looks at everything that a host has, and records it. Runs beside whatever happens on the host.
import { Type, type Static } from 'typebox'
import { resource } from '../model/resource.ts'
import { action, complete, possible, type ActionContext, type Outcome, type Probe } from './action.ts'
import { attempt, type Step } from './attempt.ts'
import { refuseUnknownHost } from './host-refusal.ts'
import { HostRef } from './refs.ts'
import { exclusive } from './vm-place.ts'

const args = Type.Object({ host: HostRef }, { additionalProperties: false })

type Args = Static<typeof args>

export const hostRefresh = action({
  name: 'host.refresh',
  summary: 'List everything that a host has, again',
  args,
  title: ({ host }) => `Refresh host ${host}`,
  claims: ({ host }) => [exclusive(resource.hostRefresh(host))],
  check: ({ host }, state) => refuseUnknownHost(state, host) ?? possible,
  effect: () => [],
  run: (ctx, given) => attempt(ctx, (step) => refresh(ctx, given, step), { probe }),
  probe,
  undo: () => ({ impossible: 'looking changes nothing' })
})

async function refresh(ctx: ActionContext, given: Args, step: Step): Promise<Outcome> {
  step('list what the host has')
  await ctx.observe.host(given.host)
  return complete({ host: given.host })
}

/** A look leaves no trace: it is done again. */
async function probe(): Promise<Probe> {
  return { happened: 'no', evidence: null }
}

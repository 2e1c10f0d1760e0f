// Closes a host for new work: nothing is started on it, made on it or moved to it until it is opened again.
import { Type } from 'typebox'
import { resource } from '../model/resource.ts'
import { action, complete, nothingToDo, possible, type Probe } from './action.ts'
import { attempt } from './attempt.ts'
import { refuseUnknownHost } from './host-refusal.ts'
import { HostRef, lineOfText } from './refs.ts'
import { exclusive } from './vm-place.ts'

const args = Type.Object(
  {
    host: HostRef,
    reason: lineOfText('Why, for whoever finds the host closed')
  },
  { additionalProperties: false }
)

export const hostCordon = action({
  name: 'host.cordon',
  summary: 'Close a host for new work',
  args,
  title: ({ host }) => `Cordon ${host}`,
  claims: ({ host }) => [exclusive(resource.hostGate(host))],
  check({ host, reason }, state) {
    const refusal = refuseUnknownHost(state, host)
    if (refusal) return refusal
    const facts = state.host(host)
    return facts?.cordoned && facts.cordonReason === reason ? nothingToDo(`${host} is cordoned already`) : possible
  },
  effect: ({ host, reason }) => [{ subject: resource.host(host), facts: { cordoned: true, cordonReason: reason } }],
  run: (ctx, { host, reason }) =>
    attempt(
      ctx,
      async (step) => {
        step('close the host')
        await ctx.observe.setCordon(host, { reason, by: ctx.task.by })
        return complete({ host })
      },
      { probe }
    ),
  probe,
  undo: ({ host }) => ({ action: 'host.uncordon', args: { host } })
})

/** It is a row of our own: writing it again changes nothing. */
async function probe(): Promise<Probe> {
  return { happened: 'no', evidence: null }
}

// Opens a host again for new work; what waited for it goes on.
import { Type } from 'typebox'
import { resource } from '../model/resource.ts'
import { action, complete, nothingToDo, possible, type Probe } from './action.ts'
import { attempt } from './attempt.ts'
import { reconcile } from './host-reconcile.ts'
import { refuseUnknownHost } from './host-refusal.ts'
import { HostRef } from './refs.ts'
import { exclusive } from './vm-place.ts'

const args = Type.Object({ host: HostRef }, { additionalProperties: false })

export const hostUncordon = action({
  name: 'host.uncordon',
  summary: 'Open a host again for new work',
  args,
  title: ({ host }) => `Uncordon ${host}`,
  claims: ({ host }) => [exclusive(resource.hostGate(host))],
  check: ({ host }, state) =>
    refuseUnknownHost(state, host) ?? (state.host(host)?.cordoned ? possible : nothingToDo(`${host} is open already`)),
  effect: ({ host }) => [{ subject: resource.host(host), facts: { cordoned: false, cordonReason: null } }],
  run: (ctx, { host }) =>
    attempt(
      ctx,
      async (step) => {
        const unready = await reconcile(ctx, host, step)
        if (unready) return unready
        step('open the host')
        await ctx.observe.setCordon(host, null)
        return complete({ host })
      },
      { probe }
    ),
  probe,
  undo: ({ host }, state) => ({
    action: 'host.cordon',
    args: { host, reason: state.host(host)?.cordonReason ?? 'closed again by an undo' }
  })
})

/** It is a row of our own: writing it again changes nothing. */
async function probe(): Promise<Probe> {
  return { happened: 'no', evidence: null }
}

// Sets and removes labels of a host: rows of ours, by which people pick hosts.
import { Type } from 'typebox'
import { resource } from '../model/resource.ts'
import { action, complete, type Probe } from './action.ts'
import { attempt } from './attempt.ts'
import { refuseUnknownHost } from './host-refusal.ts'
import { changed, checkLabels, labelArgs, putBack } from './label-args.ts'
import { HostRef } from './refs.ts'
import { exclusive } from './vm-place.ts'

const args = Type.Object({ host: HostRef, ...labelArgs }, { additionalProperties: false })

export const hostLabel = action({
  name: 'host.label',
  summary: 'Set and remove labels of a host',
  args,
  title: ({ host }) => `Label ${host}`,
  claims: ({ host }) => [exclusive(resource.hostLabels(host))],
  check: (given, state) =>
    refuseUnknownHost(state, given.host) ?? checkLabels(given.host, state.host(given.host)?.labels ?? {}, given),
  effect: (given, state) => [
    { subject: resource.host(given.host), facts: { labels: changed(state.host(given.host)?.labels ?? {}, given) } }
  ],
  run: (ctx, given) =>
    attempt(
      ctx,
      async (step) => {
        step('write the labels')
        await ctx.observe.setLabels('host', given.host, { set: given.set ?? {}, remove: given.remove ?? [] })
        return complete({ labels: changed(ctx.state.host(given.host)?.labels ?? {}, given) })
      },
      { probe }
    ),
  probe,
  undo: (given, state) => ({
    action: 'host.label',
    args: { host: given.host, ...putBack(state.host(given.host)?.labels ?? {}, given) }
  })
})

/** Rows of our own: writing them again changes nothing. */
async function probe(): Promise<Probe> {
  return { happened: 'no', evidence: null }
}

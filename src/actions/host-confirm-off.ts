// An operator's statement that a silent host is off: its guests count as off, what nobody could tell of it is settled, and its VMs
// may be started elsewhere. Nothing is switched off here, and nothing proves it: whoever says it answers for it.
import { Type, type Static } from 'typebox'
import { resource } from '../model/resource.ts'
import {
  action,
  complete,
  failed,
  impossible,
  nothingToDo,
  possible,
  type ActionContext,
  type Outcome,
  type Probe
} from './action.ts'
import { attempt, type Step } from './attempt.ts'
import { ownError } from './error.ts'
import { refuseUnknownHost } from './host-refusal.ts'
import { HostRef, lineOfText } from './refs.ts'
import { exclusive, shared } from './vm-place.ts'

const args = Type.Object(
  {
    host: HostRef,
    reason: lineOfText('How you know that it is off, e.g. "power cut at the rack, ticket 4711"')
  },
  { additionalProperties: false }
)

type Args = Static<typeof args>

export const hostConfirmOff = action({
  name: 'host.confirm-off',
  summary: 'State that a silent host is off, so that its VMs may be started elsewhere',
  args,
  irreversible: true,
  title: ({ host }) => `Confirm that ${host} is off`,
  // Not the gate, nor the host exclusively: what holds those may be what cannot end before this is said.
  claims: ({ host }) => [shared(resource.host(host)), exclusive(resource.hostOff(host))],
  check({ host }, state) {
    const refusal = refuseUnknownHost(state, host)
    if (refusal) return refusal
    const facts = state.host(host)
    if (facts?.connection === 'up') {
      return impossible(
        'host_is_up',
        `${host} answers: it is not off`,
        `to empty it, \`taskomatic host clear ${host}\``
      )
    }
    return facts?.confirmedOff == null
      ? possible
      : nothingToDo(`${host} was confirmed off already: ${facts.confirmedOff}`)
  },
  effect: ({ host, reason }) => [
    {
      subject: resource.host(host),
      facts: { cordoned: true, cordonReason: `confirmed off: ${reason}`, confirmedOff: reason }
    }
  ],
  run: (ctx, given) => attempt(ctx, (step) => confirm(ctx, given, step), { probe }),
  probe,
  undo: () => ({ impossible: 'the host ends the statement itself, by answering again' })
})

async function confirm(ctx: ActionContext, { host, reason }: Args, step: Step): Promise<Outcome> {
  step('record the statement')
  ctx.log('warn', `${ctx.task.by} states that ${host} is off: ${reason}`)
  if (await ctx.observe.confirmOff(host, { reason, by: ctx.task.by }))
    return complete({ host, by: ctx.task.by, reason })
  return failed(
    ownError(
      'host_is_up',
      `${host} answers, or is not known any more: nothing was stated of it`,
      'record the statement',
      'look at it: `taskomatic host show`',
      { host }
    )
  )
}

/** It is a row of our own: writing it again changes nothing. */
async function probe(): Promise<Probe> {
  return { happened: 'no', evidence: null }
}

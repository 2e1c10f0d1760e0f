// Why a host takes no work: verdicts that several actions share. A host that is down refuses nothing: its tasks wait for it.
import type { FleetState } from '../inventory/fleet-state.ts'
import { quote } from '../model/name.ts'
import { resource } from '../model/resource.ts'
import { ownError } from './error.ts'
import { failed, impossible, park, type ActionContext, type Outcome, type Verdict } from './action.ts'

export const refuseUnknownHost = (state: FleetState, host: string): Verdict | undefined =>
  state.host(host)
    ? undefined
    : impossible(
        'host_not_found',
        `there is no host ${quote(host)}`,
        'see `taskomatic host list`, or add it: `taskomatic host add NAME URI`'
      )

/** For what brings VMs onto a host. Only at submission: what is queued already waits until the host is open again. */
export function refuseHost(state: FleetState, host: string): Verdict | undefined {
  const facts = state.host(host)
  if (!facts?.cordoned || state.phase === 'starting') return refuseUnknownHost(state, host)
  return impossible(
    'host_cordoned',
    `${host} is cordoned (${facts.cordonReason ?? 'no reason given'}): no VM is put there`,
    `choose another host, or \`taskomatic host uncordon ${host}\``
  )
}

/** Of a host that an operator confirmed to be off: nothing is done there, and nothing waits for it. */
export const hostOffError = (host: string, step: string) =>
  ownError(
    'host_confirmed_off',
    `${host} was confirmed off: nothing is done there, and what was under way there counts as not done`,
    step,
    'start its VMs on other hosts; when the host is back and reconciled, ask again',
    { host }
  )

/** Waits for a host that was cordoned after the task was queued; of one that was confirmed off nothing is waited for. */
export function parkIfCordoned(ctx: ActionContext, host: string): Outcome | undefined {
  if (ctx.state.host(host)?.confirmedOff != null) return failed(hostOffError(host, 'look at the host'))
  return ctx.state.host(host)?.cordoned ? park(`host ${host} is cordoned`, resource.hostGate(host)) : undefined
}

// Takes a host out of the fleet: it is forgotten here, and nothing on it is touched.
import { Type } from 'typebox'
import { resource } from '../model/resource.ts'
import type { TaskError } from '../queue/task.ts'
import {
  action,
  complete,
  failed,
  impossible,
  nothingToDo,
  possible,
  type ActionContext,
  type Probe
} from './action.ts'
import { attempt } from './attempt.ts'
import { ownError } from './error.ts'
import { refuseUnknownHost } from './host-refusal.ts'
import { HostRef } from './refs.ts'
import { exclusive } from './vm-place.ts'

const args = Type.Object(
  {
    host: HostRef,
    forget: Type.Optional(
      Type.Boolean({
        description:
          'Also forget the VMs that are defined there and off; they stay as they are on the host; default false',
        default: false
      })
    )
  },
  { additionalProperties: false }
)

export const hostRemove = action({
  name: 'host.remove',
  summary: 'Take a host out of the fleet; nothing on it is touched',
  args,
  title: ({ host }) => `Remove host ${host}`,
  claims: ({ host }) => [exclusive(resource.host(host)), exclusive(resource.hostGate(host))],
  check({ host, forget }, state) {
    const facts = state.host(host)
    if (!facts) {
      // Another attempt finds what the first one did.
      return state.phase === 'starting'
        ? nothingToDo(`${host} is gone already`)
        : (refuseUnknownHost(state, host) ?? possible)
    }
    // How many there will be is only known when its turn comes; VMs that are to move away first are not counted against it.
    const vms = Math.max(facts.definitions, facts.activeVms)
    if (vms === 0) return possible
    const isSilent = facts.connection !== 'up' && facts.confirmedOff === null
    if (forget && isSilent) return impossible('host_silent', ...silent(host, `${vms} VMs`))
    if (state.phase === 'queued' && facts.cordoned) return possible
    if (forget && facts.activeVms === 0) return possible
    if (forget) return impossible('host_not_empty', ...runsSome(host, `${facts.activeVms} VMs`))
    return impossible(
      'host_not_empty',
      `${host} is home of ${vms} VMs: a host with VMs is not removed`,
      'migrate or delete them first, or forget them with `--forget`'
    )
  },
  effect: ({ host }) => [{ subject: resource.host(host), facts: null }],
  run: (ctx, { host }) =>
    attempt(
      ctx,
      async (step) => {
        step('forget the host')
        const names = await ctx.observe.forgetHost(host)
        return names.length === 0 ? complete({ host }) : failed(inTheWay(ctx, host, names))
      },
      { probe }
    ),
  probe,
  undo: ({ host }, state) => {
    const facts = state.host(host)
    if (!facts) return { impossible: 'its address is not known any more' }
    const { controlUri, peerUri, migrationUri } = facts
    return {
      action: 'host.add',
      args: { host, controlUri, ...(peerUri ? { peerUri } : {}), ...(migrationUri ? { migrationUri } : {}) }
    }
  }
})

/** Forgotten, a VM that still runs there would be started a second time elsewhere. */
const silent = (host: string, what: string) =>
  [
    `${host} does not answer, and was not confirmed to be off: ${what} may run there, and would be started a second time elsewhere`,
    `wait until it answers; if you know that it is off, say so first: \`taskomatic host confirm-off ${host} --reason …\``
  ] as const

const runsSome = (host: string, what: string) =>
  [
    `${host} runs ${what}: only those that are off are forgotten`,
    `stop or migrate them first, e.g. \`taskomatic host clear ${host}\``
  ] as const

function inTheWay(ctx: ActionContext, host: string, names: readonly string[]): TaskError {
  const what = names.slice(0, 10).join(', ') + (names.length > 10 ? ` and ${names.length - 10} more` : '')
  const isUp = ctx.state.host(host)?.connection === 'up'
  const [message, next] = isUp ? runsSome(host, what) : silent(host, what)
  return ownError(isUp ? 'host_not_empty' : 'host_silent', message, 'forget the host', next, { host })
}

/** They are rows of our own: forgetting again changes nothing. */
async function probe(): Promise<Probe> {
  return { happened: 'no', evidence: null }
}

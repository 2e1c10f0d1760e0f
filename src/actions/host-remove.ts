// Takes a host out of the fleet: it is forgotten here, and nothing on it is touched.
import { Type } from 'typebox'
import { resource } from '../model/resource.ts'
import { action, complete, impossible, nothingToDo, possible, type Probe } from './action.ts'
import { attempt } from './attempt.ts'
import { refuseUnknownHost } from './host-refusal.ts'
import { HostRef } from './refs.ts'
import { exclusive } from './vm-place.ts'

const args = Type.Object(
  {
    host: HostRef,
    forget: Type.Optional(
      Type.Boolean({
        description: 'Also forget the VMs that are defined there; they stay as they are on the host; default false',
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
    if (forget || vms === 0 || (state.phase === 'queued' && facts.cordoned)) return possible
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
        await ctx.observe.forgetHost(host)
        return complete({ host })
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

/** They are rows of our own: forgetting again changes nothing. */
async function probe(): Promise<Probe> {
  return { happened: 'no', evidence: null }
}

// Resets a VM as its reset button would: the guest is not asked, and what it has not written is lost.
// Only the host's reboot event proves it (reboot-event.ts).
import { Type, type Static } from 'typebox'
import { action, failed, possible, type ActionContext, type Outcome, type Probe } from './action.ts'
import { attempt, type Step } from './attempt.ts'
import { ownError } from './error.ts'
import { probeReboot, runsAgain, watchReboot } from './reboot-event.ts'
import { VmRef } from './refs.ts'
import { bindToVm, boundVm, vmClaims, vmTitle } from './vm-place.ts'
import { named, notRunning, ownVm } from './vm-refusal.ts'

const eventMs = 30_000

const args = Type.Object({ vm: VmRef }, { additionalProperties: false })
type Args = Static<typeof args>

export const vmReset = action({
  name: 'vm.reset',
  summary: 'Reset a VM without asking the guest',
  args,
  irreversible: true,
  title: ({ vm }, state) => vmTitle('Reset', vm, state),
  claims: ({ vm }, state) => vmClaims(vm, state),
  check(given, state) {
    const { vm, refusal } = ownVm(given.vm, state)
    if (refusal) return refusal
    return vm.power === 'running' ? possible : notRunning(vm, 'running')
  },
  effect: () => [],
  bindTo: ({ vm }, state) => bindToVm(vm, state),
  run: (ctx, given) =>
    attempt(ctx, (step) => reset(ctx, given, step), { probe: () => probe(ctx, given), patienceMs: 0, isBlind: true }),
  probe,
  undo: () => ({ impossible: 'a reset cannot be taken back' })
})

async function reset(ctx: ActionContext, given: Args, step: Step): Promise<Outcome> {
  step('look at the VM')
  const { host, vm } = await boundVm(ctx, given.vm)
  if (vm?.power !== 'running') return failed(notResettable(vm?.name ?? given.vm, host.name, vm?.power))
  const watched = watchReboot(host, given.vm, eventMs, ctx.signal)
  try {
    step('reset')
    await host.resetVm(given.vm)
    step('wait for the reboot')
    if (!(await watched.within(eventMs))) return failed(notSeen(vm.name, host.name))
  } finally {
    watched.stop()
  }
  return runsAgain(ctx, host, given.vm)
}

function probe(ctx: ActionContext, given: Args): Promise<Probe> {
  return probeReboot(ctx, given.vm, 'a reset')
}

const notResettable = (name: string, host: string, power: string | undefined) =>
  ownError(
    'vm_not_running',
    `${named({ name })} is ${power ?? 'not there'} on ${host}: only a running VM is reset`,
    'look at the VM',
    'start it: `taskomatic vm start`',
    { host }
  )

const notSeen = (name: string, host: string) =>
  ownError(
    'reset_not_seen',
    `${named({ name })} was reset on ${host} and no reboot was seen within ${eventMs / 1000} s`,
    'wait for the reboot',
    'look at the VM: its definition may say that a reboot ends it (on_reboot); or stop and start it',
    { host }
  )

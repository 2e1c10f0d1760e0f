// Asks the guest to reboot, and again while it does not: only the host's reboot event proves it (reboot-event.ts).
import { Type, type Static } from 'typebox'
import { action, failed, possible, type ActionContext, type Outcome, type Probe } from './action.ts'
import { attempt, type Step } from './attempt.ts'
import { ownError } from './error.ts'
import { probeReboot, runsAgain, watchReboot } from './reboot-event.ts'
import { VmRef } from './refs.ts'
import { bindToVm, boundVm, vmClaims, vmTitle } from './vm-place.ts'
import { notRunning, ownVm } from './vm-refusal.ts'

const defaultTimeoutSeconds = 120
// A guest that boots does not listen yet, and one that is going down does not mind being asked twice.
const askAgainMs = 20_000

const args = Type.Object(
  {
    vm: VmRef,
    timeoutSeconds: Type.Optional(
      Type.Integer({
        description: `How long the guest may take until it reboots, in seconds; default ${defaultTimeoutSeconds}`,
        minimum: 1,
        maximum: 86_400,
        default: defaultTimeoutSeconds
      })
    )
  },
  { additionalProperties: false }
)

type Args = Static<typeof args>

export const vmReboot = action({
  name: 'vm.reboot',
  summary: 'Ask the guest to reboot',
  args,
  irreversible: true,
  title: ({ vm }, state) => vmTitle('Reboot', vm, state),
  claims: ({ vm }, state) => vmClaims(vm, state),
  check(given, state) {
    const { vm, refusal } = ownVm(given.vm, state)
    if (refusal) return refusal
    return vm.power === 'running' ? possible : notRunning(vm, 'running')
  },
  effect: () => [],
  bindTo: ({ vm }, state) => bindToVm(vm, state),
  run: (ctx, given) =>
    attempt(ctx, (step) => reboot(ctx, given, step), { probe: () => probe(ctx, given), patienceMs: 0, isBlind: true }),
  probe,
  undo: () => ({ impossible: 'a reboot cannot be taken back' })
})

async function reboot(ctx: ActionContext, given: Args, step: Step): Promise<Outcome> {
  step('look at the VM')
  const { host, vm } = await boundVm(ctx, given.vm)
  if (vm?.power !== 'running') return failed(notRebootable(vm?.name ?? given.vm, host.name, vm?.power))
  const timeoutMs = (given.timeoutSeconds ?? defaultTimeoutSeconds) * 1000
  const watched = watchReboot(host, given.vm, timeoutMs, ctx.signal)
  try {
    let seen: boolean | undefined
    while (seen === undefined) {
      step('ask the guest to reboot')
      await host.rebootVm(given.vm)
      step('wait until the guest reboots')
      seen = await watched.within(askAgainMs)
    }
    if (!seen) return failed(notSeen(vm.name, host.name, timeoutMs))
  } finally {
    watched.stop()
  }
  return runsAgain(ctx, host, given.vm)
}

function probe(ctx: ActionContext, given: Args): Promise<Probe> {
  return probeReboot(ctx, given.vm, 'a reboot')
}

const notRebootable = (name: string, host: string, power: string | undefined) =>
  ownError(
    'vm_not_running',
    `${name} is ${power ?? 'not there'} on ${host}: only a running VM reboots`,
    'look at the VM',
    'start it: `taskomatic vm start`',
    { host }
  )

const notSeen = (name: string, host: string, timeoutMs: number) =>
  ownError(
    'reboot_not_seen',
    `${name} was asked to reboot on ${host} and no reboot was seen within ${timeoutMs / 1000} s; it may still happen`,
    'wait until the guest reboots',
    'look into the guest: it must answer ACPI or have an agent; or stop and start the VM',
    { host }
  )

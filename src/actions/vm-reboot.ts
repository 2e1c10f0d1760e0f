// Asks the guest to reboot. Only the host's reboot event proves it: before and after the VM runs, and looks the same.
// So a request whose own outcome is unknown is never sent again: the guest would go down twice.
import { Type, type Static } from 'typebox'
import type { Host } from '../host/host.ts'
import { HostError } from '../host/error.ts'
import { action, complete, failed, possible, type ActionContext, type Outcome, type Probe } from './action.ts'
import { attempt, type Step } from './attempt.ts'
import { ownError } from './error.ts'
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
  await host.untilVm(given.vm, (now) => now?.power === 'running', { timeoutMs: 30_000, signal: ctx.signal })
  await ctx.observe.vm(host.name, given.vm)
  return complete({ host: host.name })
}

/** Listens from before the request on: true at the event, false when the time is over. Rejects when cancelled. */
export function watchReboot(host: Host, uuid: string, timeoutMs: number, signal: AbortSignal) {
  const { promise, resolve, reject } = Promise.withResolvers<boolean>()
  // Whoever stops before it is awaited must not leave an unhandled rejection.
  promise.catch(() => {})
  const unlisten = host.onChange((change) => {
    if (change.kind === 'vm' && change.uuid === uuid && change.event === 'reboot') resolve(true)
  })
  const timer = setTimeout(() => resolve(false), timeoutMs)
  const aborted = () =>
    reject(new HostError('aborted', host.name, `${host.name}: stopped waiting for the reboot of VM ${uuid}`))
  if (signal.aborted) aborted()
  signal.addEventListener('abort', aborted)
  let pause: NodeJS.Timeout | undefined
  return {
    /** Undefined: not yet. */
    within(ms: number): Promise<boolean | undefined> {
      clearTimeout(pause)
      const over = new Promise<undefined>((done) => void (pause = setTimeout(() => done(undefined), ms)))
      return Promise.race([promise, over])
    },
    stop() {
      clearTimeout(pause)
      unlisten()
      clearTimeout(timer)
      signal.removeEventListener('abort', aborted)
    }
  }
}

async function probe(ctx: ActionContext, given: Args): Promise<Probe> {
  const { host, vm } = await boundVm(ctx, given.vm)
  const evidence = { host: host.name, power: vm?.power ?? null }
  return {
    happened: 'unknown',
    evidence,
    why: 'a VM looks the same before and after a reboot, and it is not sent twice'
  }
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

// Shuts a VM down by asking the guest, and by force where that was asked for and the guest does not comply in time.
import { Type, type Static } from 'typebox'
import type { Host } from '../host/host.ts'
import { HostError } from '../host/error.ts'
import { resource } from '../model/resource.ts'
import { isActive, type ObservedVm } from '../model/vm.ts'
import {
  action,
  complete,
  failed,
  nothingToDo,
  possible,
  type ActionContext,
  type Outcome,
  type Probe
} from './action.ts'
import { attempt, type Step } from './attempt.ts'
import { ownError } from './error.ts'
import { VmRef } from './refs.ts'
import { activeSightings, bindToVm, evidenceOf, lookEverywhere, vmClaims, vmTitle } from './vm-place.ts'
import { mayResume } from './vm-resume.ts'
import { named, ownVm } from './vm-refusal.ts'

const defaultTimeoutSeconds = 60
// A guest that boots may not listen to the power button yet: it is pressed again, each time after twice as long.
const firstAskAgainMs = 2_000
const lastAskAgainMs = 10_000
const forceMs = 30_000

const args = Type.Object(
  {
    vm: VmRef,
    timeoutSeconds: Type.Optional(
      Type.Integer({
        description: 'How long the guest may take to shut down, in seconds; 0 does not ask it at all; default 60',
        minimum: 0,
        maximum: 86_400,
        default: defaultTimeoutSeconds
      })
    ),
    force: Type.Optional(
      Type.Boolean({
        description: 'Switch it off when the time is over; unwritten data in the guest is lost; default false',
        default: false
      })
    ),
    now: Type.Optional(
      Type.Boolean({
        description:
          'First cancel unfinished stops, reboots and migrations of this VM instead of waiting for them; default false',
        default: false
      })
    )
  },
  { additionalProperties: false }
)

type Args = Static<typeof args>

export const vmStop = action({
  name: 'vm.stop',
  summary: 'Shut a VM down, by force if asked',
  args,
  title: ({ vm, force }, state) => vmTitle(force ? 'Stop, by force if need be,' : 'Stop', vm, state),
  claims: ({ vm }, state) => vmClaims(vm, state),
  check(given, state) {
    const { vm, refusal } = ownVm(given.vm, state)
    if (refusal) return refusal
    return isActive(vm.power) ? possible : nothingToDo(`${named(vm)} is off already`)
  },
  effect(given, state) {
    const vm = state.vm(given.vm)
    if (vm && !vm.persistent) return [{ subject: resource.vm(vm.uuid), facts: null }]
    return [
      {
        subject: resource.vm(given.vm),
        facts: { power: 'off', reason: given.force ? 'destroyed' : 'shutdown', activeOn: null }
      }
    ]
  },
  bindTo: (given, state) => bindToVm(given.vm, state),
  run: (ctx, given) => attempt(ctx, (step) => stop(ctx, given, step), { probe: () => probe(ctx, given) }),
  probe,
  overtakes: ({ now }) => (now ? ['vm.stop', 'vm.reboot', 'vm.migrate'] : []),
  undo: ({ vm }) => ({ action: 'vm.start', args: { vm } })
})

const isOff = (vm: ObservedVm | undefined): boolean => vm === undefined || !isActive(vm.power)

async function stop(ctx: ActionContext, given: Args, step: Step): Promise<Outcome> {
  const name = ctx.boundHost
  if (name === null) throw new Error('vm.stop runs on a host')
  const host = ctx.host(name)
  step('look at the VM')
  const before = await host.vm(given.vm)
  if (!before || isOff(before)) return off(ctx, name, given, 'already')
  const timeoutMs = (given.timeoutSeconds ?? defaultTimeoutSeconds) * 1000
  if (timeoutMs > 0) {
    const refused = await askGuest(ctx, host, before, timeoutMs, given.force ?? false, step)
    if (refused) return refused
  }
  const after = await host.vm(given.vm)
  if (isOff(after)) return off(ctx, name, given, 'guest')
  if (!given.force) return failed(stillRuns(before.name, name, given, after))
  step('switch off by force')
  await host.powerOffVm(given.vm)
  step('wait until it is off')
  await host.untilVm(given.vm, isOff, { timeoutMs: forceMs, signal: ctx.signal })
  return off(ctx, name, given, 'force')
}

/** Presses the power button until the VM is off or the time is over. With `force`, a guest that cannot be asked is no failure. */
async function askGuest(
  ctx: ActionContext,
  host: Host,
  vm: ObservedVm,
  timeoutMs: number,
  force: boolean,
  step: Step
): Promise<Outcome | undefined> {
  const deadline = performance.now() + timeoutMs
  if (vm.power === 'paused') {
    // libvirt refuses to shut a paused guest down: it could not hear it.
    if (!mayResume(vm.reason)) return force ? undefined : failed(cannotResume(vm, host.name))
    step('resume, so that the guest can hear it')
    await host.resumeVm(vm.uuid)
  }
  let againMs = firstAskAgainMs
  for (let left = timeoutMs; left > 0; left = deadline - performance.now()) {
    step('ask the guest to shut down')
    if (!(await press(host, vm.uuid, force))) return undefined
    step('wait until the guest is off')
    if (await isOffWithin(host, vm.uuid, Math.min(left, againMs), ctx.signal)) return undefined
    againMs = Math.min(lastAskAgainMs, againMs * 2)
    ctx.progress({
      done: timeoutMs - Math.max(0, deadline - performance.now()),
      total: timeoutMs,
      unit: 'ms',
      note: 'waiting for the guest'
    })
  }
  return undefined
}

/** False when the host refuses and that matters no more: it is off by now, or will be switched off by force. */
async function press(host: Host, uuid: string, force: boolean): Promise<boolean> {
  try {
    await host.shutDownVm(uuid)
    return true
  } catch (error) {
    if (!(error instanceof HostError) || error.code !== 'refused') throw error
    if (force || isOff(await host.vm(uuid))) return false
    throw error
  }
}

async function isOffWithin(host: Host, uuid: string, timeoutMs: number, signal: AbortSignal): Promise<boolean> {
  try {
    await host.untilVm(uuid, isOff, { timeoutMs, signal })
    return true
  } catch (error) {
    if (error instanceof HostError && error.code === 'timeout') return false
    throw error
  }
}

async function off(ctx: ActionContext, host: string, given: Args, by: 'already' | 'guest' | 'force'): Promise<Outcome> {
  await ctx.observe.vm(host, given.vm)
  return complete({ host, by })
}

async function probe(ctx: ActionContext, given: Args): Promise<Probe> {
  const host = ctx.boundHost
  const sightings = await lookEverywhere(ctx, given.vm, host === null ? [] : [host])
  const evidence = evidenceOf(sightings)
  const [silent] = sightings.unknown
  if (silent) return { happened: 'unknown', evidence, why: `${silent.host} cannot be asked: ${silent.reason}` }
  // Running = not stopped, whatever was sent: asking again is harmless.
  if (activeSightings(sightings).length > 0) return { happened: 'no', evidence }
  if (host !== null) await ctx.observe.vm(host, given.vm)
  return { happened: 'yes', evidence, result: { host, by: 'guest' } }
}

const stillRuns = (name: string, host: string, given: Args, vm: ObservedVm | undefined) =>
  ownError(
    'vm_still_running',
    `${name} is still ${vm?.power ?? 'active'} on ${host}: the guest did not shut down within ${given.timeoutSeconds ?? defaultTimeoutSeconds} s and may still do so`,
    'wait until the guest is off',
    'give it more time (`--timeout`), or switch it off: `taskomatic vm stop --force`',
    { host }
  )

const cannotResume = (vm: ObservedVm, host: string) =>
  ownError(
    'vm_paused',
    `${vm.name} is paused on ${host} (${vm.reason}): it cannot hear that it should shut down, and resuming it is not safe`,
    'look at the VM',
    'settle why it is paused first, or switch it off: `taskomatic vm stop --force`',
    { host }
  )

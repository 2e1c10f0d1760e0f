// Starts a VM where it is defined, always as a fresh boot: an old saved image over a newer disk is corruption.
// It never starts while any host that may run it cannot be asked: two copies would write to one disk.
import { Type, type Static } from 'typebox'
import { resource } from '../model/resource.ts'
import type { ObservedVm } from '../model/vm.ts'
import { isActive } from '../model/vm.ts'
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
import { parkIfCordoned, refuseHost } from './host-refusal.ts'
import { limit, oneOf } from './limits.ts'
import { VmRef } from './refs.ts'
import {
  activeSightings,
  bindToVm,
  evidenceOf,
  lookEverywhere,
  parkForSilent,
  storageClaims,
  vmClaims,
  vmTitle
} from './vm-place.ts'
import { named, ownVm, refuseActiveElsewhere } from './vm-refusal.ts'

const startMs = 60_000
/** How a VM is seen while the host starts it: by an earlier attempt of this task, since the VM is claimed. */
const arriving = 'starting up'

const args = Type.Object(
  {
    vm: VmRef,
    paused: Type.Optional(
      Type.Boolean({ description: 'Leave it paused at its first instruction; default false', default: false })
    ),
    discardSaved: Type.Optional(
      Type.Boolean({
        description: 'Boot afresh although the host has a saved image of it, which is thrown away; default false',
        default: false
      })
    )
  },
  { additionalProperties: false }
)

type Args = Static<typeof args>

export const vmStart = action({
  name: 'vm.start',
  summary: 'Start a VM',
  args,
  title: ({ vm }, state) => vmTitle('Start', vm, state),
  claims: ({ vm }, state) => [...vmClaims(vm, state), ...storageClaims(state.vm(vm))],
  limits({ vm }, state) {
    const host = state.boundHost ?? state.vm(vm)?.home
    return oneOf(host && limit.starts(host))
  },
  check(given, state) {
    const { vm, refusal } = ownVm(given.vm, state)
    if (refusal) return refusal
    if (vm.power === 'running') return nothingToDo(`${named(vm)} runs already`)
    if (vm.power === 'paused' && given.paused) return nothingToDo(`${named(vm)} is started and paused already`)
    const isOwn = state.phase === 'starting' && vm.reason === arriving
    if ((vm.power === 'paused' && !isOwn) || vm.power === 'suspended') {
      return impossible(
        'vm_paused',
        `${named(vm)} is ${vm.power}: it has been started already`,
        '`taskomatic vm resume`'
      )
    }
    if (vm.power === 'stopping') {
      return impossible(
        'vm_stopping',
        `${named(vm)} is shutting down`,
        'wait until it is off, or `taskomatic vm stop --force`'
      )
    }
    if (!vm.persistent) {
      return impossible('vm_transient', `${named(vm)} has no definition to be started from`, 'create it anew')
    }
    if (vm.hasSavedImage && !given.discardSaved) {
      return impossible(
        'vm_has_saved_image',
        `${named(vm)} has a saved image on ${vm.home} that was not made here: it may be older than the disk`,
        'boot afresh and throw the image away with `--discard-saved`, or restore it with virsh'
      )
    }
    const closed = vm.home === '' ? undefined : refuseHost(state, vm.home)
    return refuseActiveElsewhere(vm) ?? closed ?? possible
  },
  effect: (given, state) => [
    {
      subject: resource.vm(given.vm),
      facts: {
        power: given.paused ? 'paused' : 'running',
        reason: given.paused ? 'user' : 'booted',
        activeOn: state.vm(given.vm)?.home ?? '',
        hasSavedImage: false
      }
    }
  ],
  bindTo: (given, state) => bindToVm(given.vm, state),
  run: (ctx, given) => attempt(ctx, (step) => start(ctx, given, step), { probe: () => probe(ctx, given) }),
  probe,
  undo: ({ vm }) => ({ action: 'vm.stop', args: { vm, force: true, timeoutSeconds: 0 } })
})

async function start(ctx: ActionContext, given: Args, step: Step): Promise<Outcome> {
  const host = ctx.boundHost
  if (host === null) throw new Error('vm.start runs on a host')
  const closed = parkIfCordoned(ctx, host)
  if (closed) return closed
  step('look where the VM is')
  const uuid = given.vm
  const sightings = await lookEverywhere(ctx, uuid, [host])
  const here = sightings.seen.find((sighting) => sighting.host === host)?.vm
  const name = here?.name ?? uuid
  const elsewhere = activeSightings(sightings).find((sighting) => sighting.host !== host)
  if (elsewhere) return failed(activeElsewhere(name, host, elsewhere.host))
  const silent = parkForSilent(name, sightings)
  if (silent) return silent
  if (!here) return failed(notThere(uuid, host))
  if (isStarted(here, given)) return observed(ctx, host, here, true)
  if (isActive(here.power) && here.reason !== arriving) return failed(halfStarted(here, host))

  step('start')
  await ctx.observe.bindWhereabouts(uuid, host)
  if (!isActive(here.power)) await ctx.host(host).startVm(uuid, { freshBoot: true, paused: given.paused ?? false })
  step('wait until it runs')
  const vm = await ctx
    .host(host)
    .untilVm(uuid, (now) => isDecided(now, given), { timeoutMs: startMs, signal: ctx.signal })
  if (vm && isStarted(vm, given)) return observed(ctx, host, vm, false)
  await ctx.observe.vm(host, uuid)
  return failed(stoppedAgain(name, host, vm))
}

const isStarted = (vm: ObservedVm, { paused }: Args): boolean =>
  vm.power === 'running' || (paused === true && vm.power === 'paused')

/** Started, or over again: a guest may switch itself off at once, or stop at its first disk error. */
const isDecided = (vm: ObservedVm | undefined, given: Args): boolean =>
  vm === undefined || isStarted(vm, given) || !isActive(vm.power) || /error/.test(vm.reason)

async function observed(ctx: ActionContext, host: string, vm: ObservedVm, already: boolean): Promise<Outcome> {
  await ctx.observe.vm(host, vm.uuid)
  return complete({ host, power: vm.power, alreadyRunning: already })
}

async function probe(ctx: ActionContext, given: Args): Promise<Probe> {
  const host = ctx.boundHost
  const sightings = await lookEverywhere(ctx, given.vm, host === null ? [] : [host])
  const evidence = evidenceOf(sightings)
  const [active] = activeSightings(sightings)
  if (active && isStarted(active.vm, given)) {
    await ctx.observe.vm(active.host, given.vm)
    return { happened: 'yes', evidence, result: { host: active.host, power: active.vm.power, alreadyRunning: false } }
  }
  const [silent] = sightings.unknown
  if (silent) return { happened: 'unknown', evidence, why: `${silent.host} cannot be asked: ${silent.reason}` }
  if (active)
    return { happened: 'unknown', evidence, why: `it is ${active.vm.power} (${active.vm.reason}) on ${active.host}` }
  // What was sent may still stand behind the VM's running job: "did not" is known only after that.
  for (const { host: seenOn, vm } of sightings.seen) await ctx.host(seenOn).settleVm(given.vm, vm.mark)
  const [late] = activeSightings(await lookEverywhere(ctx, given.vm))
  if (late) return { happened: 'unknown', evidence, why: `it just became ${late.vm.power} on ${late.host}` }
  return { happened: 'no', evidence }
}

const activeElsewhere = (name: string, host: string, other: string) =>
  ownError(
    'vm_active_elsewhere',
    `${name} runs on ${other}, so it is not started on ${host}: two copies would destroy its disk`,
    'look where the VM is',
    `use it on ${other}, or stop it there first`,
    { host, activeOn: other }
  )

const notThere = (uuid: string, host: string) =>
  ownError(
    'vm_not_found',
    `${host} has no VM ${uuid}`,
    'look where the VM is',
    `\`taskomatic host refresh ${host}\`, then look where it is`,
    { host }
  )

const halfStarted = (vm: ObservedVm, host: string) =>
  ownError(
    'vm_not_off',
    `${vm.name} is ${vm.power} (${vm.reason}) on ${host}, neither off nor running`,
    'look where the VM is',
    'resume it, or `taskomatic vm stop --force` and start it again',
    { host }
  )

const stoppedAgain = (name: string, host: string, vm: ObservedVm | undefined) =>
  ownError(
    'vm_stopped_again',
    `${name} was started on ${host} and ${vm ? `is ${vm.power} again (${vm.reason})` : 'is gone again'}`,
    'wait until it runs',
    'read the log of the VM on the host (/var/log/libvirt/qemu)',
    { host }
  )

// Runs a start: looks everywhere first, brings the definition where it is to run, restores or boots, and sees it run.
// It never starts while any host that may run it cannot be asked: two copies would write to one disk.
import type { JsonObject } from '../db/json.ts'
import { isActive, type ObservedVm } from '../model/vm.ts'
import { complete, failed, type ActionContext, type Outcome, type Probe } from './action.ts'
import type { Step } from './attempt.ts'
import { ownError } from './error.ts'
import { parkIfCordoned } from './host-refusal.ts'
import { activeSightings, evidenceOf, lookEverywhere, parkForSilent, type Sightings } from './vm-place.ts'
import type { VmStartArgs } from './vm-start.ts'
import { moveHome } from './vm-start-move.ts'

const startMs = 60_000
/** How a VM is seen while the host starts it: by an earlier attempt of this task, since the VM is claimed. */
export const arriving = 'starting up'

export async function startVm(ctx: ActionContext, given: VmStartArgs, step: Step): Promise<Outcome> {
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
  if (here && isStarted(here, given)) {
    await ctx.observe.vm(host, uuid)
    return started(host, here, { alreadyRunning: true })
  }
  if (here && isActive(here.power) && here.reason !== arriving) return failed(halfStarted(here, host))

  const home = ctx.state.vm(uuid)?.home
  const discardSaved = given.discardSaved ?? false
  if (home !== undefined && home !== host) {
    const stuck = await moveHome(ctx, { uuid, home, to: host, discardSaved }, sightings, step)
    if (stuck) return stuck
  } else if (!here) return failed(notThere(uuid, host))

  const restores = here?.hasSavedImage === true && !discardSaved && !isActive(here.power)
  if (restores && ctx.state.vm(uuid)?.restorable !== true) return failed(staleImage(here.name, host))
  step(restores ? 'restore' : 'start')
  await ctx.observe.bindWhereabouts(uuid, host)
  // Before the start: a look that an event of it gave rise to will do.
  const following = ctx.observe.follow(host, uuid)
  try {
    if (!here || !isActive(here.power))
      await ctx.host(host).startVm(uuid, { freshBoot: !restores, paused: given.paused ?? false })
    step('wait until it runs')
    const vm = await following.until((now) => isDecided(now, given), { timeoutMs: startMs, signal: ctx.signal })
    if (!vm || !isStarted(vm, given)) return failed(stoppedAgain(name, host, vm))
    const from = home !== undefined && home !== host ? { movedFrom: home } : {}
    return started(host, vm, { alreadyRunning: false, ...(restores ? { restored: true } : {}), ...from })
  } finally {
    following.end()
  }
}

const isStarted = (vm: ObservedVm, { paused }: VmStartArgs): boolean =>
  vm.power === 'running' || (paused === true && vm.power === 'paused')

/** Started, or over again: a guest may switch itself off at once, or stop at its first disk error. */
const isDecided = (vm: ObservedVm | undefined, given: VmStartArgs): boolean =>
  vm === undefined || isStarted(vm, given) || !isActive(vm.power) || /error/.test(vm.reason)

type Details = { alreadyRunning: boolean; restored?: true; movedFrom?: string }

const started = (host: string, vm: ObservedVm, details: Details): Outcome =>
  complete({ host, power: vm.power, ...details })

export async function probeStarted(ctx: ActionContext, given: VmStartArgs): Promise<Probe> {
  const host = ctx.boundHost
  const sightings = await lookEverywhere(ctx, given.vm, host === null ? [] : [host])
  const evidence = evidenceOf(sightings)
  const [active] = activeSightings(sightings)
  if (active && isStarted(active.vm, given)) {
    await ctx.observe.vm(active.host, given.vm)
    return { happened: 'yes', evidence, result: { host: active.host, power: active.vm.power, alreadyRunning: false } }
  }
  const [silent] = sightings.unknown
  if (silent) return cannotAsk(silent, evidence)
  if (active)
    return { happened: 'unknown', evidence, why: `it is ${active.vm.power} (${active.vm.reason}) on ${active.host}` }
  // What was sent may still stand behind the VM's running job: "did not" is known only after that.
  for (const { host: seenOn, vm } of sightings.seen) await ctx.host(seenOn).settleVm(given.vm, vm.mark)
  const again = await lookEverywhere(ctx, given.vm, host === null ? [] : [host])
  const [late] = activeSightings(again)
  if (late) return { happened: 'unknown', evidence, why: `it just became ${late.vm.power} on ${late.host}` }
  // Silent since: it may have started there after the first look.
  const [gone] = again.unknown
  if (gone) return cannotAsk(gone, evidenceOf(again))
  return { happened: 'no', evidence }
}

const cannotAsk = ({ host, reason }: Sightings['unknown'][number], evidence: JsonObject): Probe => ({
  happened: 'unknown',
  evidence,
  why: `${host} cannot be asked: ${reason}`
})

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

const staleImage = (name: string, host: string) =>
  ownError(
    'vm_has_saved_image',
    `${name} has a saved image on ${host} that was not made here, or has run since: it may be older than the disk`,
    'look where the VM is',
    'boot afresh and throw the image away with `--discard-saved`, or restore it with virsh',
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

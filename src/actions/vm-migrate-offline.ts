// Moves the definition of a VM that is off: made at the target, then taken away at the source. libvirt's own way is not used: it
// succeeds although the target lacks the disks, and leaves host-local firmware variables behind without a word.
import { HostError } from '../host/error.ts'
import { isActive } from '../model/vm.ts'
import { complete, failed, type ActionContext, type Outcome, type Probe } from './action.ts'
import type { Step } from './attempt.ts'
import { putBackSnapshots, returnSnapshots, takeOffSnapshots } from './carried-snapshots.ts'
import { ownError } from './error.ts'
import { parkIfCordoned } from './host-refusal.ts'
import { activeSightings, evidenceOf, lookEverywhere, parkForSilent } from './vm-place.ts'
import { moveHome } from './vm-start-move.ts'

export async function moveOffline(ctx: ActionContext, uuid: string, target: string, step: Step): Promise<Outcome> {
  step('look where the VM is')
  const home = ctx.boundHost
  if (home === null) throw new Error('vm.migrate runs on a host')
  const sightings = await lookEverywhere(ctx, uuid, [home, target])
  const name = sightings.seen[0]?.vm.name ?? uuid
  const [active] = activeSightings(sightings)
  if (active) return failed(runs(name, active.host))
  const silent = parkForSilent(name, sightings)
  if (silent) return silent
  const closed = parkIfCordoned(ctx, target)
  if (closed) return closed
  // A definition on a third host is nobody's to touch, nor are its snapshots.
  const before = home === target ? undefined : sightings.seen.find(({ host }) => host === home)
  let refused: Outcome | undefined
  try {
    if (before) await takeOffSnapshots(ctx, uuid, before.host, step)
    refused = await moveHome(ctx, { uuid, home, to: target, discardSaved: false }, sightings, step)
  } catch (error) {
    // Nobody may come back to it for long, or at all.
    if (before && error instanceof HostError && error.code !== 'fenced')
      await returnSnapshots(ctx, { uuid, name }, before.host)
    throw error
  }
  if (refused) {
    if (before) await putBackSnapshots(ctx, { uuid, name }, before.host, step)
    return refused
  }
  const untold = await putBackSnapshots(ctx, { uuid, name }, target, step)
  await ctx.observe.vm(target, uuid)
  if (untold) return failed(untold)
  return complete({ from: before?.host ?? home, to: target, power: 'off' })
}

/** Moved = defined at the target alone, with its snapshots. */
export async function probeOffline(ctx: ActionContext, uuid: string, target: string): Promise<Probe> {
  const sightings = await lookEverywhere(ctx, uuid, [target])
  const evidence = evidenceOf(sightings)
  const [silent] = sightings.unknown
  if (silent) return { happened: 'unknown', evidence, why: `${silent.host} cannot be asked: ${silent.reason}` }
  const there = sightings.seen.find(({ host }) => host === target)?.vm
  if (!there?.persistent || isActive(there.power) || sightings.seen.length > 1) return { happened: 'no', evidence }
  if ((await ctx.observe.keptSnapshots(uuid)).length > 0) return { happened: 'no', evidence }
  await ctx.observe.vm(target, uuid)
  return { happened: 'yes', evidence, result: { from: ctx.boundHost, to: target, power: 'off' } }
}

const runs = (name: string, host: string) =>
  ownError(
    'vm_running',
    `${name} is active on ${host}: only the definition of a VM that is off is moved`,
    'look where the VM is',
    'stop it first, or migrate it without `--offline`',
    { host }
  )

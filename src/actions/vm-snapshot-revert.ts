// Brings a VM back to a snapshot. What it was just before is kept as a snapshot too, so that this can be undone.
import { Type, type Static } from 'typebox'
import type { ObservedVm, VmSnapshot } from '../model/vm.ts'
import {
  action,
  complete,
  failed,
  impossible,
  possible,
  type ActionContext,
  type Outcome,
  type Probe
} from './action.ts'
import { attempt, type Step } from './attempt.ts'
import { ownError } from './error.ts'
import { parkIfCordoned } from './host-refusal.ts'
import { VmRef } from './refs.ts'
import { refuseBase } from './vm-base.ts'
import {
  predicted,
  refuseFormats,
  refuseTransient,
  refuseUnknown,
  snapshotClaims,
  snapshotName,
  snapshotOf,
  snapshotTaken,
  snapshotsEffect,
  stampedName,
  withSnapshot
} from './snapshot-place.ts'
import { isOurs, markOf } from './task-mark.ts'
import { activeSightings, bindToVm, boundVm, lookEverywhere, parkForSilent, vmTitle } from './vm-place.ts'
import { named, ownVm, refuseActiveElsewhere } from './vm-refusal.ts'

const settledMs = 60_000

const args = Type.Object(
  {
    vm: VmRef,
    snapshot: snapshotName('The snapshot to go back to'),
    before: Type.Optional(
      snapshotName('Name of the snapshot that keeps what it is now; default before-revert and the time')
    )
  },
  { additionalProperties: false }
)

type Args = Static<typeof args>

export const vmSnapshotRevert = action({
  name: 'vm.snapshot.revert',
  summary: 'Bring a VM back to a snapshot; what it is now is kept as another',
  args,
  prepare: (given) => ({ ...given, before: given.before ?? stampedName('before-revert') }),
  title: ({ vm, snapshot }, state) => `${vmTitle('Revert', vm, state)} to ${snapshot}`,
  claims: ({ vm }, state) => snapshotClaims(vm, state),
  check(given, state) {
    const { vm, refusal } = ownVm(given.vm, state)
    if (refusal) return refusal
    const wanted = snapshotOf(vm, given.snapshot)
    if (wanted?.external) {
      return impossible(
        'snapshot_external',
        `snapshot "${given.snapshot}" of ${named(vm)} is kept in files of its own: the host cannot go back to it by itself`,
        'take its disks by hand: `virsh snapshot-dumpxml`'
      )
    }
    if (state.phase === 'queued' && snapshotOf(vm, beforeOf(given))) {
      return impossible(
        'snapshot_exists',
        `${named(vm)} has a snapshot "${beforeOf(given)}" already`,
        'choose another name for what is kept: `--before`'
      )
    }
    return (
      refuseUnknown(vm, given.snapshot) ??
      refuseTransient(vm) ??
      refuseFormats(vm) ??
      refuseActiveElsewhere(vm) ??
      refuseBase(vm) ??
      possible
    )
  },
  effect(given, state) {
    const vm = state.vm(given.vm)
    const wanted = vm && snapshotOf(vm, given.snapshot)
    if (!vm || !wanted) return []
    const kept = withSnapshot(vm.snapshots, predicted(vm, beforeOf(given), null))
    const snapshots = kept.map((snapshot) => ({ ...snapshot, current: snapshot.name === given.snapshot }))
    const activeOn = wanted.state === 'off' ? null : (vm.activeOn ?? vm.home)
    return snapshotsEffect(vm, snapshots, { power: wanted.state, reason: 'from snapshot', activeOn, restorable: false })
  },
  bindTo: ({ vm }, state) => bindToVm(vm, state),
  run: (ctx, given) => attempt(ctx, (step) => revert(ctx, given, step), { probe: () => probe(ctx, given) }),
  probe,
  undo: (given) => ({ action: 'vm.snapshot.revert', args: { vm: given.vm, snapshot: beforeOf(given) } })
})

/** @throws Error before `prepare` */
function beforeOf(given: Args): string {
  if (given.before === undefined) throw new Error('vm.snapshot.revert is prepared before it is asked anything')
  return given.before
}

async function revert(ctx: ActionContext, given: Args, step: Step): Promise<Outcome> {
  step('look at the snapshot')
  const { host, vm } = await boundVm(ctx, given.vm)
  const wanted = vm?.snapshots.find(({ name }) => name === given.snapshot)
  if (!vm || !wanted) return failed(notThere(given, host.name))
  const started = await refuseSecondCopy(ctx, given, vm, wanted, host.name)
  if (started) return started
  const kept = vm.snapshots.find(({ name }) => name === beforeOf(given))
  if (kept && !isOurs(ctx, kept))
    return failed(
      snapshotTaken(
        vm.name,
        kept,
        host.name,
        'look at the snapshot',
        'choose another name for what is kept: `--before`'
      )
    )
  // Only what this task kept made it current, so that the wanted one being current again says that it went back.
  if (!(kept && wanted.current)) {
    if (!kept) {
      step('keep what it is now')
      await host.createSnapshot(given.vm, {
        name: beforeOf(given),
        description: `before it was brought back to ${given.snapshot}`,
        mark: markOf(ctx)
      })
    }
    step('go back to the snapshot')
    await ctx.observe.bindWhereabouts(given.vm, host.name)
    // A saved image of it belongs to the disks as they are now.
    await ctx.observe.forgetSaved(given.vm)
    await host.revertToSnapshot(given.vm, given.snapshot)
  }
  step('look at the VM')
  const now = await host.untilVm(given.vm, (seen) => isBack(seen, given), { timeoutMs: settledMs, signal: ctx.signal })
  await ctx.observe.vm(host.name, given.vm)
  return complete(resultOf(host.name, given, now))
}

/** Going back to a running state starts the VM: never where another host may run it. */
async function refuseSecondCopy(
  ctx: ActionContext,
  given: Args,
  vm: ObservedVm,
  wanted: VmSnapshot,
  host: string
): Promise<Outcome | undefined> {
  if (wanted.state === 'off' || ['running', 'paused'].includes(vm.power)) return undefined
  const closed = parkIfCordoned(ctx, host)
  if (closed) return closed
  const sightings = await lookEverywhere(ctx, given.vm, [host])
  const elsewhere = activeSightings(sightings).find((sighting) => sighting.host !== host)
  if (elsewhere) return failed(activeElsewhere(vm.name, elsewhere.host))
  return parkForSilent(vm.name, sightings)
}

const isBack = (vm: ObservedVm | undefined, given: Args): boolean => {
  const wanted = vm?.snapshots.find(({ name }) => name === given.snapshot)
  return wanted?.current === true && wanted.state === vm?.power
}

const resultOf = (host: string, given: Args, vm: ObservedVm | undefined) => ({
  host,
  snapshot: given.snapshot,
  before: beforeOf(given),
  power: vm?.power ?? null
})

async function probe(ctx: ActionContext, given: Args): Promise<Probe> {
  const first = await boundVm(ctx, given.vm)
  // What was sent may still stand behind the VM's running job.
  if (first.vm) await first.host.settleVm(given.vm, first.vm.mark)
  const { host, vm } = await boundVm(ctx, given.vm)
  const kept = vm?.snapshots.find(({ name }) => name === beforeOf(given))
  const evidence = {
    host: host.name,
    power: vm?.power ?? null,
    snapshots: vm?.snapshots.map(({ name }) => name) ?? [],
    current: vm?.snapshots.find(({ current }) => current)?.name ?? null
  }
  if (!kept || !isOurs(ctx, kept) || !isBack(vm, given)) return { happened: 'no', evidence }
  await ctx.observe.vm(host.name, given.vm)
  return { happened: 'yes', evidence, result: resultOf(host.name, given, vm) }
}

const notThere = ({ vm, snapshot }: Args, host: string) =>
  ownError(
    'snapshot_not_found',
    `${host} has no snapshot ${snapshot} of VM ${vm}`,
    'look at the snapshot',
    'see `taskomatic vm snapshot list`',
    { host }
  )

const activeElsewhere = (name: string, other: string) =>
  ownError(
    'vm_active_elsewhere',
    `${name} runs on ${other}: going back to a running state would start a second copy`,
    'look at the snapshot',
    `stop it on ${other} first`,
    { activeOn: other }
  )

// Deletes a snapshot: the VM stays as it is, and can no longer be brought back to that state.
import { Type, type Static } from 'typebox'
import type { VmFacts } from '../inventory/facts.ts'
import type { VmSnapshot } from '../model/vm.ts'
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
import { refuseUnknown, snapshotClaims, snapshotName, snapshotOf, snapshotsEffect } from './snapshot-place.ts'
import { bindToVm, boundVm, vmTitle } from './vm-place.ts'
import { ownVm } from './vm-refusal.ts'
import { ownVolumes, poolFor, tellPools } from './volume-place.ts'

const args = Type.Object(
  {
    vm: VmRef,
    snapshot: snapshotName('The snapshot'),
    children: Type.Optional(
      Type.Boolean({ description: 'Delete those that were made after it as well; default false', default: false })
    )
  },
  { additionalProperties: false }
)

type Args = Static<typeof args>

export const vmSnapshotDelete = action({
  name: 'vm.snapshot.delete',
  summary: 'Delete a snapshot of a VM',
  args,
  irreversible: true,
  title: ({ vm, snapshot, children }, state) =>
    `${vmTitle('Delete snapshot of', vm, state)}: ${snapshot}${children ? ' and its children' : ''}`,
  claims({ vm }, state) {
    // Read here so that they are loaded for the run, which looks at the disks afterwards.
    for (const { store } of ownVolumes(state.vm(vm))) state.store(store)
    return snapshotClaims(vm, state)
  },
  check(given, state) {
    const { vm, refusal } = ownVm(given.vm, state)
    if (refusal) return refusal
    if (state.phase === 'starting' && !snapshotOf(vm, given.snapshot)) return nothingToDo('it is gone already')
    return refuseUnknown(vm, given.snapshot) ?? possible
  },
  effect(given, state) {
    const vm = state.vm(given.vm)
    return vm ? snapshotsEffect(vm, without(vm, given)) : []
  },
  bindTo: ({ vm }, state) => bindToVm(vm, state),
  run: (ctx, given) => attempt(ctx, (step) => remove(ctx, given, step), { probe: () => probe(ctx, given) }),
  probe,
  undo: () => ({ impossible: 'a deleted snapshot is gone' })
})

/** What is left: children of what goes become its parent's, and so does being the current one. */
function without(vm: VmFacts, { snapshot: name, children }: Args): VmSnapshot[] {
  const doomed = new Set([name])
  if (children) for (const { name: child, parent } of vm.snapshots) if (doomed.has(parent ?? '')) doomed.add(child)
  const parent = snapshotOf(vm, name)?.parent ?? null
  const wasCurrent = vm.snapshots.some((snapshot) => snapshot.current && doomed.has(snapshot.name))
  return vm.snapshots
    .filter((snapshot) => !doomed.has(snapshot.name))
    .map((snapshot) => ({
      ...snapshot,
      parent: snapshot.parent === name ? parent : snapshot.parent,
      current: snapshot.current || (wasCurrent && snapshot.name === parent)
    }))
}

async function remove(ctx: ActionContext, given: Args, step: Step): Promise<Outcome> {
  step('look at the snapshot')
  const { host, vm } = await boundVm(ctx, given.vm)
  const known = vm?.snapshots.some(({ name }) => name === given.snapshot) ?? false
  if (known) {
    step('delete the snapshot')
    await host.deleteSnapshot(given.vm, given.snapshot, { withChildren: given.children ?? false })
  }
  step('look at what is left')
  const left = vm ? await host.snapshots(given.vm) : []
  if (left.some(({ name }) => name === given.snapshot)) return failed(stillThere(given.snapshot, host.name))
  await ctx.observe.vm(host.name, given.vm)
  const disks = await lookAtDisks(ctx, given.vm, host.name)
  return complete({ host: host.name, deleted: given.snapshot, left: left.map(({ name }) => name), disks })
}

/** The disks have given room back, and whatever they lie over is read again: what is known of them must be what is true now. */
async function lookAtDisks(ctx: ActionContext, uuid: string, host: string) {
  const volumes = ownVolumes(ctx.state.vm(uuid)).filter(({ store }) => ctx.state.store(store)?.pools[host]?.active)
  for (const store of new Set(volumes.map((volume) => volume.store))) {
    await ctx.host(host).refreshPool(poolFor(ctx, store, host))
    await tellPools(ctx, store, host)
  }
  const seen = []
  for (const { store, volume } of volumes) {
    const found = await ctx.host(host).volume(poolFor(ctx, store, host), volume)
    seen.push({
      volume: `${store}/${volume}`,
      allocationBytes: found?.allocationBytes ?? null,
      backing: found?.backing ?? null
    })
  }
  return seen
}

async function probe(ctx: ActionContext, given: Args): Promise<Probe> {
  const { host, vm } = await boundVm(ctx, given.vm)
  // What was sent may still stand behind the VM's running job.
  if (vm) await host.settleVm(given.vm, vm.mark)
  const left = vm ? (await host.snapshots(given.vm)).map(({ name }) => name) : []
  const evidence = { host: host.name, snapshots: left }
  if (left.includes(given.snapshot)) return { happened: 'no', evidence }
  await ctx.observe.vm(host.name, given.vm)
  return { happened: 'yes', evidence, result: { host: host.name, deleted: given.snapshot, left } }
}

const stillThere = (name: string, host: string) =>
  ownError(
    'snapshot_left',
    `${host} agreed to delete snapshot ${name} and still shows it`,
    'look at what is left',
    'retry the task',
    { host }
  )

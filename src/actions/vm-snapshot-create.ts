// Keeps the state of a VM under a name: of all its disks, and of its memory while it runs. All or nothing.
import { Type, type Static } from 'typebox'
import { quote } from '../model/name.ts'
import type { VmSnapshot } from '../model/vm.ts'
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
import { putBackSnapshots } from './carried-snapshots.ts'
import { ownError } from './error.ts'
import { VmRef } from './refs.ts'
import {
  descriptionText,
  predicted,
  refuseFormats,
  refuseTransient,
  snapshotClaims,
  snapshotName,
  snapshotOf,
  snapshotTaken,
  snapshotsEffect,
  stampedName,
  withSnapshot
} from './snapshot-place.ts'
import { isOurs, markOf } from './task-mark.ts'
import { bindToVm, boundVm, vmTitle } from './vm-place.ts'
import { named, ownVm } from './vm-refusal.ts'

const args = Type.Object(
  {
    vm: VmRef,
    name: Type.Optional(snapshotName('Name of the snapshot; default one with the time')),
    description: Type.Optional(descriptionText)
  },
  { additionalProperties: false }
)

type Args = Static<typeof args>

export const vmSnapshotCreate = action({
  name: 'vm.snapshot.create',
  summary: "Keep a VM's state as a snapshot",
  args,
  prepare: (given) => ({ ...given, name: given.name ?? stampedName('snapshot') }),
  title: (given, state) => `${vmTitle('Snapshot', given.vm, state)} as ${nameOf(given)}`,
  claims: ({ vm }, state) => snapshotClaims(vm, state),
  check(given, state) {
    const { vm, refusal } = ownVm(given.vm, state)
    if (refusal) return refusal
    // As it starts, an earlier attempt may have made it: its mark tells, on the host.
    if (state.phase === 'queued' && snapshotOf(vm, nameOf(given))) {
      return impossible(
        'snapshot_exists',
        `${named(vm)} has a snapshot ${quote(nameOf(given))} already`,
        'choose another name, or delete that one: `taskomatic vm snapshot delete`'
      )
    }
    if (vm.power === 'stopping' || vm.power === 'crashed') {
      return impossible(
        'vm_stopping',
        `${named(vm)} is ${vm.power}: what would be kept is neither of a running VM nor of one that is off`,
        'wait until it is off'
      )
    }
    return refuseTransient(vm) ?? refuseFormats(vm) ?? possible
  },
  effect(given, state) {
    const vm = state.vm(given.vm)
    if (!vm) return []
    const added = predicted(vm, nameOf(given), given.description ?? null)
    return snapshotsEffect(vm, withSnapshot(vm.snapshots, added))
  },
  bindTo: ({ vm }, state) => bindToVm(vm, state),
  run: (ctx, given) => attempt(ctx, (step) => create(ctx, given, step), { probe: () => probe(ctx, given) }),
  probe,
  undo: (given) => ({ action: 'vm.snapshot.delete', args: { vm: given.vm, snapshot: nameOf(given) } })
})

/** @throws Error before `prepare` */
function nameOf(given: Args): string {
  if (given.name === undefined) throw new Error('vm.snapshot.create is prepared before it is asked anything')
  return given.name
}

async function create(ctx: ActionContext, given: Args, step: Step): Promise<Outcome> {
  step('look whether the snapshot exists')
  const { host, vm } = await boundVm(ctx, given.vm)
  if (!vm) return failed(notThere(given.vm, host.name))
  // A migration that died, and was not tried again, has left those that it took off with us.
  const untold = await putBackSnapshots(ctx, vm, host.name, step)
  if (untold) return failed(untold)
  const known = vm.snapshots.find(({ name }) => name === nameOf(given))
  if (known && !isOurs(ctx, known))
    return failed(
      snapshotTaken(
        vm.name,
        known,
        host.name,
        'look whether the snapshot exists',
        'choose another name, or delete that one: `taskomatic vm snapshot delete`'
      )
    )
  if (!known) {
    step('make the snapshot')
    await host.createSnapshot(given.vm, {
      name: nameOf(given),
      description: given.description ?? null,
      mark: markOf(ctx)
    })
  }
  step('look at the snapshot')
  const made = (await host.snapshots(given.vm)).find(({ name }) => name === nameOf(given))
  await ctx.observe.vm(host.name, given.vm)
  if (!made) return failed(notMade(nameOf(given), host.name))
  return complete(resultOf(host.name, made))
}

const resultOf = (host: string, { name, parent, state, createdAt }: VmSnapshot) => ({
  host,
  snapshot: name,
  parent,
  state,
  createdAt
})

async function probe(ctx: ActionContext, given: Args): Promise<Probe> {
  const { host, vm } = await boundVm(ctx, given.vm)
  // What was sent may still stand behind the VM's running job.
  if (vm) await host.settleVm(given.vm, vm.mark)
  const made = vm && (await host.snapshots(given.vm)).find(({ name }) => name === nameOf(given))
  const evidence = { host: host.name, vm: vm?.power ?? null, snapshot: made?.name ?? null }
  if (!made || !isOurs(ctx, made)) return { happened: 'no', evidence }
  await ctx.observe.vm(host.name, given.vm)
  return { happened: 'yes', evidence, result: resultOf(host.name, made) }
}

const notThere = (uuid: string, host: string) =>
  ownError('vm_not_found', `${host} has no VM ${uuid}`, 'look whether the snapshot exists', 'look where it is', {
    host
  })

const notMade = (name: string, host: string) =>
  ownError(
    'snapshot_not_found',
    `${host} agreed to make snapshot ${name} and does not show it`,
    'look at the snapshot',
    'retry the task',
    { host }
  )

// Takes a VM over: puts our mark beside whatever metadata it has, so that it is no longer read-only here. Nothing else about it
// changes, unless it was agreed that the host's own autostart is taken away.
import { Type, type Static } from 'typebox'
import type { VmFacts } from '../inventory/facts.ts'
import { resource } from '../model/resource.ts'
import { isActive, type ObservedVm } from '../model/vm.ts'
import {
  action,
  complete,
  failed,
  impossible,
  nothingToDo,
  possible,
  type ActionContext,
  type Outcome,
  type Probe,
  type Verdict
} from './action.ts'
import type { FleetState } from '../inventory/fleet-state.ts'
import { attempt, type Step } from './attempt.ts'
import { ownError } from './error.ts'
import { VmRef } from './refs.ts'
import { markOf } from './task-mark.ts'
import { bindToVm, boundVm, exclusive, vmClaims, vmTitle } from './vm-place.ts'
import { named } from './vm-refusal.ts'

const args = Type.Object(
  {
    vm: VmRef,
    clearAutostart: Type.Optional(
      Type.Boolean({
        description:
          "Take the host's own autostart away: it would start a second copy when it boots after the VM has moved; default false",
        default: false
      })
    ),
    release: Type.Optional(
      Type.Boolean({ description: 'Take our mark away again instead; default false', default: false })
    )
  },
  { additionalProperties: false }
)

type Args = Static<typeof args>

export const vmAdopt = action({
  name: 'vm.adopt',
  summary: 'Take a VM over that another manager or nobody had',
  args,
  title: ({ vm, release }, state) => vmTitle(release ? 'Release' : 'Adopt', vm, state),
  claims(given, state) {
    const name = state.vm(given.vm)?.name
    return [...vmClaims(given.vm, state), ...(name === undefined ? [] : [exclusive(resource.vmName(name))])]
  },
  check: checkAdopt,
  effect(given, state) {
    const vm = state.vm(given.vm)
    if (!vm) return []
    const owner = given.release ? 'plain' : 'ours'
    return [{ subject: resource.vm(vm.uuid), facts: { owner, ...(given.clearAutostart ? { autostart: false } : {}) } }]
  },
  bindTo: ({ vm }, state) => bindToVm(vm, state),
  run: (ctx, given) => attempt(ctx, (step) => adopt(ctx, given, step), { probe: () => probe(ctx, given) }),
  probe,
  undo({ vm, release }, state) {
    const isOurs = state.vm(vm)?.owner === 'ours'
    if (isOurs !== Boolean(release)) return { impossible: isOurs ? 'it was ours before' : 'it was not ours before' }
    return { action: 'vm.adopt', args: { vm, release: !release } }
  }
})

function checkAdopt(given: Args, state: FleetState): Verdict {
  const vm = state.vm(given.vm)
  if (!vm) return impossible('vm_not_found', `there is no VM ${given.vm}`, 'see `taskomatic vm list`')
  if (given.release) {
    return vm.owner === 'ours' ? possible : nothingToDo(`${named(vm)} does not carry our mark`)
  }
  if (vm.owner === 'ours' && !(given.clearAutostart && vm.autostart)) return nothingToDo(`${named(vm)} is ours already`)
  return refuseTwice(vm) ?? possible
}

/** Which of two definitions is the VM, nobody knows but whoever made them. */
function refuseTwice(vm: VmFacts): Verdict | undefined {
  const [other] = Object.entries(vm.elsewhere)
  if (!other) return undefined
  return impossible(
    'defined_twice',
    `${named(vm)} is ${other[1]} on ${other[0]} as well as on ${vm.home}`,
    `undefine the copy that is not wanted first: \`virsh undefine\` on its host`
  )
}

async function adopt(ctx: ActionContext, given: Args, step: Step): Promise<Outcome> {
  step('look at the VM')
  const { host, vm } = await boundVm(ctx, given.vm)
  if (!vm) return failed(notThere(given.vm, host.name))
  if (!isDone(vm, given, ctx.instance)) {
    if (isMarked(vm, ctx.instance) === Boolean(given.release)) {
      step(given.release ? 'take our mark away' : 'put our mark')
      await host.markVm(given.vm, given.release ? null : markOf(ctx, vm.mark))
    }
    if (given.clearAutostart && vm.autostart && vm.persistent) {
      step("take the host's own autostart away")
      await host.setAutostart(given.vm, false)
    }
    step('look at the VM again')
    const now = await host.vm(given.vm)
    if (!now || !isDone(now, given, ctx.instance)) return failed(notMarked(vm.name, host.name))
  }
  await ctx.observe.vm(host.name, given.vm)
  return complete({ host: host.name, name: vm.name, running: isActive(vm.power) })
}

const isMarked = (vm: ObservedVm, instance: string): boolean => vm.mark?.instance === instance

const isDone = (vm: ObservedVm, given: Args, instance: string): boolean =>
  isMarked(vm, instance) !== Boolean(given.release) && !(given.clearAutostart && vm.autostart)

async function probe(ctx: ActionContext, given: Args): Promise<Probe> {
  const { host, vm } = await boundVm(ctx, given.vm)
  const evidence = { host: host.name, mark: vm?.mark?.instance ?? null, autostart: vm?.autostart ?? null }
  if (!vm || !isDone(vm, given, ctx.instance)) return { happened: 'no', evidence }
  await ctx.observe.vm(host.name, given.vm)
  return { happened: 'yes', evidence, result: { host: host.name, name: vm.name } }
}

const notThere = (uuid: string, host: string) =>
  ownError(
    'vm_not_found',
    `${host} has no VM ${uuid}`,
    'look at the VM',
    `\`taskomatic host refresh ${host}\`, then look where it is`,
    { host }
  )

const notMarked = (name: string, host: string) =>
  ownError(
    'vm_not_marked',
    `${host} accepted our mark for ${named({ name })} and does not show it`,
    'look at the VM again',
    'look at its metadata on the host and retry the task',
    { host }
  )

// Gives a VM another name. Both names are claimed, so that nobody takes either meanwhile; libvirt renames only a VM that is off.
// Its volumes keep their names: a disk is found by its path.
import { Type, type Static } from 'typebox'
import { quote } from '../model/name.ts'
import { resource } from '../model/resource.ts'
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
import { newName, VmRef } from './refs.ts'
import { bindToVm, boundVm, exclusive, vmClaims, vmTitle } from './vm-place.ts'
import { named, ownVm } from './vm-refusal.ts'

const args = Type.Object({ vm: VmRef, name: newName('vm', 'Its new name') }, { additionalProperties: false })
type Args = Static<typeof args>

export const vmRename = action({
  name: 'vm.rename',
  summary: 'Give a VM another name',
  args,
  title: ({ vm, name }, state) => `${vmTitle('Rename', vm, state)} to ${name}`,
  claims(given, state) {
    const old = state.vm(given.vm)?.name
    return [
      ...vmClaims(given.vm, state),
      exclusive(resource.vmName(given.name)),
      ...(old === undefined ? [] : [exclusive(resource.vmName(old))])
    ]
  },
  check(given, state) {
    const { vm, refusal } = ownVm(given.vm, state)
    if (refusal) return refusal
    if (vm.name === given.name) return nothingToDo(`it is called ${quote(given.name)} already`)
    if (isActive(vm.power)) {
      return impossible('vm_running', `${named(vm)} is ${vm.power}: only a VM that is off is renamed`, 'stop it first')
    }
    if (vm.snapshots.length > 0) {
      return impossible(
        'has_snapshots',
        `${named(vm)} has ${vm.snapshots.length} snapshots: libvirt does not rename such a VM`,
        'delete its snapshots first'
      )
    }
    if (vm.hasSavedImage) {
      return impossible(
        'vm_has_saved_image',
        `${named(vm)} has a saved image on ${vm.home}, which goes by its name`,
        'start it and stop it first'
      )
    }
    const [elsewhere] = Object.keys(vm.elsewhere)
    if (elsewhere !== undefined) {
      return impossible(
        'defined_twice',
        `${named(vm)} is defined on ${elsewhere} too: one VM would have two names`,
        `undefine it on ${elsewhere} first`
      )
    }
    const namesake = state.vmsNamed(given.name).find((other) => other.uuid !== vm.uuid)
    if (!namesake) return possible
    return impossible(
      'name_taken',
      `there is a VM ${quote(given.name)} already, on ${namesake.home || 'a host to be chosen'} (${namesake.uuid})`,
      'choose another name'
    )
  },
  effect(given, state) {
    const vm = state.vm(given.vm)
    if (!vm) return []
    return [
      { subject: resource.vm(vm.uuid), facts: { name: given.name } },
      { subject: resource.vmName(vm.name), facts: { [vm.uuid]: null } },
      { subject: resource.vmName(given.name), facts: { [vm.uuid]: vm.home } }
    ]
  },
  bindTo: ({ vm }, state) => bindToVm(vm, state),
  run: (ctx, given) => attempt(ctx, (step) => rename(ctx, given, step), { probe: () => probe(ctx, given) }),
  probe,
  undo: ({ vm }, state) => {
    const name = state.vm(vm)?.name
    return name === undefined
      ? { impossible: 'its old name is not known' }
      : { action: 'vm.rename', args: { vm, name } }
  }
})

async function rename(ctx: ActionContext, given: Args, step: Step): Promise<Outcome> {
  step('look at the VM')
  const { host, vm } = await boundVm(ctx, given.vm)
  if (!vm) return failed(notThere(given.vm, host.name))
  if (vm.name !== given.name) {
    const namesake = await host.vmByName(given.name)
    if (namesake) return failed(nameTaken(given.name, namesake.uuid, host.name))
    step('rename')
    await host.renameVm(given.vm, given.name)
    step('look at the VM again')
    const now = await host.vm(given.vm)
    if (now?.name !== given.name) return failed(notRenamed(given.name, host.name, now?.name))
  }
  await ctx.observe.vm(host.name, given.vm)
  return complete({ host: host.name, name: given.name })
}

async function probe(ctx: ActionContext, given: Args): Promise<Probe> {
  const { host, vm } = await boundVm(ctx, given.vm)
  const evidence = { host: host.name, name: vm?.name ?? null }
  if (vm?.name !== given.name) return { happened: 'no', evidence }
  await ctx.observe.vm(host.name, given.vm)
  return { happened: 'yes', evidence, result: { host: host.name, name: given.name } }
}

const notThere = (uuid: string, host: string) =>
  ownError(
    'vm_not_found',
    `${host} has no VM ${uuid}`,
    'look at the VM',
    `\`taskomatic host refresh ${host}\`, then look where it is`,
    { host }
  )

const nameTaken = (name: string, uuid: string, host: string) =>
  ownError(
    'name_taken',
    `${host} has a VM ${quote(name)} already (${uuid})`,
    'look at the VM',
    'choose another name, or rename that VM first',
    { host, uuid }
  )

const notRenamed = (name: string, host: string, is: string | undefined) =>
  ownError(
    'vm_not_renamed',
    `${host} accepted the name ${quote(name)} and shows ${is === undefined ? 'no such VM' : quote(is)}`,
    'look at the VM again',
    'look at the host and retry the task',
    { host }
  )

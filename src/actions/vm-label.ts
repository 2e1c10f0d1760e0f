// Sets and removes labels of a VM: rows of ours, by which people pick VMs and placement keeps some apart (`anti-affinity=GROUP`).
import { Type } from 'typebox'
import { resource } from '../model/resource.ts'
import { action, complete, type Probe } from './action.ts'
import { attempt } from './attempt.ts'
import { changed, checkLabels, labelArgs, putBack } from './label-args.ts'
import { VmRef } from './refs.ts'
import { exclusive, vmTitle } from './vm-place.ts'
import { named, ownVm } from './vm-refusal.ts'

const args = Type.Object({ vm: VmRef, ...labelArgs }, { additionalProperties: false })

export const vmLabel = action({
  name: 'vm.label',
  summary: 'Set and remove labels of a VM',
  args,
  title: ({ vm }, state) => vmTitle('Label', vm, state),
  claims: ({ vm }) => [exclusive(resource.vm(vm))],
  check(given, state) {
    const { vm, refusal } = ownVm(given.vm, state)
    return refusal ?? checkLabels(named(vm), vm.labels ?? {}, given)
  },
  effect: (given, state) => [
    { subject: resource.vm(given.vm), facts: { labels: changed(state.vm(given.vm)?.labels ?? {}, given) } }
  ],
  run: (ctx, given) =>
    attempt(
      ctx,
      async (step) => {
        step('write the labels')
        await ctx.observe.setLabels('vm', given.vm, { set: given.set ?? {}, remove: given.remove ?? [] })
        return complete({ labels: changed(ctx.state.vm(given.vm)?.labels ?? {}, given) })
      },
      { probe }
    ),
  probe,
  undo: (given, state) => ({
    action: 'vm.label',
    args: { vm: given.vm, ...putBack(state.vm(given.vm)?.labels ?? {}, given) }
  })
})

/** Rows of our own: writing them again changes nothing. */
async function probe(): Promise<Probe> {
  return { happened: 'no', evidence: null }
}

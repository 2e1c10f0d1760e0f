// The mark that a task leaves on what it makes, so that another attempt of it knows its own again.
import type { VmMark } from '../model/vm.ts'
import type { ActionContext } from './action.ts'

/** @param replaced the mark of what this replaces; the generation counts on from there */
export const markOf = (ctx: ActionContext, replaced: VmMark | null = null): VmMark => ({
  instance: ctx.instance,
  task: ctx.task.id,
  generation: (replaced?.generation ?? 0) + 1
})

/** Made by this task, in this attempt or an earlier one. */
export const isOurs = (ctx: ActionContext, { mark }: { mark: VmMark | null }): boolean =>
  mark?.instance === ctx.instance && mark.task === ctx.task.id

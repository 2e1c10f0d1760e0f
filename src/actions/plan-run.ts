// A plan that is undone when a part fails, as a task of its own: it holds what all parts claim until the last of them has ended, or
// has been undone, so that nothing slips in between. Made by submit.ts, never asked for by name.
import { Type } from 'typebox'
import type { JsonObject } from '../db/json.ts'
import type { EndedChild } from '../queue/dispatch.ts'
import type { NewTask } from '../queue/task.ts'
import { action, complete, expand, possible, type ActionContext, type Outcome } from './action.ts'
import { holding, partsDone, planUndo, settleUndone } from './rollback.ts'

const args = Type.Object({ tasks: Type.Array(Type.Unknown()) }, { additionalProperties: false })

export const planRun = action({
  name: 'plan.run',
  summary: 'Run a plan, and undo what was done when a part fails',
  args,
  title: ({ tasks }) => planTitle(undefined, tasks.length),
  claims: () => [],
  check: () => possible,
  effect: () => [],
  // Its parts were asked of predicted state as they were submitted; each is asked of observed state as it starts.
  run: (_, { tasks }) => Promise.resolve(expand(tasks as NewTask[])),
  afterChildren: (ctx, _, children) => afterParts(ctx, children),
  // Without parts nothing has happened. What is left of an undoing is an operator's.
  async probe(ctx) {
    if (!(await ctx.hasParts())) return { happened: 'no', evidence: null }
    return { happened: 'unknown', evidence: null, why: 'what was not undone waits for an operator' }
  }
})

async function afterParts(ctx: ActionContext, children: readonly EndedChild[]): Promise<Outcome> {
  const bad = children.find(({ state, undoes }) => undoes === null && state !== 'complete')
  if (!bad) return complete({ children: children.length })
  await ctx.dropPromises()
  const parts = partsDone(children)
  if (!children.some(({ undoes }) => undoes !== null)) {
    ctx.step('undo what was done')
    const undoing = await planUndo(ctx, parts)
    if (undoing.length > 0) return expand(undoing)
  }
  const code = bad.state === 'cancelled' ? 'plan_cancelled' : 'plan_failed'
  const cause = `task ${bad.id} (${bad.title}) ${bad.state === 'cancelled' ? 'was cancelled' : 'failed'}`
  return settleUndone(ctx, { code, cause, bad }, parts, children)
}

const planTitle = (name: string | undefined, parts: number): string =>
  name === undefined ? `Run a plan of ${parts} tasks` : `Run the plan ${name}`

/** The task that runs the parts. */
export function planTask(name: string | undefined, parts: readonly NewTask[]): NewTask {
  const after = parts.flatMap((part) => (part.after ?? []).filter(({ task }) => typeof task === 'number'))
  return {
    ...holding(parts),
    action: planRun.name,
    title: planTitle(name, parts.length),
    args: { tasks: parts as unknown as JsonObject[] },
    after: [...new Map(after.map((edge) => [JSON.stringify(edge), edge])).values()]
  }
}

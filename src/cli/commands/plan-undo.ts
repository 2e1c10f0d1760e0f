// plan undo: what a plan that has ended did is undone, the last first.
import type { PlanUndone } from '../../api/task.ts'
import type { OperandSpec, OwnCommand } from '../command.ts'
import { clean } from '../render.ts'
import { printTasks, waitForTasks } from '../wait.ts'

const id: OperandSpec = { name: 'id', help: "the plan's number", kind: 'count', names: 'plan' }

export const planUndo: OwnCommand = {
  verb: 'undo',
  summary: 'Undo what a plan that has ended did, the last first',
  operands: [id],
  options: [{ flags: '--reason <text>', help: 'why; kept with the task', kind: 'text' }],
  waits: true,
  async run(cli, { operands, options }, common) {
    const body = options['reason'] === undefined ? {} : { reason: options['reason'] }
    const { task, left } = await cli.client().post<PlanUndone>(`/plans/${Number(operands['id']?.[0])}/undo`, body)
    for (const one of left) cli.say(`task ${one.task} (${clean(one.title)}) is not undone: ${clean(one.why)}`)
    if (common.wait) return waitForTasks(cli, [task], { timeoutSeconds: common.timeout })
    await printTasks(cli, [task])
    return 'done'
  }
}

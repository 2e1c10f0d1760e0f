// task verdict: an operator who has looked says whether an uncertain task happened.
import type { Cli } from '../context.ts'
import type { Given, OwnCommand } from '../command.ts'
import { usage, type ExitName } from '../failure.ts'
import { printTasks } from '../wait.ts'

const words = ['happened', 'did-not']

async function give(cli: Cli, { operands, options }: Given): Promise<ExitName> {
  const task = Number(operands['id']?.[0])
  const verdict = operands['verdict']?.[0] ?? ''
  if (!words.includes(verdict)) {
    throw usage(
      `${JSON.stringify(verdict)} is no verdict: it is ${words.join(' or ')}`,
      'look at the evidence: `taskomatic task show ID`'
    )
  }
  await cli.client().post(`/tasks/${task}/verdict`, { verdict, reason: options['reason'] })
  await printTasks(cli, [task])
  return 'done'
}

export const taskVerdict: OwnCommand = {
  verb: 'verdict',
  summary: 'Say of an uncertain task whether it happened, once you have looked',
  operands: [
    { name: 'id', help: "the task's number", kind: 'count', names: 'task' },
    { name: 'verdict', help: 'happened: it ends as complete; did-not: as failed, and may be retried', kind: 'text' }
  ],
  options: [{ flags: '--reason <text>', help: 'how you know; kept for good', kind: 'text', required: true }],
  run: give,
  more: 'Its evidence is shown by `taskomatic task show ID`. Example: taskomatic task verdict 41 did-not --reason "no such VM on h2"'
}

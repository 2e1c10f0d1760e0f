// plan: many tasks in one file, submitted together.
import type { PlanSubmission } from '../../api/submission.ts'
import type { PlanView, TaskPage } from '../../api/task.ts'
import type { Cli } from '../context.ts'
import type { Given, NounSpec, OperandSpec } from '../command.ts'
import { usage, type ExitName } from '../failure.ts'
import type { CommonOptions } from '../program.ts'
import { printList, printOne, sheet } from '../render.ts'
import { dryRun, follow, refuseGraphs, submit } from '../submit.ts'
import { taskView } from '../tasks.ts'
import { waitForTasks } from '../wait.ts'
import { planUndo } from './plan-undo.ts'

const id: OperandSpec = { name: 'id', help: "the plan's number", kind: 'count', names: 'plan' }
const idOf = ({ operands }: Given): number => Number(operands['id']?.[0])

async function submitFile(cli: Cli, { options }: Given, common: CommonOptions): Promise<ExitName> {
  refuseGraphs(common)
  const file = String(options['file'])
  const plan = await readPlan(await cli.readInput(file), file)
  const body = {
    ...plan,
    ...(options['reason'] === undefined ? {} : { reason: options['reason'] }),
    ...(options['onFailure'] === undefined ? {} : { onFailure: options['onFailure'] })
  }
  if (common.dryRun) return dryRun(cli, { path: '/plans', body }, common)
  return follow(cli, await submit(cli, '/plans', body), common)
}

/** YAML or JSON, which is YAML too; a list alone is its tasks. What is in it the server checks. */
async function readPlan(text: string, file: string): Promise<PlanSubmission> {
  const { parse } = await import('yaml')
  let value: unknown
  try {
    value = parse(text, { maxAliasCount: 100 })
  } catch (error) {
    throw usage(
      `${file} is neither YAML nor JSON: ${(error as Error).message.split('\n')[0]}`,
      'correct it; see `taskomatic plan submit --help`'
    )
  }
  if (Array.isArray(value)) return { tasks: value }
  if (typeof value !== 'object' || value === null || !('tasks' in value))
    throw usage(`${file} holds no tasks`, 'write a list `tasks:`; see `taskomatic plan submit --help`')
  return value as PlanSubmission
}

async function tasksOf(cli: Cli, plan: number): Promise<TaskPage['items']> {
  const rows: TaskPage['items'] = []
  let cursor: string | undefined
  do {
    const page: TaskPage = await cli.client().get('/tasks', { plan, limit: 500, cursor })
    rows.push(...page.items)
    cursor = page.next ?? undefined
  } while (cursor !== undefined)
  return rows.toSorted((a, b) => a.id - b.id)
}

/** A plan's tasks, each with what became of undoing it. */
const withUndo: typeof taskView = {
  ...taskView,
  columns: taskView.columns.toSpliced(2, 0, { title: 'UNDO', value: ({ undo }) => (undo === 'none' ? '' : undo) })
}

export const plan: NounSpec = {
  noun: 'plan',
  summary: 'Plans: tasks submitted together, all or none',
  commands: [
    {
      verb: 'submit',
      summary: 'Submit a plan from a file',
      options: [
        { flags: '-f, --file <file>', help: 'YAML or JSON; - for standard input', kind: 'file', required: true },
        {
          flags: '--on-failure <policy>',
          help: 'stop (default), continue or rollback: undo what was done',
          kind: 'text',
          choices: ['stop', 'continue', 'rollback']
        },
        { flags: '--reason <text>', help: 'why; kept with the tasks', kind: 'text' }
      ],
      waits: true,
      previews: true,
      run: submitFile,
      more: `Example:
  onFailure: stop
  tasks:
    - key: make
      action: vm.create
      args: { name: web1, memoryMiB: 1024, vcpus: 1, host: h1 }
    - action: vm.start
      args: { vm: web1 }
      after: [make]`
    },
    {
      verb: 'show',
      summary: 'Show a plan and its tasks',
      operands: [id],
      async run(cli, given) {
        const found = await cli.client().get<PlanView>(`/plans/${idOf(given)}`)
        await printOne(
          cli,
          found,
          (one) => String(one.id),
          () =>
            sheet([
              ['Plan', `${found.id}  ${found.name ?? ''}`],
              [
                'Tasks',
                Object.entries(found.counts)
                  .map(([state, count]) => `${count} ${state}`)
                  .join(', ')
              ],
              ['Outcome', found.outcome],
              [
                'Undone',
                Object.entries(found.undone)
                  .map(([state, count]) => `${count} ${state}`)
                  .join(', ')
              ],
              ['If one fails', found.onFailure],
              ['Submitted', `${found.submittedAt} by ${found.by}`],
              ['Reason', found.reason]
            ])
        )
        if (cli.format === 'table' || cli.format === 'wide')
          await printList(cli, await tasksOf(cli, found.id), withUndo)
        return 'done'
      }
    },
    {
      verb: 'wait',
      summary: "Wait for the end of a plan's tasks",
      operands: [id],
      options: [{ flags: '--timeout <duration>', help: 'no longer than this', kind: 'seconds' }],
      async run(cli, given) {
        const rows = await tasksOf(cli, idOf(given))
        return waitForTasks(
          cli,
          rows.map((row) => row.id),
          { timeoutSeconds: given.options['timeout'] as number | undefined, plan: idOf(given) }
        )
      }
    },
    planUndo
  ]
}

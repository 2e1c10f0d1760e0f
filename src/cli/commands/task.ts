// task: what was asked for, how it goes, why it waits, and what an operator may do about it.
import type { LogLine, TaskPage, TaskSummary, TaskView, Why } from '../../api/task.ts'
import type { Cli } from '../context.ts'
import type { Given, NounSpec, OperandSpec, OwnCommand } from '../command.ts'
import type { ExitName } from '../failure.ts'
import { clean, printList, printOne, type View } from '../render.ts'
import { logText, taskSheet, taskView, whyText } from '../tasks.ts'
import { printTasks, waitForTasks } from '../wait.ts'
import { printFrom, textOption } from './reading.ts'
import { taskVerdict } from './task-verdict.ts'

const id: OperandSpec = { name: 'id', help: "the task's number", kind: 'count', names: 'task' }
const ids: OperandSpec = { ...id, help: "tasks' numbers", many: true }

const idOf = ({ operands }: Given): number => Number(operands['id']?.[0])
const idsOf = ({ operands }: Given): number[] => [...new Set((operands['id'] ?? []).map(Number))]

const states =
  'held, waiting, scheduled, parked, ready, running, awaiting, cancelling, uncertain, complete, failed, cancelled'

async function list(cli: Cli, { options }: Given): Promise<ExitName> {
  // A limit that was given holds, with --all too.
  const wanted = Number(options['limit'] ?? (options['all'] ? Number.POSITIVE_INFINITY : 50))
  const rows: TaskSummary[] = []
  let cursor: string | undefined
  do {
    const page: TaskPage = await cli.client().get('/tasks', {
      state: (options['state'] as string[] | undefined)?.join(','),
      action: textOption(options['action']),
      vm: textOption(options['vm']),
      host: textOption(options['host']),
      resource: textOption(options['resource']),
      plan: options['plan'] as number | undefined,
      text: textOption(options['text']),
      limit: Math.min(500, wanted - rows.length),
      cursor
    })
    rows.push(...page.items)
    cursor = page.next ?? undefined
  } while (cursor !== undefined && rows.length < wanted)
  await printList(cli, rows, taskView)
  if (cursor !== undefined) cli.say(`there are more: --limit ${wanted * 2}, or --all alone`)
  return 'done'
}

/** Prints a task's changes until it ends. */
async function watch(cli: Cli, given: Given): Promise<ExitName> {
  const task = await cli.client().get<TaskView>(`/tasks/${idOf(given)}`)
  cli.say(`task ${task.id}: ${clean(task.title)}`)
  return waitForTasks(cli, [task.id], {})
}

async function log(cli: Cli, given: Given): Promise<ExitName> {
  const task = idOf(given)
  const { items } = await cli.client().get<{ items: LogLine[] }>(`/tasks/${task}/log`)
  if (cli.format === 'table' || cli.format === 'wide') for (const line of items) cli.out.write(logText(line))
  else await printList(cli, items, { name: (line) => String(line.id), columns: [] })
  return 'done'
}

/** One of the operator's wishes, for each task. */
function wish(
  verb: 'cancel' | 'retry' | 'hold' | 'release',
  summary: string,
  more: Partial<OwnCommand> = {}
): OwnCommand {
  return {
    verb,
    summary,
    operands: [ids],
    ...more,
    async run(cli, given, common) {
      const { reason, withDependants } = given.options as { reason?: string; withDependants?: boolean }
      const body = { ...(reason === undefined ? {} : { reason }), ...(withDependants ? { withDependants } : {}) }
      for (const task of idsOf(given)) await cli.client().post(`/tasks/${task}/${verb}`, body)
      if (more.waits && common.wait) return waitForTasks(cli, idsOf(given), { timeoutSeconds: common.timeout })
      await printTasks(cli, idsOf(given))
      return 'done'
    }
  }
}

const reason = { flags: '--reason <text>', help: 'why; kept with the task', kind: 'text' } as const

export const task: NounSpec = {
  noun: 'task',
  summary: 'Tasks: what was asked for',
  commands: [
    {
      verb: 'list',
      aliases: ['ls'],
      summary: 'List tasks, newest first',
      options: [
        {
          flags: '--state <states>',
          help: `only these, with commas or repeated: ${states}; also open, ended`,
          kind: 'text',
          many: true
        },
        { flags: '--action <action>', help: 'only of this action, e.g. vm.start', kind: 'text', names: 'action' },
        { flags: '--vm <vm>', help: 'only those that touch this VM', kind: 'text', names: 'vm' },
        { flags: '--host <host>', help: 'only those that touch this host', kind: 'text', names: 'host' },
        { flags: '--resource <resource>', help: 'only those that touch it, e.g. pool/h1/data', kind: 'text' },
        { flags: '--plan <id>', help: 'only of this plan', kind: 'count', names: 'plan' },
        { flags: '--text <text>', help: 'only with this in the title', kind: 'text' },
        { flags: '--limit <number>', help: 'so many at most; default 50', kind: 'count', max: 1_000_000 },
        { flags: '--all', help: 'all of them', kind: 'flag' }
      ],
      run: list
    },
    {
      verb: 'show',
      summary: 'Show a task',
      operands: [id],
      async run(cli, given) {
        const found = await cli.client().get<TaskView>(`/tasks/${idOf(given)}`)
        await printOne(cli, found, taskView.name, () => taskSheet(found))
        return 'done'
      }
    },
    { verb: 'watch', summary: "Print a task's changes until it ends", operands: [id], run: watch },
    {
      verb: 'why',
      summary: 'Say why a task is where it is, and what ends it',
      operands: [id],
      async run(cli, given) {
        const found = await cli.client().get<Why>(`/tasks/${idOf(given)}/why`)
        await printOne(
          cli,
          found,
          (why) => String(why.id),
          () => whyText(found)
        )
        return 'done'
      }
    },
    {
      verb: 'wait',
      summary: 'Wait for the end of tasks',
      operands: [ids],
      options: [{ flags: '--timeout <duration>', help: 'no longer than this', kind: 'seconds' }],
      run: (cli, given) =>
        waitForTasks(cli, idsOf(given), { timeoutSeconds: given.options['timeout'] as number | undefined })
    },
    { verb: 'log', summary: 'Print what a task did and met', operands: [id], run: log },
    wish('cancel', 'Cancel tasks: queued ones at once, running ones as soon as they can stop', {
      options: [reason],
      waits: true
    }),
    wish('retry', 'Try tasks that failed or were cancelled again', {
      options: [{ flags: '--with-dependants', help: 'and those that failed because of it', kind: 'flag' }],
      waits: true
    }),
    wish('hold', 'Hold tasks that have not started', { options: [{ ...reason, required: true }] }),
    wish('release', 'Release held tasks'),
    taskVerdict
  ]
}

type ActionRow = { name: string; summary: string; irreversible: boolean }
const actionView: View<ActionRow> = {
  name: (action) => action.name,
  columns: [
    { title: 'ACTION', value: (action) => action.name },
    { title: 'SUMMARY', value: (action) => action.summary },
    { title: 'UNDO', value: (action) => (action.irreversible ? 'impossible' : '') }
  ]
}

export const actionNoun: NounSpec = {
  noun: 'action',
  summary: 'Actions: what tasks can be made of; `-o json` has the schemas of their arguments',
  commands: [
    { verb: 'list', aliases: ['ls'], summary: 'List actions', run: (cli) => printFrom(cli, '/actions', {}, actionView) }
  ]
}

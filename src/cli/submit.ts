// Words as tasks: one name makes one task, several make one plan, whose parts do not wait for each other's success.
import { randomUUID } from 'node:crypto'
import type { Preview, Submitted } from '../api/submission.ts'
import type { ActionCommand, Given } from './command.ts'
import { readCloudInit } from './cloud-init.ts'
import type { Cli } from './context.ts'
import { CliError, usage, type ExitName } from './failure.ts'
import { confirm } from './confirm.ts'
import { printPreview, type PreviewFormat } from './preview.ts'
import { optionValue, type CommonOptions } from './program.ts'
import { select, selectable } from './select.ts'
import { valueOf } from './values.ts'
import { printTasks, waitForTasks } from './wait.ts'

type AskedTask = { key?: string; action: string; args: Record<string, unknown>; after?: (string | number)[] } & Record<
  string,
  unknown
>

export async function runAction(
  cli: Cli,
  command: ActionCommand,
  given: Given,
  common: CommonOptions
): Promise<ExitName> {
  refuseGraphs(common)
  const tasks = await tasksOf(cli, command, await withSelected(cli, command, given, common))
  const { irreversible } = command
  const isFinal = typeof irreversible === 'function' ? tasks.some(({ args }) => irreversible(args)) : irreversible
  if (isFinal && !common.dryRun && !common.yes)
    await confirm(cli, tasks.length === 1 ? command.summary : `${command.summary}: ${tasks.length} times`)
  const body = bodyOf(tasks, common)
  if (common.dryRun) return dryRun(cli, body, common)
  const submitted = await submit(cli, body.path, body.body)
  return follow(cli, submitted, common)
}

/** A graph is what a dry run prints; what was stored is printed as a list. */
export function refuseGraphs({ dryRun: dry, output, graph }: CommonOptions): void {
  if (dry || (output !== 'dot' && graph === undefined)) return
  throw usage(`${graph === undefined ? '-o dot' : '--graph'} is for --dry-run`, 'add --dry-run, or leave it out')
}

/** Waits and prints as the options say, or as the terminal does. */
export async function follow(cli: Cli, submitted: Submitted, common: CommonOptions): Promise<ExitName> {
  for (const { id, title } of submitted.tasks.slice(0, 20)) cli.say(`task ${id}: ${title}`)
  if (submitted.tasks.length > 20) cli.say(`… ${submitted.tasks.length - 20} more`)
  if (submitted.plan !== null) cli.say(`plan ${submitted.plan}: ${submitted.tasks.length} tasks`)
  for (const { id, title } of submitted.overtaken ?? []) cli.say(`made way: task ${id}, ${title}`)
  const ids = submitted.tasks.map(({ id }) => id)
  const wait = common.wait ?? (common.timeout !== undefined || cli.out.isTTY === true)
  if (!wait) {
    await printTasks(cli, ids)
    return 'done'
  }
  return waitForTasks(cli, ids, { timeoutSeconds: common.timeout, plan: submitted.plan })
}

export async function dryRun(
  cli: Cli,
  { path, body }: { path: string; body: object },
  common: CommonOptions
): Promise<ExitName> {
  const preview = await cli.client().post<Preview>(path, body, { query: { dryRun: 'true' } })
  const format = common.graph ?? common.output ?? 'text'
  await printPreview(cli, preview, format as PreviewFormat)
  return 'done'
}

/** Sent again when no answer came: the key makes that safe. */
export async function submit(cli: Cli, path: string, body: object): Promise<Submitted> {
  const idempotencyKey = randomUUID()
  for (let tries = 1; ; tries++) {
    try {
      return await cli.client().post<Submitted>(path, body, { idempotencyKey })
    } catch (error) {
      if (tries === 3 || !mayHaveArrived(error)) throw error
      cli.say('no answer; asking again')
    }
  }
}

function mayHaveArrived(error: unknown): boolean {
  if (!(error instanceof CliError)) return false
  const { code } = (error.cause ?? {}) as { code?: string }
  return (
    code === 'ECONNRESET' ||
    code === 'EPIPE' ||
    (error.problem as { code?: string } | undefined)?.code === 'outcome_unknown'
  )
}

/** Names that labels pick, where they are given by labels. */
async function withSelected(cli: Cli, command: ActionCommand, given: Given, { label }: CommonOptions): Promise<Given> {
  const operand = selectable(command)
  if (!operand) return given
  const words = given.operands[operand.name] ?? []
  if (label === undefined && words.length === 0)
    throw usage(
      `nothing is named: missing required argument '${operand.name}'`,
      `name some, or pick them by labels: -l key=value`
    )
  if (label === undefined) return given
  if (words.length > 0) throw usage('both names and labels are given', 'leave one of them out')
  return { ...given, operands: { ...given.operands, [operand.name]: await select(cli, operand.names, label) } }
}

async function tasksOf(cli: Cli, command: ActionCommand, given: Given): Promise<AskedTask[]> {
  const shared: Record<string, unknown> = { ...command.fixed }
  for (const option of command.options ?? []) {
    const value = optionValue(given, option)
    if (option.arg === undefined || value === undefined) continue
    if (option.kind === 'file') shared[option.arg] = await cli.readInput(value as string)
    else if (option.kind === 'cloudInit') shared[option.arg] = await readCloudInit(cli, value as Map<string, string>)
    else shared[option.arg] = value
  }
  const operands = command.operands ?? []
  // Several values of an operand that is no argument are one task's.
  const many = operands.find((operand) => operand.many && operand.arg !== undefined)
  const hosts = hostsOf(command, shared)
  for (const operand of operands) {
    const [word] = given.operands[operand.name] ?? []
    if (operand === many || word === undefined || operand.arg === undefined) continue
    shared[operand.arg] = valueOf(operand.kind, word, operand.name, operand)
  }
  const words = many ? (given.operands[many.name] ?? []) : [undefined]
  if (new Set(words).size < words.length) throw usage('the same name is given twice', 'give each name once')
  const each = words.flatMap((word) =>
    hosts.flatMap((host): Record<string, unknown>[] => {
      const one: Record<string, unknown> = {
        ...shared,
        ...host,
        ...(many?.arg && word !== undefined ? { [many.arg]: valueOf(many.kind, word, many.name, many) } : {})
      }
      return [command.finish?.(one, given) ?? one].flat()
    })
  )
  return each.flatMap((args, index) => {
    const key = `t${index}`
    const further = command.followedBy?.(args, given) ?? []
    const followers = further.map((task, at) => ({
      ...task,
      key: `${key}-${at}`,
      after: [at === 0 ? key : `${key}-${at - 1}`]
    }))
    return [{ key, action: command.action, args }, ...followers]
  })
}

/** `--host h1,h2` of an action that has a host is one task for each. */
function hostsOf(command: ActionCommand, shared: Record<string, unknown>): { host?: string }[] {
  const option = command.options?.find(({ arg }) => arg === 'host')
  const text = shared['host']
  if (!option || typeof text !== 'string') return [{}]
  const hosts = text.split(',')
  if (hosts.includes(''))
    throw usage(`--host ${JSON.stringify(text)} names an empty host`, 'write h1,h2 without blanks')
  if (new Set(hosts).size < hosts.length) throw usage('the same host is given twice', 'give each host once')
  return hosts.map((host) => ({ host }))
}

function bodyOf(tasks: AskedTask[], common: CommonOptions): { path: string; body: object } {
  const [first] = tasks
  if (!first) throw usage('there is nothing to do', 'name something')
  const after = (common.after ?? []).map((text) => Number(valueOf('count', text, '--after')))
  const each = {
    ...(common.priority === undefined ? {} : { priority: common.priority }),
    ...(common.at === undefined ? {} : { notBefore: common.at }),
    ...(common.hold === undefined ? {} : { hold: { reason: common.hold } })
  }
  const reason = common.reason === undefined ? {} : { reason: common.reason }
  if (tasks.length === 1) {
    const { action, args } = first
    return { path: '/tasks', body: { action, args, ...each, ...(after.length > 0 ? { after } : {}), ...reason } }
  }
  const body = {
    onFailure: 'continue',
    ...reason,
    tasks: tasks.map((task) => ({
      ...task,
      ...each,
      ...(after.length > 0 || task.after ? { after: [...(task.after ?? []), ...after] } : {})
    }))
  }
  return { path: '/plans', body }
}

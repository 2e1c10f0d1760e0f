// One noun's table as a commander program: options, help, operands. Commander only reads words; what they mean is said here.
import { Command, CommanderError, Option } from 'commander'
import { commandOf, isAction, type CommandSpec, type Given, type NounSpec, type OptionSpec } from './command.ts'
import { usage } from './failure.ts'
import { labelOption, selectable } from './select.ts'
import { formats } from './render.ts'
import { valueOf } from './values.ts'

export type Chosen = { noun: string; command: CommandSpec; given: Given; common: CommonOptions }

/** What every command, or every one that submits, takes. */
export type CommonOptions = {
  output?: string
  wait?: boolean
  timeout?: number
  dryRun?: boolean
  graph?: string
  reason?: string
  priority?: number
  at?: string
  hold?: string
  after?: string[]
  onFailure?: string
  yes?: boolean
  now?: boolean
  /** Labels in place of names. */
  label?: string
}

const outputOption: OptionSpec = {
  flags: '-o, --output <format>',
  help: `how to print: ${formats.join(', ')}`,
  kind: 'text',
  choices: formats
}
const previewFormats = [...formats, 'text', 'dot'] as const
const previewOutputOption: OptionSpec = {
  ...outputOption,
  help: `how to print: ${formats.join(', ')}; of --dry-run also text (default), dot`,
  choices: previewFormats
}
const waitOptions: readonly OptionSpec[] = [
  { flags: '--wait', help: 'wait for the end (the default on a terminal)', kind: 'flag' },
  { flags: '--no-wait', help: 'do not wait', kind: 'flag' },
  { flags: '--timeout <duration>', help: 'wait no longer than this; the tasks go on', kind: 'seconds' }
]
const previewOptions: readonly OptionSpec[] = [
  { flags: '--dry-run', help: 'print the graph of the tasks that would be made, make none', kind: 'flag' },
  {
    flags: '--graph <format>',
    help: 'how --dry-run prints: text, json, dot; as -o',
    kind: 'text',
    choices: ['text', 'json', 'dot']
  }
]
const submitOptions: readonly OptionSpec[] = [
  ...previewOptions,
  { flags: '--reason <text>', help: 'why; kept with the task', kind: 'text' },
  { flags: '--priority <number>', help: 'larger first, -100 to 100; default 0', kind: 'count', min: -100, max: 100 },
  { flags: '--at <time>', help: 'not before: 22:30, +2h, 2026-03-01T22:30', kind: 'time' },
  { flags: '--hold <reason>', help: 'hold until released', kind: 'text' },
  { flags: '--after <id>', help: 'wait for this task; may be repeated', kind: 'text', many: true, names: 'task' }
]
const yesOption: OptionSpec = { flags: '-y, --yes', help: 'do not ask', kind: 'flag' }

/** Options of a command with those that all of its kind have; an action's own option hides a common one of its name. */
export function optionsOf(command: CommandSpec): readonly OptionSpec[] {
  const own = command.options ?? []
  const common: OptionSpec[] = [isAction(command) || command.previews ? previewOutputOption : outputOption]
  if (isAction(command)) common.push(...submitOptions, ...waitOptions, ...(command.irreversible ? [yesOption] : []))
  else common.push(...(command.previews ? previewOptions : []), ...(command.waits ? waitOptions : []))
  if (selectable(command)) common.push(labelOption)
  const taken = new Set(own.map(({ flags }) => longName(flags)))
  return [...own, ...common.filter(({ flags }) => !taken.has(longName(flags)))]
}

const longName = (flags: string): string => /--(?:no-)?([a-z][a-z-]*)/.exec(flags)?.[0] ?? flags
const camel = (flags: string): string =>
  longName(flags)
    .replace(/^--(no-)?/, '')
    .replace(/-([a-z])/g, (_, letter: string) => letter.toUpperCase())

export type HelpStreams = { out: (text: string) => void; err: (text: string) => void }

/** Reads the words after the noun. Undefined when help was printed. @throws CliError usage */
export async function readCommand(
  noun: NounSpec,
  words: readonly string[],
  streams: HelpStreams
): Promise<Chosen | undefined> {
  let chosen: Chosen | undefined
  const program = settings(new Command(noun.noun), streams).description(noun.summary).usage('VERB [NAME…] [options]')
  const groups = new Map<string, Command>()
  for (const command of noun.commands) {
    const sub = settings(groupOf(program, groups, command, streams), streams).description(command.summary)
    if (command.aliases) sub.aliases([...command.aliases])
    describe(sub, command)
    sub.action(() => {
      chosen = { noun: noun.noun, command, ...understood(command, sub) }
    })
  }
  if (words.length === 0) {
    program.outputHelp()
    return undefined
  }
  try {
    await program.parseAsync([...words], { from: 'user' })
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error
    if (error.exitCode === 0) return undefined
    throw usage(error.message.replace(/^error: /, ''), nextFor(error, noun, words))
  }
  return chosen
}

/** The program for a command's last word: `vm disk add` is `add` of a program for `disk`. */
function groupOf(program: Command, groups: Map<string, Command>, { verb }: CommandSpec, streams: HelpStreams): Command {
  const [first = '', second] = verb.split(' ')
  if (second === undefined) return program.command(first)
  let group = groups.get(first)
  if (!group) {
    group = settings(program.command(first), streams).usage('VERB [NAME…] [options]')
    group.action(() => group?.outputHelp())
    group.allowExcessArguments(false)
    groups.set(first, group)
  }
  group.summary(
    group.commands
      .map((sub) => sub.name())
      .concat(second)
      .join(', ')
  )
  return group.command(second)
}

function settings(command: Command, streams: HelpStreams): Command {
  return command
    .exitOverride()
    .helpCommand(false)
    .configureOutput({ writeOut: streams.out, writeErr: () => undefined, outputError: () => undefined })
    .configureHelp({ commandUsage: (sub) => usageOf(sub) })
}

const usageOf = (command: Command): string => {
  const names: string[] = []
  for (let at: Command | null = command; at; at = at.parent) names.unshift(at.name())
  return `taskomatic ${names.join(' ')} ${command.usage()}`
}

function describe(sub: Command, command: CommandSpec): void {
  for (const operand of command.operands ?? []) {
    const dots = operand.many ? '...' : ''
    sub.argument(
      operand.optional || operand.name === selectable(command)?.name
        ? `[${operand.name}${dots}]`
        : `<${operand.name}${dots}>`,
      operand.help
    )
  }
  for (const option of optionsOf(command)) {
    const made = new Option(option.flags, option.help)
    if (option.many) made.argParser((text: string, before: string[] | undefined) => [...(before ?? []), text])
    if (option.required) made.makeOptionMandatory()
    sub.addOption(made)
  }
  if (command.aliases?.length) sub.addHelpText('after', `\nAlso: ${command.aliases.join(', ')}`)
  if (command.more) sub.addHelpText('after', `\n${command.more}`)
}

function understood(command: CommandSpec, sub: Command): { given: Given; common: CommonOptions } {
  const operands: Record<string, string[]> = {}
  for (const [index, operand] of (command.operands ?? []).entries()) {
    const words = [sub.processedArgs[index] as string | string[] | undefined]
      .flat()
      .filter((word) => word !== undefined)
    for (const word of words) valueOf(operand.kind, word, operand.name, operand)
    operands[operand.name] = words
  }
  const raw = sub.opts<Record<string, unknown>>()
  const options: Record<string, unknown> = {}
  const common: Record<string, unknown> = {}
  const own = new Set((command.options ?? []).map(({ flags }) => camel(flags)))
  for (const option of optionsOf(command)) {
    const name = camel(option.flags)
    const text = raw[name]
    if (text === undefined) continue
    const what = longName(option.flags)
    const value =
      typeof text === 'boolean'
        ? text
        : Array.isArray(text)
          ? text.map((one: string) => valueOf(option.kind, one, what, option))
          : valueOf(option.kind, text as string, what, option)
    ;(own.has(name) ? options : common)[name] = value
  }
  return { given: { operands, options }, common }
}

export const optionValue = (given: Given, option: OptionSpec): unknown => given.options[camel(option.flags)]

function nextFor(error: CommanderError, noun: NounSpec, words: readonly string[]): string {
  const verb = commandOf(noun, words)?.verb
  const inGroup = noun.commands.filter((command) => command.verb.startsWith(`${words[0]} `))
  if (verb === undefined)
    return `one of ${(inGroup.length > 0 ? inGroup : noun.commands).map((command) => command.verb).join(', ')}`
  return `see \`taskomatic ${noun.noun}${verb ? ` ${verb}` : ''} --help\``
}

// What a command is, as data: a noun's table says which words there are, which action each submits, and how text becomes
// arguments. Help, completion and the commands themselves are made of these tables, without asking a server.
import type { Cli } from './context.ts'
import type { ExitName } from './failure.ts'
import type { CommonOptions } from './program.ts'

/** What completes the word from the server's names. */
export type Names = 'vm' | 'host' | 'pool' | 'store' | 'volume' | 'image' | 'task' | 'plan' | 'action'

/** How an option's or operand's text becomes a value; see values.ts. */
export type Kind =
  | 'text'
  | 'flag'
  | 'count'
  | 'mib'
  | 'seconds'
  | 'time'
  | 'disk'
  | 'nic'
  /** The text of the file that is named; `-` is standard input. */
  | 'file'
  /** Fields and files for the first boot: see cloud-init.ts beside this file. */
  | 'cloudInit'

export type OptionSpec = {
  /** As commander reads it: `--memory <size>`, `-l, --label <label=value>`, `--force`. */
  flags: string
  help: string
  kind: Kind
  /** The action's argument that it sets; left out for what the command itself reads. */
  arg?: string
  /** May be given several times: the argument is a list. */
  many?: true
  required?: true
  choices?: readonly string[]
  names?: Names
  /** `--to` for `--host`, where another manager's users would write it. */
  min?: number
  max?: number
}

export type OperandSpec = {
  /** In help: `<vm>`. */
  name: string
  help: string
  kind: Kind
  arg?: string
  /** Many values: one task each. Only the last operand. */
  many?: true
  optional?: true
  choices?: readonly string[]
  names?: Names
}

export type Given = {
  operands: Record<string, string[]>
  /** By the flags' long name in camel case. */
  options: Record<string, unknown>
}

type Words = {
  /** One word, or two: `disk add`. */
  verb: string
  /** Other managers' words for it. */
  aliases?: readonly string[]
  summary: string
  operands?: readonly OperandSpec[]
  options?: readonly OptionSpec[]
  /** Further lines of help. */
  more?: string
}

/** Submits tasks. */
export type ActionCommand = Words & {
  action: string
  /** Cannot be undone (with these arguments): asked about on a terminal, unless --yes. */
  irreversible?: true | ((args: Record<string, unknown>) => boolean)
  /** Arguments that the words themselves say. */
  fixed?: Record<string, unknown>
  /** Puts right what one option alone cannot; several answers are several tasks. */
  finish?: (args: Record<string, unknown>, given: Given) => Record<string, unknown> | Record<string, unknown>[]
  /** Further tasks for each, after it. */
  followedBy?: (args: Record<string, unknown>, given: Given) => { action: string; args: Record<string, unknown> }[]
}

/** Does something else: reads, waits, submits a file. Answers an exit code's name. */
export type OwnCommand = Words & {
  run: (cli: Cli, given: Given, common: CommonOptions) => Promise<ExitName>
  /** Takes --wait, --timeout. */
  waits?: true
  /** Takes --dry-run, --graph, and prints with -o text and dot as well. */
  previews?: true
  /** The action that it asks for in the end. */
  submits?: string
}

export type CommandSpec = ActionCommand | OwnCommand

export type NounSpec = { noun: string; summary: string; commands: readonly CommandSpec[] }

export const isAction = (command: CommandSpec): command is ActionCommand => 'action' in command

/** The command that the words after the noun begin with. */
export const commandOf = (noun: NounSpec, words: readonly string[]): CommandSpec | undefined =>
  noun.commands.find(({ verb }) => verb === `${words[0]} ${words[1]}`) ??
  noun.commands.find(({ verb, aliases }) => verb === words[0] || aliases?.includes(words[0] ?? ''))

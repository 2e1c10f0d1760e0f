// The command: words in, an exit code out. Loads what the words need and nothing else.
import type { Cli, Streams } from './context.ts'
import { CliError, exitCode, usage, type ExitName } from './failure.ts'
import { firstPage } from './help.ts'
import { nouns } from './nouns.ts'

export type MainOptions = Streams & {
  env: Record<string, string | undefined>
  interrupted: AbortSignal
  /** Standard input, for `-f -`. */
  readStdin: () => Promise<string>
  version: () => string
}

/** @returns the exit code */
export async function main(words: readonly string[], options: MainOptions): Promise<number> {
  try {
    return exitCode[await run(words, options)]
  } catch (error) {
    return await failed(error, words, options)
  }
}

async function run(words: readonly string[], options: MainOptions): Promise<ExitName> {
  const [first, ...rest] = words
  if (first === undefined || first === '--help' || first === '-h' || (first === 'help' && rest.length === 0)) {
    options.out.write(firstPage())
    return first === undefined ? 'usage' : 'done'
  }
  if (first === '--version' || first === '-V') {
    options.out.write(`${options.version()}\n`)
    return 'done'
  }
  if (first === 'help') return run([...rest, '--help'], options)
  if (first === 'complete') return (await import('./complete.ts')).complete(rest, options)
  if (first === 'doctor') return run(['host', 'doctor', ...rest], options)
  const noun = Object.hasOwn(nouns, first) ? nouns[first] : undefined
  if (!noun)
    throw usage(
      `there is no command ${JSON.stringify(first)}`,
      `one of ${Object.keys(nouns).join(', ')}, server, demo, simhost, db; see \`taskomatic --help\``
    )
  const { readCommand } = await import('./program.ts')
  const chosen = await readCommand(await noun.load(), rest, {
    out: (text) => options.out.write(text),
    err: (text) => options.err.write(text)
  })
  if (!chosen) return 'done'
  const cli = await contextOf(options, chosen.common.output)
  const { command, given, common } = chosen
  if ('action' in command) return (await import('./submit.ts')).runAction(cli, command, given, common)
  return command.run(cli, given, common)
}

async function contextOf(options: MainOptions, output: string | undefined): Promise<Cli> {
  const { createClient, findServer } = await import('./client.ts')
  const { wantsColor } = await import('./render.ts')
  let client: ReturnType<typeof createClient> | undefined
  return {
    ...options,
    // What only a dry run prints is a table of what was made.
    format: (output === 'text' || output === 'dot' ? 'table' : (output ?? 'table')) as Cli['format'],
    color: wantsColor(options.env, options.out),
    client: () => (client ??= createClient(findServer(options.env))),
    say: (line) => options.err.write(`${line}\n`),
    async readInput(file) {
      if (file === '-') return options.readStdin()
      const { readFile } = await import('node:fs/promises')
      return readFile(file, 'utf8').catch((error: unknown) => {
        throw usage(
          `cannot read ${JSON.stringify(file)}: ${(error as Error).message}`,
          'name a file that exists, or - for standard input'
        )
      })
    }
  }
}

async function failed(error: unknown, words: readonly string[], options: MainOptions): Promise<number> {
  const { clean, paint, wantsColor } = await import('./render.ts')
  const color = wantsColor(options.env, options.err)
  if (!(error instanceof CliError)) {
    options.err.write(
      `${paint('error:', 'bad', color)} ${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`
    )
    return exitCode.error
  }
  if (error.problem !== undefined && /^(json|jsonl|yaml)$/.test(outputOf(words)))
    options.err.write(`${JSON.stringify(error.problem)}\n`)
  else {
    options.err.write(`${paint('error:', 'bad', color)} ${clean(error.message)}\n`)
    for (const line of error.details) options.err.write(`  ${clean(line)}\n`)
    if (error.next) options.err.write(`  next: ${clean(error.next)}\n`)
  }
  return exitCode[error.exit]
}

function outputOf(words: readonly string[]): string {
  const at = words.findIndex((word) => word === '-o' || word === '--output')
  const joined = words.find((word) => /^(-o|--output)=/.test(word))
  return (joined?.split('=')[1] ?? (at >= 0 ? words[at + 1] : '')) || 'table'
}

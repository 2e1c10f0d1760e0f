// Shell completion: scripts for bash, zsh, fish and PowerShell, and the words that they ask for, with the server's names in them.
import type { RootCommand } from '@bomb.sh/tab'
import { commandOf, type Names, type NounSpec, type OptionSpec } from './command.ts'
import { usage, type ExitName } from './failure.ts'
import type { MainOptions } from './main.ts'
import { nouns, otherCommands } from './nouns.ts'

/** Someone waits with a finger on the key: what is not known by then is not offered. */
const NAMES_TIMEOUT_MS = 700

const paths: Record<Names, string> = {
  vm: '/vms',
  host: '/hosts',
  pool: '/pools',
  store: '/stores',
  volume: '/volumes',
  image: '/images',
  task: '/tasks?limit=50',
  plan: '',
  action: '/actions'
}

export async function complete(words: readonly string[], options: MainOptions): Promise<ExitName> {
  const { RootCommand } = await import('@bomb.sh/tab')
  const root = new RootCommand()
  const [shell, ...line] = words
  if (shell !== '--') {
    if (!/^(bash|zsh|fish|powershell)$/.test(shell ?? ''))
      throw usage(`${JSON.stringify(shell ?? '')} is no shell that is known`, 'one of bash, zsh, fish, powershell')
    if (shell === 'bash') options.out.write((await import('./bash-completion.ts')).bashScript)
    else root.setup('taskomatic', 'taskomatic', shell as string)
    return 'done'
  }
  for (const [word, summary] of Object.entries(otherCommands)) root.command(word, summary)
  for (const [word, entry] of Object.entries(nouns)) root.command(word, entry.summary)
  const noun = Object.hasOwn(nouns, line[0] ?? '') ? await nouns[line[0] ?? '']?.load() : undefined
  if (noun) addNoun(root, noun, await liveNames(noun, line, options))
  root.parse([...line])
  return 'done'
}

type Known = Partial<Record<Names, string[]>>

function addNoun(root: RootCommand, noun: NounSpec, known: Known): void {
  // What a verb of two words begins with must be known by itself, or nothing is found behind it.
  const first = (verb: string): string => verb.split(' ')[0] ?? ''
  const beginnings = noun.commands.map(({ verb }) => first(verb)).filter((word, at, all) => all.indexOf(word) === at)
  for (const word of beginnings) {
    const verbs = noun.commands.filter(({ verb }) => first(verb) === word).map(({ verb }) => verb)
    if (!verbs.includes(word)) root.command(`${noun.noun} ${word}`, verbs.join(', '))
  }
  for (const command of noun.commands) {
    const made = root.command(`${noun.noun} ${command.verb}`, command.summary)
    for (const operand of command.operands ?? []) {
      const { names, choices } = operand
      made.argument(
        operand.name,
        (offer) => [...(choices ?? []), ...(names ? (known[names] ?? []) : [])].forEach((word) => offer(word, '')),
        operand.many === true
      )
    }
    for (const option of command.options ?? []) addOption(made, option, known)
  }
}

function addOption(command: ReturnType<RootCommand['command']>, option: OptionSpec, known: Known): void {
  const name = /--([a-z-]+)/.exec(option.flags)?.[1] ?? ''
  if (option.kind === 'flag') command.option(name, option.help)
  else
    command.option(name, option.help, (offer) =>
      [...(option.choices ?? []), ...(option.names ? (known[option.names] ?? []) : [])].forEach((word) =>
        offer(word, '')
      )
    )
}

async function liveNames(noun: NounSpec, line: readonly string[], options: MainOptions): Promise<Known> {
  const command = commandOf(noun, line.slice(1))
  const wanted = new Set(
    [...(command?.operands ?? []), ...(command?.options ?? [])].flatMap(({ names }) => (names ? [names] : []))
  )
  const known: Known = {}
  if (wanted.size === 0) return known
  try {
    const { createClient, findServer } = await import('./client.ts')
    const client = createClient(findServer(options.env))
    const signal = AbortSignal.timeout(NAMES_TIMEOUT_MS)
    await Promise.all(
      [...wanted]
        .filter((names) => paths[names] !== '')
        .map(async (names) => {
          const { items } = await client.get<{ items: Record<string, string>[] }>(paths[names], {}, { signal })
          known[names] = items.slice(0, 1000).map((item) => nameOf(names, item))
        })
    )
  } catch {
    // No server, no names: completion still knows the verbs and the options.
  }
  return known
}

function nameOf(names: Names, item: Record<string, string>): string {
  if (names === 'task') return String(item['id'])
  if (names === 'pool') return `${item['name']}@${item['host']}`
  return names === 'volume' ? `${item['store']}/${item['name']}` : String(item['name'])
}

// `--cloud-init user-data=FILE,…` or `hostname=web1,ssh-key=FILE,…`: files are read here, and no password stands on a command line.
import type { Cli } from './context.ts'
import { usage } from './failure.ts'
import { parsePairs } from './parse.ts'

const files = { 'user-data': 'userData', 'meta-data': 'metaData', 'network-config': 'networkConfig' } as const
const words = ['hostname', 'user', 'store'] as const
const keys = [...Object.keys(files), ...words, 'ssh-key', 'password-file']

/** What is written, before any file is read. @throws CliError usage */
export const parseCloudInit = (text: string, what: string): Map<string, string> => parsePairs(text, what, keys)

/** As the action takes it. @throws CliError usage for files that cannot be read or say nothing */
export async function readCloudInit(cli: Cli, pairs: ReadonlyMap<string, string>): Promise<Record<string, unknown>> {
  const read = async (key: string): Promise<string | undefined> => {
    const path = pairs.get(key)
    if (path === undefined) return undefined
    const text = await cli.readInput(path)
    if (text.trim() === '') throw usage(`${key}=${path}: the file says nothing`, 'name another file')
    return text
  }
  const told: Record<string, unknown> = {}
  for (const word of words) if (pairs.has(word)) told[word] = pairs.get(word)
  for (const [key, arg] of Object.entries(files)) {
    const text = await read(key)
    if (text !== undefined) told[arg] = text
  }
  const sshKeys = await read('ssh-key')
  // As in authorized_keys: a key a line.
  if (sshKeys !== undefined) told['sshKeys'] = linesOf(sshKeys).filter((line) => !line.startsWith('#'))
  const password = await read('password-file')
  if (password !== undefined) told['password'] = password.replace(/\r?\n$/, '')
  return told
}

const linesOf = (text: string): string[] =>
  text
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '')

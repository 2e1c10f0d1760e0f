// Where a server leaves its token and its address, and where the command looks for them. No reading or writing here.
import { existsSync } from 'node:fs'
import { homedir } from 'node:os'
import { dirname, join } from 'node:path'

type Env = Record<string, string | undefined>

/** What a running server writes to `server.json` in its state directory; removed when it stops. */
export type ServerNote = { url: string; pid: number }

export const tokenFile = (directory: string): string => join(directory, 'token')
export const serverNoteFile = (directory: string): string => join(directory, 'server.json')

/**
 * The state directory: TASKOMATIC_STATE, else `$XDG_STATE_HOME/taskomatic`, else `~/.local/state/taskomatic`, for root as for
 * anybody. A system service sets TASKOMATIC_STATE=/var/lib/taskomatic.
 */
export function stateDirectory(env: Env): string {
  const named = env['TASKOMATIC_STATE']
  if (named) return named
  return join(env['XDG_STATE_HOME'] || join(env['HOME'] || homedir(), '.local', 'state'), 'taskomatic')
}

/** The directory with this package's package.json. */
export function packageDirectory(from = import.meta.dirname): string {
  let directory = from
  while (!existsSync(join(directory, 'package.json')) && directory !== dirname(directory))
    directory = dirname(directory)
  return directory
}

/**
 * The demo's state directory, apart from a real server's: `.taskomatic/` in a clone (ignored by git), beside the state
 * directory elsewhere, or what TASKOMATIC_DEMO names.
 */
export function demoDirectory(env: Env): string {
  const named = env['TASKOMATIC_DEMO']
  if (named) return named
  const root = packageDirectory()
  return existsSync(join(root, 'src')) ? join(root, '.taskomatic') : `${stateDirectory(env)}-demo`
}

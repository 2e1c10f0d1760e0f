// Runs other programs for the system tests: output captured, time bounded, failure told with what the program said.
// Not for programs that stay up: those are spawned by whoever has to stop them.

import { execFile } from 'node:child_process'

class CommandError extends Error {
  override name = 'CommandError'
  readonly code: 'failed' | 'timeout' | 'not_found'
  readonly exitCode: number | null
  readonly stdout: string
  readonly stderr: string

  constructor(
    code: CommandError['code'],
    message: string,
    found: { exitCode: number | null; stdout: string; stderr: string },
    cause: unknown
  ) {
    super(message, { cause })
    this.code = code
    this.exitCode = found.exitCode
    this.stdout = found.stdout
    this.stderr = found.stderr
  }
}

export type CommandOptions = {
  /** Default 60,000. The program is killed then. */
  timeoutMs?: number
  env?: NodeJS.ProcessEnv
  cwd?: string
  input?: string
}

/** Resolves with what the program wrote to stdout, without the last line feed; rejects with `CommandError`. */
export function run(command: string, args: readonly string[], options: CommandOptions = {}): Promise<string> {
  const { timeoutMs = 60_000, env = process.env, cwd, input } = options
  return new Promise((resolve, reject) => {
    const child = execFile(
      command,
      [...args],
      { timeout: timeoutMs, killSignal: 'SIGKILL', maxBuffer: 64 * 1024 * 1024, env: { ...env, LC_ALL: 'C' }, cwd },
      (error, stdout, stderr) => {
        if (!error) return resolve(stdout.replace(/\n$/, ''))
        const line = [command, ...args].join(' ')
        const exitCode = typeof error.code === 'number' ? error.code : null
        const found = { exitCode, stdout, stderr }
        if (error.code === 'ENOENT') return reject(new CommandError('not_found', `no ${command} here`, found, error))
        if (error.killed) {
          return reject(new CommandError('timeout', `${line}: not done after ${timeoutMs} ms`, found, error))
        }
        reject(new CommandError('failed', `${line}: ${(stderr || stdout || error.message).trim()}`, found, error))
      }
    )
    child.stdin?.on('error', () => {}) // a program that does not read its input is no fault of ours
    child.stdin?.end(input ?? '')
  })
}

export type Ending = { code: number; stdout: string; stderr: string }

/** As `run`, for programs whose exit code is an answer: rejects only where there is none, or after `timeoutMs`. */
export async function outcome(command: string, args: readonly string[], options: CommandOptions = {}): Promise<Ending> {
  try {
    return { code: 0, stdout: await run(command, args, options), stderr: '' }
  } catch (error) {
    if (!(error instanceof CommandError) || error.code !== 'failed' || error.exitCode === null) throw error
    return { code: error.exitCode, stdout: error.stdout, stderr: error.stderr }
  }
}

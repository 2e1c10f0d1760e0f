// What makes the command end with something else than 0. Exit codes are fixed: scripts branch on them.

export const exitCode = {
  done: 0,
  error: 1,
  usage: 2,
  taskFailed: 3,
  auth: 4,
  /** Not found, or in conflict with what is there. */
  conflict: 5,
  cancelled: 6,
  timeout: 124,
  /** Detached by Ctrl-C: 128 + SIGINT, as shells say it. */
  interrupted: 130
} as const

export type ExitName = keyof typeof exitCode

export class CliError extends Error {
  override readonly name = 'CliError'
  readonly exit: ExitName
  /** What to do next; printed on a line of its own. */
  readonly next: string | undefined
  /** Further lines: candidates, the task in the way. */
  readonly details: readonly string[]
  /** Written by `-o json` instead of text. */
  readonly problem: unknown
  constructor(
    exit: ExitName,
    message: string,
    options: { next?: string | undefined; details?: readonly string[]; problem?: unknown; cause?: unknown } = {}
  ) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause })
    this.exit = exit
    this.next = options.next
    this.details = options.details ?? []
    this.problem = options.problem
  }
}

export const usage = (message: string, next?: string): CliError => new CliError('usage', message, { next })

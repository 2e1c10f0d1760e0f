// A question on a terminal before what cannot be undone. Scripts, which have no terminal, say --yes.
import { createInterface } from 'node:readline/promises'
import type { Cli } from './context.ts'
import { CliError, usage } from './failure.ts'

export async function confirm(cli: Cli, what: string): Promise<void> {
  if (!process.stdin.isTTY || cli.err.isTTY !== true)
    throw usage(`${what}: this cannot be undone`, 'add --yes to do it, or --dry-run to see what would be done')
  const lines = createInterface({ input: process.stdin, output: process.stderr })
  try {
    const answer = await lines.question(`${what}: this cannot be undone. Go on? [y/N] `, { signal: cli.interrupted })
    if (!/^y(es)?$/i.test(answer.trim())) throw new CliError('cancelled', 'nothing was done')
  } finally {
    lines.close()
  }
}

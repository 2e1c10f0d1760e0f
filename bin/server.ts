// `taskomatic server`: runs until SIGTERM or SIGINT, which drain it; a second one ends it at once.
import { parseArgs } from 'node:util'
import pino from 'pino'
import { stateDirectory } from '../src/api/places.ts'
import { parseCount, parseDurationMs } from '../src/cli/parse.ts'
import { CliError } from '../src/cli/failure.ts'
import { DatabaseError } from '../src/db/error.ts'
import { IdentityError } from '../src/identity/error.ts'
import { ListenError } from '../src/http/server.ts'
import { DEFAULT_PORT, startServer, type ServerOptions } from './start-server.ts'

const help = `Usage: taskomatic server [options]

Runs the API, the dispatcher and a watcher for each host. Without DATABASE_URL a PostgreSQL of its own runs in the state directory.

Options:
  --port <number>        default ${DEFAULT_PORT}; 0 takes a free one
  --address <address>    loopback only; default 127.0.0.1
  --state <directory>    default TASKOMATIC_STATE, else ~/.local/state/taskomatic
  --workers <number>     tasks at once; default 256
  --drain <duration>     how long running tasks may go on after SIGTERM; default 30s
  --lease <duration>     after this silence another dispatcher takes over; default 10s
  --log-level <level>    trace, debug, info (default), warn, error
  -h, --help             display help for command

Logs are lines of JSON on standard error.
`

/** @returns the exit code */
export async function server(words: readonly string[]): Promise<number> {
  const read = readWords(words)
  if (typeof read === 'number') return read
  const asked = Promise.withResolvers<NodeJS.Signals>()
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => asked.resolve(signal))
  try {
    const running = await startServer(read)
    const signal = await asked.promise
    read.log.info({ signal }, 'stopping')
    await running.stop()
    // What did not stop in time must not keep the process.
    setTimeout(() => process.exit(0), 1000).unref()
    return 0
  } catch (error) {
    if (error instanceof ListenError || error instanceof DatabaseError || error instanceof IdentityError) {
      process.stderr.write(`error: ${error.message}\n`)
      return 1
    }
    throw error
  }
}

function readWords(words: readonly string[]): ServerOptions | number {
  try {
    const { values } = parseArgs({
      args: [...words],
      options: {
        port: { type: 'string' },
        address: { type: 'string' },
        state: { type: 'string' },
        workers: { type: 'string' },
        drain: { type: 'string' },
        lease: { type: 'string' },
        'log-level': { type: 'string' },
        help: { type: 'boolean', short: 'h' }
      }
    })
    if (values.help) {
      process.stdout.write(help)
      return 0
    }
    const level = values['log-level'] ?? 'info'
    if (!Object.hasOwn(pino.levels.values, level))
      throw new CliError('usage', `--log-level: ${JSON.stringify(level)} is no level`, {
        next: `one of ${Object.keys(pino.levels.values).join(', ')}`
      })
    const databaseUrl = process.env['DATABASE_URL']
    return {
      stateDirectory: values.state ?? stateDirectory(process.env),
      log: pino({ level, base: { pid: process.pid } }, pino.destination({ dest: 2, sync: true })),
      ...(databaseUrl ? { databaseUrl } : {}),
      ...(values.address === undefined ? {} : { address: values.address }),
      ...(values.port === undefined ? {} : { port: parseCount(values.port, '--port', { min: 0, max: 65_535 }) }),
      ...(values.workers === undefined ? {} : { workers: parseCount(values.workers, '--workers', { max: 10_000 }) }),
      ...(values.drain === undefined ? {} : { drainMs: parseDurationMs(values.drain, '--drain') }),
      ...(values.lease === undefined ? {} : { leaseMs: parseDurationMs(values.lease, '--lease') })
    }
  } catch (error) {
    process.stderr.write(
      `error: ${(error as Error).message}\n  next: ${(error instanceof CliError && error.next) || 'see `taskomatic server --help`'}\n`
    )
    return 2
  }
}

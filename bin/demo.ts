// `npm start`: a server with its own PostgreSQL and three simulated hosts, up until Ctrl-C. `--once` runs a script on them through
// the API instead and ends; with `--json` its last line is what came of it.
import { mkdtemp } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, relative } from 'node:path'
import { parseArgs } from 'node:util'
import pino, { type Logger } from 'pino'
import { demoDirectory, packageDirectory, tokenFile } from '../src/api/places.ts'
import { createClient } from '../src/cli/client.ts'
import { CliError } from '../src/cli/failure.ts'
import { startDemoFleet } from '../src/demo/fleet.ts'
import { DemoError, takeDirectory } from '../src/demo/lock.ts'
import { prepareFleet, runScenario, sharedStore, taskCounts } from '../src/demo/scenario.ts'
import { DatabaseError } from '../src/db/error.ts'
import { ListenError } from '../src/http/server.ts'
import { readFileSync } from 'node:fs'
import { DEFAULT_PORT, startServer, type RunningServer } from './start-server.ts'

const help = `Usage: npm start [-- OPTIONS]

Runs a server with three simulated hosts until Ctrl-C, and says what to try.

Options:
  --once               run a script on them through the API, then end
  --json               with --once: what came of it, as JSON in the last line
  --log-level <level>  debug, info, warn (default), error
  -h, --help           display help for command
`

const HOSTS = 3

/** @returns the exit code */
export async function demo(words: readonly string[]): Promise<number> {
  let values
  try {
    values = parseArgs({
      args: [...words],
      options: {
        once: { type: 'boolean' },
        json: { type: 'boolean' },
        'log-level': { type: 'string' },
        help: { type: 'boolean', short: 'h' }
      }
    }).values
  } catch (error) {
    process.stderr.write(`error: ${(error as Error).message}\n  next: see \`npm start -- --help\`\n`)
    return 2
  }
  if (values.help) {
    process.stdout.write(help)
    return 0
  }
  const log = pino({ level: values['log-level'] ?? 'warn' }, pino.destination({ dest: 2, sync: true }))
  try {
    return await run({ once: values.once ?? false, json: values.json ?? false }, log)
  } catch (error) {
    if (
      !(
        error instanceof DemoError ||
        error instanceof DatabaseError ||
        error instanceof ListenError ||
        error instanceof CliError
      )
    )
      throw error
    process.stderr.write(`error: ${error.message}\n`)
    return 1
  }
}

async function run(options: { once: boolean; json: boolean }, log: Logger): Promise<number> {
  const started = performance.now()
  const ended = endAsked()
  // A script's run leaves a demo that is up alone: it has a directory of its own.
  const directory = options.once ? await mkdtemp(join(tmpdir(), 'taskomatic-once-')) : demoDirectory(process.env)
  const giveBack = await takeDirectory(directory)
  const stops: (() => Promise<unknown>)[] = [giveBack]
  try {
    const fleet = await startDemoFleet({ hosts: HOSTS, quick: options.once })
    stops.push(() => fleet.stop())
    const server = await start(directory, options.once, log)
    stops.push(() => server.stop())
    const client = createClient({ url: server.url, token: readFileSync(tokenFile(directory), 'utf8').trim() })
    await prepareFleet(client, fleet.hosts)
    if (!options.once) {
      process.stdout.write(
        welcome(
          server,
          fleet.hosts.map(({ name }) => name)
        )
      )
      await ended
      process.stdout.write('\nStopping …\n')
      return 0
    }
    await runScenario(client, fleet.hosts)
    const tasks = await taskCounts(client)
    const guardPollFound = server.engine.dispatcher.guardPollFound()
    const durationMs = Math.round(performance.now() - started)
    process.stdout.write(
      options.json
        ? `${JSON.stringify({ tasks, guardPollFound, durationMs })}\n`
        : `${tasks['complete']} tasks complete, ${tasks['failed']} failed, in ${durationMs} ms\n`
    )
    const bad = Object.entries(tasks).some(([state, count]) => state !== 'complete' && count > 0)
    return bad || guardPollFound > 0 ? 1 : 0
  } finally {
    for (const stop of stops.toReversed()) await stop()
    // What did not stop in time must not keep the process.
    setTimeout(() => process.exit(), 1000).unref()
  }
}

async function start(stateDirectory: string, once: boolean, log: Logger): Promise<RunningServer> {
  const options = { stateDirectory, log, drainMs: 5000 }
  if (once) return startServer({ ...options, port: 0 })
  try {
    return await startServer({ ...options, port: DEFAULT_PORT })
  } catch (error) {
    // A real server may run here: the command finds the demo's port by its note.
    if (!(error instanceof ListenError) || error.code !== 'port_taken') throw error
    return startServer({ ...options, port: 0 })
  }
}

/** The first Ctrl-C ends the demo in order. npm passes it on a second time; only later ones end it at once. */
function endAsked(): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>()
  let firstAt: number | undefined
  const ask = () => {
    if (firstAt !== undefined && performance.now() - firstAt > 2000) process.exit(130)
    firstAt ??= performance.now()
    resolve()
  }
  process.on('SIGINT', ask)
  process.on('SIGTERM', ask)
  return promise
}

function welcome(server: RunningServer, hosts: string[]): string {
  const command = relative(process.cwd(), join(packageDirectory(), 'bin', 'taskomatic')) || 'taskomatic'
  return `
Taskomatic runs, with the simulated hosts ${hosts.join(', ')} and the store ${sharedStore.name} that they share.

  API    ${server.url}/api/v1    (described in openapi.json there)
  token  ${server.tokenFile}

Try in another terminal, from here:

  ${command} host list
  ${command} vm create web1 --memory 512MiB --disk size=1GiB,store=${sharedStore.name} --host ${hosts[0]} --start
  ${command} vm migrate web1 --to ${hosts[1]}

Ctrl-C ends it and takes everything away again.
`
}

if (import.meta.main) process.exitCode = await demo(process.argv.slice(2))

// `npm start`: a server with its own PostgreSQL and simulated hosts on which something goes on, up until Ctrl-C. `--once` runs a
// script on them through the API instead and ends; with `--json` its last line is what came of it.
import { readFileSync } from 'node:fs'
import { join, relative } from 'node:path'
import { parseArgs } from 'node:util'
import pino, { type Logger } from 'pino'
import { demoDirectory, packageDirectory, tokenFile } from '../src/api/places.ts'
import { createClient, type Client } from '../src/cli/client.ts'
import { CliError } from '../src/cli/failure.ts'
import { parseCount } from '../src/cli/parse.ts'
import { startDemoFleet, type DemoFleet } from '../src/demo/fleet.ts'
import { live } from '../src/demo/life.ts'
import { DemoError, takeDirectory } from '../src/demo/lock.ts'
import { clearAndRestore, prepareFleet, sharedStore, startAll, taskCounts, vmName } from '../src/demo/scenario.ts'
import { DatabaseError } from '../src/db/error.ts'
import { ListenError } from '../src/http/server.ts'
import { seeded } from '../src/sim/faults.ts'
import { ownDirectory } from '../src/sim/owned-directory.ts'
import { DEFAULT_PORT, startServer, type RunningServer } from './start-server.ts'

const help = `Usage: npm start [-- OPTIONS]

Runs a server with simulated hosts until Ctrl-C, and says what to try. VMs are started, stopped and migrated there all the
time, and now and then a host is cleared.

Options:
  --hosts <number>     default 6
  --vms <number>       default 60
  --seed <number>      what goes on follows from it; default 1
  --once               start all, clear a host while starts wait for it, restore it, then end
  --json               with --once: what came of it, as JSON in the last line
  --log-level <level>  debug, info, warn (default), error
  -h, --help           display help for command
`

/** Of the VMs so many are asked to start on the host that is then cleared. */
const MOVED = 20
/** The starts wait for these stops, while the host is cleared. */
const SLOW_SHUTDOWN_MS = 3000

type Options = { hosts: number; vms: number; seed: number; once: boolean; json: boolean }

/** @returns the exit code */
export async function demo(words: readonly string[]): Promise<number> {
  let options: Options
  let log: Logger
  try {
    const { values } = parseArgs({
      args: [...words],
      options: {
        hosts: { type: 'string', default: '6' },
        vms: { type: 'string', default: '60' },
        seed: { type: 'string', default: '1' },
        once: { type: 'boolean', default: false },
        json: { type: 'boolean', default: false },
        'log-level': { type: 'string', default: 'warn' },
        help: { type: 'boolean', short: 'h' }
      }
    })
    if (values.help) {
      process.stdout.write(help)
      return 0
    }
    const { once, json } = values
    options = {
      // A host that is cleared needs another, and the script one to move from.
      hosts: parseCount(values.hosts, '--hosts', { min: once ? 3 : 2, max: 500 }),
      vms: parseCount(values.vms, '--vms', { min: once ? 1 : 0, max: 5000 }),
      seed: parseCount(values.seed, '--seed', { min: 0, max: 2 ** 32 - 1 }),
      once,
      json
    }
    log = pino({ level: values['log-level'] }, pino.destination({ dest: 2, sync: true }))
  } catch (error) {
    const next = (error instanceof CliError && error.next) || 'see `npm start -- --help`'
    process.stderr.write(`error: ${(error as Error).message}\n  next: ${next}\n`)
    return 2
  }
  try {
    return await run(options, log)
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

async function run(options: Options, log: Logger): Promise<number> {
  const started = performance.now()
  const ended = endAsked()
  // A script's run leaves a demo that is up alone: it has a directory of its own.
  const own = options.once ? await ownDirectory('taskomatic-once-') : undefined
  const directory = own?.path ?? demoDirectory(process.env)
  const stops: (() => Promise<unknown>)[] = [own ? () => own.remove() : await takeDirectory(directory)]
  try {
    const fleet = await startDemoFleet({ ...options, quick: options.once })
    stops.push(() => fleet.stop())
    const server = await start(directory, options.once, log)
    stops.push(() => server.stop())
    const client = createClient({ url: server.url, token: readFileSync(tokenFile(directory), 'utf8').trim() })
    await prepareFleet(client, fleet.hosts)
    if (options.once) return await runOnce(options, { fleet, server, client, started })
    const names = fleet.hosts.map(({ name }) => name)
    process.stdout.write(welcome(server, names))
    await liveUntil(ended, client, fleet, options)
    return 0
  } finally {
    for (const stop of stops.toReversed()) await stop()
    // What did not stop in time must not keep the process.
    setTimeout(() => process.exit(), 1000).unref()
  }
}

/** The script, and what came of it on standard output. */
async function runOnce(
  { hosts, vms, json }: Options,
  running: { fleet: DemoFleet; server: RunningServer; client: Client; started: number }
): Promise<number> {
  const { fleet, server, client, started } = running
  await startAll(client, fleet.hosts, vms)
  const clearedHost = fleet.hosts[0]?.name ?? ''
  const elsewhere = Array.from({ length: vms }, (_, index) => index).filter((index) => index % hosts !== 0)
  const moved = elsewhere.slice(0, MOVED).map(vmName)
  fleet.slowDown(moved, SLOW_SHUTDOWN_MS)
  const cleared = await clearAndRestore(client, clearedHost, moved, fleet.running)
  const tasks = await taskCounts(client)
  const result = {
    hosts,
    vms,
    clearedHost,
    ...cleared,
    tasks,
    ...fleet.harm(),
    guardPollFound: server.engine.dispatcher.guardPollFound(),
    durationMs: Math.round(performance.now() - started)
  }
  process.stdout.write(json ? `${JSON.stringify(result)}\n` : inWords(result))
  const good =
    Object.entries(tasks).every(([state, count]) => state === 'complete' || count === 0) &&
    cleared.runningOnClearedHost === 0 &&
    cleared.rewrittenStarts === moved.length &&
    result.overCommitted + result.twoWriters + result.guardPollFound === 0
  return good ? 0 : 1
}

const inWords = (result: {
  hosts: number
  vms: number
  clearedHost: string
  runningOnClearedHost: number
  rewrittenStarts: number
  tasks: Record<string, number>
  durationMs: number
}): string => `${result.vms} VMs on ${result.hosts} hosts.
${result.clearedHost} was cleared with ${result.runningOnClearedHost} left running; ${result.rewrittenStarts} starts that waited for it went elsewhere.
${result.tasks['complete']} tasks complete, ${result.tasks['failed']} failed, in ${(result.durationMs / 1000).toFixed(1)} s.
`

/** Something goes on until the end is asked for. */
async function liveUntil(ended: Promise<void>, client: Client, fleet: DemoFleet, options: Options): Promise<void> {
  const end = new AbortController()
  const life = async () => {
    if (options.vms > 0) await startAll(client, fleet.hosts, options.vms, end.signal)
    await live(client, {
      random: seeded(options.seed),
      // What is printed uses these.
      kept: fleet.hosts.slice(0, 2).map(({ name }) => name),
      pauseMs: 4000,
      clearedMs: 20_000,
      signal: end.signal
    })
  }
  const living = life().catch((error: unknown) => {
    // The server is up all the same.
    if (!end.signal.aborted) process.stderr.write(`nothing goes on by itself any more: ${(error as Error).message}\n`)
  })
  await ended
  process.stdout.write('\nStopping …\n')
  end.abort()
  await living
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
  const named = hosts.length > 8 ? `${hosts[0]} to ${hosts.at(-1)}` : hosts.join(', ')
  return `
Taskomatic runs, with the simulated hosts ${named} and the store ${sharedStore.name} that they share.

  API    ${server.url}/api/v1
  token  ${server.tokenFile}

  curl -H "Authorization: Bearer $(cat ${server.tokenFile})" ${server.url}/api/v1/openapi.json

Try in another terminal, from here:

  ${command} host list
  ${command} vm create web1 --memory 512MiB --disk size=1GiB,store=${sharedStore.name} --host ${hosts[0]} --start
  ${command} vm migrate web1 --to ${hosts[1]}

VMs called demo1, demo2 … are started, stopped and migrated by themselves. Ctrl-C ends it and takes everything away again.
`
}

if (import.meta.main) process.exitCode = await demo(process.argv.slice(2))

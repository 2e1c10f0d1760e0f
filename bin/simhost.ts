// `taskomatic simhost`: simulated hosts until SIGTERM or SIGINT, to try virsh, a server or a load on.
import { readFile } from 'node:fs/promises'
import { relative, join } from 'node:path'
import { parseArgs } from 'node:util'
import { parse } from 'yaml'
import { packageDirectory } from '../src/api/places.ts'
import { CliError, usage } from '../src/cli/failure.ts'
import { parseCount, parseDurationMs, parseMiB } from '../src/cli/parse.ts'
import { nameProblem } from '../src/model/name.ts'
import { runSimHosts, SimHostsError, type RunSimHostsOptions } from '../src/sim/command.ts'
import { readTrouble, TroubleError } from '../src/sim/trouble.ts'

const help = `Usage: taskomatic simhost [options]

Runs simulated hosts until Ctrl-C: libvirtd without a machine behind it. virsh and a server take them for real ones.
Prints NAME and URI of each, a line each, when all are up.

Options:
  --hosts <hosts>        their number (named h1, h2 …) or their names, with commas; default 3
  --vms <number>         VMs that are there from the start, spread evenly; default 0
  --vm-memory <size>     of each of these; default 1GiB
  --running              these VMs run
  --memory <size>        of each host; default 64GiB
  --cpus <number>        of each host; default 16
  --store <name=path>    a store that all share, and where it appears; default shared=/srv/shared
  --store-kind <kind>    file (default), where a second writer is refused, or block, where none is
  --no-store             no shared store
  --socket-dir <dir>     where the sockets are; default a temporary directory

How long things take:
  --latency <duration>   added before every call, e.g. 50ms; default 0
  --start <duration>     a VM's start; default 0
  --shutdown <duration>  a VM's way from the request to its end; default 20ms
  --bandwidth <size>     of a migration, per second; default 64GiB. A migration takes memory by bandwidth
  --migration <duration> a migration takes at least this; default 0

What goes wrong, and what went on:
  --faults <file>        YAML or JSON: rules about calls, and what happens when; see docs/simulated-hosts.md
  --seed <number>        makes the chances in it the same every time
  --journal <file>       every effect, a line of JSON each
  -h, --help             display help for command
`

const options = {
  hosts: { type: 'string' },
  vms: { type: 'string' },
  'vm-memory': { type: 'string' },
  running: { type: 'boolean' },
  memory: { type: 'string' },
  cpus: { type: 'string' },
  store: { type: 'string' },
  'store-kind': { type: 'string' },
  'no-store': { type: 'boolean' },
  'socket-dir': { type: 'string' },
  latency: { type: 'string' },
  start: { type: 'string' },
  shutdown: { type: 'string' },
  bandwidth: { type: 'string' },
  migration: { type: 'string' },
  faults: { type: 'string' },
  seed: { type: 'string' },
  journal: { type: 'string' },
  help: { type: 'boolean', short: 'h' }
} as const

/** @returns the exit code */
export async function simhost(words: readonly string[]): Promise<number> {
  const say = (line: string): void => void process.stderr.write(`${line}\n`)
  let firstUri: string | undefined
  const print = (line: string): void => {
    process.stdout.write(`${line}\n`)
    if (firstUri !== undefined) return
    firstUri = line.slice(line.indexOf(' ') + 1)
    const command = relative(process.cwd(), join(packageDirectory(), 'bin', 'taskomatic')) || 'taskomatic'
    say(`try: virsh -c '${firstUri}' list --all`)
    say(`     ${command} host add ${line.split(' ')[0]} '${firstUri}' --peer-uri '${firstUri}'`)
    say('Ctrl-C ends them.')
  }
  try {
    const read = await readWords(words)
    if (read === undefined) return 0
    const ended = new AbortController()
    for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => ended.abort())
    await runSimHosts({ ...read, print, say, signal: ended.signal })
    return 0
  } catch (error) {
    if (error instanceof CliError) {
      say(`error: ${error.message}`)
      if (error.next) say(`  next: ${error.next}`)
      return 2
    }
    const code = (error as NodeJS.ErrnoException).code
    if (!(error instanceof SimHostsError || error instanceof TroubleError) && code === undefined) throw error
    say(`error: ${(error as Error).message}`)
    return 1
  }
}

type Read = Omit<RunSimHostsOptions, 'print' | 'say' | 'signal'>

/** Undefined when help was printed. @throws CliError usage */
async function readWords(words: readonly string[]): Promise<Read | undefined> {
  const values = given(words)
  if (values.help) {
    process.stdout.write(help)
    return undefined
  }
  const duration = (name: 'latency' | 'start' | 'shutdown' | 'migration'): number | undefined =>
    values[name] === undefined ? undefined : parseDurationMs(values[name], `--${name}`)
  const size = (name: 'vm-memory' | 'memory' | 'bandwidth'): number | undefined =>
    values[name] === undefined ? undefined : parseMiB(values[name], `--${name}`)
  const count = (name: 'vms' | 'cpus' | 'seed', min: number, max: number): number | undefined =>
    values[name] === undefined ? undefined : parseCount(values[name], `--${name}`, { min, max })
  const wanted = {
    dir: values['socket-dir'],
    vms: count('vms', 0, 100_000),
    vmMemoryMiB: size('vm-memory'),
    running: values.running,
    memoryMiB: size('memory'),
    cpus: count('cpus', 1, 4096),
    latencyMs: duration('latency'),
    startMs: duration('start'),
    shutdownMs: duration('shutdown'),
    migrationMs: duration('migration'),
    migrationMiBps: size('bandwidth'),
    seed: count('seed', 0, 2 ** 32 - 1),
    store: values['no-store'] ? null : storeOf(values.store, values['store-kind']),
    trouble: values.faults === undefined ? undefined : readTrouble(await readYaml(values.faults)),
    journalFile: values.journal
  }
  const set = Object.fromEntries(Object.entries(wanted).filter(([, value]) => value !== undefined))
  return { hosts: hostsOf(values.hosts ?? '3'), ...(set as Omit<Read, 'hosts'>) }
}

function given(words: readonly string[]) {
  try {
    return parseArgs({ args: [...words], options }).values
  } catch (error) {
    throw usage((error as Error).message, 'see `taskomatic simhost --help`')
  }
}

/** A number, or names with commas. */
function hostsOf(text: string): number | string[] {
  if (/^-?\d+$/.test(text)) return parseCount(text, '--hosts', { max: 1000 })
  const names = text.split(',').map((name) => name.trim())
  const problem = names.map((name) => nameProblem('host', name)).find((found) => found !== undefined)
  if (problem !== undefined) throw usage(`--hosts: ${problem}`, 'give a number, or names with commas')
  if (new Set(names).size < names.length) throw usage('--hosts: a name is given twice', 'give each once')
  return names
}

function storeOf(text: string | undefined, kind = 'file'): NonNullable<Read['store']> {
  if (kind !== 'file' && kind !== 'block')
    throw usage(`--store-kind: ${JSON.stringify(kind)} is not possible`, 'one of file, block')
  const [, name, path] = /^([^=/]+)=(\/.*)$/.exec(text ?? 'shared=/srv/shared') ?? []
  if (name === undefined || path === undefined)
    throw usage(`--store: ${JSON.stringify(text)} is not NAME=PATH`, 'write e.g. nfs1=/srv/nfs1')
  return { name, path, kind }
}

async function readYaml(file: string): Promise<unknown> {
  try {
    return parse(await readFile(file, 'utf8'), { maxAliasCount: 100 }) as unknown
  } catch (error) {
    throw usage(`--faults: ${file}: ${(error as Error).message.split('\n')[0]}`, 'name a YAML or JSON file')
  }
}

if (import.meta.main) process.exitCode = await simhost(process.argv.slice(2))

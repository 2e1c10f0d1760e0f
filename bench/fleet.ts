// A whole fleet started at once: `node bench/fleet.ts [--hosts 500] [--vms 10000] [--latency 50] [--workers 256] [--check]`.
//
// Simulated hosts in a process of their own, each just large enough for its VMs; the engine in this one, so that its CPU is measured
// apart from theirs and from PostgreSQL's. Printed: our CPU a task, PostgreSQL's, how long it took and how long latency and limits
// alone would have taken. The last line is one JSON object. With --check it exits 1 where a figure is worse than promised.
import { fork, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { Session } from 'node:inspector/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { performance } from 'node:perf_hooks'
import { setTimeout as delay } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { Client } from 'pg'
import pino from 'pino'
import { registry } from '../src/actions/registry.ts'
import { createSubmitter } from '../src/actions/submit.ts'
import { urlFor } from '../src/db/init.ts'
import { openDatabase, type Database } from '../src/db/open.ts'
import { startEngine } from '../src/dispatcher/engine.ts'
import { addHost } from '../src/inventory/hosts.ts'
import { getTask } from '../src/queue/read.ts'
import { startSimFleet } from '../src/sim/fleet.ts'
import { populate } from '../src/sim/populate.ts'
import { startTestCluster, TEMPLATE } from '../test/support/cluster.ts'

const { values } = parseArgs({
  options: {
    hosts: { type: 'string', default: '500' },
    vms: { type: 'string', default: '10000' },
    latency: { type: 'string', default: '50' },
    workers: { type: 'string', default: '256' },
    check: { type: 'boolean', default: false },
    /** Where a CPU profile of the measured part is written. */
    profile: { type: 'string' },
    /** Where PostgreSQL's statements of the measured part are written, the dearest first; counting them costs a little. */
    statements: { type: 'string' },
    /** Of the child: where its sockets are. */
    sockets: { type: 'string' }
  }
})
const hosts = Number(values.hosts)
const vms = Number(values.vms)
const latencyMs = Number(values.latency)
const workers = Number(values.workers)

const vmMemoryMiB = 1024
const needMiB = Math.ceil(vmMemoryMiB * 1.05) + 256
const perHost = Math.ceil(vms / hosts)
const memoryMiB = Math.ceil(Math.max(2048 + needMiB * perHost, (needMiB * perHost) / 0.95))

/** Most that a task may cost us, and how much longer than latency and limits dictate it may take. */
const mostCpuMs = 2
const mostOver = 1.3
/** Starts at one time on one host, by default. */
const startsAHost = 8

type Harm = { overCommitted: number; twoWriters: number; running: number; most: number }

/** The child: hosts until told to tell what happened. */
async function simulate(dir: string): Promise<void> {
  const fleet = await startSimFleet({
    dir,
    hosts,
    memoryMiB,
    latencyMs,
    sharedStores: [{ name: 'shared', path: '/srv/shared' }]
  })
  await populate(fleet, { vms, memoryMiB: vmMemoryMiB, store: { name: 'shared', path: '/srv/shared' } })
  process.send?.(fleet.hosts.map(({ name, uuid, uri }) => ({ name, uuid, uri })))
  await once(process, 'message')
  const running = fleet.hosts.map((host) => [...host.domains.values()].filter(({ state }) => state === 1).length)
  const harm: Harm = {
    overCommitted: fleet.journal.overCommitted,
    twoWriters: fleet.journal.twoWriters,
    running: running.reduce((sum, count) => sum + count, 0),
    most: Math.max(...running)
  }
  process.send?.(harm)
  await once(process, 'disconnect')
  await fleet.stop()
}

async function main(): Promise<void> {
  const dir = mkdtempSync(join(tmpdir(), 'fleet-'))
  const args = ['--hosts', String(hosts), '--vms', String(vms), '--latency', String(latencyMs), '--sockets', dir]
  const child = fork(import.meta.filename, args, { execArgv: [] })
  const [known] = (await once(child, 'message')) as [{ name: string; uuid: string; uri: string }[]]
  const { cluster, directory } = await startTestCluster('18', {
    shared_buffers: '256MB',
    max_wal_size: '4GB',
    max_connections: '60',
    fsync: 'on',
    ...(values.statements === undefined
      ? {}
      : {
          shared_preload_libraries: 'pg_stat_statements',
          'pg_stat_statements.track': 'all',
          'pg_stat_statements.track_planning': 'on'
        })
  })
  const admin = new Client({ connectionString: cluster.adminUrl })
  await admin.connect()
  await admin.query(`create database fleet template ${TEMPLATE}`)
  const counted = new Client({ connectionString: urlFor(cluster.adminUrl, { database: 'fleet' }) })
  await counted.connect()
  if (values.statements !== undefined) await counted.query('create extension pg_stat_statements')
  const database = openDatabase({
    url: urlFor(cluster.adminUrl, { database: 'fleet', user: 'taskomatic_server' }),
    poolSize: 24
  })
  const log = pino({ level: process.env['TASKOMATIC_TEST_LOG'] ?? 'warn' }, pino.destination(2))
  const engine = await startEngine({
    database,
    registry,
    log,
    definitionKey: Buffer.alloc(32, 7),
    connections: { allowPlaintext: true },
    workers
  })
  const submitter = createSubmitter({ database, registry })
  try {
    const added = performance.now()
    for (const { name, uuid, uri } of known)
      await addHost(database, { name, uuid, controlUri: uri, peerUri: uri, migrationUri: null, by: 'bench' })
    while (known.some(({ name }) => !engine.watchers.isUp(name))) await delay(100)
    say(`${hosts} hosts with ${vms} VMs listed after ${seconds(performance.now() - added)}`)
    const names = Array.from({ length: vms }, (_, index) => `vm${index + 1}`)
    const run = async (some: readonly string[]) => {
      const begun = performance.now()
      const cpu = process.cpuUsage()
      const pg = postgresCpuMs(cluster.pid)
      const answer = await submitter.submit({
        by: 'bench',
        plan: { name: 'start all', onFailure: 'continue' },
        tasks: some.map((vm) => ({ action: 'vm.start', args: { vm } }))
      })
      engine.dispatcher.wake()
      const submittedMs = performance.now() - begun
      await ended(database)
      const { user, system } = process.cpuUsage(cpu)
      return {
        ids: answer.tasks.map(({ id }) => id),
        submittedMs,
        ms: performance.now() - begun,
        cpuMs: (user + system) / 1000,
        kernelMs: system / 1000,
        pgMs: postgresCpuMs(cluster.pid) - pg
      }
    }
    // What one start takes when there is nothing else to do: calls, each with its latency.
    const [alone] = (await run(names.slice(0, 1))).ids
    const first = await getTask(database, alone ?? 0)
    const oneMs = (first?.endedAt?.getTime() ?? 0) - (first?.startedAt?.getTime() ?? 0)
    const rest = names.slice(1)
    const profiled = values.profile === undefined ? undefined : await profile()
    if (values.statements !== undefined) await counted.query('select pg_stat_statements_reset()')
    const measured = await run(rest)
    if (values.statements !== undefined) writeFileSync(values.statements, await statements(counted, rest.length))
    await profiled?.(values.profile ?? '')
    const harm = await harmOf(child)
    const states = await database.query<{ outcome: string; count: number }>(
      `select outcome, count(*) from queue.task where action = 'vm.start' group by 1`
    )
    const dictatedMs = Math.max((rest.length / workers) * oneMs, Math.ceil(perHost / startsAHost) * oneMs)
    const figures = {
      hosts,
      vms,
      latencyMs,
      workers,
      tasks: Object.fromEntries(states.map(({ outcome, count }) => [outcome, count])),
      ...harm,
      fits: perHost,
      guardPollFound: engine.dispatcher.guardPollFound(),
      oneStartMs: oneMs,
      submittedMs: Math.round(measured.submittedMs),
      durationMs: Math.round(measured.ms),
      dictatedMs: Math.round(dictatedMs),
      ratio: round(measured.ms / dictatedMs),
      ourCpuMsATask: round(measured.cpuMs / rest.length),
      ofThatInTheKernelMs: round(measured.kernelMs / rest.length),
      postgresCpuMsATask: round(measured.pgMs / rest.length)
    }
    say(
      `${rest.length} starts in ${seconds(measured.ms)}; latency and limits dictate ${seconds(dictatedMs)}: ${figures.ratio} times. ` +
        `A task: ${figures.ourCpuMsATask} ms of our CPU, ${figures.postgresCpuMsATask} ms of PostgreSQL's`
    )
    console.log(JSON.stringify(figures))
    const good =
      figures.overCommitted === 0 && figures.most <= perHost && figures.running === vms && figures.guardPollFound === 0
    if (!good || (values.check && (figures.ourCpuMsATask > mostCpuMs || figures.ratio > mostOver))) process.exitCode = 1
  } finally {
    await engine.stop()
    await database.stop()
    await admin.end()
    await counted.end()
    await cluster.stop()
    if (child.connected) child.disconnect()
    rmSync(dir, { recursive: true, force: true })
    await rm(directory, { recursive: true, force: true })
  }
}

/** The returned function ends it and writes it to a file. */
async function profile(): Promise<(file: string) => Promise<void>> {
  const session = new Session()
  session.connect()
  await session.post('Profiler.enable')
  await session.post('Profiler.start')
  return async (file) => writeFileSync(file, JSON.stringify((await session.post('Profiler.stop')).profile))
}

/** Milliseconds a task: whole, of that planning; calls a task; the statement. What functions run is counted in them and by itself. */
async function statements(admin: Client, tasks: number): Promise<string> {
  const { rows } = await admin.query<{ ms: number; planning: number; calls: number; toplevel: boolean; query: string }>(
    `select total_exec_time + total_plan_time as ms, total_plan_time as planning, calls::float8, toplevel, query
     from pg_stat_statements order by 1 desc limit 150`
  )
  const line = ({ ms, planning, calls, toplevel, query }: (typeof rows)[number]) =>
    [ms, planning, calls].map((value) => (value / tasks).toFixed(3).padStart(8)).join(' ') +
    `${toplevel ? '  ' : ' . '}${query.replaceAll(/\s+/g, ' ').slice(0, 300)}`
  return `${rows.map(line).join('\n')}\n`
}

async function ended(database: Database): Promise<void> {
  for (;;) {
    const [row] = await database.query<{ open: boolean }>(`select exists (select from queue.place) as open`)
    if (!row?.open) return
    await delay(100)
  }
}

async function harmOf(child: ChildProcess): Promise<Harm> {
  const told = once(child, 'message')
  child.send('tell')
  return ((await told) as [Harm])[0]
}

/** Of the server and everything that it started, also what has ended. */
function postgresCpuMs(pid: number): number {
  const stat = (of: string) =>
    readFileSync(`/proc/${of}/stat`, 'utf8')
      .replace(/^.*\) /, '')
      .split(' ')
  const ms = (fields: string[]) => fields.reduce((sum, field) => sum + Number(field), 0) * 10
  let sum = 0
  const children = new Set([String(pid)])
  // Parents have smaller ids than what they start; a pass too many costs nothing.
  for (let pass = 0; pass < 3; pass++)
    for (const entry of readdirSync('/proc')) {
      if (!/^\d+$/.test(entry) || children.has(entry)) continue
      try {
        if (children.has(stat(entry)[1] ?? '')) children.add(entry)
      } catch {
        // It ended meanwhile: its parent has its time.
      }
    }
  for (const entry of children) {
    try {
      sum += ms(stat(entry).slice(11, 15))
    } catch {
      // The same.
    }
  }
  return sum
}

const round = (value: number): number => Math.round(value * 100) / 100
const seconds = (ms: number): string => `${(ms / 1000).toFixed(1)} s`
function say(line: string): void {
  process.stderr.write(`${line}\n`)
}

if (values.sockets === undefined) await main()
else await simulate(values.sockets)
process.exit()

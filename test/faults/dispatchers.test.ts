// Three dispatchers, each in a process of its own, of which one is killed, stopped and continued, or told to leave; two have clocks
// that are wrong by an hour. Full forms: `npm run prove -- takeover`, `stopped`, `cancel`.
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { registry } from '../../src/actions/registry.ts'
import { createSubmitter, type Submitter } from '../../src/actions/submit.ts'
import type { JsonObject } from '../../src/db/json.ts'
import { cancel } from '../../src/queue/requests.ts'
import { freshDatabase, type FreshDatabase } from '../support/postgres.ts'
import { eventually } from '../system/eventually.ts'
import type { LogLine } from './engine-process.ts'
import { Processes, type EngineProcess, type HostsProcess } from './processes.ts'
import { untilEnded } from './until-ended.ts'

const number = (name: string, otherwise: number) => Number(process.env[`TASKOMATIC_DISPATCHERS_${name}`] ?? otherwise)
const leaseMs = number('LEASE_MS', 1000)
const kills = number('KILLS', 3)
const stops = number('STOPS', 1)
const cancels = number('CANCELS', 12)

const listen = process.env['TASKOMATIC_DISPATCHERS_LISTEN'] !== 'off'
const drainMs = 200

const HOUR_MS = 3_600_000
const perHost = 5
const hostCount = 4
/** Of the migration network: a guest of 64 MiB takes next to no time, one of 2 GiB longer than 20 leases. */
const migrationMiBps = (2048 / (20 * leaseMs)) * 1000 * 0.98

const processes = new Processes()
let fresh: FreshDatabase
let hosts: HostsProcess
let submitter: Submitter
/** The one whose clock is right is first. */
let engines: EngineProcess[]

const newEngine = (clockOffMs: number) =>
  processes.engine(
    { url: fresh.serverUrl, leaseMs, workers: 8, drainMs, listen, level: 'warn' },
    {
      NODE_OPTIONS: `--import=${join(import.meta.dirname, 'clock-off.ts')}`,
      TASKOMATIC_TEST_CLOCK_OFF_MS: String(clockOffMs)
    }
  )

beforeAll(async () => {
  fresh = await freshDatabase()
  submitter = createSubmitter({ database: fresh.database, registry })
  hosts = await processes.hosts({ hosts: hostCount, startMs: 700, migrationMiBps })
  engines = await Promise.all([0, HOUR_MS, -HOUR_MS].map(newEngine))
  await ended(
    await Promise.all(
      Object.entries(hosts.uris).map(([host, uri]) => submit('host.add', { host, controlUri: uri, peerUri: uri }))
    )
  )
  const made = [...vms, 'long', 'moved'].map((name, at) =>
    submit('vm.create', { name, memoryMiB: at < vms.length ? 64 : 2048, vcpus: 1, host: `h${1 + (at % hostCount)}` })
  )
  await ended(await Promise.all(made))
  await ended(await Promise.all(['long', 'moved'].map((vm) => submit('vm.start', { vm }))))
}, 120_000)
afterAll(async () => {
  await processes.stop()
  await fresh.drop()
})

const vms = Array.from({ length: perHost * hostCount }, (_, at) => `web${at}`)

async function submit(action: string, args: JsonObject): Promise<number> {
  return (await submitter.submit({ tasks: [{ action, args }], by: 'test' })).tasks[0]?.id ?? -1
}

async function ended(ids: readonly number[], timeoutMs = 30_000 + 3 * leaseMs): Promise<void> {
  const bad = (await untilEnded(fresh.database, ids, { timeoutMs })).filter(({ state }) => state !== 'complete')
  expect(bad).toEqual([])
}

type Run = { task: number; attempt: number }
const runsOf = (dispatcher: number) =>
  fresh.database.query<Run>(
    `select task, attempt from queue.run where dispatcher = $1 and phase = 'running' order by task`,
    [dispatcher]
  )
async function dispatcherOf({ pid }: EngineProcess): Promise<{ id: number; expires: number } | undefined> {
  const [row] = await fresh.database.query<{ id: number; expires: number }>(
    `select id, extract(epoch from expires_at)::float8 * 1000 as expires from queue.dispatcher where name like '%/' || $1 order by id desc`,
    [String(pid)]
  )
  return row
}
async function databaseNow(): Promise<number> {
  const [row] = await fresh.database.query<{ now: number }>(
    `select extract(epoch from clock_timestamp())::float8 * 1000 as now`
  )
  return row?.now ?? NaN
}
/** When the attempt after that one began. */
async function takenAt({ task, attempt }: Run): Promise<number> {
  const [row] = await fresh.database.query<{ at: number }>(
    `select extract(epoch from coalesce(
       (select started_at from queue.attempt a where a.task = t.id and a.attempt = $2),
       case when t.attempts = $2 then t.started_at end))::float8 * 1000 as at
     from queue.task t where t.id = $1`,
    [task, attempt + 1]
  )
  return row?.at ?? NaN
}

/** Starts all VMs; resolves with an engine once it runs several of the starts. */
async function startAll(
  but: readonly EngineProcess[] = []
): Promise<{ ids: number[]; busy: EngineProcess; dispatcher: number }> {
  const ids = await Promise.all(vms.map((vm) => submit('vm.start', { vm })))
  for (;;) {
    for (const engine of engines.filter((one) => !but.includes(one))) {
      const { id } = (await dispatcherOf(engine)) ?? { id: 0 }
      if ((await runsOf(id)).filter(({ task }) => ids.includes(task)).length >= 3)
        return { ids, busy: engine, dispatcher: id }
    }
    await delay(5)
  }
}
const stopAll = async () => ended(await Promise.all(vms.map((vm) => submit('vm.stop', { vm, force: true }))))
const startsSince = async (seq: number) =>
  (await hosts.call.journal(seq))
    .filter(({ kind, name }) => kind === 'started' && vms.includes(name))
    .map(({ name }) => name)
    .toSorted()
const lastSeq = async () => (await hosts.call.journal()).at(-1)?.seq ?? 0
const p99 = (values: readonly number[]) => values.toSorted((a, b) => a - b)[Math.ceil(values.length * 0.99) - 1] ?? NaN

test(
  `kill -9 of a dispatcher, ${kills} times: its tasks run or are looked for elsewhere within the lease and 2 s, never before; what runs for 20 leases is begun once`,
  { timeout: 60_000 + 30 * leaseMs + kills * (20_000 + 3 * leaseMs) },
  async () => {
    const long = await submit('vm.migrate', { vm: 'long', to: await elsewhere('long') })
    const keeper = await eventually(async () => {
      for (const engine of engines) {
        const held = await runsOf((await dispatcherOf(engine))?.id ?? 0)
        if (held.some(({ task }) => task === long)) return engine
      }
      throw new Error('nobody runs it yet')
    })
    const took: number[] = []
    for (let kill = 0; kill < kills; kill++) {
      const before = await lastSeq()
      const { ids, busy, dispatcher } = await startAll([keeper])
      await busy.kill()
      const killed = await databaseNow()
      const expires = (await dispatcherOf(busy))?.expires ?? NaN
      const left = await runsOf(dispatcher)
      engines[engines.indexOf(busy)] = await newEngine(kill % 2 === 0 ? HOUR_MS : -HOUR_MS)
      await ended(ids)
      for (const run of left) {
        const at = await takenAt(run)
        expect(at, `task ${run.task}`).toBeGreaterThanOrEqual(expires)
        took.push(at - killed)
      }
      expect(await startsSince(before)).toEqual(vms.toSorted())
      await stopAll()
    }
    const worst = p99(took)
    console.log(
      `take-over: ${took.length} tasks of ${kills} kills, p99 ${Math.round(worst)} ms with a lease of ${leaseMs} ms`
    )
    expect(took.length).toBeGreaterThanOrEqual(kills)
    expect(worst).toBeLessThanOrEqual(leaseMs + 2000)
    await ended([long], 30_000 + 30 * leaseMs)
    const moves = (await hosts.call.journal()).filter(({ name, kind }) => name === 'long' && kind.startsWith('migrat'))
    expect(moves.map(({ kind }) => kind)).toEqual(['migrated'])
    const [task] = await fresh.database.query<{ attempts: number; ms: number }>(
      'select attempts, extract(epoch from ended_at - created_at)::float8 * 1000 as ms from queue.task where id = $1',
      [long]
    )
    expect(task?.ms).toBeGreaterThan(19 * leaseMs)
    // Where the machine is so busy that a beat is late by a lease, another looks for it; nobody begins it again.
    if (!keeper.logs.some(lostLease)) expect(task?.attempts).toBe(1)
  }
)

const lostLease = ({ msg }: LogLine) => msg?.startsWith('the lease was lost') ?? false

async function elsewhere(vm: string): Promise<string> {
  const { vms: all } = await hosts.call.truth()
  const at = all.find((one) => one.name === vm && one.active)?.host
  return at === 'h1' ? 'h2' : 'h1'
}

test(
  `SIGSTOP of a dispatcher for three leases, ${stops} times: what it reports late is refused, it does nothing more, and goes on by a new lease`,
  { timeout: 30_000 + stops * (30_000 + 6 * leaseMs) },
  async () => {
    let refused = 0
    for (let stop = 0; stop < stops; stop++) {
      const before = await lastSeq()
      const { ids, busy, dispatcher } = await startAll()
      busy.signal('SIGSTOP')
      await Promise.all([delay(3 * leaseMs), ended(ids)])
      expect(await startsSince(before)).toEqual(vms.toSorted())
      const after = await lastSeq()
      const results = () =>
        fresh.database.query('select id, outcome, attempts, result from queue.task where id = any($1) order by id', [
          ids
        ])
      const recorded = await results()
      busy.signal('SIGCONT')
      await eventually(async () => {
        const now = await dispatcherOf(busy)
        expect(now?.id).toBeGreaterThan(dispatcher)
        expect(await busy.call.running()).toBe(0)
      })
      const stale = await eventually(async () => {
        const reports = await fresh.database.query<Run>(
          'select task, attempt from queue.stale_report where task = any($1) order by task',
          [ids]
        )
        expect(reports.length).toBeGreaterThan(0)
        return reports
      })
      const lost = await fresh.database.query<Run>(
        `select task, attempt from queue.attempt where dispatcher = $1 and outcome = 'lost'`,
        [dispatcher]
      )
      for (const report of stale) expect(lost).toContainEqual(report)
      refused += stale.length
      expect(await results()).toEqual(recorded)
      expect((await hosts.call.journal(after)).filter(({ kind }) => kind !== 'fault')).toEqual([])
      await stopAll()
      // It takes tasks again.
      const next = await startAll(engines.filter((one) => one !== busy))
      await ended(next.ids)
      await stopAll()
    }
    console.log(`stopped: ${refused} late reports of ${stops} stops, all refused`)
  }
)

test(
  `${cancels} migrations are cancelled from another process: the host hears of each within a second`,
  { timeout: 60_000 + cancels * 5000 },
  async () => {
    const took: number[] = []
    while (took.length < cancels) {
      await Promise.all(
        ['long', 'moved'].map(async (vm) => {
          const after = await lastSeq()
          const task = await submit('vm.migrate', { vm, to: await elsewhere(vm) })
          await eventually(async () =>
            expect(await fresh.database.query('select from queue.progress where task = $1', [task])).toHaveLength(1)
          )
          const asked = Date.now()
          await cancel(fresh.database, { task, by: 'op', reason: 'not now' })
          const { at } = await hosts.call.next({ kind: 'migration_failed', name: vm, after })
          took.push(at - asked)
          const [end] = await untilEnded(fresh.database, [task])
          expect(end).toMatchObject({ state: 'cancelled', error: { code: 'cancelled' } })
        })
      )
    }
    console.log(`cancel: ${took.length} migrations, p99 ${p99(took)} ms until the abort`)
    expect(p99(took)).toBeLessThanOrEqual(1000)
  }
)

test(
  'told to leave, a dispatcher hands over what has not ended, and its hosts, at once',
  { timeout: 60_000 },
  async () => {
    const before = await lastSeq()
    const { ids, busy, dispatcher } = await startAll()
    const stopping = busy.call.stop()
    const left = await runsOf(dispatcher)
    await stopping
    const stopped = await databaseNow()
    const watched = await fresh.database.query<{ connection: string; by: number | null }>(
      'select h.connection, w.dispatcher as by from inventory.host h left join inventory.watch w on w.host = h.name'
    )
    // What was handed over was never doubted.
    for (const { connection } of watched) expect(connection).toBe('up')
    expect(watched.map(({ by }) => by)).not.toContain(dispatcher)
    await ended(ids)
    const taken = (await Promise.all(left.map(takenAt))).filter((at) => !Number.isNaN(at))
    for (const at of taken) expect(at - stopped).toBeLessThan(500)
    expect(await startsSince(before)).toEqual(vms.toSorted())
    await busy.kill()
  }
)

test('a dispatcher whose clock is wrong by an hour has a lease like any other, by the clock of the database', async () => {
  for (const engine of engines.filter((one) => one.ended() === undefined))
    await eventually(async () => {
      const left = ((await dispatcherOf(engine))?.expires ?? NaN) - (await databaseNow())
      expect(left).toBeGreaterThan(0)
      expect(left).toBeLessThanOrEqual(leaseMs)
    })
})

// Engines on simulated hosts that can die: their process is gone for the database (its connections end, nothing more is said) and for
// the hosts, and another one takes over. Submits plans of one task, and counts the calls that change something on a host.
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pg from 'pg'
import pino from 'pino'
import { undoPlan } from '../../src/actions/plan-undo.ts'
import { registry } from '../../src/actions/registry.ts'
import { createSubmitter, type RequestedTask, type Submitter } from '../../src/actions/submit.ts'
import type { JsonObject } from '../../src/db/json.ts'
import { openDatabase, type Database, type Sql, type Tx } from '../../src/db/open.ts'
import { startEngine, type Engine } from '../../src/dispatcher/engine.ts'
import type { ProcedureName } from '../../src/libvirt/wire.gen.ts'
import { channels } from '../../src/queue/notify.ts'
import { getTask } from '../../src/queue/read.ts'
import { retry } from '../../src/queue/requests.ts'
import { phaseOf } from '../../src/queue/state.ts'
import type { Task } from '../../src/queue/task.ts'
import type { Fault } from '../../src/sim/faults.ts'
import { startSimFleet, type FleetHost, type SimFleet } from '../../src/sim/fleet.ts'
import { Staging } from '../../src/staging/staging.ts'
import { freshDatabase, type FreshDatabase } from '../support/postgres.ts'

const never = new Promise<never>(() => {})

/** A database as one process has it: once that is dead, nothing that it asked for is ever answered. */
class MortalDatabase implements Database {
  readonly #inner: Database
  #dead = false

  constructor(inner: Database) {
    this.#inner = inner
  }

  die(): void {
    this.#dead = true
    void this.#inner.stop().catch(() => {})
  }

  async #living<T>(work: () => Promise<T>): Promise<T> {
    if (this.#dead) return never
    try {
      const answer = await work()
      return this.#dead ? never : answer
    } catch (error) {
      if (this.#dead) return never
      throw error
    }
  }

  query<R>(text: string, values?: readonly unknown[]): Promise<R[]> {
    return this.#living(() => this.#inner.query<R>(text, values))
  }

  transaction<T>(fn: (tx: Tx) => Promise<T>): Promise<T> {
    return this.#living(() =>
      this.#inner.transaction((tx) => {
        const mortal: Sql = { query: (text, values) => this.#living(() => tx.query(text, values)) }
        return fn(mortal as Tx)
      })
    )
  }

  listen: Database['listen'] = (channel, onNotify) =>
    this.#living(() => this.#inner.listen(channel, (notice) => (this.#dead ? undefined : onNotify(notice))))

  stop(): Promise<void> {
    return this.#living(() => this.#inner.stop())
  }
}

type Living = { engine: Engine; database: MortalDatabase; name: string }

export type WorldOptions = { leaseMs?: number }

export class World {
  readonly fleet: SimFleet
  /** Outlives every engine. */
  readonly database: Database
  readonly submitter: Submitter
  readonly staging: Staging
  readonly #fresh: FreshDatabase
  readonly directory: string
  readonly #leaseMs: number | undefined
  readonly #waiters = new Set<() => void>()
  #living: Living | undefined
  #engines = 0

  private constructor(fleet: SimFleet, fresh: FreshDatabase, directory: string, { leaseMs }: WorldOptions) {
    this.fleet = fleet
    this.#fresh = fresh
    this.database = fresh.database
    this.submitter = createSubmitter({ database: fresh.database, registry })
    this.staging = new Staging({ directory: join(directory, 'staging') })
    this.directory = directory
    this.#leaseMs = leaseMs
  }

  static async start(hosts: string[], options: WorldOptions = {}): Promise<World> {
    const directory = mkdtempSync(join(tmpdir(), 'ev-'))
    const fleet = await startSimFleet({ dir: directory, hosts, sharedStores: [{ name: 'nfs', path: '/srv/nfs' }] })
    const world = new World(fleet, await freshDatabase({ poolSize: 20 }), directory, options)
    await world.database.listen(channels.event, () => {
      for (const look of world.#waiters) look()
    })
    await world.#begin()
    return world
  }

  get engine(): Engine {
    if (!this.#living) throw new Error('no engine lives')
    return this.#living.engine
  }

  async #begin(): Promise<void> {
    const name = `engine ${++this.#engines}`
    const inner = openDatabase({ url: this.#fresh.serverUrl, poolSize: 20, applicationName: name })
    const database = new MortalDatabase(inner)
    const engine = await startEngine({
      database,
      registry,
      log: pino({ level: process.env['TASKOMATIC_TEST_LOG'] ?? 'silent' }, pino.destination(2)),
      definitionKey: Buffer.alloc(32, 7),
      connections: { allowPlaintext: true, firstRetryMs: 10, lastRetryMs: 50 },
      staging: this.staging,
      drainMs: 1000,
      ...(this.#leaseMs === undefined ? {} : { leaseMs: this.#leaseMs })
    })
    this.#living = { engine, database, name }
  }

  /** The engine's process dies: in the middle of whatever it does, without a word. Another one is there at once. */
  async killEngine(): Promise<void> {
    const { engine, database, name } = this.#living ?? {}
    if (!engine || !database) throw new Error('no engine lives')
    database.die()
    await engine.hosts.stop()
    const client = new pg.Client({ connectionString: this.#fresh.ownerUrl })
    await client.connect()
    await client.query('reset role')
    await client.query('select pg_terminate_backend(pid) from pg_stat_activity where application_name = $1', [name])
    await client.end()
    await this.#begin()
  }

  wake(): void {
    this.engine.dispatcher.wake()
  }

  /** Resolves once it is as asked; default: has ended. */
  async until(id: number, holds: (task: Task) => boolean = ({ state }) => phaseOf(state) === 'ended'): Promise<Task> {
    for (;;) {
      const { promise, resolve } = Promise.withResolvers<void>()
      this.#waiters.add(resolve)
      const task = await getTask(this.database, id)
      if (task && holds(task)) {
        this.#waiters.delete(resolve)
        return task
      }
      await promise
      this.#waiters.delete(resolve)
    }
  }

  /** Submits a plan of one task, whose undoing is written down. */
  async ask(
    action: string,
    args: JsonObject,
    onFailure: 'stop' | 'rollback' = 'stop'
  ): Promise<{ id: number; plan: number }> {
    const tasks: RequestedTask[] = [{ action, args }]
    const answer = await this.submitter.submit({ tasks, plan: { onFailure }, by: 'test' })
    this.wake()
    return { id: answer.tasks[0]?.id ?? 0, plan: answer.plan ?? 0 }
  }

  /** Undoes the plan. @throws RequestError nothing_to_undo … */
  async undo(plan: number): Promise<{ task: Task; left: { why: string }[] }> {
    const { task, left } = await undoPlan(
      { database: this.database, registry, submitter: this.submitter },
      { plan, by: 'test' }
    )
    this.wake()
    return { task: await this.until(task), left }
  }

  async retry(task: number): Promise<Task> {
    await retry(this.database, { task, by: 'test', withDependants: false })
    this.wake()
    return this.until(task)
  }

  async stop(): Promise<void> {
    await this.#living?.engine.stop()
    await this.fleet.stop()
    await this.#fresh.drop()
    rmSync(this.directory, { recursive: true, force: true })
  }
}

/** One call that changes something: the `nth` (from 0) of its procedure on its host. */
export type Call = { host: string; procedure: ProcedureName; nth: number }

const reads =
  /^(AUTH|CONNECT|NODE)_|_(GET|LIST|LOOKUP|NUM_OF|IS|HAS|CURRENT|DOWNLOAD|BLOCK_INFO|XML_DESC|INFO)(_|$)|_(GET|INFO|XML_DESC)[A-Z_]*$/

/** Listens to what is called on hosts, and lets one call go wrong. */
export class Ear {
  readonly calls: Call[] = []
  /** Resolves once the call that is to go wrong has come. */
  readonly hit: Promise<void>
  #armed: { call: Call; fault: Fault } | undefined
  readonly #hit: () => void
  readonly #end: (() => void)[] = []
  readonly #counts = new Map<string, number>()
  wasHit = false

  constructor(hosts: readonly FleetHost[]) {
    const { promise, resolve } = Promise.withResolvers<void>()
    this.hit = promise
    this.#hit = () => {
      this.wasHit = true
      resolve()
    }
    for (const host of hosts) {
      const plain = host.faults.next.bind(host.faults)
      host.faults.next = (procedure, subject) => this.#heard(host.name, procedure) ?? plain(procedure, subject)
      this.#end.push(() => void (host.faults.next = plain))
    }
  }

  arm(call: Call, fault: Fault): void {
    this.#armed = { call, fault }
  }

  #heard(host: string, procedure: ProcedureName): Fault | undefined {
    if (reads.test(procedure)) return undefined
    const key = `${host} ${procedure}`
    const nth = this.#counts.get(key) ?? 0
    this.#counts.set(key, nth + 1)
    this.calls.push({ host, procedure, nth })
    const { call, fault } = this.#armed ?? {}
    if (!call || call.host !== host || call.procedure !== procedure || call.nth !== nth) return undefined
    this.#hit()
    return fault
  }

  stop(): void {
    for (const end of this.#end) end()
  }
}

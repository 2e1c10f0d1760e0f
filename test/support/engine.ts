// The whole engine in one process on simulated hosts and a database of its own: submit, wait for the end, look.
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pino from 'pino'
import type { Action } from '../../src/actions/action.ts'
import { registry as allActions } from '../../src/actions/registry.ts'
import { createSubmitter, type RequestedTask, type Submitter } from '../../src/actions/submit.ts'
import type { JsonObject } from '../../src/db/json.ts'
import { openDatabase, type Database } from '../../src/db/open.ts'
import { startEngine, type Engine, type EngineOptions } from '../../src/dispatcher/engine.ts'
import { channels } from '../../src/queue/notify.ts'
import { getTask } from '../../src/queue/read.ts'
import { phaseOf } from '../../src/queue/state.ts'
import type { Task } from '../../src/queue/task.ts'
import { startSimFleet, type SimFleet, type SimFleetOptions } from '../../src/sim/fleet.ts'
import { seededFaults } from '../faults/seeded-faults.ts'
import { freshDatabase } from './postgres.ts'
import { refuseTwoWriters } from './two-writers.ts'

export type TestEngine = {
  database: Database
  /** Logs in as one who may write the queue's tables. */
  ownerUrl: string
  /** Logs in as the server does. */
  serverUrl: string
  engine: Engine
  /** Another engine on the same database and hosts, as another process has it. It is stopped with this one. */
  another(options?: TestEngineOptions['engine']): Promise<Engine>
  fleet: SimFleet
  submitter: Submitter
  /** Submits one task and resolves once it has ended. */
  run(action: string, args: JsonObject, more?: Partial<RequestedTask>): Promise<Task>
  /** Submits one task; its id. */
  submit(action: string, args: JsonObject, more?: Partial<RequestedTask>): Promise<number>
  /** Resolves once the task is as asked; default: has ended. Woken by the queue's events. */
  until(task: number, holds?: (task: Task) => boolean): Promise<Task>
  /** @throws where two guests wrote to one disk */
  stop(): Promise<void>
}

export type TestEngineOptions = {
  hosts?: number
  actions?: readonly Action[]
  fleet?: Omit<Partial<SimFleetOptions>, 'dir' | 'hosts'>
  engine?: Partial<Pick<EngineOptions, 'workers' | 'drainMs' | 'leaseMs' | 'guardPollMs' | 'listen' | 'connections'>>
  /** Default true: the hosts are added before it returns. */
  addHosts?: boolean
  /** What the engines log in to instead of the server's own URL; tests themselves always use that. */
  through?: (serverUrl: string) => Promise<string>
}

const by = 'test'

/** The project `notify-off` runs the integration tests with engines that hear no notification. */
const notifies = process.env['TASKOMATIC_TEST_NOTIFY'] !== 'off'

/** With TASKOMATIC_TEST_FAULTS=SEED: engines whose statements are lost now and then. */
const faultSeed = process.env['TASKOMATIC_TEST_FAULTS']

export async function startTestEngine(options: TestEngineOptions = {}): Promise<TestEngine> {
  const directory = mkdtempSync(join(tmpdir(), 'tk-'))
  const fresh = await freshDatabase({ poolSize: 20 })
  const { database } = fresh
  const faulty = faultSeed === undefined ? undefined : await seededFaults(fresh.serverUrl, Number(faultSeed))
  const url = faulty?.url ?? (await options.through?.(fresh.serverUrl))
  const engineDatabase = url === undefined ? database : openDatabase({ url, poolSize: 20 })
  const fleet = await startSimFleet({ dir: directory, hosts: options.hosts ?? 0, ...options.fleet })
  const registry = new Map([...allActions, ...(options.actions ?? []).map((action) => [action.name, action] as const)])
  const log = pino({ level: process.env['TASKOMATIC_TEST_LOG'] ?? 'silent' }, pino.destination(2))
  const others: Engine[] = []
  const start = (engineOptions: TestEngineOptions['engine']) =>
    startEngine({
      database: engineDatabase,
      registry,
      log,
      definitionKey: Buffer.alloc(32, 7),
      connections: { allowPlaintext: true },
      ...(notifies ? {} : { listen: false }),
      ...engineOptions
    })
  const engine = await start(options.engine)
  faulty?.begin()
  const submitter = createSubmitter({ database, registry })
  const waiters = new Set<() => void>()
  const listening = await database.listen(channels.event, () => {
    for (const look of waiters) look()
  })

  const submit: TestEngine['submit'] = async (action, args, more = {}) => {
    const answer = await submitter.submit({ tasks: [{ action, args, ...more }], by })
    engine.dispatcher.wake()
    return answer.tasks[0]?.id ?? -1
  }

  const until: TestEngine['until'] = async (id, holds = (task) => phaseOf(task.state) === 'ended') => {
    for (;;) {
      const { promise, resolve } = Promise.withResolvers<void>()
      waiters.add(resolve)
      const task = await getTask(database, id)
      if (task && holds(task)) {
        waiters.delete(resolve)
        return task
      }
      await promise
      waiters.delete(resolve)
    }
  }

  const run: TestEngine['run'] = async (action, args, more) => until(await submit(action, args, more))

  if (options.addHosts ?? true) {
    for (const host of fleet.hosts) {
      await run('host.add', { host: host.name, controlUri: host.uri, peerUri: host.uri })
    }
  }

  return {
    database,
    ownerUrl: fresh.ownerUrl,
    serverUrl: fresh.serverUrl,
    engine,
    async another(more = options.engine) {
      const other = await start(more)
      others.push(other)
      return other
    },
    fleet,
    submitter,
    run,
    submit,
    until,
    async stop() {
      await Promise.all([engine, ...others].map((each) => each.stop()))
      if (engineDatabase !== database) await engineDatabase.stop()
      await faulty?.stop()
      await listening.stop()
      await fleet.stop()
      await fresh.drop()
      rmSync(directory, { recursive: true, force: true })
      refuseTwoWriters(fleet)
    }
  }
}

// One engine in a process of its own, which can be killed, stopped and continued. Started by processes.ts; it speaks of what it logs.
import pino from 'pino'
import { registry } from '../../src/actions/registry.ts'
import { openDatabase, type Database } from '../../src/db/open.ts'
import { startEngine, type Engine } from '../../src/dispatcher/engine.ts'
import { answer, tell } from './ipc.ts'

export type EngineProcessOptions = {
  /** Logs in as the server does. */
  url: string
  /** Default 10,000, the product's own. */
  leaseMs?: number
  workers?: number
  guardPollMs?: number
  drainMs?: number
  listen?: boolean
  poolSize?: number
  /** What is told of the log; default `warn`. */
  level?: string
}

/** A line of the engine's log, as pino writes it. */
export type LogLine = { level: number; msg?: string; [key: string]: unknown }

let database: Database | undefined
let beats: Database | undefined
let engine: Engine | undefined
const running = (): Engine => {
  if (!engine) throw new Error('the engine has not been started')
  return engine
}

const handlers = {
  async start(options: EngineProcessOptions): Promise<void> {
    const { url, poolSize = 10, level = 'warn', ...rest } = options
    const log = pino({ level }, { write: (line: string) => tell({ log: JSON.parse(line) as LogLine }) })
    const { leaseMs = 10_000 } = rest
    database = openDatabase({
      url,
      poolSize,
      applicationName: `engine ${process.pid}`,
      idleInTransactionMs: leaseMs,
      onError: () => undefined
    })
    beats = openDatabase({ url, poolSize: 1, answerTimeoutMs: leaseMs / 3, onError: () => undefined })
    engine = await startEngine({
      database,
      beats,
      registry,
      log,
      definitionKey: Buffer.alloc(32, 7),
      connections: { allowPlaintext: true },
      ...rest
    })
  },
  wake: () => running().dispatcher.wake(),
  running: () => running().dispatcher.running(),
  guardPollFound: () => running().dispatcher.guardPollFound(),
  forgotten: () => running().dispatcher.forgotten(),
  whyFenced: () => running().dispatcher.whyFenced(),
  /** Drains, and ends every connection. */
  async stop(): Promise<void> {
    await engine?.stop()
    await database?.stop()
    await beats?.stop()
  }
}

export type EngineHandlers = typeof handlers

answer(handlers)

// Everything that a server is, wired together: database, engine (hosts, watchers, dispatcher), API. Used by the command, the demo
// and tests; what an option means is said where it is read.
import { mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Logger } from 'pino'
import { registry } from '../src/actions/registry.ts'
import { createSubmitter } from '../src/actions/submit.ts'
import { packageDirectory, serverNoteFile, tokenFile, type ServerNote } from '../src/api/places.ts'
import { startEmbedded } from '../src/db/embedded.ts'
import { initDatabase } from '../src/db/init.ts'
import { DatabaseError } from '../src/db/error.ts'
import { openDatabase, type Database } from '../src/db/open.ts'
import { startEngine, type Engine } from '../src/dispatcher/engine.ts'
import { defaultLeaseMs } from '../src/dispatcher/lease.ts'
import type { HostConnectionsOptions } from '../src/host/connections.ts'
import { createApi } from '../src/http/api.ts'
import { listen } from '../src/http/server.ts'
import { openToken, tokenAuthenticator } from '../src/identity/token.ts'
import { loadDefinitionKey } from '../src/inventory/definitions.ts'
import { Staging } from '../src/staging/staging.ts'
import { preflight } from './preflight.ts'
import { keepStagingTidy } from './staging-chore.ts'
import { vmXmlReader } from './vm-xml.ts'

export type ServerOptions = {
  /** Token, key and note; and the database where there is no `databaseUrl`. */
  stateDirectory: string
  /** The server's login. Its schema must be there: `taskomatic db init`. */
  databaseUrl?: string
  /** Default 127.0.0.1. */
  address?: string
  /** Default 7420; 0 takes a free one. */
  port?: number
  workers?: number
  drainMs?: number
  leaseMs?: number
  connections?: Omit<HostConnectionsOptions, 'fence'>
  log: Logger
}

export type RunningServer = {
  url: string
  tokenFile: string
  engine: Engine
  database: Database
  /** No new requests, running work may end for `drainMs`, then everything is closed. May be called twice. */
  stop(): Promise<void>
}

export const DEFAULT_PORT = 7420

/** The dispatcher's own default. */
const DEFAULT_DRAIN_MS = 30_000
/** What a part may take beyond that to stop, e.g. while the database is gone, before the next is stopped all the same. */
const STOP_MS = 10_000

const READ_TIMEOUT_MS = 10_000

export async function startServer(options: ServerOptions): Promise<RunningServer> {
  const { stateDirectory, log } = options
  // What was started is stopped in reverse, whether all of it was started or not.
  const stops: (() => Promise<unknown>)[] = []
  let stopped = false
  const stopMs = (options.drainMs ?? DEFAULT_DRAIN_MS) + STOP_MS
  const stopAll = async () => {
    stopped = true
    for (const stop of stops.splice(0).toReversed()) {
      await withDeadline(stop(), stopMs).catch((error: unknown) => log.error({ err: error }, 'not stopped cleanly'))
    }
  }
  // A pool that was ended may still hear that PostgreSQL ends.
  const onError = (error: Error) => {
    if (!stopped) log.warn({ err: error }, 'a database connection broke')
  }
  try {
    await mkdir(stateDirectory, { recursive: true, mode: 0o700 })
    const token = await openToken(tokenFile(stateDirectory))
    const databaseUrl = options.databaseUrl ?? (await startOwnDatabase(stateDirectory, log, stops))
    const leaseMs = options.leaseMs ?? defaultLeaseMs
    const database = openDatabase({
      url: databaseUrl,
      poolSize: 20,
      idleInTransactionMs: leaseMs,
      applicationName: 'taskomatic',
      onError
    })
    stops.push(() => database.stop())
    const reads = openDatabase({
      url: databaseUrl,
      poolSize: 5,
      applicationName: 'taskomatic reads',
      statementTimeoutMs: READ_TIMEOUT_MS,
      onError
    })
    stops.push(() => reads.stop())
    const beats = openDatabase({
      url: databaseUrl,
      poolSize: 1,
      applicationName: 'taskomatic lease',
      answerTimeoutMs: leaseMs / 3,
      onError
    })
    stops.push(() => beats.stop())
    await checkSchema(database)
    const staging = new Staging({ directory: join(stateDirectory, 'uploads') })
    const chore = keepStagingTidy({ uploads: staging.uploads, database, log })
    stops.push(() => chore.stop())
    const { workers, drainMs, connections } = options
    const engine = await startEngine({
      database,
      beats,
      leaseMs,
      registry,
      staging,
      log,
      definitionKey: await loadDefinitionKey(join(stateDirectory, 'definition.key')),
      ...(workers === undefined ? {} : { workers }),
      ...(drainMs === undefined ? {} : { drainMs }),
      ...(connections ? { connections } : {})
    })
    stops.push(() => engine.stop())
    const api = await createApi({
      database,
      reads,
      registry,
      staging,
      submitter: createSubmitter({ database, registry }),
      authenticator: tokenAuthenticator(token),
      log,
      version: (JSON.parse(readFileSync(join(packageDirectory(), 'package.json'), 'utf8')) as { version: string })
        .version,
      wake: () => engine.dispatcher.wake(),
      preflight: preflight(engine),
      readVmXml: vmXmlReader(engine),
      metrics: {
        guardPollFound: () => engine.dispatcher.guardPollFound(),
        forgotten: () => engine.dispatcher.forgotten(),
        running: () => engine.dispatcher.running(),
        hosts: () => hostCounts(engine),
        watched: () => engine.watchers.watching().length
      }
    })
    // Before it listens: a port that is taken must not leave its feeds running.
    stops.push(async () => {
      await api.close()
    })
    const server = await listen(api, { host: options.address ?? '127.0.0.1', port: options.port ?? DEFAULT_PORT })
    stops.push(() => server.stop())
    await leaveNote(stateDirectory, { url: server.url, pid: process.pid }, stops)
    log.info({ url: server.url, stateDirectory }, 'server listens')
    let stopping: Promise<void> | undefined
    return {
      url: server.url,
      tokenFile: tokenFile(stateDirectory),
      engine,
      database,
      stop: () => (stopping ??= stopAll())
    }
  } catch (error) {
    await stopAll()
    throw error
  }
}

async function withDeadline(work: Promise<unknown>, ms: number): Promise<void> {
  const late = Promise.withResolvers<never>()
  const timer = setTimeout(() => late.reject(new Error(`not done after ${ms} ms`)), ms)
  try {
    await Promise.race([work, late.promise])
  } finally {
    clearTimeout(timer)
  }
}

async function startOwnDatabase(
  stateDirectory: string,
  log: Logger,
  stops: (() => Promise<unknown>)[]
): Promise<string> {
  const cluster = await startEmbedded({
    dataDirectory: join(stateDirectory, 'postgres'),
    onLog: (line) => log.debug({ line }, 'postgres')
  })
  stops.push(() => cluster.stop())
  void cluster.ended.then(() => log.info('the embedded PostgreSQL has ended'))
  const { serverUrl, migrated } = await initDatabase({ adminUrl: cluster.adminUrl })
  if (migrated.length > 0) log.info({ migrated: migrated.length }, 'schema brought up to date')
  return serverUrl
}

async function checkSchema(database: Database): Promise<void> {
  const [row] = await database.query<{ there: boolean }>(
    `select to_regclass('inventory.installation') is not null as there`
  )
  if (!row?.there)
    throw new DatabaseError('migration_missing', 'the database has no schema: run `taskomatic db init` on it')
}

function hostCounts({ hosts, watchers }: Engine): Record<string, number> {
  const up = hosts.names().filter((name) => watchers.isUp(name)).length
  return { up, down: hosts.names().length - up }
}

/** Where the command finds this server. Another server's note, left later, is not taken away. */
async function leaveNote(stateDirectory: string, note: ServerNote, stops: (() => Promise<unknown>)[]): Promise<void> {
  const file = serverNoteFile(stateDirectory)
  const text = JSON.stringify(note)
  await writeFile(`${file}.${process.pid}`, text, { mode: 0o600 })
  await rename(`${file}.${process.pid}`, file)
  stops.push(async () => {
    if ((await readFile(file, 'utf8').catch(() => '')) === text) await rm(file, { force: true })
  })
}

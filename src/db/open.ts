// A pool of connections to PostgreSQL, and the values that cross it. No SQL of ours is here; nothing is retried silently:
// only the caller knows whether a statement may run twice.

import pg from 'pg'
import { DatabaseError, toDatabaseError } from './error.ts'
import { openListener } from './listen.ts'
import type { Listening, Notice } from './listen.ts'

/** What both a database and a transaction offer. Values are sent apart from the text, never spliced into it. */
export interface Sql {
  query<R>(text: string, values?: readonly unknown[]): Promise<R[]>
}

declare const transaction: unique symbol

/** A transaction: READ COMMITTED, alive until the function that got it returns. */
export interface Tx extends Sql {
  readonly [transaction]: true
}

export interface Database extends Sql {
  /** Runs `fn` in one transaction; commits when it resolves, rolls back and rethrows when it throws. */
  transaction<T>(fn: (tx: Tx) => Promise<T>): Promise<T>
  /** Hears a channel on a connection of its own, which reconnects; after each gap the caller is told to read again. */
  listen(channel: string, onNotify: (notice: Notice) => void): Promise<Listening>
  /** Waits for queries under way, then closes every connection. May be called twice. */
  stop(): Promise<void>
}

export type DatabaseOptions = {
  /** `postgresql://user:password@host/database`, or with `?host=/socket/directory` for a unix socket. */
  url: string
  /** Connections at most. Default 10. */
  poolSize?: number
  /** Shown in pg_stat_activity. Default `taskomatic`. */
  applicationName?: string
  /** For every statement of this pool; 0 = none. Default 0. */
  statementTimeoutMs?: number
  /**
   * A transaction in which nothing is asked for so long is ended by the server, e.g. of a process that was stopped in the middle: what it
   * has locked, its lease above all, must not be so for as long as it stands still. Default 10,000; at most the lease.
   */
  idleInTransactionMs?: number
  /** Without an answer for so long the connection counts as lost, e.g. since its other end is gone and says nothing; 0 = wait. Default 0. */
  answerTimeoutMs?: number
  /** How long to wait for a connection, a free one or a new one. Default 10,000. */
  connectTimeoutMs?: number
  /** Told about idle connections that broke; they are replaced by themselves. */
  onError?: (error: DatabaseError) => void
}

const INT8 = 20
const INT8_ARRAY = 1016

function parseInt8(text: string): number {
  const value = Number(text)
  if (!Number.isSafeInteger(value)) throw new DatabaseError('unsafe_integer', `bigint ${text} does not fit a number`)
  return value
}

// timestamptz → Date and jsonb → value are what `pg` does by itself; bigint would be a string.
const parseInt8Array = (text: string): (number | null)[] =>
  text === '{}'
    ? []
    : text
        .slice(1, -1)
        .split(',')
        .map((item) => (item === 'NULL' ? null : parseInt8(item)))

const types: pg.CustomTypesConfig = {
  getTypeParser(oid: number, format?: 'text' | 'binary') {
    if (oid === INT8) return parseInt8
    if (oid === INT8_ARRAY) return parseInt8Array
    return pg.types.getTypeParser(oid, format)
  }
}

function clientConfig(options: DatabaseOptions): pg.ClientConfig {
  return {
    connectionString: options.url,
    application_name: options.applicationName ?? 'taskomatic',
    connectionTimeoutMillis: options.connectTimeoutMs ?? 10_000,
    keepAlive: true,
    types,
    idle_in_transaction_session_timeout: Math.ceil(options.idleInTransactionMs ?? 10_000),
    ...(options.statementTimeoutMs ? { statement_timeout: options.statementTimeoutMs } : {}),
    ...(options.answerTimeoutMs ? { query_timeout: options.answerTimeoutMs } : {})
  }
}

const ignore = () => {}

/** Texts that have a name; ours are written in the source, and so few. */
const MOST_NAMED = 1000
/** PostgreSQL soon keeps one plan for all values, made for ten elements: with many more it would not end. */
const LONGEST_NAMED = 100
const names = new Map<string, string>()

/** Statements are parsed once a connection, and planned once where one plan serves: both take longer than most of them run. */
function queryOf(text: string, values: readonly unknown[]): pg.QueryConfig {
  const query = { text, values: values as unknown[] }
  if (values.length === 0 || values.some((value) => Array.isArray(value) && value.length > LONGEST_NAMED)) return query
  let name = names.get(text)
  if (name === undefined) {
    if (names.size >= MOST_NAMED) return query
    name = `s${names.size}`
    names.set(text, name)
  }
  return { ...query, name }
}

export function openDatabase(options: DatabaseOptions): Database {
  const config = clientConfig(options)
  const pool = new pg.Pool({ ...config, max: options.poolSize ?? 10, idleTimeoutMillis: 30_000 })
  pool.on('error', (error) => options.onError?.(toDatabaseError(error, 'inside')))
  const listener = openListener(config, options.onError)
  let stopping: Promise<void> | undefined

  async function connect(): Promise<pg.PoolClient> {
    if (stopping) throw new DatabaseError('stopped', 'the database was stopped')
    try {
      return await pool.connect()
    } catch (error) {
      throw toDatabaseError(error, 'connect')
    }
  }

  return {
    async query<R>(text: string, values: readonly unknown[] = []): Promise<R[]> {
      const client = await connect()
      // A connection that breaks while it is lent out would otherwise end the process; the query itself tells.
      client.on('error', ignore)
      let broken = false
      try {
        return (await client.query(queryOf(text, values))).rows as R[]
      } catch (error) {
        const failure = toDatabaseError(error, 'statement')
        broken = failure.code === 'outcome_unknown' || failure.code === 'unavailable'
        throw failure
      } finally {
        client.off('error', ignore)
        client.release(broken)
      }
    },

    async transaction<T>(fn: (tx: Tx) => Promise<T>): Promise<T> {
      const client = await connect()
      let open = true
      const tx = {
        async query<R>(text: string, values: readonly unknown[] = []): Promise<R[]> {
          if (!open) throw new DatabaseError('stopped', 'the transaction has ended')
          try {
            return (await client.query(queryOf(text, values))).rows as R[]
          } catch (error) {
            throw toDatabaseError(error, 'inside')
          }
        }
      } as unknown as Tx
      // A connection that breaks while it is lent out would otherwise end the process; the next query tells.
      client.on('error', ignore)
      let broken = false
      let committing = false
      try {
        await client.query('begin isolation level read committed')
        const value = await fn(tx)
        open = false
        committing = true
        const ended = await client.query('commit')
        // A failed statement whose error the caller swallowed turns commit into rollback; that must not pass as success.
        if (ended.command === 'ROLLBACK')
          throw new DatabaseError('invalid', 'the transaction had failed before its commit')
        return value
      } catch (error) {
        open = false
        const failure =
          error instanceof Error && !isPgError(error) ? error : toDatabaseError(error, committing ? 'commit' : 'inside')
        if (!committing || !(failure instanceof DatabaseError)) {
          await client.query('rollback').catch(() => (broken = true))
        } else broken = failure.code === 'outcome_unknown' || failure.code === 'unavailable'
        throw failure
      } finally {
        client.off('error', ignore)
        client.release(broken)
      }
    },

    listen: (channel, onNotify) => listener.listen(channel, onNotify),

    stop() {
      stopping ??= Promise.all([pool.end(), listener.stop()]).then(() => undefined)
      return stopping
    }
  }
}

// Errors thrown by the caller's own function pass unchanged; only what the driver or the network threw is translated.
function isPgError(error: Error): boolean {
  return error instanceof pg.DatabaseError || 'syscall' in error || /^(Connection|Client)\b/.test(error.message)
}

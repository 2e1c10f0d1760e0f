// The one error class of this layer. Callers branch on `code`; everything PostgreSQL said is kept beside it and in `cause`.

export type DatabaseErrorCode =
  | 'unavailable' // no connection could be had, or it was lost before anything could have been committed
  | 'outcome_unknown' // the connection was lost while a commit (or a statement of its own) was under way
  | 'conflict' // deadlock or serialization failure: nothing happened, the whole transaction may be tried again
  | 'constraint' // class 23: a fact named by `constraint` would not hold
  | 'refused' // the role may not do that
  | 'timeout' // statement_timeout, lock_timeout or a cancelled statement
  | 'raised' // one of our own SQL functions raised it: see `sqlState`, `hint`, `detail`
  | 'invalid' // the statement or its values are wrong: a fault of ours
  | 'unsafe_integer' // a bigint does not fit a JavaScript number
  | 'stopped' // the database was used after stop()
  | 'migration_changed' // an applied migration's file is not what was applied
  | 'migration_missing' // an applied migration's file is gone, or numbers leave a gap
  | 'already_running' // another PostgreSQL runs on the same data directory
  | 'data_directory' // the data directory cannot be used: wrong version, not ours
  | 'binaries_missing' // no PostgreSQL binaries for this platform
  | 'start_failed' // PostgreSQL did not start; its last lines are in the message
  | 'internal'

/** Why a database is unavailable, as far as it is known: what people can do differs. */
export type Shortage =
  | 'disk_full'
  | 'too_many_connections' // the server takes no more
  | 'no_free_connection' // all of ours are in use, or nobody answers
  | 'out_of_memory'
  | 'certificate' // of the server: expired, of an unknown authority, or for another name

/** What PostgreSQL said beside its message; absent when the error did not come from the server. */
export type ServerReport = {
  sqlState?: string
  detail?: string
  hint?: string
  constraint?: string
}

export class DatabaseError extends Error {
  readonly code: DatabaseErrorCode
  readonly sqlState: string | undefined
  readonly detail: string | undefined
  readonly hint: string | undefined
  readonly constraint: string | undefined
  readonly shortage: Shortage | undefined

  constructor(
    code: DatabaseErrorCode,
    message: string,
    options: ServerReport & { cause?: unknown; shortage?: Shortage | undefined } = {}
  ) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause })
    this.name = 'DatabaseError'
    this.code = code
    this.sqlState = options.sqlState
    this.detail = options.detail
    this.hint = options.hint
    this.constraint = options.constraint
    this.shortage = options.shortage
  }
}

// Read from a SQLSTATE's first two characters unless the whole is named. TQ is the class that our own functions raise.
const CODE_BY_STATE: { [state: string]: DatabaseErrorCode } = {
  '40001': 'conflict',
  '40P01': 'conflict',
  '25P03': 'unavailable', // its transaction was idle for too long
  '42501': 'refused',
  '55P03': 'timeout',
  '57014': 'timeout',
  '57P01': 'unavailable',
  '57P02': 'unavailable',
  '57P03': 'unavailable',
  '08': 'unavailable',
  '53': 'unavailable',
  '23': 'constraint',
  '22': 'invalid',
  '42': 'invalid',
  TQ: 'raised',
  P0: 'raised'
}

const SHORTAGE_BY_STATE: { [state: string]: Shortage } = {
  '53100': 'disk_full',
  '53200': 'out_of_memory',
  '53300': 'too_many_connections'
}

/** Of what the network, TLS or the pool threw; the codes are those of node:tls and OpenSSL. */
function shortageOf(code: unknown, message: string): Shortage | undefined {
  if (typeof code === 'string' && /^CERT_|^ERR_TLS_CERT|SELF_SIGNED|UNABLE_TO_(GET_ISSUER|VERIFY_LEAF)/.test(code))
    return 'certificate'
  return message.startsWith('timeout exceeded when trying to connect') ? 'no_free_connection' : undefined
}

/** Every error of `pg` or the network, as a DatabaseError. `during` says whether a lost connection may hide a commit. */
export function toDatabaseError(error: unknown, during: 'connect' | 'statement' | 'commit' | 'inside'): DatabaseError {
  if (error instanceof DatabaseError) return error
  const fields = (typeof error === 'object' && error !== null ? error : {}) as Record<string, unknown>
  const message = error instanceof Error ? error.message || String(fields['code']) : String(error)
  const state = typeof fields['code'] === 'string' && /^[0-9A-Z]{5}$/.test(fields['code']) ? fields['code'] : undefined
  if (state !== undefined && fields['severity'] !== undefined) {
    const code = CODE_BY_STATE[state] ?? CODE_BY_STATE[state.slice(0, 2)] ?? 'internal'
    const report: ServerReport & { cause: unknown; shortage: Shortage | undefined } = {
      cause: error,
      sqlState: state,
      shortage: SHORTAGE_BY_STATE[state]
    }
    for (const name of ['detail', 'hint', 'constraint'] as const) {
      const value = fields[name]
      if (typeof value === 'string') report[name] = value
    }
    return new DatabaseError(code, message, report)
  }
  const code = during === 'connect' || during === 'inside' ? 'unavailable' : 'outcome_unknown'
  return new DatabaseError(code, message, { cause: error, shortage: shortageOf(fields['code'], message) })
}

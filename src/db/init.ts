// Makes what Taskomatic needs on a PostgreSQL: roles, a database, its schema. What the roles are for is said in roles.ts.

import pg from 'pg'
import { DatabaseError, toDatabaseError } from './error.ts'
import { migrate } from './migrate.ts'
import { CLIENT_ROLE, OWNER_ROLE, SERVER_ROLE } from './roles.ts'

export type InitOptions = {
  /** A login that may create roles and databases; of PostgreSQL's own maintenance database, e.g. `postgresql://postgres@…/postgres`. */
  adminUrl: string
  /** Made if missing. Default `taskomatic`. */
  database?: string
  /** Set on the server's login role; none on a cluster that trusts its unix socket. */
  serverPassword?: string
  /** Migrations; default sql/ of this package. */
  directory?: string
}

export type InitAnswer = {
  /** For the server: no more than it needs. */
  serverUrl: string
  /** For migrations: the administrator's login on the new database. */
  adminUrl: string
  created: boolean
  migrated: string[]
}

/** Makes roles, database and schema, each unless it is there. May be run again, and by two at a time. */
export async function initDatabase(options: InitOptions): Promise<InitAnswer> {
  const database = options.database ?? 'taskomatic'
  const created = await withAdmin(options.adminUrl, async (client) => {
    await client.query('select pg_advisory_lock($1)', [7_243_002])
    await createRoles(client, options.serverPassword)
    return createDatabase(client, database)
  })
  const adminUrl = urlFor(options.adminUrl, { database })
  await withAdmin(adminUrl, (client) => restrictDatabase(client, database))
  const migrated = await migrate(adminUrl, options.directory === undefined ? {} : { directory: options.directory })
  const serverUrl = urlFor(options.adminUrl, { database, user: SERVER_ROLE, password: options.serverPassword ?? '' })
  return { serverUrl, adminUrl, created, migrated }
}

/** The same server, another database or login. */
export function urlFor(url: string, change: { database?: string; user?: string; password?: string }): string {
  const parsed = new URL(url)
  if (change.database !== undefined) parsed.pathname = `/${encodeURIComponent(change.database)}`
  if (change.user !== undefined) parsed.username = encodeURIComponent(change.user)
  if (change.password !== undefined) parsed.password = encodeURIComponent(change.password)
  return parsed.href
}

async function withAdmin<T>(url: string, fn: (client: pg.Client) => Promise<T>): Promise<T> {
  const client = new pg.Client({ connectionString: url, application_name: 'taskomatic init' })
  client.on('error', () => {})
  try {
    await client.connect()
  } catch (error) {
    throw toDatabaseError(error, 'connect')
  }
  try {
    return await fn(client)
  } catch (error) {
    throw toDatabaseError(error, 'statement')
  } finally {
    await client.end().catch(() => undefined)
  }
}

async function createRoles(client: pg.Client, password: string | undefined): Promise<void> {
  const existing = await client.query<{ rolname: string }>('select rolname from pg_roles where rolname = any ($1)', [
    [OWNER_ROLE, CLIENT_ROLE, SERVER_ROLE]
  ])
  const have = new Set(existing.rows.map((row) => row.rolname))
  if (!have.has(OWNER_ROLE)) await client.query(`create role ${OWNER_ROLE} nologin`)
  if (!have.has(CLIENT_ROLE)) await client.query(`create role ${CLIENT_ROLE} nologin`)
  if (!have.has(SERVER_ROLE)) await client.query(`create role ${SERVER_ROLE} login`)
  // Its statements are short: compiling one takes many times as long as it runs.
  await client.query(`alter role ${SERVER_ROLE} set jit = off`)
  await client.query(`grant ${CLIENT_ROLE} to ${SERVER_ROLE}`)
  // An administrator who is no superuser must be a member to own things in the owner's name.
  await client.query(`grant ${OWNER_ROLE} to current_user`)
  if (password !== undefined) {
    await client.query(`alter role ${SERVER_ROLE} password ${pg.escapeLiteral(password)}`)
  }
}

async function createDatabase(client: pg.Client, database: string): Promise<boolean> {
  const found = await client.query('select 1 from pg_database where datname = $1', [database])
  if (found.rowCount) return false
  if (Buffer.byteLength(database) > 63) throw new DatabaseError('invalid', `database name ${database} is over 63 bytes`)
  await client.query(
    `create database ${pg.escapeIdentifier(database)} owner ${OWNER_ROLE} encoding 'UTF8' template template0`
  )
  return true
}

// PostgreSQL lets everyone connect and (before 15) create in public; here only the members do.
async function restrictDatabase(client: pg.Client, database: string): Promise<void> {
  const name = pg.escapeIdentifier(database)
  await client.query(`revoke all on database ${name} from public`)
  await client.query(`grant connect on database ${name} to ${CLIENT_ROLE}`)
  await client.query('revoke create on schema public from public')
}

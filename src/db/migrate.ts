// Applies the numbered files of sql/ in order, each in a transaction of its own, under one advisory lock. Forward only: an
// applied file that changed or vanished is refused, since the database would no longer be what the files say.

import { createHash } from 'node:crypto'
import { existsSync } from 'node:fs'
import { readdir, readFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import pg from 'pg'
import { DatabaseError, toDatabaseError } from './error.ts'
import { OWNER_ROLE } from './roles.ts'

export type Migration = { number: number; name: string; checksum: string; text: string }

// Any number will do as long as everyone takes the same.
const MIGRATION_LOCK = 7_243_001

/** sql/ of a clone or of the package: the nearest one above this file. */
function migrationsDirectory(from = import.meta.dirname): string {
  for (let directory = from; ; directory = dirname(directory)) {
    const candidate = join(directory, 'sql')
    if (existsSync(join(candidate, '0001_schemas.sql'))) return candidate
    if (directory === dirname(directory)) throw new DatabaseError('migration_missing', `no sql directory above ${from}`)
  }
}

export async function readMigrations(directory = migrationsDirectory()): Promise<Migration[]> {
  const names = (await readdir(directory)).filter((name) => /^\d{4}_[a-z0-9_]+\.sql$/.test(name)).toSorted()
  const migrations = await Promise.all(
    names.map(async (name) => {
      const text = await readFile(join(directory, name), 'utf8')
      return { number: Number(name.slice(0, 4)), name, checksum: createHash('sha256').update(text).digest('hex'), text }
    })
  )
  for (const [index, { number, name }] of migrations.entries()) {
    if (migrations[index - 1]?.number === number) {
      throw new DatabaseError('migration_changed', `two migrations have the number of ${name}`)
    }
  }
  return migrations
}

/** What must still be applied; throws where what was applied is not what the files say. */
function pendingMigrations(
  all: readonly Migration[],
  applied: ReadonlyMap<number, { name: string; checksum: string }>
): Migration[] {
  for (const [number, { name, checksum }] of applied) {
    const file = all.find((migration) => migration.number === number)
    if (!file) throw new DatabaseError('migration_missing', `${name} was applied, but is not in sql/`)
    if (file.checksum !== checksum) {
      throw new DatabaseError(
        'migration_changed',
        `${file.name} was changed after it was applied; write a new migration`
      )
    }
  }
  return all.filter((migration) => !applied.has(migration.number))
}

/**
 * Brings a database's schema up to date. `url` is a login that may `set role` to the owner role.
 * Answers the names of the migrations it applied; a second, concurrent caller waits and applies none.
 */
export async function migrate(url: string, options: { directory?: string } = {}): Promise<string[]> {
  const all = await readMigrations(options.directory)
  const client = new pg.Client({ connectionString: url, application_name: 'taskomatic migrate' })
  client.on('error', () => {})
  await client.connect().catch((error: unknown) => {
    throw toDatabaseError(error, 'connect')
  })
  try {
    await client.query('select pg_advisory_lock($1)', [MIGRATION_LOCK])
    await client.query(`set role ${pg.escapeIdentifier(OWNER_ROLE)}`)
    // Every name in the files is written with its schema; what is not, must not be found by accident.
    await client.query('set search_path to pg_catalog')
    await client.query('create schema if not exists migration')
    await client.query(`create table if not exists migration.applied (
      number integer primary key,
      name text not null,
      checksum text not null,
      applied_at timestamptz not null default clock_timestamp()
    )`)
    const rows = await client.query<{ number: number; name: string; checksum: string }>(
      'select number, name, checksum from migration.applied order by number'
    )
    const pending = pendingMigrations(all, new Map(rows.rows.map((row) => [row.number, row])))
    for (const migration of pending) await apply(client, migration)
    return pending.map(({ name }) => name)
  } catch (error) {
    throw toDatabaseError(error, 'statement')
  } finally {
    await client.end().catch(() => undefined) // gives the lock back
  }
}

async function apply(client: pg.Client, { number, name, checksum, text }: Migration): Promise<void> {
  try {
    await client.query('begin')
    await client.query(text)
    await client.query('insert into migration.applied (number, name, checksum) values ($1, $2, $3)', [
      number,
      name,
      checksum
    ])
    await client.query('commit')
  } catch (error) {
    await client.query('rollback').catch(() => undefined)
    const failure = toDatabaseError(error, 'statement')
    throw new DatabaseError(failure.code, `${name}${lineOf(error, text)}: ${failure.message}`, { cause: error })
  }
}

function lineOf(error: unknown, text: string): string {
  const position = Number((error as { position?: string }).position)
  return position ? `:${text.slice(0, position).split('\n').length}` : ''
}

// Migrations: forward only, once each, and refused when what ran has changed.
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, inject, test } from 'vitest'
import { DatabaseError } from '../../src/db/error.ts'
import { initDatabase } from '../../src/db/init.ts'
import { migrate, readMigrations } from '../../src/db/migrate.ts'
import { openDatabase } from '../../src/db/open.ts'
import { freshDatabase } from '../support/postgres.ts'
import type { FreshDatabase } from '../support/postgres.ts'

let directory: string
let fresh: FreshDatabase
let made: Awaited<ReturnType<typeof initDatabase>>

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'migrations-'))
  await writeFile(
    join(directory, '0001_one.sql'),
    'create schema a; create table a.one (n int); grant usage on schema a to taskomatic_client; grant select on a.one to taskomatic_client;'
  )
  fresh = await freshDatabase()
  made = await initDatabase({ adminUrl: inject('postgres').adminUrl, database: `${fresh.name}_m`, directory })
})
afterEach(async () => {
  await rm(directory, { recursive: true })
  const owner = openDatabase({ url: inject('postgres').adminUrl })
  await owner.query(`drop database ${fresh.name}_m with (force)`)
  await owner.stop()
  await fresh.drop()
})

const codeOf = (promise: Promise<unknown>) =>
  promise.then(
    () => 'none',
    (error: unknown) => (error instanceof DatabaseError ? error.code : error)
  )

test('a new database is made with its schema once; doing it again changes nothing', async () => {
  expect(made).toMatchObject({ created: true, migrated: ['0001_one.sql'] })
  const again = await initDatabase({ adminUrl: inject('postgres').adminUrl, database: `${fresh.name}_m`, directory })
  expect(again).toMatchObject({ created: false, migrated: [] })
})

test('a further migration is applied alone, by one of two that come at once', async () => {
  await writeFile(join(directory, '0002_two.sql'), 'create table a.two (n int);')
  const both = await Promise.all([migrate(made.adminUrl, { directory }), migrate(made.adminUrl, { directory })])
  expect(both.flat()).toEqual(['0002_two.sql'])
})

test('a changed or a missing migration is refused', async () => {
  await writeFile(join(directory, '0001_one.sql'), 'create schema b;')
  expect(await codeOf(migrate(made.adminUrl, { directory }))).toBe('migration_changed')
  await rm(join(directory, '0001_one.sql'))
  expect(await codeOf(migrate(made.adminUrl, { directory }))).toBe('migration_missing')
})

test('a migration that fails leaves nothing, and names its file and line', async () => {
  await writeFile(join(directory, '0002_two.sql'), 'create table a.two (n int);\n\nselect nonsense;')
  const error = await migrate(made.adminUrl, { directory }).catch((thrown: unknown) => thrown)
  expect((error as Error).message).toContain('0002_two.sql:3')
  const database = openDatabase({ url: made.adminUrl })
  expect(await database.query(`select to_regclass('a.two') as table`)).toEqual([{ table: null }])
  await database.stop()
})

test('the server reads what it was granted, and may neither write nor change the schema', async () => {
  const server = openDatabase({ url: made.serverUrl })
  expect(await server.query('select * from a.one')).toEqual([])
  expect(await codeOf(server.query('insert into a.one values (1)'))).toBe('refused')
  expect(await codeOf(server.query('create table a.mine (n int)'))).toBe('refused')
  expect(await codeOf(server.query('create table public.mine (n int)'))).toBe('refused')
  expect(await codeOf(server.query('create schema mine'))).toBe('refused')
  await server.stop()
})

test('the numbers of sql/ are unique and ascend', async () => {
  const numbers = (await readMigrations()).map(({ number }) => number)
  expect(numbers).toEqual([...new Set(numbers)].toSorted((a, b) => a - b))
})

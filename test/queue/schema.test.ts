// sql/schema.sql is what the migrations make of a database, and is not taken for one of them.
import { readFile } from 'node:fs/promises'
import { expect, inject, test } from 'vitest'
import { readMigrations } from '../../src/db/migrate.ts'
import { dumpSchema, SCHEMA_FILE } from '../support/schema-dump.ts'

const { adminUrl, version } = inject('postgres')

// Only the project of PostgreSQL 15 compares; where that is missing it says so itself.
if (version === '15') {
  test('the committed schema is that of PostgreSQL 15 (else: npm run schema)', async () => {
    expect(dumpSchema(adminUrl)).toBe(await readFile(SCHEMA_FILE, 'utf8'))
  })
}

test('the committed schema is no migration', async () => {
  const names = (await readMigrations()).map(({ name }) => name)
  expect(names).toContain('0001_schemas.sql')
  expect(names).not.toContain('schema.sql')
})

// A migrated database of its own for every test that asks: `freshDatabase()`. The server behind it is started by cluster.ts,
// once a test run.

import { randomBytes } from 'node:crypto'
import pg from 'pg'
import { inject } from 'vitest'
import { urlFor } from '../../src/db/init.ts'
import { openDatabase } from '../../src/db/open.ts'
import type { Database } from '../../src/db/open.ts'
import { OWNER_ROLE, SERVER_ROLE } from '../../src/db/roles.ts'
import { TEMPLATE } from './cluster.ts'

declare module 'vitest' {
  interface ProvidedContext {
    postgres: { adminUrl: string; version: string }
  }
}

export type FreshDatabase = {
  name: string
  /** Logs in as superuser with the owner's role: may write tables, and look where the server may not. */
  ownerUrl: string
  /** Logs in as the server does. */
  serverUrl: string
  /** Open, as the server's role. */
  database: Database
  drop(): Promise<void>
}

/** A new database with the current schema, nothing in it. About 20 ms. */
export async function freshDatabase(options: { poolSize?: number } = {}): Promise<FreshDatabase> {
  return freshDatabaseIn(inject('postgres').adminUrl, options)
}

async function freshDatabaseIn(clusterUrl: string, options: { poolSize?: number } = {}): Promise<FreshDatabase> {
  const name = `test_${randomBytes(6).toString('hex')}`
  await administer(clusterUrl, `create database ${name} template ${TEMPLATE}`)
  const ownerUrl = `${urlFor(clusterUrl, { database: name })}&options=${encodeURIComponent(`-c role=${OWNER_ROLE}`)}`
  const serverUrl = urlFor(clusterUrl, { database: name, user: SERVER_ROLE })
  const database = openDatabase({ url: serverUrl, poolSize: options.poolSize ?? 10, applicationName: 'test' })
  return {
    name,
    ownerUrl,
    serverUrl,
    database,
    async drop() {
      await database.stop()
      await administer(clusterUrl, `drop database if exists ${name} with (force)`)
    }
  }
}

async function administer(url: string, statement: string): Promise<void> {
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  try {
    await client.query(statement)
  } finally {
    await client.end()
  }
}

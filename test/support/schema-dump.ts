// The whole schema as one text: what a reader looks at instead of adding up migrations, and what a review sees change. Made from
// PostgreSQL 15 by its own pg_dump; written to sql/schema.sql by `npm run schema`, compared by test/queue/schema.test.ts.

import { execFileSync } from 'node:child_process'
import { rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { urlFor } from '../../src/db/init.ts'
import { DEBIAN_15, startTestCluster, TEMPLATE } from './cluster.ts'

export const SCHEMA_FILE = join(import.meta.dirname, '../../sql/schema.sql')

const HEAD = `-- The whole schema, as PostgreSQL 15 sees it after all migrations. Not a migration; written by \`npm run schema\`.
`

/** The schema of the template in this PostgreSQL 15. */
export function dumpSchema(adminUrl: string): string {
  const url = urlFor(adminUrl, { database: TEMPLATE })
  const options = ['--schema-only', '--no-tablespaces', '--dbname', url]
  return normalised(execFileSync(join(DEBIAN_15, 'pg_dump'), options, { encoding: 'utf8', maxBuffer: 64 * 2 ** 20 }))
}

/** Without what differs from run to run and between minor versions: settings, versions, restrict keys, empty comments. */
function normalised(dump: string): string {
  const lines = dump
    .split('\n')
    .filter(
      (line) =>
        !/^(SET |SELECT pg_catalog\.set_config|--$|-- Dumped |-- PostgreSQL database dump|\\(un)?restrict )/.test(line)
    )
    .map((line) => line.replace(/; Owner: .*$/, '').trimEnd())
  return `${HEAD}\n${lines
    .join('\n')
    .replaceAll(/\n{2,}/g, '\n\n')
    .trim()}\n`
}

if (import.meta.main) {
  const { cluster, directory } = await startTestCluster('15')
  try {
    await writeFile(SCHEMA_FILE, dumpSchema(cluster.adminUrl))
  } finally {
    await cluster.stop()
    await rm(directory, { recursive: true, force: true })
  }
}

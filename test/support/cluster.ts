// One throw-away PostgreSQL for a test run, with a migrated template in it: vitest's globalSetup. Tests import postgres.ts.
// fsync is off: what must survive a crash is tested elsewhere.

import { existsSync } from 'node:fs'
import { chmod, chown, readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import pg from 'pg'
import type { TestProject } from 'vitest/node'
import { startCluster } from '../../src/db/cluster.ts'
import type { Cluster } from '../../src/db/cluster.ts'
import { embeddedBinaries } from '../../src/db/embedded.ts'
import { initDatabase } from '../../src/db/init.ts'
import { ownDirectory } from '../../src/sim/owned-directory.ts'

export const TEMPLATE = 'taskomatic_template'
export const DEBIAN_15 = '/usr/lib/postgresql/15/bin'

const SETTINGS = {
  fsync: 'off',
  full_page_writes: 'off',
  shared_buffers: '128MB',
  max_connections: '120',
  max_wal_size: '2GB',
  autovacuum_naptime: '10s',
  // Debian's would compile each statement whose tables were never analysed, for longer than it runs.
  jit: 'off',
  log_min_messages: 'warning'
}

export async function setup(project: TestProject): Promise<() => Promise<void>> {
  const version = project.config.env?.['TASKOMATIC_TEST_PG'] ?? process.env['TASKOMATIC_TEST_PG'] ?? '18'
  const { cluster, directory } = await startTestCluster(version)
  project.provide('postgres', { adminUrl: cluster.adminUrl, version })
  return async () => {
    await cluster.stop()
    await rm(directory, { recursive: true, force: true })
  }
}

/** A migrated template in a new cluster of `version`: `18` (embedded) or `15` (Debian's). */
export async function startTestCluster(version: string, settings: { [name: string]: string } = SETTINGS) {
  // What a run that was killed left behind goes with the next.
  const { path: directory } = await ownDirectory('tk-test-')
  let asUser: { uid: number; gid: number } | undefined
  if (version === '15' && process.getuid?.() === 0) asUser = await userNamed('postgres')
  if (asUser) await chown(directory, asUser.uid, asUser.gid)
  await chmod(directory, 0o700)
  let cluster: Cluster | undefined
  try {
    cluster = await startCluster({
      binDirectory: version === '15' ? DEBIAN_15 : await embeddedBinaries(),
      dataDirectory: join(directory, 'data'),
      settings,
      ...(asUser ? { asUser } : {})
    })
    const { adminUrl } = await initDatabase({ adminUrl: cluster.adminUrl, database: TEMPLATE })
    const admin = new pg.Client({ connectionString: adminUrl })
    await admin.connect()
    await admin.query(`alter database ${TEMPLATE} with is_template true`)
    await admin.end()
    return { cluster, directory }
  } catch (error) {
    await cluster?.stop()
    await rm(directory, { recursive: true, force: true })
    throw error
  }
}

export const havePostgres15 = () => existsSync(join(DEBIAN_15, 'postgres'))

async function userNamed(name: string): Promise<{ uid: number; gid: number }> {
  const line = (await readFile('/etc/passwd', 'utf8')).split('\n').find((row) => row.startsWith(`${name}:`))
  const [, , uid, gid] = line?.split(':') ?? []
  if (uid === undefined || gid === undefined) throw new Error(`there is no user ${name}`)
  return { uid: Number(uid), gid: Number(gid) }
}

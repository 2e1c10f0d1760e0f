// PostgreSQL's first process is killed with SIGKILL, and PostgreSQL started again, while engines work: they recover unaided, what
// was acknowledged is there, nothing is done twice. The cluster is its own, with fsync, as in production.
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { registry } from '../../src/actions/registry.ts'
import { createSubmitter, type Submitter } from '../../src/actions/submit.ts'
import { startCluster, type Cluster } from '../../src/db/cluster.ts'
import { embeddedBinaries } from '../../src/db/embedded.ts'
import { DatabaseError } from '../../src/db/error.ts'
import { urlFor } from '../../src/db/init.ts'
import { openDatabase, type Database } from '../../src/db/open.ts'
import { SERVER_ROLE } from '../../src/db/roles.ts'
import { startTestCluster, TEMPLATE } from '../support/cluster.ts'
import { eventually } from '../system/eventually.ts'
import { judge, nothingFound } from './history-checker.ts'
import { Processes, type EngineProcess, type HostsProcess } from './processes.ts'
import { untilEnded } from './until-ended.ts'
import { batchOf } from './workload.ts'

const kills = Number(process.env['TASKOMATIC_POSTMASTER_KILLS'] ?? 1)
const hostNames = ['h1', 'h2', 'h3', 'h4']
const groups = [{ store: 'nfs1', hosts: hostNames }]
const settings = { fsync: 'on', max_connections: '60' }

const processes = new Processes()
let directory: string
let cluster: Cluster
let database: Database
let hosts: HostsProcess
let engines: EngineProcess[]
let submitter: Submitter
const acknowledged: number[] = []

beforeAll(async () => {
  const made = await startTestCluster('18', settings)
  ;({ cluster, directory } = made)
  const url = urlFor(cluster.adminUrl, { database: TEMPLATE, user: SERVER_ROLE })
  database = openDatabase({ url, poolSize: 5, onError: () => undefined })
  submitter = createSubmitter({ database, registry })
  const sharedStores = groups.map(({ store, hosts: names }) => ({ name: store, path: `/srv/${store}`, hosts: names }))
  hosts = await processes.hosts({ hosts: hostNames, sharedStores, startMs: 20, migrationMs: 30 })
  engines = await processes.engines(2, { url, leaseMs: 3000 })
  const addHosts = Object.entries(hosts.uris).map(([host, uri]) => ({
    action: 'host.add',
    args: { host, controlUri: uri, peerUri: uri }
  }))
  const pool = 'nfs1'
  const makePools = hostNames.map((host) => ({ action: 'pool.create', args: { host, pool, target: '/srv/nfs1' } }))
  const share = { action: 'store.share', args: { store: pool, pools: hostNames.map((host) => ({ host, pool })) } }
  for (const tasks of [addHosts, makePools, [share]]) {
    const ids = await insist(`begin-${acknowledged.length}`, tasks)
    for (const task of await untilEnded(database, ids)) expect(task).toMatchObject({ state: 'complete' })
    acknowledged.push(...ids)
  }
}, 90_000)
afterAll(async () => {
  await processes.stop()
  await database.stop()
  await cluster.stop()
  await rm(directory, { recursive: true, force: true })
})

async function killAndRestart(): Promise<void> {
  process.kill(cluster.pid, 'SIGKILL')
  await cluster.ended
  const options = { binDirectory: await embeddedBinaries(), dataDirectory: join(directory, 'data'), settings }
  // What the dead one's children hold of shared memory they give up within a moment.
  let started: Cluster | undefined
  await eventually(async () => {
    started = await startCluster(options)
  }, 20_000)
  if (started) cluster = started
}

/** As a client with an idempotency key: it asks again until it is told. */
async function insist(key: string, tasks: Parameters<Submitter['submit']>[0]['tasks']): Promise<number[]> {
  for (let tries = 1; ; tries++) {
    try {
      const request = { tasks, plan: { onFailure: 'continue' as const }, by: 'test', idempotencyKey: key }
      return (await submitter.submit(request)).tasks.map(({ id }) => id)
    } catch (error) {
      if (!(error instanceof DatabaseError) || tries === 200) throw error
      await new Promise((resolve) => setTimeout(resolve, 100))
    }
  }
}

test(
  `PostgreSQL is killed ${kills} times under load: engines recover unaided, nothing is lost or done twice`,
  { timeout: 60_000 + kills * 60_000 },
  async () => {
    for (let kill = 1; kill <= kills; kill++) {
      const tag = `p${kill}`
      const batch = batchOf(kill, tag, { tasks: 40, groups })
      const after = 15 + 15 * kill
      const [ids] = await Promise.all([
        (async () => {
          const all: number[] = []
          for (const [at, plan] of batch.plans.entries()) all.push(...(await insist(`${tag}-${at}`, plan)))
          return all
        })(),
        hosts.call.nth(`${tag}-`, after, 60_000).then(killAndRestart)
      ])
      acknowledged.push(...ids)
      const ended = await untilEnded(database, ids, { timeoutMs: 55_000, orUncertain: true })
      expect(ended.filter(({ state }) => state !== 'complete')).toEqual([])
    }
    expect(engines.map((engine) => engine.ended())).toEqual([undefined, undefined])
    const [journal, now] = [await hosts.call.journal(), await hosts.call.truth()]
    expect(await judge(database, { submitted: acknowledged, journal, now })).toEqual(nothingFound)
  }
)

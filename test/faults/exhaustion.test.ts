// What runs out or runs down around a server that is well: the database's connections, its disk, a certificate. The API says 503 with
// the cause, the server lives on, and works again by itself within 10 s of the fault's end: requests are taken and tasks are done.
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import pino from 'pino'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { startServer, type RunningServer } from '../../bin/start-server.ts'
import { startSimFleet, type SimFleet } from '../../src/sim/fleet.ts'
import { startSmallDatabase, type SmallDatabase } from './small-database.ts'

const RECOVERY_MS = 10_000

let directory: string
let database: SmallDatabase
let fleet: SimFleet
let server: RunningServer
let headers: Record<string, string>
beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), 'tk-'))
  database = await startSmallDatabase()
  fleet = await startSimFleet({ dir: join(directory), hosts: 3 })
  server = await startServer({
    stateDirectory: join(directory, 'state'),
    databaseUrl: database.url,
    port: 0,
    drainMs: 0,
    log: pino({ level: 'silent' }),
    connections: { allowPlaintext: true }
  })
  const token = readFileSync(server.tokenFile, 'utf8').trim()
  headers = { authorization: `Bearer ${token}`, 'content-type': 'application/json' }
})
afterAll(async () => {
  await server?.stop()
  await fleet?.stop()
  await database?.stop()
  rmSync(directory, { recursive: true, force: true })
})

type Said = { status: number; body: { code?: string; detail?: string; tasks?: { id: number }[]; state?: string } }

async function ask(method: string, path: string, body?: unknown): Promise<Said> {
  const answer = await fetch(`${server.url}/api/v1${path}`, {
    method,
    headers,
    ...(body === undefined ? {} : { body: JSON.stringify(body) })
  })
  return { status: answer.status, body: (await answer.json()) as Said['body'] }
}

let asked = 0
/** A task that ends soon: a host becomes known. */
const addHost = (at: number) => {
  const { name, uri } = fleet.hosts[at]!
  return { action: 'host.add', args: { host: name, controlUri: uri, peerUri: uri } }
}
/** One that is only stored. */
const later = () => ({
  ...addHost(2),
  args: { ...addHost(2).args, host: `x${asked++}` },
  notBefore: '2099-01-01T00:00:00Z'
})

/** Asks until it is refused; most requests still go through while there is room in half-filled pages. */
async function untilRefused(body: () => object): Promise<Said> {
  for (;;) {
    const said = await ask('POST', '/tasks', body())
    // One on a connection that the fault cut says no more than that.
    if (said.status !== 201 && said.body['code'] !== 'database_unavailable') return said
  }
}

/** How long after the fault's end a task was stored and done. */
async function recovered(body: object): Promise<number> {
  const begun = performance.now()
  const elapsed = () => performance.now() - begun
  let id: number | undefined
  for (; elapsed() < 3 * RECOVERY_MS; await sleep(50)) {
    if (id === undefined) id = (await ask('POST', '/tasks', body)).body.tasks?.[0]?.id
    else if ((await ask('GET', `/tasks/${id}`)).body.state === 'complete') return elapsed()
  }
  return elapsed()
}

test('no connections left: 503 says so; as soon as there are some again, tasks are taken and done', async () => {
  const letGo = await database.takeConnections()
  expect(await untilRefused(later)).toMatchObject({ status: 503, body: { code: 'database_connections_exhausted' } })
  expect(await ask('GET', '/tasks')).toMatchObject({ status: 503, body: { code: 'database_connections_exhausted' } })
  await letGo()
  const ms = await recovered(addHost(0))
  console.log(`connections: works again after ${Math.round(ms)} ms`)
  expect(ms).toBeLessThan(RECOVERY_MS)
})

test("the database's certificate has expired: 503 says so; with a good one all goes on", async () => {
  await database.showCertificate('expired')
  expect(await untilRefused(later)).toMatchObject({ status: 503, body: { code: 'database_certificate' } })
  await database.showCertificate('good')
  const ms = await recovered(addHost(1))
  console.log(`certificate: works again after ${Math.round(ms)} ms`)
  expect(ms).toBeLessThan(RECOVERY_MS)
})

test("the database's disk is full: 503 says so, what is stored can be read; with room all goes on", async (context) => {
  context.skip(!database.disk, 'this process may not mount a disk of its own')
  database.disk?.fill()
  expect(await untilRefused(later)).toMatchObject({ status: 503, body: { code: 'database_disk_full' } })
  expect(await ask('GET', '/tasks?limit=1')).toMatchObject({ status: 200 })
  database.disk?.free()
  const ms = await recovered(addHost(2))
  console.log(`disk: works again after ${Math.round(ms)} ms`)
  expect(ms).toBeLessThan(RECOVERY_MS)
})

// A host whose TLS certificate expires while it is in use: it is shown as down for that reason, its tasks wait and say so, and with a
// good certificate it is back and they are done, without anybody's help.
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { connect, type AddressInfo, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createServer, type Server } from 'node:tls'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { getTask } from '../../src/queue/read.ts'
import { CertificateAuthority, type Credentials } from '../libvirt/certificates.ts'
import { startTestEngine, type TestEngine } from '../support/engine.ts'

const RECOVERY_MS = 10_000

let directory: string
let shown: Record<'good' | 'expired', Credentials>
let t: TestEngine
let front: Server
const sockets = new Set<Socket>()
beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), 'tk-'))
  const authority = new CertificateAuthority(directory, 'authority')
  const ours = authority.issue('client', 'DNS:client')
  shown = {
    good: authority.issue('good', 'DNS:localhost'),
    expired: authority.issue('expired', 'DNS:localhost', { expired: true })
  }
  t = await startTestEngine({
    hosts: 1,
    addHosts: false,
    engine: { connections: { allowPlaintext: true, tls: { caFile: ours.ca, certFile: ours.cert, keyFile: ours.key } } }
  })
  // TLS before a simulated host's socket, as libvirtd has it.
  const path = t.fleet.hosts[0]!.settings.socketPath
  front = createServer(pem('good'), (client) => {
    // The byte with which libvirt says that it has accepted the client.
    client.write(Buffer.from([1]))
    const host = connect(path)
    for (const socket of [client, host]) {
      sockets.add(socket)
      socket.on('error', () => {}).on('close', () => (client.destroy(), host.destroy(), sockets.delete(socket)))
    }
    client.pipe(host).pipe(client)
  })
  front.listen(0, '127.0.0.1')
  await once(front, 'listening')
})
afterAll(async () => {
  await t?.stop()
  for (const socket of sockets) socket.destroy()
  front?.close()
  rmSync(directory, { recursive: true, force: true })
})

const pem = (which: 'good' | 'expired') => ({
  cert: readFileSync(shown[which].cert),
  key: readFileSync(shown[which].key)
})

function show(which: 'good' | 'expired'): void {
  front.setSecureContext(pem(which))
  for (const socket of sockets) socket.destroy()
}

test('it is down since its certificate has expired, its tasks wait, and it is back by itself', async () => {
  const uri = `qemu+tls://localhost:${(front.address() as AddressInfo).port}/system`
  expect(await t.run('host.add', { host: 'h1', controlUri: uri, peerUri: uri })).toMatchObject({ state: 'complete' })
  expect(await t.run('vm.create', { name: 'web1', memoryMiB: 256, vcpus: 1, host: 'h1' })).toMatchObject({
    state: 'complete'
  })
  show('expired')
  const isShown = async () =>
    t.database.query(
      `select from inventory.host where name = 'h1' and connection = 'down' and connection_reason like '%expired%'`
    )
  while ((await isShown()).length === 0) await sleep(20)
  const task = await t.submit('vm.start', { vm: 'web1' })
  await t.until(task, ({ state }) => state === 'parked')
  show('good')
  const begun = performance.now()
  expect(await t.until(task)).toMatchObject({ state: 'complete' })
  const ms = performance.now() - begun
  console.log(`a host's certificate: its task was done ${Math.round(ms)} ms after it was good again`)
  expect(ms).toBeLessThan(RECOVERY_MS)
  expect((await getTask(t.database, task))?.attempts).toBeGreaterThan(0)
})

// A PostgreSQL of a test's own that can run out of things: few connections, TLS whose certificate the test changes and, where mounting
// is allowed, a disk of its own that the test fills.
import { execFileSync } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, mkdtempSync, openSync, rmSync, writeSync } from 'node:fs'
import { copyFile, rm } from 'node:fs/promises'
import { createServer } from 'node:net'
import { join } from 'node:path'
import pg from 'pg'
import { startCluster } from '../../src/db/cluster.ts'
import { embeddedBinaries } from '../../src/db/embedded.ts'
import { initDatabase, urlFor } from '../../src/db/init.ts'
import { ownDirectory } from '../../src/sim/owned-directory.ts'
import { CertificateAuthority, type Credentials } from '../libvirt/certificates.ts'

const CONNECTIONS = 40
const DISK = '220m'

export type SmallDatabase = {
  /** For the server: over TLS, the server's certificate verified. */
  url: string
  /** Undefined where this process may not mount: then the disk is everybody's, and is not filled. */
  disk: { fill(): void; free(): void } | undefined
  /** Takes every connection that is left, and breaks those of the server; what it returns lets go. */
  takeConnections(): Promise<() => Promise<void>>
  /** From now on it shows a certificate that ended yesterday, or a good one again; connections are broken. */
  showCertificate(which: 'good' | 'expired'): Promise<void>
  stop(): Promise<void>
}

export async function startSmallDatabase(): Promise<SmallDatabase> {
  const owned = await ownDirectory('tk-small-')
  const directory = owned.path
  const mounted = mount(directory)
  const data = join(directory, 'disk', 'data')
  const port = await freePort()
  const cluster = await startCluster({
    binDirectory: await embeddedBinaries(),
    dataDirectory: data,
    settings: {
      port: String(port), listen_addresses: '127.0.0.1', max_connections: String(CONNECTIONS),
      fsync: 'off', shared_buffers: '16MB', max_wal_size: '48MB', min_wal_size: '32MB', log_min_messages: 'warning'
    }
  }) // prettier-ignore
  const adminUrl = `${cluster.adminUrl}&port=${port}`
  const { serverUrl } = await initDatabase({ adminUrl })
  const admin = new pg.Client({ connectionString: adminUrl })
  await admin.connect()
  const certificates = mkdtempSync(join(directory, 'tls-'))
  const authority = new CertificateAuthority(certificates, 'authority')
  const shown = {
    good: authority.issue('good', 'DNS:localhost'),
    expired: authority.issue('expired', 'DNS:localhost', { expired: true })
  }
  const ofServer = `select pg_terminate_backend(pid) from pg_stat_activity where usename = '${new URL(serverUrl).username}'`

  const show = async ({ cert, key }: Credentials) => {
    await copyFile(cert, join(data, 'server.crt'))
    await copyFile(key, join(data, 'server.key'))
    await admin.query('alter system set ssl = on')
    await admin.query('select pg_reload_conf()')
  }
  await show(shown.good)
  const network = new URL(urlFor(serverUrl, {}))
  network.hostname = 'localhost'
  network.port = String(port)
  network.search = `?sslmode=verify-full&sslrootcert=${encodeURIComponent(authority.caFile)}`

  return {
    url: network.href,
    disk: mounted
      ? { fill: () => fill(join(directory, 'disk')), free: () => rmSync(join(directory, 'disk', 'ballast')) }
      : undefined,
    async takeConnections() {
      const taken: pg.Client[] = []
      const takeAll = async () => {
        for (;;) {
          const client = new pg.Client({ connectionString: serverUrl + `&port=${port}` })
          client.on('error', () => {})
          try {
            await client.connect()
            taken.push(client)
          } catch {
            return
          }
        }
      }
      await takeAll()
      // The server's own are broken as often as it is quicker than we are.
      for (let broken = 1; broken > 0; await takeAll()) {
        const ours = taken.map((client) => (client as unknown as { processID: number }).processID)
        broken = (await admin.query(`${ofServer} and pid <> all ($1)`, [ours])).rowCount ?? 0
      }
      return async () => {
        await Promise.all(taken.map((client) => client.end()))
      }
    },
    async showCertificate(which) {
      await show(shown[which])
      await admin.query(ofServer)
    },
    async stop() {
      await admin.end()
      await cluster.stop()
      if (mounted) execFileSync('umount', ['-l', join(directory, 'disk')])
      await rm(certificates, { recursive: true, force: true })
      await owned.remove()
    }
  }
}

function mount(directory: string): boolean {
  const at = join(directory, 'disk')
  execFileSync('mkdir', [at])
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${DISK},mode=0755`, 'tk-small', at], { stdio: 'ignore' })
    return true
  } catch {
    return false
  }
}

/** Until not a byte more goes in. */
function fill(disk: string): void {
  const file = openSync(join(disk, 'ballast'), 'w')
  for (let size = 1 << 20; size >= 1;) {
    try {
      writeSync(file, Buffer.alloc(size))
    } catch {
      size >>= 4
    }
  }
  closeSync(file)
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  server.close()
  await once(server, 'close')
  return typeof address === 'object' && address ? address.port : 0
}

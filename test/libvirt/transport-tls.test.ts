// TLS against a real libvirtd, and against servers that are not as they should be.

import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { type AddressInfo, createServer as createTcpServer, type Server } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createServer, type TlsOptions as ServerOptions, type TLSSocket } from 'node:tls'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { connect, type ConnectOptions, type OpenConnection } from '../../src/libvirt/connect.ts'
import type { ConnectionError } from '../../src/libvirt/errors.ts'
import { CertificateAuthority, type Credentials, pem } from './certificates.ts'
import { failure } from './client.ts'
import { LibvirtDaemon, untilListening, whyNoDaemon } from './daemon.ts'

const skip = whyNoDaemon(['libvirtd', 'unshare', 'setpriv', 'openssl'])

describe.skipIf(skip !== undefined)(`TLS (${skip ?? 'with libvirtd'})`, () => {
  let folder: string
  let authority: CertificateAuthority
  let ours: Credentials
  let strangers: Credentials
  let server: Credentials
  let daemon: LibvirtDaemon
  let port: number

  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'libvirt-tls-'))
    authority = new CertificateAuthority(folder, 'ca')
    ours = authority.issue('client', 'DNS:engine')
    server = authority.issue('server', 'DNS:localhost,IP:127.0.0.1')
    strangers = new CertificateAuthority(folder, 'other').issue('client', 'DNS:engine')
    port = await freePort()
    daemon = await LibvirtDaemon.start({
      listen: true,
      files: { 'ca.pem': server.ca, 'cert.pem': server.cert, 'key.pem': server.key },
      config: {
        listen_tls: 1,
        listen_addr: '127.0.0.1',
        tls_port: String(port),
        ca_file: '{folder}/ca.pem',
        cert_file: '{folder}/cert.pem',
        key_file: '{folder}/key.pem'
      }
    })
    await untilListening({ port, host: '127.0.0.1' })
  }, 30_000)

  afterAll(async () => {
    await daemon.stop()
    rmSync(folder, { recursive: true })
  })

  const dial = (tls: object, host = '127.0.0.1', options: ConnectOptions = {}): Promise<OpenConnection> =>
    connect(`test+tls://${host}:${port}/default`, { tls: { ...pem(ours), ...tls }, connectTimeoutMs: 5000, ...options })

  test('with certificates on both sides a real daemon is called', async () => {
    for (const host of ['127.0.0.1', 'localhost']) {
      const connection = await dial({}, host)
      expect(await connection.call('CONNECT_GET_TYPE', {})).toEqual({ type: 'TEST' })
      const answers = await Promise.all(
        Array.from({ length: 100 }, () => connection.call('CONNECT_GET_CAPABILITIES', {}))
      )
      expect(new Set(answers.map(({ capabilities }) => capabilities)).size).toBe(1)
      await connection.close()
    }
  })

  // Two messages in one TLS record: libvirtd would take the first and not look for the second before something else arrives.
  test('calls made at once do not wait for each other', async () => {
    const connection = await dial({}, '127.0.0.1', { keepalive: false, serverPings: false })
    for (let round = 0; round < 50; round++)
      await Promise.all(
        Array.from({ length: 40 }, () => connection.call('CONNECT_GET_CAPABILITIES', {}, { timeoutMs: 5000 }))
      )
    await connection.close()
  })

  test('a certificate of a stranger’s is refused by the daemon after the handshake, and that is said', async () => {
    const { cert, key } = pem(strangers)
    const error = (await failure(dial({ cert, key }))) as ConnectionError
    expect(error).toMatchObject({ code: 'not_trusted' })
    expect(error.message).toMatch(/did not accept our certificate/)
  })

  test('a daemon whose certificate names another host is not trusted', async () => {
    expect(await failure(dial({ serverName: 'h9.example.org' }))).toMatchObject({
      code: 'not_trusted',
      cause: { code: 'ERR_TLS_CERT_ALTNAME_INVALID' }
    })
  })

  test('a daemon whose authority we do not know is not trusted', async () => {
    expect(await failure(dial({ ca: readFileSync(strangers.ca) }))).toMatchObject({ code: 'not_trusted' })
  })

  test('missing certificate files are named', async () => {
    const error = await failure(connect(`test+tls://127.0.0.1:${port}/default?pkipath=/nonexistent/pki`))
    expect(error).toMatchObject({ code: 'not_trusted' })
    expect((error as Error).message).toContain('/nonexistent/pki/cacert.pem')
  })

  describe('a server that is not as it should be', () => {
    const withServer = async (
      options: ServerOptions,
      onClient: (socket: TLSSocket) => void,
      use: (port: number) => Promise<void>
    ): Promise<void> => {
      const files = pem(server)
      const listener = createServer({ ...files, ...options }, onClient)
      listener.on('tlsClientError', () => {})
      await used(listener, use)
    }
    const dialPort = (at: number): Promise<unknown> =>
      failure(connect(`test+tls://127.0.0.1:${at}/default`, { tls: pem(ours), connectTimeoutMs: 2000 }))

    test('accepts with another byte: not trusted', () =>
      withServer(
        {},
        (socket) => void socket.end(Buffer.from([0])),
        async (at) => {
          expect(await dialPort(at)).toMatchObject({ code: 'not_trusted' })
        }
      ))

    test('closes without a byte: not trusted', () =>
      withServer(
        {},
        (socket) => void socket.end(),
        async (at) => {
          expect(await dialPort(at)).toMatchObject({ code: 'not_trusted' })
        }
      ))

    test('has an expired certificate: not trusted', () =>
      withServer(
        pem(authority.issue('old', 'IP:127.0.0.1', { expired: true })),
        () => {},
        async (at) => {
          expect(await dialPort(at)).toMatchObject({ code: 'not_trusted', cause: { code: 'CERT_HAS_EXPIRED' } })
        }
      ))

    test('speaks TLS 1.1 only: not trusted', () =>
      withServer(
        { minVersion: 'TLSv1', maxVersion: 'TLSv1.1', ciphers: 'DEFAULT@SECLEVEL=0' },
        () => {},
        async (at) => {
          expect(await dialPort(at)).toMatchObject({ code: 'not_trusted' })
        }
      ))

    test('says nothing at all: given up in time', () =>
      withServer(
        {},
        () => {},
        async (at) => {
          const error = await failure(
            connect(`test+tls://127.0.0.1:${at}/default`, { tls: pem(ours), connectTimeoutMs: 200 })
          )
          expect(error).toMatchObject({ name: 'ConnectionError' })
        }
      ))

    test('speaks no TLS: not trusted', () =>
      used(
        createTcpServer((socket) => {
          socket.on('error', () => {})
          socket.end('HTTP/1.0 400 Bad Request\r\n\r\n')
        }),
        async (at) => {
          expect(await dialPort(at)).toMatchObject({ code: 'not_trusted' })
        }
      ))
  })
})

async function used(listener: Server, use: (port: number) => Promise<void>): Promise<void> {
  await new Promise<void>((resolve) => void listener.listen(0, '127.0.0.1', resolve))
  try {
    await use((listener.address() as AddressInfo).port)
  } finally {
    listener.close()
  }
}

async function freePort(): Promise<number> {
  let port = 0
  await used(createTcpServer(), (free) => {
    port = free
    return Promise.resolve()
  })
  return port
}

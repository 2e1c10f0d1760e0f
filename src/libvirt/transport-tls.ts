// A daemon over TLS, both sides with certificates. libvirtd checks ours and then says so with one byte inside TLS, before any message;
// when it refuses, it closes instead, which in TLS 1.3 is after a handshake that looked fine.

import { readFile } from 'node:fs/promises'
import { isIP } from 'node:net'
import { connect, type ConnectionOptions as TlsConnectionOptions, type TLSSocket } from 'node:tls'
import { ConnectionError } from './errors.ts'
import type { Transport } from './transport.ts'
import { asError, connectSocket } from './transport-unix.ts'
import type { HostUri } from './uri.ts'

export interface TlsOptions {
  /** PEM texts. Default: the files below `pkiPath`, else libvirt's own in /etc/pki. */
  readonly ca?: string | Buffer
  readonly cert?: string | Buffer
  readonly key?: string | Buffer
  /** The name the host's certificate must have. Default: the host of the address. */
  readonly serverName?: string
}

const defaultTlsPort = 16_514
const accepted = 1

export async function openTls(uri: HostUri, options: TlsOptions, signal: AbortSignal): Promise<Transport> {
  const host = uri.host ?? 'localhost'
  const port = uri.port ?? defaultTlsPort
  const address = `${host}:${port}`
  const credentials = await readCredentials(uri, options)
  const name = options.serverName ?? host
  const plain = await connectSocket({ host, port }, address, signal)
  plain.setNoDelay(true)
  const server = isIP(name) ? { host: name } : { host: name, servername: name }
  const socket = connect({ ...credentials, ...server, socket: plain, minVersion: 'TLSv1.2', rejectUnauthorized: true })
  const abort = (): void => void socket.destroy(asError(signal.reason))
  signal.addEventListener('abort', abort, { once: true })
  try {
    if (signal.aborted) abort()
    await untilAccepted(socket, address)
    return { stream: socket, address, oneMessagePerWrite: true }
  } catch (error) {
    socket.destroy()
    throw error
  } finally {
    signal.removeEventListener('abort', abort)
  }
}

async function readCredentials(uri: HostUri, options: TlsOptions): Promise<TlsConnectionOptions> {
  const folder = uri.pkiPath
  const files = {
    ca: folder ? `${folder}/cacert.pem` : '/etc/pki/CA/cacert.pem',
    cert: folder ? `${folder}/clientcert.pem` : '/etc/pki/libvirt/clientcert.pem',
    key: folder ? `${folder}/clientkey.pem` : '/etc/pki/libvirt/private/clientkey.pem'
  }
  const read = async (given: string | Buffer | undefined, file: string): Promise<string | Buffer> => {
    if (given !== undefined) return given
    try {
      return await readFile(file)
    } catch (error) {
      throw new ConnectionError('not_trusted', `TLS needs ${file}: ${asError(error).message}`, { cause: error })
    }
  }
  return {
    ca: await read(options.ca, files.ca),
    cert: await read(options.cert, files.cert),
    key: await read(options.key, files.key)
  }
}

async function untilAccepted(socket: TLSSocket, address: string): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>()
  let secured = false
  const refused = (cause?: unknown): void => {
    const what = secured
      ? 'the host did not accept our certificate'
      : cause
        ? asError(cause).message
        : 'closed in the handshake'
    reject(new ConnectionError('not_trusted', `TLS with ${address} failed: ${what}`, { cause }))
  }
  const readable = (): void => {
    const first = socket.read(1) as Buffer | null
    if (!first) return
    if (first[0] === accepted) resolve()
    else refused(new Error(`byte ${first[0]} where 1 means accepted`))
  }
  const closed = (): void => refused()
  socket.once('secureConnect', () => (secured = true))
  socket.on('readable', readable).on('error', refused).on('end', closed).on('close', closed)
  try {
    await promise
  } finally {
    socket.off('readable', readable).off('error', refused).off('end', closed).off('close', closed)
  }
}

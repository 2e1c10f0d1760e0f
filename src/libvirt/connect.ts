// From an address to a connection that is open: transport, login, keepalive, and the driver opened on the daemon.

import { Connection, type ConnectionOptions } from './connection.ts'
import { AuthType } from './protocol.ts'
import { ConnectFlags, DriverFeature } from './constants.gen.ts'
import { ConnectionError } from './errors.ts'
import type { OpenTransport } from './transport.ts'
import { openSsh, type SshOptions } from './transport-ssh.ts'
import { openTls, type TlsOptions } from './transport-tls.ts'
import { openTcp, openUnix, socketPath } from './transport-unix.ts'
import { type HostUri, parseUri, type TransportName } from './uri.ts'

export interface ConnectOptions extends ConnectionOptions {
  /** For everything until the connection is open. Default 15,000. */
  readonly connectTimeoutMs?: number
  readonly signal?: AbortSignal
  /** Open for reading only. */
  readonly readOnly?: boolean
  /** Whether the daemon may ask us if we are there. Default true; a data stream that is held back could not answer. */
  readonly serverPings?: boolean
  readonly tls?: TlsOptions
  readonly ssh?: SshOptions
  /** Take +tcp, which is neither secret nor authenticated: for tests on loopback. Default false. */
  readonly allowPlaintext?: boolean
}

/** A transport of one's own, and what to open through it, e.g. `qemu:///system`. */
export interface CustomTarget {
  readonly name: string
  readonly open: OpenTransport
}

/** A connection that can make another like itself. */
export class OpenConnection extends Connection {
  readonly #target: string | CustomTarget
  readonly #options: ConnectOptions

  constructor(
    ...[transport, target, options]: [
      ConstructorParameters<typeof Connection>[0],
      string | CustomTarget,
      ConnectOptions
    ]
  ) {
    super(transport, options)
    this.#target = target
    this.#options = options
  }

  /** Another connection to the same host, with the same options but `overrides`. */
  sibling(overrides: ConnectOptions = {}): Promise<OpenConnection> {
    const { signal: _ended, ...options } = this.#options
    return connect(this.#target, { ...options, ...overrides })
  }
}

/**
 * Connects to an address (uri.ts) or a transport of one's own. Rejects with ConnectionError `bad_uri`, `unreachable`,
 * `not_trusted` or `auth_unsupported`, or with LibvirtError when the daemon will not open what was asked.
 */
export async function connect(target: string | CustomTarget, options: ConnectOptions = {}): Promise<OpenConnection> {
  const { name, open } = typeof target === 'string' ? targetOf(parseUri(target), options) : target
  const timeoutMs = options.connectTimeoutMs ?? 15_000
  const timeout = AbortSignal.timeout(timeoutMs)
  const signal = options.signal ? AbortSignal.any([timeout, options.signal]) : timeout
  const transport = await open(signal)
  const connection = new OpenConnection(transport, target, options)
  const abandon = (): void => connection.destroy()
  signal.addEventListener('abort', abandon, { once: true })
  try {
    if (signal.aborted) abandon()
    await handshake(connection, name, options)
    return connection
  } catch (error) {
    connection.destroy()
    throw await connectError(error, connection, signal, timeoutMs)
  } finally {
    signal.removeEventListener('abort', abandon)
  }
}

function targetOf(uri: HostUri, options: ConnectOptions): CustomTarget {
  const readOnly = options.readOnly ?? false
  const opens: Record<TransportName, OpenTransport> = {
    unix: (signal) => openUnix(socketPath(uri, readOnly), signal),
    tls: (signal) => openTls(uri, options.tls ?? {}, signal),
    ssh: (signal) => openSsh(uri, options.ssh ?? {}, readOnly, signal),
    tcp: (signal) => openTcp(uri, signal)
  }
  if (uri.transport === 'tcp' && options.allowPlaintext !== true)
    throw new ConnectionError('bad_uri', `${uri.text}: plain TCP is neither secret nor authenticated; use +tls or +ssh`)
  return { name: uri.name, open: opens[uri.transport] }
}

// The order is the daemon's: it answers nothing before AUTH_LIST, and sends its pings once it was asked whether it has keepalive.
async function handshake(connection: OpenConnection, name: string, options: ConnectOptions): Promise<void> {
  await authenticate(connection)
  if (options.serverPings !== false) {
    await connection.call('CONNECT_SUPPORTS_FEATURE', { feature: DriverFeature.PROGRAM_KEEPALIVE })
  }
  await connection.call('CONNECT_OPEN', { name, flags: options.readOnly ? ConnectFlags.RO : 0 })
  connection.startKeepalive()
}

async function authenticate(connection: OpenConnection): Promise<void> {
  const { types } = await connection.call('AUTH_LIST', {})
  if (types.length === 0 || types.includes(AuthType.NONE)) return
  if (types.includes(AuthType.POLKIT)) {
    await connection.call('AUTH_POLKIT', {})
    return
  }
  const message = `${connection.address} demands a login (${types.join(', ')}) that is not supported: allow the socket, a certificate or ssh`
  throw new ConnectionError('auth_unsupported', message)
}

// A call's `unknown outcome` means here that there is no connection: nothing was asked of the host yet.
async function connectError(
  error: unknown,
  connection: OpenConnection,
  signal: AbortSignal,
  timeoutMs: number
): Promise<unknown> {
  if (!(error instanceof ConnectionError) || (error.code !== 'not_sent' && error.code !== 'unknown_outcome'))
    return error
  const why = await connection.closed
  const timedOut = signal.aborted && signal.reason instanceof Error && signal.reason.name === 'TimeoutError'
  const message = timedOut ? `no answer within ${timeoutMs} ms` : signal.aborted ? 'aborted by the caller' : why.message
  const reason = timedOut ? 'timeout' : signal.aborted ? 'aborted' : why.reason
  return new ConnectionError('unreachable', `${connection.address} does not answer as libvirt does: ${message}`, {
    reason,
    cause: why.cause ?? error
  })
}

// A daemon on this machine, over its unix socket; and, for tests on loopback only, plain TCP.

import { existsSync } from 'node:fs'
import { createConnection, type NetConnectOpts, type Socket } from 'node:net'
import { ConnectionError } from './errors.ts'
import type { Transport } from './transport.ts'
import type { HostUri } from './uri.ts'

const defaultTcpPort = 16_509

/** The socket that `uri` means: the one it names, else the driver's own daemon's, else libvirtd's. */
export function socketPath(uri: HostUri, readOnly: boolean): string {
  if (uri.socket) return uri.socket
  const folder = uri.name.endsWith('/session')
    ? `${process.env['XDG_RUNTIME_DIR'] ?? '/nonexistent'}/libvirt`
    : '/run/libvirt'
  const suffix = readOnly && folder === '/run/libvirt' ? 'sock-ro' : 'sock'
  const modular = `${folder}/virt${uri.driver}d-${suffix}`
  return existsSync(modular) ? modular : `${folder}/libvirt-${suffix}`
}

export async function openUnix(path: string, signal: AbortSignal): Promise<Transport> {
  return { stream: await connectSocket({ path }, path, signal), address: path }
}

export async function openTcp(uri: HostUri, signal: AbortSignal): Promise<Transport> {
  const host = uri.host ?? 'localhost'
  const port = uri.port ?? defaultTcpPort
  const address = `${host}:${port}`
  const socket = await connectSocket({ host, port }, address, signal)
  socket.setNoDelay(true)
  return { stream: socket, address }
}

/** Connects a socket; rejects with `unreachable`, the reason of the operating system as its cause. */
export async function connectSocket(options: NetConnectOpts, address: string, signal: AbortSignal): Promise<Socket> {
  const socket = createConnection(options)
  const abort = (): void => void socket.destroy(asError(signal.reason))
  signal.addEventListener('abort', abort, { once: true })
  try {
    if (signal.aborted) abort()
    await new Promise<void>((resolve, reject) => {
      socket.once('connect', resolve).once('error', reject)
    })
    return socket
  } catch (error) {
    throw new ConnectionError('unreachable', `${address} cannot be reached: ${asError(error).message}`, {
      cause: error
    })
  } finally {
    signal.removeEventListener('abort', abort)
    socket.removeAllListeners('connect').removeAllListeners('error')
  }
}

export function asError(reason: unknown): Error {
  return reason instanceof Error ? reason : new Error(String(reason))
}

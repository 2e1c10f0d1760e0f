// Listens, and stops: first no new connections, then what runs may end.
import type { AddressInfo } from 'node:net'
import { isIP } from 'node:net'
import { limits, type Api } from './app.ts'

export class ListenError extends Error {
  override readonly name = 'ListenError'
  readonly code: 'not_loopback' | 'port_taken' | 'cannot_listen'
  constructor(code: ListenError['code'], message: string, options: { cause?: unknown } = {}) {
    super(message, options)
    this.code = code
  }
}

export type Listening = {
  url: string
  /** May be called twice. */
  stop(): Promise<void>
}

/** Plain HTTP carries the token: it is spoken on loopback only. */
export function isLoopback(address: string): boolean {
  if (address === 'localhost' || address === '::1') return true
  return isIP(address) === 4 && address.startsWith('127.')
}

/**
 * @param where `port` 0 takes a free one
 * @throws ListenError
 */
export async function listen(app: Api, where: { host: string; port: number }): Promise<Listening> {
  if (!isLoopback(where.host)) {
    throw new ListenError(
      'not_loopback',
      `${where.host} is not a loopback address, and there is no TLS yet: listen on 127.0.0.1, and reach it through ssh -L or a TLS proxy on this machine`
    )
  }
  app.server.maxConnections = limits.connections
  try {
    await app.listen(where)
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException
    if (code === 'EADDRINUSE')
      throw new ListenError(
        'port_taken',
        `port ${where.port} of ${where.host} is taken: stop what listens there, or choose another with --port`,
        { cause: error }
      )
    throw new ListenError('cannot_listen', `cannot listen on ${where.host}:${where.port}: ${message}`, { cause: error })
  }
  const { address, port, family } = app.server.address() as AddressInfo
  let stopping: Promise<void> | undefined
  return {
    url: `http://${family === 'IPv6' ? `[${address}]` : address}:${port}`,
    async stop() {
      stopping ??= close(app)
      await stopping
    }
  }
}

/** What runs may end; a connection that is left after that, half closed or of a client that hangs, does not keep the server. */
const closeMs = 2_000

async function close(app: Api): Promise<void> {
  const timer = setTimeout(() => app.server.closeAllConnections(), closeMs)
  try {
    await app.close()
  } finally {
    clearTimeout(timer)
  }
}

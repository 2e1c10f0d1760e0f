// A way to a daemon: a byte stream that is already as trusted as it gets. Opened by transport-unix, -tls or -ssh.

import type { Duplex } from 'node:stream'

export interface Transport {
  readonly stream: Duplex
  /** Where it goes, for messages. */
  readonly address: string
  /** Messages must not be joined in one write (outgoing.ts says why). Default false. */
  readonly oneMessagePerWrite?: boolean
}

/** Opens a transport; fails with ConnectionError. Called again for each connection to the same host. */
export type OpenTransport = (signal: AbortSignal) => Promise<Transport>

// Errors of this layer. Whether a call was refused, never sent, or sent with an unknown outcome decides what happens next.

export type HostErrorCode =
  /** The host answered: no. `libvirt` says why. */
  | 'refused'
  /** Sent, and no answer will come: it may have happened. Only looking tells. */
  | 'unknown_outcome'
  /** Not sent: the host cannot be reached now. It has not happened. */
  | 'unreachable'
  /** What was waited for did not come in time. */
  | 'timeout'
  /** Stopped by our own signal while waiting; says nothing about what was sent before. */
  | 'aborted'
  | 'unknown_host'
  /** Another machine answers at this address than the one that was added. */
  | 'wrong_identity'
  /** This process may not write any more: its lease is too old. */
  | 'fenced'
  | 'bad_input'
  | 'unsupported'

export type LibvirtFacts = { code: number; codeName: string; domain: number; domainName: string; message: string }

export class HostError extends Error {
  override readonly name = 'HostError'
  readonly code: HostErrorCode
  readonly host: string
  readonly libvirt: LibvirtFacts | undefined
  constructor(
    code: HostErrorCode,
    host: string,
    message: string,
    options: { cause?: unknown; libvirt?: LibvirtFacts } = {}
  ) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause })
    this.code = code
    this.host = host
    this.libvirt = options.libvirt
  }
}

// What can go wrong, told apart by what the caller may conclude: the host refused (LibvirtError: the call had its answer, which was no),
// the call was never sent (nothing happened), its outcome is unknown (look at the host before doing anything), or there is no connection.

import { ErrorCode, ErrorDomain, ErrorLevel } from './constants.gen.ts'
import type { RemoteError } from './wire.gen.ts'

export type ErrorCodeName = keyof typeof ErrorCode
export type ErrorDomainName = keyof typeof ErrorDomain

const names = <Name extends string>(table: Readonly<Record<Name, number>>): Map<number, Name> =>
  new Map((Object.entries(table) as [Name, number][]).map(([name, value]) => [value, name]))
const codeNames = names(ErrorCode)
const domainNames = names(ErrorDomain)

/** The host answered with an error. Decide by `code` and `domain`, never by the text. */
export class LibvirtError extends Error {
  override readonly name = 'LibvirtError'
  /** What was called. */
  readonly procedure: string
  /** One of ErrorCode, or a number that a later libvirt knows. */
  readonly code: number
  readonly codeName: ErrorCodeName | null
  /** The part of libvirt that failed; one of ErrorDomain, or a later one. */
  readonly domain: number
  readonly domainName: ErrorDomainName | null
  /** One of ErrorLevel. */
  readonly level: number
  /** libvirt's own words. */
  readonly text: string
  /** libvirt's str1, str2, str3: parts of the text. */
  readonly strings: readonly (string | null)[]
  readonly integers: readonly number[]

  constructor(procedure: string, error: RemoteError) {
    const text = error.message ?? 'no message'
    const codeName = codeNames.get(error.code) ?? null
    super(`${procedure}: ${text} (${codeName ?? 'error'} ${error.code})`)
    this.procedure = procedure
    this.code = error.code
    this.codeName = codeName
    this.domain = error.domain
    this.domainName = domainNames.get(error.domain) ?? null
    this.level = error.level
    this.text = text
    this.strings = [error.str1, error.str2, error.str3]
    this.integers = [error.int1, error.int2]
  }
}

/** The wire form of an error, as a server makes it. `domain` defaults to RPC's. */
export function remoteErrorOf(code: number, message: string, domain: number = ErrorDomain.RPC): RemoteError {
  return {
    code,
    domain,
    message,
    level: ErrorLevel.ERROR,
    dom: null,
    str1: message,
    str2: null,
    str3: null,
    int1: -1,
    int2: -1,
    net: null
  }
}

export type ConnectionErrorCode =
  | 'bad_uri' // the address cannot be understood or is not allowed; nothing was tried
  | 'unreachable' // no connection came about
  | 'not_trusted' // certificates, host keys or login: one side does not accept the other
  | 'auth_unsupported' // the host demands a login that this client does not have
  | 'not_sent' // the call never left: nothing happened on the host
  | 'unknown_outcome' // the call was sent and its answer was not seen: it may have happened, or happen yet
  | 'lost' // the connection ended, where no single call is concerned
  | 'stream_failed' // a data stream ended before its end

export type ConnectionErrorReason =
  | 'timeout'
  | 'aborted' // by the caller's signal
  | 'closed' // by us
  | 'closed_by_peer'
  | 'socket_error'
  | 'keepalive_timeout'
  | 'protocol_error' // what arrived is not the protocol
  | 'queue_full'
  | 'bad_arguments' // they cannot be encoded
  | 'bad_reply' // it came but cannot be decoded

/** There is no answer from the host. */
export class ConnectionError extends Error {
  override readonly name = 'ConnectionError'
  readonly code: ConnectionErrorCode
  readonly reason: ConnectionErrorReason | null

  constructor(
    code: ConnectionErrorCode,
    message: string,
    options: ErrorOptions & { readonly reason?: ConnectionErrorReason } = {}
  ) {
    super(message, options)
    this.code = code
    this.reason = options.reason ?? null
  }
}

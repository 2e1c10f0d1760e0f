// Calls to one host, by what they may wait for and what their loss means; and libvirt's errors as ours.
import { ConnectionError, LibvirtError } from '../libvirt/errors.ts'
import type { StreamProcedure } from '../libvirt/data-stream.ts'
import type { ArgsOf, ReplyOf } from '../libvirt/payload.ts'
import type { ProcedureName } from '../libvirt/wire.gen.ts'
import type { HostChange } from './host.ts'
import { HostError } from './error.ts'
import type { HostCapabilities } from './capabilities.ts'
import { XmlError } from './xml.ts'

/** What is known of a host since it was connected to. */
export type HostBasics = {
  capabilities: HostCapabilities
  /** From its capabilities, or derived from its address where they name none. */
  uuid: string
  /** major × 1,000,000 + minor × 1,000 + release. */
  libVersion: number
}

type Call = <Name extends ProcedureName>(
  name: Name,
  args: ArgsOf<Name>,
  options?: { signal?: AbortSignal }
) => Promise<ReplyOf<Name>>

/** Bytes to or from a host, on a connection of its own; errors are HostErrors. Always consume, `finish` or `abort` it. */
export interface HostStream extends AsyncIterable<Buffer> {
  /** Resolves when there is room for more. */
  write(bytes: Uint8Array): Promise<void>
  /** Resolves when the host agrees that all was sent. */
  finish(): Promise<void>
  /** Ends it at once; after the end it does nothing. */
  abort(reason?: unknown): void
}

/** Calls on a connection that nobody else uses; what the host ties to it ends with it. */
export interface DedicatedCalls {
  /** Changes something, and may take long. */
  readonly call: Call
  /** May be called twice. */
  close(): void
}

export interface HostCalls {
  readonly name: string
  /** Asks, and never waits for a guest. That it is lost means only that nothing was learnt. */
  readonly read: Call
  /** Changes something, soon. */
  readonly write: Call
  /** Changes something, and may wait for QEMU, for a copy or for a migration: on a connection where that holds up nobody else. */
  readonly long: Call
  /** Asks QEMU, which may be frozen. */
  readonly ask: Call
  /** Opens a stream. `reads`: it changes nothing. */
  stream<Name extends StreamProcedure>(
    name: Name,
    args: ArgsOf<Name>,
    options: { reads: boolean; signal?: AbortSignal }
  ): Promise<HostStream>
  /** Opens a connection of its own. Always close it. */
  dedicated(): Promise<DedicatedCalls>
  basics(): Promise<HostBasics>
  onChange(callback: (change: HostChange) => void): () => void
}

/** An error of libvirt's client as ours. `reads`: nothing can have happened, whatever became of the answer. */
export function toHostError(error: unknown, host: string, reads: boolean): HostError {
  if (error instanceof HostError) return error
  if (error instanceof XmlError) return new HostError('bad_input', host, error.message, { cause: error })
  if (error instanceof LibvirtError) {
    return new HostError('refused', host, `${host} refused: ${error.text}`, {
      cause: error,
      libvirt: {
        code: error.code,
        codeName: error.codeName ?? 'UNKNOWN',
        domain: error.domain,
        domainName: error.domainName ?? 'UNKNOWN',
        message: error.text
      }
    })
  }
  if (!(error instanceof ConnectionError)) {
    const message = error instanceof Error ? error.message : String(error)
    return new HostError(reads ? 'unreachable' : 'unknown_outcome', host, `${host}: ${message}`, { cause: error })
  }
  const code = codeOf(error, reads)
  const what = code === 'unknown_outcome' ? 'no answer was seen, and what was asked may have happened: ' : ''
  return new HostError(code, host, `${host}: ${what}${error.message}`, { cause: error })
}

function codeOf(error: ConnectionError, reads: boolean): HostError['code'] {
  if (error.code === 'bad_uri' || error.reason === 'bad_arguments') return 'bad_input'
  if (error.code === 'unknown_outcome' || error.code === 'lost' || error.code === 'stream_failed') {
    if (!reads) return 'unknown_outcome'
    return error.reason === 'timeout' ? 'timeout' : error.reason === 'aborted' ? 'aborted' : 'unreachable'
  }
  return error.reason === 'aborted' ? 'aborted' : 'unreachable'
}

/** True for a refusal with one of these libvirt codes. */
export const refusedWith = (error: unknown, ...codes: number[]): boolean =>
  error instanceof HostError && error.code === 'refused' && codes.includes(error.libvirt?.code ?? -1)

// A stream of the protocol as one of ours: its errors are HostErrors, and whoever may not write any more stops writing.
import type { DataStream } from '../libvirt/data-stream.ts'
import { toHostError, type HostStream } from './calls.ts'
import { HostError } from './error.ts'

/** @param check throws once this process may not write any more: asked before every chunk, since a stream may flow for hours */
export function hostStream(
  host: string,
  stream: DataStream,
  { reads, check, signal }: { reads: boolean; check: () => void; signal?: AbortSignal | undefined }
): HostStream {
  const asOurs = (error: unknown) =>
    signal?.aborted
      ? new HostError('aborted', host, `${host}: the stream was stopped`, { cause: error })
      : toHostError(error, host, reads)
  const ours = async <T>(work: Promise<T>): Promise<T> => {
    try {
      return await work
    } catch (error) {
      throw asOurs(error)
    }
  }
  return {
    write(bytes) {
      check()
      return ours(stream.write(bytes))
    },
    finish() {
      check()
      return ours(stream.finish())
    },
    abort: (reason) => stream.abort(reason),
    async *[Symbol.asyncIterator]() {
      try {
        yield* stream
      } catch (error) {
        throw asOurs(error)
      }
    }
  }
}

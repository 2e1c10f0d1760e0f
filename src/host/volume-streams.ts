// A volume's bytes, up and down, as they flow: nothing is held but what fits the stream's window. That an upload is whole is
// known only once the host has said so: until then the volume cannot be trusted, however large it looks.
import { createHash } from 'node:crypto'
import type { StorageVolume } from '../libvirt/wire.gen.ts'
import { quote } from '../model/name.ts'
import type { HostCalls, HostStream } from './calls.ts'
import { HostError } from './error.ts'

export type UploadOptions = {
  /** Bytes that the source will give: more or fewer is an error. */
  size: number
  signal?: AbortSignal
  /** Told now and then how many bytes have been sent. */
  onProgress?: (sentBytes: number) => void
}

export type DownloadOptions = {
  signal?: AbortSignal
  /** Default 0, and to the volume's end. */
  offset?: number
  length?: number
}

export interface VolumeStreams {
  /**
   * Writes the source's bytes over the volume from its first byte on; what lies behind them stays. Resolves with the SHA-256 (hex)
   * of what was sent once the host has agreed that it has it all. Rejects with HostError: `bad_input` when the source gives more
   * or fewer bytes than `size`, `aborted`, `refused` (e.g. the volume is smaller), `unknown_outcome` when the stream was lost.
   * The volume is then partly written. What the source throws is thrown on.
   */
  uploadVolume(
    pool: string,
    name: string,
    source: AsyncIterable<Uint8Array>,
    options: UploadOptions
  ): Promise<{ bytes: number; sha256: string }>
  /**
   * The volume's bytes as they come; a reader that waits makes the host wait. Leaving the loop ends the stream. The bytes are
   * those of the file or device: of a qcow2 volume the image, not the guest's disk.
   */
  downloadVolume(pool: string, name: string, options?: DownloadOptions): AsyncIterable<Buffer>
}

export async function uploadVolume(
  calls: HostCalls,
  vol: StorageVolume,
  source: AsyncIterable<Uint8Array>,
  { size, signal, onProgress }: UploadOptions
): Promise<{ bytes: number; sha256: string }> {
  const args = { vol, offset: 0n, length: BigInt(size), flags: 0 }
  const stream = await calls.stream('STORAGE_VOL_UPLOAD', args, { reads: false, ...(signal ? { signal } : {}) })
  const hash = createHash('sha256')
  let bytes = 0
  try {
    for await (const chunk of source) {
      if (bytes + chunk.length > size) throw wrongSize(calls.name, vol.name, size, 'more')
      await stream.write(chunk)
      hash.update(chunk)
      bytes += chunk.length
      onProgress?.(bytes)
    }
    if (bytes < size) throw wrongSize(calls.name, vol.name, size, `${bytes}`)
    await stream.finish()
  } catch (error) {
    stream.abort(error)
    throw error
  }
  return { bytes, sha256: hash.digest('hex') }
}

const wrongSize = (host: string, volume: string, size: number, given: string) =>
  new HostError('bad_input', host, `${size} bytes were announced for volume ${quote(volume)}, and ${given} came`)

export async function* downloadVolume(
  calls: HostCalls,
  find: () => Promise<StorageVolume>,
  { signal, offset = 0, length = 0 }: DownloadOptions = {}
): AsyncGenerator<Buffer, void, undefined> {
  const args = { vol: await find(), offset: BigInt(offset), length: BigInt(length), flags: 0 }
  const stream: HostStream = await calls.stream('STORAGE_VOL_DOWNLOAD', args, {
    reads: true,
    ...(signal ? { signal } : {})
  })
  yield* stream
}

// Bytes that a client sent for a volume, kept in a directory until a task has brought them to a host: they, and what is known of
// them, outlive both the client and a restart. Written as they come, with a bound, sparse where they are zeros; whole or not there.
import { createHash, randomUUID } from 'node:crypto'
import { mkdir, open, readdir, readFile, rename, rm, stat, statfs, writeFile, type FileHandle } from 'node:fs/promises'
import { join } from 'node:path'
import { StagingError } from './error.ts'
import { headBytes, readImage, type ImageFormat } from './image.ts'

export type Staged = {
  /** UUID. */
  upload: string
  bytes: number
  /** Hex. */
  sha256: string
  format: ImageFormat
  /** The size of the disk that a guest sees. */
  capacityBytes: number
}

export type UploadsOptions = {
  /** Made when the first bytes come; readable by its owner only. */
  directory: string
  /** Default 2 TiB. */
  maxBytes?: number
  /** Room that is left to others on the disk. Default 1 GiB. */
  spareBytes?: number
}

const idPattern = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/
/** Room on the disk is looked at after as many bytes. */
const lookEveryBytes = 64 * 1024 * 1024
/** A run of zeros of at least this many bytes is left out of the file. */
const holeBytes = 64 * 1024
const readBytes = 256 * 1024

export class Uploads {
  readonly #directory: string
  readonly #maxBytes: number
  readonly #spareBytes: number
  /** Being written by this process. */
  readonly #writing = new Set<string>()

  constructor({ directory, maxBytes = 2 * 1024 ** 4, spareBytes = 1024 ** 3 }: UploadsOptions) {
    this.#directory = directory
    this.#maxBytes = maxBytes
    this.#spareBytes = spareBytes
  }

  #file = (id: string, ending: 'part' | 'bytes' | 'json') => join(this.#directory, `${id}.${ending}`)

  /**
   * Keeps what comes; resolves once it is on the disk. What was begun and not ended is taken away.
   * @param announced bytes that the sender says will come; @param sha256 hex, that they must have
   * @throws StagingError; what the source throws
   */
  async stage(
    source: AsyncIterable<Uint8Array>,
    announced: { bytes?: number | undefined; sha256?: string | undefined } = {}
  ): Promise<Staged> {
    if (announced.bytes !== undefined) this.#refuseLarge(announced.bytes)
    await mkdir(this.#directory, { recursive: true, mode: 0o700 })
    await this.#refuseFull(announced.bytes ?? 0)
    const upload = randomUUID()
    this.#writing.add(upload)
    try {
      const staged = await this.#write(upload, source, announced)
      await rename(this.#file(upload, 'part'), this.#file(upload, 'bytes'))
      // Last: what has this file beside it is whole.
      await writeFile(`${this.#file(upload, 'json')}.part`, JSON.stringify(staged), { mode: 0o600, flush: true })
      await rename(`${this.#file(upload, 'json')}.part`, this.#file(upload, 'json'))
      return staged
    } catch (error) {
      await this.remove(upload)
      throw error
    } finally {
      this.#writing.delete(upload)
    }
  }

  async #write(
    upload: string,
    source: AsyncIterable<Uint8Array>,
    announced: { bytes?: number | undefined; sha256?: string | undefined }
  ): Promise<Staged> {
    const file = await open(this.#file(upload, 'part'), 'wx', 0o600)
    const hash = createHash('sha256')
    let head = Buffer.alloc(0)
    let bytes = 0
    let lookAt = lookEveryBytes
    try {
      for await (const chunk of source) {
        this.#refuseLarge(bytes + chunk.length)
        if (head.length < headBytes) head = Buffer.concat([head, chunk.subarray(0, headBytes - head.length)])
        hash.update(chunk)
        await writeSparse(file, chunk, bytes)
        bytes += chunk.length
        if (bytes < lookAt) continue
        await this.#refuseFull(0)
        lookAt = bytes + lookEveryBytes
      }
      const sha256 = hash.digest('hex')
      refuseOther({ bytes, sha256 }, announced)
      const image = readImage(head, bytes)
      await file.truncate(bytes)
      await file.sync()
      return { upload, bytes, sha256, ...image }
    } finally {
      await file.close()
    }
  }

  #refuseLarge(bytes: number): void {
    if (bytes > this.#maxBytes)
      throw new StagingError('too_large', `${bytes} bytes are more than the ${this.#maxBytes} that are taken here`)
  }

  async #refuseFull(wanted: number): Promise<void> {
    const { bavail, bsize } = await statfs(this.#directory)
    const free = bavail * bsize - this.#spareBytes
    if (free < wanted)
      throw new StagingError(
        'no_room',
        `the server's disk has no room: ${Math.max(0, free)} bytes may be used in ${this.#directory}, ${wanted} are wanted`
      )
  }

  /** What is known of kept bytes; undefined when there are none under this id. */
  async find(upload: string): Promise<Staged | undefined> {
    if (!idPattern.test(upload)) return undefined
    try {
      return JSON.parse(await readFile(this.#file(upload, 'json'), 'utf8')) as Staged
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
      throw error
    }
  }

  /** The bytes in order. @throws StagingError `not_found` */
  async *read(upload: string): AsyncGenerator<Buffer, void, undefined> {
    if (!idPattern.test(upload)) throw new StagingError('not_found', `there is no upload ${upload}`)
    let file: FileHandle
    try {
      file = await open(this.#file(upload, 'bytes'))
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
      throw new StagingError('not_found', `there is no upload ${upload}`, { cause: error })
    }
    try {
      for (;;) {
        const { bytesRead, buffer } = await file.read(Buffer.allocUnsafe(readBytes), 0, readBytes)
        if (bytesRead === 0) return
        yield buffer.subarray(0, bytesRead)
      }
    } finally {
      await file.close()
    }
  }

  /** May be called twice. */
  async remove(upload: string): Promise<void> {
    if (!idPattern.test(upload)) return
    // The note first: without it the bytes count as never whole.
    for (const name of [`${upload}.json`, `${upload}.json.part`, `${upload}.bytes`, `${upload}.part`])
      await rm(join(this.#directory, name), { force: true })
  }

  /** Takes away what nobody wants any more: older than this, and what an earlier process left unfinished. Returns how many. */
  async sweep(olderThanMs: number, isWanted: (upload: string) => Promise<boolean>): Promise<number> {
    const names = await listed(this.#directory)
    let removed = 0
    for (const id of new Set(names.map((name) => name.slice(0, 36)).filter((name) => idPattern.test(name)))) {
      if (this.#writing.has(id)) continue
      const isWhole = names.includes(`${id}.json`)
      if (isWhole && Date.now() - (await lastTouched(this.#file(id, 'json'))) < olderThanMs) continue
      if (isWhole && (await isWanted(id))) continue
      await this.remove(id)
      removed++
    }
    return removed
  }
}

const listed = async (directory: string): Promise<string[]> => {
  try {
    return await readdir(directory)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return []
    throw error
  }
}

const lastTouched = async (path: string): Promise<number> => {
  try {
    return (await stat(path)).mtimeMs
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return 0
    throw error
  }
}

function refuseOther(
  came: { bytes: number; sha256: string },
  announced: { bytes?: number | undefined; sha256?: string | undefined }
): void {
  if (came.bytes === 0) throw new StagingError('incomplete', 'no bytes came')
  if (announced.bytes !== undefined && came.bytes !== announced.bytes)
    throw new StagingError('incomplete', `${announced.bytes} bytes were announced, and ${came.bytes} came`)
  if (announced.sha256 !== undefined && came.sha256 !== announced.sha256.toLowerCase())
    throw new StagingError(
      'wrong_checksum',
      `the bytes have SHA-256 ${came.sha256}, and ${announced.sha256} was announced`
    )
}

async function writeSparse(file: FileHandle, chunk: Uint8Array, at: number): Promise<void> {
  if (chunk.length >= holeBytes && isZero(chunk)) return
  let done = 0
  while (done < chunk.length) done += (await file.write(chunk, done, chunk.length - done, at + done)).bytesWritten
}

const zeros = Buffer.alloc(1024 * 1024)

const isZero = (chunk: Uint8Array): boolean => {
  for (let at = 0; at < chunk.length; at += zeros.length) {
    const part = chunk.subarray(at, at + zeros.length)
    if (zeros.compare(part, 0, part.length, 0, part.length) !== 0) return false
  }
  return true
}

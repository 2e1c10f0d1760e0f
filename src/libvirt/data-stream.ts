// A data stream: a volume's bytes down or up, a serial console both ways. Each has a connection of its own: holding back a sender
// means not reading the socket, and a shared socket that is not read loses keepalive and replies. Memory is bounded both ways.

import { Writable } from 'node:stream'
import type { Connection } from './connection.ts'
import { ConnectionError } from './errors.ts'
import type { ArgsOf, ReplyOf } from './payload.ts'
import { maxStreamPayloadBytes, MessageStatus } from './protocol.ts'
import type { ProcedureName } from './wire.gen.ts'

/** What a connection tells about a stream. After `finished` or `failed` nothing more comes. */
export interface DataStreamSink {
  /** No bytes means the end of what is read. */
  data(chunk: Buffer): void
  finished(): void
  failed(error: Error): void
}

/** How a stream sends. */
export interface StreamLink {
  /** False: wait for `drained` before sending more. */
  send(status: number, payload: Uint8Array): boolean
  drained(): Promise<void>
  pause(): void
  resume(): void
}

/** The procedures that open a stream. */
export type StreamProcedure = Extract<
  ProcedureName,
  'DOMAIN_OPEN_CONSOLE' | 'DOMAIN_OPEN_CHANNEL' | 'DOMAIN_SCREENSHOT' | 'STORAGE_VOL_UPLOAD' | 'STORAGE_VOL_DOWNLOAD'
>

export interface DataStreamOptions {
  /** Bytes received and not yet consumed at which the host is held back. Default 1 MiB. */
  readonly highWaterBytes?: number
  readonly signal?: AbortSignal
}

const nothing = new Uint8Array(0)

/**
 * Opens a stream on a connection of its own to the same host. Refusals of the call reject here; later ones end the stream.
 * Read it with `for await`, write with `write` and `finish` or through `writable()`. Always consume it or `abort` it.
 */
export async function openDataStream<Name extends StreamProcedure>(
  connection: { sibling(overrides: { window: number; serverPings: boolean }): Promise<Connection> },
  name: Name,
  args: ArgsOf<Name>,
  options: DataStreamOptions = {}
): Promise<DataStream<ReplyOf<Name>>> {
  // The host's pings would go unanswered while the socket is held back, and it would close the connection.
  const own = await connection.sibling({ window: 1, serverPings: false })
  const incoming = new Incoming(options.highWaterBytes ?? 1_048_576)
  try {
    const { reply, link } = await own.startStream(
      name,
      args,
      incoming,
      options.signal ? { signal: options.signal } : {}
    )
    return new DataStream(own, name, reply, link, incoming, options.signal)
  } catch (error) {
    own.destroy()
    throw error
  }
}

/** Received chunks between the socket and the reader. */
class Incoming implements DataStreamSink {
  readonly #highWaterBytes: number
  #chunks: Buffer[] = []
  #bytes = 0
  #paused = false
  #wake: (() => void) | undefined
  #link: StreamLink | undefined
  ended = false
  done = false
  error: Error | undefined

  constructor(highWaterBytes: number) {
    this.#highWaterBytes = highWaterBytes
  }

  // Some data may have come before the caller got the link.
  attach(link: StreamLink): void {
    this.#link = link
    this.#holdIfFull()
  }

  data(chunk: Buffer): void {
    if (this.error) return
    if (chunk.length === 0) this.ended = true
    else {
      this.#chunks.push(chunk)
      this.#bytes += chunk.length
      this.#holdIfFull()
    }
    this.#notify()
  }

  finished(): void {
    this.ended = true
    this.done = true
    this.#notify()
  }

  failed(error: Error): void {
    this.error ??= error
    this.#notify()
  }

  /** The next chunk, or undefined at the end. Rejects with what ended the stream early. */
  async next(): Promise<Buffer | undefined> {
    while (this.#chunks.length === 0) {
      if (this.error) throw this.error
      if (this.ended) return undefined
      await this.changed()
    }
    const chunk = this.#chunks.shift()!
    this.#bytes -= chunk.length
    if (this.#paused && this.#bytes <= this.#highWaterBytes / 2) this.#release()
    return chunk
  }

  changed(): Promise<void> {
    return new Promise((resolve) => {
      const before = this.#wake
      this.#wake = () => {
        before?.()
        resolve()
      }
    })
  }

  #holdIfFull(): void {
    if (!this.#link || this.#paused || this.#bytes < this.#highWaterBytes) return
    this.#paused = true
    this.#link.pause()
  }

  #release(): void {
    this.#paused = false
    this.#link?.resume()
  }

  drop(): void {
    this.#chunks = []
    this.#bytes = 0
    if (this.#paused) this.#release()
  }

  #notify(): void {
    const wake = this.#wake
    this.#wake = undefined
    wake?.()
  }
}

export class DataStream<Reply = unknown> implements AsyncIterable<Buffer> {
  /** What the opening call replied. */
  readonly reply: Reply
  readonly #own: Connection
  readonly #name: string
  readonly #link: StreamLink
  readonly #incoming: Incoming
  readonly #signal: AbortSignal | undefined
  readonly #onAbort: () => void
  #finishSent = false
  #over = false

  constructor(own: Connection, name: string, reply: Reply, link: StreamLink, incoming: Incoming, signal?: AbortSignal) {
    this.reply = reply
    this.#own = own
    this.#name = name
    this.#link = link
    this.#incoming = incoming
    this.#signal = signal
    incoming.attach(link)
    this.#onAbort = () => this.abort(signal?.reason)
    signal?.addEventListener('abort', this.#onAbort, { once: true })
    if (signal?.aborted) this.abort(signal.reason)
  }

  /** The host's bytes, as they come. Leaving the loop early aborts the stream. */
  async *[Symbol.asyncIterator](): AsyncGenerator<Buffer, void, undefined> {
    try {
      for (;;) {
        const chunk = await this.#incoming.next()
        if (!chunk) break
        yield chunk
      }
      await this.finish()
    } finally {
      this.abort()
    }
  }

  /** Sends bytes; resolves when there is room for more. Rejects with what ended the stream. */
  async write(bytes: Uint8Array): Promise<void> {
    for (let at = 0; at < bytes.length; at += maxStreamPayloadBytes) {
      if (this.#incoming.error) throw this.#incoming.error
      if (this.#finishSent) throw new ConnectionError('stream_failed', `${this.#name}: write after finish`)
      if (!this.#link.send(MessageStatus.CONTINUE, bytes.subarray(at, at + maxStreamPayloadBytes)))
        await this.#link.drained()
    }
    if (this.#incoming.error) throw this.#incoming.error
  }

  /** Says that all is sent or read, and resolves when the host agrees: only then an upload is known to be whole. */
  async finish(): Promise<void> {
    const incoming = this.#incoming
    if (!this.#finishSent && !incoming.error && !incoming.done) {
      this.#finishSent = true
      this.#link.send(MessageStatus.OK, nothing)
    }
    while (!incoming.done && !incoming.error) {
      incoming.drop()
      await incoming.changed()
    }
    this.#end()
    if (!incoming.done && incoming.error) throw incoming.error
  }

  /** Ends the stream at once: the host drops what it was doing. After the end it does nothing. */
  abort(reason?: unknown): void {
    if (this.#over) return
    const message = `${this.#name}: the stream was aborted`
    this.#incoming.failed(new ConnectionError('stream_failed', message, { reason: 'aborted', cause: reason }))
    this.#incoming.drop()
    if (!this.#incoming.done) this.#link.send(MessageStatus.ERROR, nothing)
    this.#end()
  }

  /** The sending side as a Node stream: `pipeline(source, stream.writable())` resolves when the host has it all. */
  writable(): Writable {
    return new Writable({
      write: (chunk: Buffer, _encoding, callback) => void report(this.write(chunk), callback),
      final: (callback) => void report(this.finish(), callback),
      destroy: (error, callback) => {
        this.abort(error)
        callback(error)
      }
    })
  }

  #end(): void {
    if (this.#over) return
    this.#over = true
    this.#signal?.removeEventListener('abort', this.#onAbort)
    void this.#own.close(1000)
  }
}

async function report(work: Promise<void>, callback: (error: Error | null) => void): Promise<void> {
  let failure: Error | null = null
  try {
    await work
  } catch (error) {
    failure = error instanceof Error ? error : new Error(String(error))
  }
  callback(failure)
}

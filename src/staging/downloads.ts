// Where the bytes of a running task meet the client that asked for them. Nothing is kept: whoever gives waits for whoever takes,
// chunk by chunk. A download has no effect that a restart would have to know of: what was cut off is asked for again.
import { StagingError } from './error.ts'

type Waiting = {
  resolve: (source: AsyncIterable<Uint8Array>) => void
  reject: (error: Error) => void
}

type Offer = { source: AsyncIterable<Uint8Array>; taken: () => void }

export class Downloads {
  readonly #takers = new Map<string, Waiting>()
  readonly #offers = new Map<string, Offer>()

  /**
   * Gives the bytes to whoever takes them under this id; resolves once all were taken.
   * @throws StagingError `nobody_there` when nobody comes within `timeoutMs`, or leaves before the end; what the source throws
   */
  async give(
    id: string,
    source: AsyncIterable<Uint8Array>,
    { timeoutMs, signal }: { timeoutMs: number; signal?: AbortSignal }
  ): Promise<void> {
    const taken = Promise.withResolvers<void>()
    const ended = Promise.withResolvers<void>()
    const watched = watchedOf(source, ended)
    const taker = this.#takers.get(id)
    if (taker) {
      this.#takers.delete(id)
      taker.resolve(watched)
    } else {
      this.#offers.set(id, { source: watched, taken: taken.resolve })
      const nobody = () => taken.reject(new StagingError('nobody_there', `nobody took the bytes of download ${id}`))
      const timer = setTimeout(nobody, timeoutMs)
      signal?.addEventListener('abort', nobody)
      try {
        await taken.promise
      } finally {
        clearTimeout(timer)
        signal?.removeEventListener('abort', nobody)
        this.#offers.delete(id)
      }
    }
    await ended.promise
  }

  /** The bytes, once a task gives them. @throws StagingError `nobody_there` when none does within `timeoutMs` or until `signal` */
  async take(
    id: string,
    { timeoutMs, signal }: { timeoutMs: number; signal?: AbortSignal }
  ): Promise<AsyncIterable<Uint8Array>> {
    const offer = this.#offers.get(id)
    if (offer) {
      this.#offers.delete(id)
      offer.taken()
      return offer.source
    }
    if (this.#takers.has(id)) throw new StagingError('nobody_there', `download ${id} is waited for already`)
    const { promise, resolve, reject } = Promise.withResolvers<AsyncIterable<Uint8Array>>()
    const waiting = { resolve, reject }
    this.#takers.set(id, waiting)
    const nobody = () => reject(new StagingError('nobody_there', `no task gives the bytes of download ${id} yet`))
    const timer = setTimeout(nobody, timeoutMs)
    signal?.addEventListener('abort', nobody)
    if (signal?.aborted) nobody()
    try {
      return await promise
    } finally {
      clearTimeout(timer)
      signal?.removeEventListener('abort', nobody)
      if (this.#takers.get(id) === waiting) this.#takers.delete(id)
    }
  }
}

/**
 * The source, and word of how it ended: taken whole, failed, or left. No generator, since one that was never asked for its first
 * element would not notice that it is left.
 */
function watchedOf(
  source: AsyncIterable<Uint8Array>,
  ended: PromiseWithResolvers<void>
): AsyncIterableIterator<Uint8Array> {
  const from = source[Symbol.asyncIterator]()
  // Whoever gives is told; that it has left before is no fault of its own.
  ended.promise.catch(() => {})
  return {
    [Symbol.asyncIterator]() {
      return this
    },
    async next() {
      try {
        const step = await from.next()
        if (step.done) ended.resolve()
        return step
      } catch (error) {
        ended.reject(error)
        throw error
      }
    },
    async return() {
      ended.reject(new StagingError('nobody_there', 'whoever took the bytes has left'))
      await from.return?.()
      return { done: true, value: undefined }
    }
  }
}

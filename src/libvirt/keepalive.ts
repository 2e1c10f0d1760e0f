// Notices a peer that has gone silent: a partition or a frozen host closes no socket. Only the timing; sending is the connection's.

export interface KeepaliveOptions {
  /** Silence after which we ask. Default 5000. */
  readonly intervalMs?: number
  /** Questions without any sign of life after which the connection is given up. Default 5. */
  readonly count?: number
}

export class Keepalive {
  readonly intervalMs: number
  readonly count: number
  readonly #ping: () => void
  readonly #onSilent: () => void
  #timer: NodeJS.Timeout | undefined
  #heard = false
  #unanswered = 0

  constructor(options: KeepaliveOptions, ping: () => void, onSilent: () => void) {
    this.intervalMs = options.intervalMs ?? 5000
    this.count = options.count ?? 5
    this.#ping = ping
    this.#onSilent = onSilent
  }

  start(): void {
    this.#timer ??= setInterval(() => this.#tick(), this.intervalMs)
    this.#timer.unref()
  }

  stop(): void {
    clearInterval(this.#timer)
    this.#timer = undefined
  }

  /** Anything that arrives is a sign of life. */
  heard(): void {
    this.#heard = true
  }

  #tick(): void {
    if (this.#heard) {
      this.#heard = false
      this.#unanswered = 0
    } else if (this.#unanswered < this.count) {
      this.#unanswered++
      this.#ping()
    } else {
      // If our own event loop was blocked, the answer may be waiting in the socket: let it be read first.
      setImmediate(() => {
        if (!this.#heard && this.#timer) this.#onSilent()
      })
    }
  }
}

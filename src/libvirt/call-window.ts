// The calls of one connection: at most `size` unanswered on the wire, the rest in a bounded queue, each settled exactly once.
// libvirtd stops reading a socket that has max_client_requests (5) unanswered calls, keepalive included, so the window is kept here.
// A call that its caller gave up keeps its place in the window until the host answers: the host is still working on it.

import { ConnectionError, type ConnectionErrorReason } from './errors.ts'

export interface CallOptions {
  /** How long to wait for the answer, from submission; 0 waits for ever. Default: the connection's `callTimeoutMs`. */
  readonly timeoutMs?: number
  readonly signal?: AbortSignal
}

export interface PendingCall {
  readonly name: string
  /** Encodes and writes the call. Throws when the arguments cannot be encoded. */
  readonly send: (serial: number) => void
  readonly resolve: (reply: unknown) => void
  readonly reject: (error: Error) => void
}

interface Entry extends PendingCall {
  settled: boolean
  serial: number
  timer: NodeJS.Timeout | undefined
  signal: AbortSignal | undefined
  onAbort: (() => void) | undefined
}

export class CallWindow {
  readonly #size: number
  readonly #maxQueued: number
  readonly #sent = new Map<number, Entry>()
  #queue: Entry[] = []
  #queueHead = 0
  #queuedLive = 0
  #nextSerial = 1
  #closed: ConnectionError | undefined
  #onIdle: (() => void) | undefined

  constructor(size: number, maxQueued: number) {
    this.#size = size
    this.#maxQueued = maxQueued
  }

  /** Calls on the wire without an answer, given-up ones included. */
  get inFlight(): number {
    return this.#sent.size
  }

  get queued(): number {
    return this.#queuedLive
  }

  submit(call: PendingCall, timeoutMs: number, signal?: AbortSignal): void {
    const refusal = this.#refusal(call.name, signal)
    if (refusal) return call.reject(refusal)
    const entry: Entry = { ...call, settled: false, serial: 0, timer: undefined, signal, onAbort: undefined }
    if (timeoutMs > 0) entry.timer = setTimeout(() => this.#giveUp(entry, 'timeout', timeoutMs), timeoutMs)
    if (signal) {
      entry.onAbort = () => this.#giveUp(entry, 'aborted')
      signal.addEventListener('abort', entry.onAbort, { once: true })
    }
    if (this.#queuedLive === 0 && this.#sent.size < this.#size) return this.#send(entry)
    this.#queue.push(entry)
    this.#queuedLive++
    this.#fill()
  }

  /** Takes the call that `serial` answers out of the window; undefined when nobody waits for it any more. */
  answered(serial: number): PendingCall | undefined {
    const entry = this.#sent.get(serial)
    if (!entry) return undefined
    this.#sent.delete(serial)
    const waiting = !entry.settled
    if (waiting) this.#settle(entry)
    this.#fill()
    if (this.#sent.size === 0) this.#onIdle?.()
    return waiting ? entry : undefined
  }

  /** Ends everything: what was sent as unknown, what was not as not sent. Later calls are not sent either. */
  fail(reason: ConnectionErrorReason, message: string, cause?: unknown): void {
    this.refuse(reason, message, cause)
    for (const entry of this.#sent.values()) if (!entry.settled) this.#reject(entry, reason, message, cause)
    this.#sent.clear()
    this.#onIdle?.()
  }

  /** Takes no more calls and drops the queue; calls on the wire go on. */
  refuse(reason: ConnectionErrorReason, message: string, cause?: unknown): void {
    this.#closed ??= new ConnectionError('not_sent', message, { reason, cause })
    const queue = this.#queue
    this.#queue = []
    this.#queueHead = 0
    this.#queuedLive = 0
    for (const entry of queue) if (!entry.settled && entry.serial === 0) this.#reject(entry, reason, message, cause)
  }

  /** Resolves when no call is on the wire. */
  async idle(): Promise<void> {
    if (this.#sent.size > 0) await new Promise<void>((resolve) => (this.#onIdle = resolve))
  }

  #refusal(name: string, signal: AbortSignal | undefined): ConnectionError | undefined {
    if (this.#closed) {
      const { message, reason, cause } = this.#closed
      return new ConnectionError('not_sent', `${name} was not sent: ${message}`, { reason: reason ?? 'closed', cause })
    }
    if (signal?.aborted)
      return new ConnectionError('not_sent', `${name} was not sent: aborted`, {
        reason: 'aborted',
        cause: signal.reason
      })
    if (this.#queuedLive < this.#maxQueued || this.#sent.size < this.#size) return undefined
    return new ConnectionError('not_sent', `${name} was not sent: ${this.#queuedLive} calls are queued already`, {
      reason: 'queue_full'
    })
  }

  #fill(): void {
    while (this.#sent.size < this.#size && this.#queueHead < this.#queue.length) {
      const entry = this.#queue[this.#queueHead++]!
      if (entry.settled) continue
      this.#queuedLive--
      this.#send(entry)
    }
    this.#compact()
  }

  // What was sent or given up leaves the array now and then, not one by one: shifting would cost as much as the queue is long.
  #compact(): void {
    if (this.#queue.length - this.#queuedLive < 256 + this.#queuedLive) return
    this.#queue = this.#queue.filter((entry) => !entry.settled && entry.serial === 0)
    this.#queueHead = 0
  }

  #send(entry: Entry): void {
    do {
      entry.serial = this.#nextSerial
      this.#nextSerial = this.#nextSerial === 0x7fffffff ? 1 : this.#nextSerial + 1
    } while (this.#sent.has(entry.serial))
    try {
      entry.send(entry.serial)
      this.#sent.set(entry.serial, entry)
    } catch (error) {
      this.#settle(entry)
      const what = error instanceof Error ? error.message : String(error)
      entry.reject(
        new ConnectionError('not_sent', `${entry.name} was not sent: ${what}`, {
          reason: 'bad_arguments',
          cause: error
        })
      )
    }
  }

  #giveUp(entry: Entry, reason: 'timeout' | 'aborted', timeoutMs?: number): void {
    if (entry.settled) return
    if (entry.serial === 0) this.#queuedLive--
    const message = reason === 'timeout' ? `no answer within ${timeoutMs} ms` : 'aborted by the caller'
    this.#reject(entry, reason, message, entry.signal?.reason)
    this.#compact()
  }

  #reject(entry: Entry, reason: ConnectionErrorReason, message: string, cause: unknown): void {
    const sent = entry.serial !== 0
    this.#settle(entry)
    const fact = sent ? 'was sent and its outcome is unknown' : 'was not sent'
    entry.reject(
      new ConnectionError(sent ? 'unknown_outcome' : 'not_sent', `${entry.name} ${fact}: ${message}`, { reason, cause })
    )
  }

  #settle(entry: Entry): void {
    entry.settled = true
    if (entry.timer) clearTimeout(entry.timer)
    if (entry.onAbort) entry.signal?.removeEventListener('abort', entry.onAbort)
  }
}

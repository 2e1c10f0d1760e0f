// Events of one connection, delivered in the order in which they came. Delivery is a step of its own: a reply is never behind an event's
// consumers, and what a consumer throws reaches nobody but `onError`.

import { decodeEvent, eventName } from './payload.ts'
import type { EventName, Events } from './wire.gen.ts'

/** Its result is not waited for; when it is a promise, its rejection is reported. */
export type EventHandler<Name extends EventName> = (message: Events[Name]) => unknown

export interface EventQueueOptions {
  /** Events waiting for delivery beyond which new ones are dropped. */
  readonly maxQueued: number
  readonly onError: (error: unknown, event: string) => void
  /** Events were dropped: what is known from events is stale until everything was listed again. */
  readonly onLost: (count: number) => void
}

interface Arrived {
  readonly number: number
  readonly payload: Buffer
}

export class EventQueue {
  readonly #options: EventQueueOptions
  readonly #handlers = new Map<EventName, Set<EventHandler<EventName>>>()
  #arrived: Arrived[] = []
  #scheduled = false
  #lost = 0

  constructor(options: EventQueueOptions) {
    this.#options = options
  }

  add<Name extends EventName>(name: Name, handler: EventHandler<Name>): void {
    let handlers = this.#handlers.get(name)
    if (!handlers) this.#handlers.set(name, (handlers = new Set()))
    handlers.add(handler as EventHandler<EventName>)
  }

  delete<Name extends EventName>(name: Name, handler: EventHandler<Name>): void {
    this.#handlers.get(name)?.delete(handler as EventHandler<EventName>)
  }

  handlerCount(name: EventName): number {
    return this.#handlers.get(name)?.size ?? 0
  }

  push(number: number, payload: Buffer): void {
    if (this.#arrived.length >= this.#options.maxQueued) this.#lost++
    else this.#arrived.push({ number, payload })
    if (this.#scheduled) return
    this.#scheduled = true
    setImmediate(() => this.#deliver())
  }

  #deliver(): void {
    this.#scheduled = false
    const arrived = this.#arrived
    const lost = this.#lost
    this.#arrived = []
    this.#lost = 0
    for (const { number, payload } of arrived) this.#deliverOne(number, payload)
    if (lost > 0) this.#guard('lost events', () => this.#options.onLost(lost))
  }

  #deliverOne(number: number, payload: Buffer): void {
    const name = eventName(number)
    if (!name) return
    // A copy: a consumer may add or remove consumers.
    const handlers = [...(this.#handlers.get(name) ?? [])]
    if (handlers.length === 0) return
    this.#guard(name, () => {
      const message = decodeEvent(name, payload)
      for (const handler of handlers) this.#guard(name, () => handler(message))
    })
  }

  // A consumer may be an async function: its rejection is its error too.
  #guard(event: string, act: () => unknown): void {
    try {
      const result = act()
      if (result instanceof Promise) result.catch((error: unknown) => this.#report(error, event))
    } catch (error) {
      this.#report(error, event)
    }
  }

  #report(error: unknown, event: string): void {
    try {
      this.#options.onError(error, event)
    } catch (second) {
      process.emitWarning(`event error handler failed: ${String(second)}`)
    }
  }
}

// Who is told what: events of a host, handed to the connections that registered for them.

import type { EventSource } from '../libvirt/procedure.ts'
import { type EventName, type Events, events } from '../libvirt/wire.gen.ts'

/** An event without the number of the registration, which differs from connection to connection. */
export type Emission<Name extends EventName = EventName> = {
  name: Name
  /** UUID (or name) of what it is about, for registrations about one thing. */
  subject: string
  message: Omit<Events[Name], 'callbackID'>
}

type Registration = { source: EventSource; id: number; subject: string | null }

/** The registrations of one connection. */
export class Registrations {
  readonly #byCallback = new Map<number, Registration>()
  #next = 0

  add(source: EventSource, id: number, subject: string | null): number {
    const callback = this.#next++
    this.#byCallback.set(callback, { source, id, subject })
    return callback
  }

  remove(source: EventSource, callback: number): boolean {
    if (this.#byCallback.get(callback)?.source !== source) return false
    return this.#byCallback.delete(callback)
  }

  get size(): number {
    return this.#byCallback.size
  }

  /** Callback numbers that an event goes to. */
  matching(emission: Emission): number[] {
    const { source, id } = events[emission.name]
    const found: number[] = []
    for (const [callback, wanted] of this.#byCallback)
      if (wanted.source === source && wanted.id === id && (wanted.subject ?? emission.subject) === emission.subject)
        found.push(callback)
    return found
  }
}

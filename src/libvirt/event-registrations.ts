// Which kinds of events the host sends us. One registration a kind and connection, however many consumers there are;
// turning on and off happens one after the other, so that no event is delivered twice or missed in between.

import { LibvirtError } from './errors.ts'
import type { ArgsOf, ReplyOf } from './payload.ts'
import type { EventSource } from './procedure.ts'
import { type EventName, events, type ProcedureName } from './wire.gen.ts'

interface Caller {
  readonly isOpen: boolean
  call<Name extends ProcedureName>(name: Name, args: ArgsOf<Name>): Promise<ReplyOf<Name>>
}

interface Registration {
  wanted: boolean
  /** The host's id; 0 for the one source that gives none; undefined while not registered. */
  callbackId: number | undefined
  step: Promise<void>
}

export class EventRegistrations {
  readonly #caller: Caller
  readonly #registrations = new Map<EventName, Registration>()

  constructor(caller: Caller) {
    this.#caller = caller
  }

  /** Resolves when the host sends this kind of event, or no longer does. */
  settle(name: EventName, wanted: boolean): Promise<void> {
    let registration = this.#registrations.get(name)
    if (!registration)
      this.#registrations.set(name, (registration = { wanted, callbackId: undefined, step: Promise.resolve() }))
    registration.wanted = wanted
    const current = registration
    const step = current.step.then(() => this.#step(name, current))
    current.step = step.catch(() => {})
    return step
  }

  async #step(name: EventName, registration: Registration): Promise<void> {
    if (registration.wanted && registration.callbackId === undefined) {
      registration.callbackId = await this.#register(name)
    } else if (!registration.wanted && registration.callbackId !== undefined) {
      const callbackId = registration.callbackId
      registration.callbackId = undefined
      if (this.#caller.isOpen) await this.#deregister(name, callbackId)
    }
  }

  async #register(name: EventName): Promise<number> {
    const { source, id: eventID } = events[name]
    if (source === 'connection') {
      await this.#caller.call('CONNECT_REGISTER_CLOSE_CALLBACK', {})
      return 0
    }
    const { callbackID } = await this.#registerWith(source, eventID)
    return callbackID
  }

  #registerWith(source: Exclude<EventSource, 'connection'>, eventID: number): Promise<{ callbackID: number }> {
    if (source === 'domain')
      return this.#caller.call('CONNECT_DOMAIN_EVENT_CALLBACK_REGISTER_ANY', { eventID, dom: null })
    if (source === 'network') return this.#caller.call('CONNECT_NETWORK_EVENT_REGISTER_ANY', { eventID, net: null })
    if (source === 'storagePool')
      return this.#caller.call('CONNECT_STORAGE_POOL_EVENT_REGISTER_ANY', { eventID, pool: null })
    if (source === 'nodeDevice')
      return this.#caller.call('CONNECT_NODE_DEVICE_EVENT_REGISTER_ANY', { eventID, dev: null })
    return this.#caller.call('CONNECT_SECRET_EVENT_REGISTER_ANY', { eventID, secret: null })
  }

  // The host forgets registrations with the connection, so a refusal here costs nothing but events that nobody hears.
  async #deregister(name: EventName, callbackID: number): Promise<void> {
    const { source } = events[name]
    try {
      if (source === 'domain') await this.#caller.call('CONNECT_DOMAIN_EVENT_CALLBACK_DEREGISTER_ANY', { callbackID })
      else if (source === 'network') await this.#caller.call('CONNECT_NETWORK_EVENT_DEREGISTER_ANY', { callbackID })
      else if (source === 'storagePool')
        await this.#caller.call('CONNECT_STORAGE_POOL_EVENT_DEREGISTER_ANY', { callbackID })
      else if (source === 'nodeDevice')
        await this.#caller.call('CONNECT_NODE_DEVICE_EVENT_DEREGISTER_ANY', { callbackID })
      else if (source === 'secret') await this.#caller.call('CONNECT_SECRET_EVENT_DEREGISTER_ANY', { callbackID })
      else await this.#caller.call('CONNECT_UNREGISTER_CLOSE_CALLBACK', {})
    } catch (error) {
      if (!(error instanceof LibvirtError)) throw error
    }
  }
}

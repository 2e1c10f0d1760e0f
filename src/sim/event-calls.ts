// Procedures that register a connection for events.

import type { Empty } from '../libvirt/wire.gen.ts'
import type { EventSource } from '../libvirt/procedure.ts'
import type { CallContext, Handlers } from './call.ts'
import { refuse } from './refusal.ts'

/** Highest event id of each source in libvirt 9.0. */
const lastId: Partial<Record<EventSource, number>> = {
  domain: 26,
  network: 0,
  storagePool: 1,
  nodeDevice: 1,
  secret: 1
}

function register(
  { session }: CallContext,
  source: EventSource,
  id: number,
  subject: string | null
): { callbackID: number } {
  if (id < 0 || id > (lastId[source] ?? 0)) throw refuse('INTERNAL_ERROR', 'RPC', `unsupported event ID ${id}`)
  return { callbackID: session.registrations.add(source, id, subject) }
}

function deregister({ session }: CallContext, source: EventSource, callback: number): Empty {
  if (!session.registrations.remove(source, callback))
    throw refuse('INTERNAL_ERROR', 'RPC', `${source} event callback ${callback} not registered`)
  return {}
}

export const eventCalls: Handlers = {
  CONNECT_DOMAIN_EVENT_CALLBACK_REGISTER_ANY: ({ eventID, dom }, _, call) =>
    register(call, 'domain', eventID, dom?.uuid ?? null),
  CONNECT_DOMAIN_EVENT_CALLBACK_DEREGISTER_ANY: ({ callbackID }, _, call) => deregister(call, 'domain', callbackID),
  CONNECT_NETWORK_EVENT_REGISTER_ANY: ({ eventID, net }, _, call) =>
    register(call, 'network', eventID, net?.uuid ?? null),
  CONNECT_NETWORK_EVENT_DEREGISTER_ANY: ({ callbackID }, _, call) => deregister(call, 'network', callbackID),
  CONNECT_STORAGE_POOL_EVENT_REGISTER_ANY: ({ eventID, pool }, _, call) =>
    register(call, 'storagePool', eventID, pool?.uuid ?? null),
  CONNECT_STORAGE_POOL_EVENT_DEREGISTER_ANY: ({ callbackID }, _, call) => deregister(call, 'storagePool', callbackID),
  CONNECT_NODE_DEVICE_EVENT_REGISTER_ANY: ({ eventID, dev }, _, call) =>
    register(call, 'nodeDevice', eventID, dev?.name ?? null),
  CONNECT_NODE_DEVICE_EVENT_DEREGISTER_ANY: ({ callbackID }, _, call) => deregister(call, 'nodeDevice', callbackID),
  CONNECT_SECRET_EVENT_REGISTER_ANY: ({ eventID, secret }, _, call) =>
    register(call, 'secret', eventID, secret?.uuid ?? null),
  CONNECT_SECRET_EVENT_DEREGISTER_ANY: ({ callbackID }, _, call) => deregister(call, 'secret', callbackID)
}

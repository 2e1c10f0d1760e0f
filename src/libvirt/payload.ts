// Payloads by procedure or event, by name or number, in both directions: a client encodes arguments and decodes replies,
// a server (a simulated host) the reverse. Bytes that are no such value throw XdrError, which names the procedure.

import type { EventKind, Procedure } from './procedure.ts'
import {
  type EventName,
  type Events,
  events,
  type ProcedureName,
  type Procedures,
  procedures,
  type RemoteError,
  remoteError
} from './wire.gen.ts'
import { decode, encode, XdrError } from './xdr.ts'

export type ArgsOf<Name extends ProcedureName> = Procedures[Name]['args']
export type ReplyOf<Name extends ProcedureName> = Procedures[Name]['reply']

/** A call as a server sees it: `name` tells the type of `args`. */
export type Call = { [Name in ProcedureName]: { name: Name; args: ArgsOf<Name> } }[ProcedureName]

/** An event as a client sees it: `name` tells the type of `message`. */
export type HostEvent = { [Name in EventName]: { name: Name; message: Events[Name] } }[EventName]

const namesByNumber = new Map(Object.values(procedures).map(({ number, name }) => [number, name as ProcedureName]))
const eventsByNumber = new Map(Object.values(events).map(({ number, name }) => [number, name as EventName]))

/** The procedure's name, or undefined for a number that the tables do not have. */
export function procedureName(number: number): ProcedureName | undefined {
  return namesByNumber.get(number)
}

/** The event's name, or undefined for a number that the tables do not have. */
export function eventName(number: number): EventName | undefined {
  return eventsByNumber.get(number)
}

export function encodeArgs<Name extends ProcedureName>(name: Name, args: ArgsOf<Name>): Buffer {
  return named(`${name} arguments`, () => encode(procedure(name).args, args))
}

export function decodeArgs<Name extends ProcedureName>(name: Name, payload: Buffer): ArgsOf<Name> {
  return named(`${name} arguments`, () => decode(procedure(name).args, payload))
}

export function encodeReply<Name extends ProcedureName>(name: Name, reply: ReplyOf<Name>): Buffer {
  return named(`${name} reply`, () => encode(procedure(name).reply, reply))
}

export function decodeReply<Name extends ProcedureName>(name: Name, payload: Buffer): ReplyOf<Name> {
  return named(`${name} reply`, () => decode(procedure(name).reply, payload))
}

export function encodeEvent<Name extends EventName>(name: Name, message: Events[Name]): Buffer {
  return named(name, () => encode(event(name).message, message))
}

export function decodeEvent<Name extends EventName>(name: Name, payload: Buffer): Events[Name] {
  return named(name, () => decode(event(name).message, payload))
}

/** A call by its number; undefined when the tables do not have the number. */
export function decodeCall(number: number, payload: Buffer): Call | undefined {
  const name = procedureName(number)
  return name && ({ name, args: decodeArgs(name, payload) } as Call)
}

/** An event by its number; undefined when the tables do not have the number. */
export function decodeHostEvent(number: number, payload: Buffer): HostEvent | undefined {
  const name = eventName(number)
  return name && ({ name, message: decodeEvent(name, payload) } as HostEvent)
}

/** The payload of a reply or stream message whose status is ERROR. */
export function encodeError(error: RemoteError): Buffer {
  return encode(remoteError, error)
}

export function decodeError(payload: Buffer): RemoteError {
  return named('error', () => decode(remoteError, payload))
}

function procedure<Name extends ProcedureName>(name: Name): Procedure<ArgsOf<Name>, ReplyOf<Name>> {
  return procedures[name]
}

function event<Name extends EventName>(name: Name): EventKind<Events[Name]> {
  return events[name]
}

/** Runs `act`; an XdrError out of it says what was being encoded or decoded. */
export function named<T>(what: string, act: () => T): T {
  try {
    return act()
  } catch (error) {
    if (error instanceof XdrError) throw new XdrError(error.code, `${what}: ${error.message}`, { cause: error })
    throw error
  }
}

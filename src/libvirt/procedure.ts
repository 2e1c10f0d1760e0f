// What the generated tables are made of: a procedure with the codecs of its arguments and reply, an event with its message's.

import type { Codec } from './xdr.ts'

export interface Procedure<Args, Reply> {
  readonly name: string
  readonly number: number
  /** Served by the daemon's extra workers when all ordinary ones are busy. */
  readonly highPriority: boolean
  /** After the reply, data flows: `read` from the host, `write` to it. */
  readonly stream: 'read' | 'write' | null
  readonly args: Codec<Args>
  readonly reply: Codec<Reply>
}

/** Which registration turns an event on. */
export type EventSource = 'domain' | 'network' | 'storagePool' | 'nodeDevice' | 'secret' | 'connection'

export interface EventKind<Message> {
  readonly name: string
  /** The procedure number its messages carry. */
  readonly number: number
  readonly source: EventSource
  /** The event id that is registered with the source. */
  readonly id: number
  readonly message: Codec<Message>
}

// The numbers that every message carries, and the protocol's limits.
// Source: libvirt's src/rpc/virnetprotocol.x, src/remote/remote_protocol.x and src/rpc/virkeepaliveprotocol.x.

/** The program of every procedure in wire.gen.ts. */
export const remoteProgram = 0x20008086
export const remoteVersion = 1

/** Keepalive messages: type MESSAGE, serial 0, no payload. */
export const keepaliveProgram = 0x6b656570
export const keepaliveVersion = 1
export const KeepaliveProcedure = { PING: 1, PONG: 2 } as const

export const MessageType = {
  CALL: 0,
  REPLY: 1,
  /** An event: nobody asked for it, its serial is 0. */
  MESSAGE: 2,
  STREAM: 3,
  CALL_WITH_FDS: 4,
  REPLY_WITH_FDS: 5,
  STREAM_HOLE: 6
} as const

export const MessageStatus = {
  OK: 0,
  /** The payload is a RemoteError. */
  ERROR: 1,
  /** A stream's data. */
  CONTINUE: 2
} as const

/** What AUTH_LIST answers. An empty list means the same as NONE. */
export const AuthType = { NONE: 0, SASL: 1, POLKIT: 2 } as const

/** Length word and header before every payload. */
export const lengthBytes = 4
export const headerBytes = 24

/** The longest message, its length word included. A longer one ends the connection. */
export const maxFrameBytes = 33_554_432 + lengthBytes

/** The longest payload of a STREAM message that every version takes. */
export const maxStreamPayloadBytes = 262_120

export const maxStringBytes = 4_194_304

// A daemon that does what a test tells it, built on the same frames and codecs but on nothing else of the client. Like libvirtd it stops
// reading a connection that has `maxClientRequests` unanswered calls, keepalive included.

import { mkdtemp, rm } from 'node:fs/promises'
import { createServer, type Server, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { remoteErrorOf } from '../../src/libvirt/errors.ts'
import { encodeFrame, type Frame, FrameSplitter } from '../../src/libvirt/frame.ts'
import {
  type ArgsOf,
  type Call,
  decodeCall,
  encodeError,
  encodeEvent,
  encodeReply,
  type ReplyOf
} from '../../src/libvirt/payload.ts'
import {
  KeepaliveProcedure,
  keepaliveProgram,
  MessageStatus,
  MessageType,
  remoteProgram,
  remoteVersion
} from '../../src/libvirt/protocol.ts'
import { type EventName, type Events, events, type ProcedureName, procedures } from '../../src/libvirt/wire.gen.ts'

/** No answer, until the test answers by itself. */
export const hang = Symbol('hang')

type Answer<Name extends ProcedureName> = ReplyOf<Name> | typeof hang
type Handler<Name extends ProcedureName> = (
  args: ArgsOf<Name>,
  client: FakeClient,
  serial: number
) => Answer<Name> | Promise<Answer<Name>>
type Handlers = { [Name in ProcedureName]?: Handler<Name> }

export interface FakeOptions {
  readonly maxClientRequests?: number
  readonly answerPings?: boolean
}

/** One client, as the daemon sees it. */
export class FakeClient {
  readonly socket: Socket
  readonly calls: Call[] = []
  pings = 0
  pongs = 0
  unanswered = 0
  mostUnanswered = 0
  readonly streamFrames: { status: number; payload: Buffer }[] = []
  onStreamFrame: ((frame: Frame) => void) | undefined

  constructor(socket: Socket) {
    this.socket = socket
  }

  reply<Name extends ProcedureName>(name: Name, serial: number, reply: ReplyOf<Name>): void {
    this.frame(procedures[name].number, MessageType.REPLY, serial, MessageStatus.OK, encodeReply(name, reply))
  }

  error(name: ProcedureName, serial: number, code: number, message: string): void {
    const payload = encodeError(remoteErrorOf(code, message))
    this.frame(procedures[name].number, MessageType.REPLY, serial, MessageStatus.ERROR, payload)
  }

  event<Name extends EventName>(name: Name, message: Events[Name]): void {
    this.frame(events[name].number, MessageType.MESSAGE, 0, MessageStatus.OK, encodeEvent(name, message))
  }

  stream(name: ProcedureName, serial: number, status: number, payload: Uint8Array = new Uint8Array(0)): boolean {
    return this.frame(procedures[name].number, MessageType.STREAM, serial, status, payload)
  }

  ping(): void {
    this.#keepalive(KeepaliveProcedure.PING)
  }

  pong(): void {
    this.#keepalive(KeepaliveProcedure.PONG)
  }

  frame(procedure: number, type: number, serial: number, status: number, payload: Uint8Array): boolean {
    const header = { program: remoteProgram, version: remoteVersion, procedure, type, serial, status }
    return this.socket.write(encodeFrame(header, payload))
  }

  #keepalive(procedure: number): void {
    const header = { program: keepaliveProgram, version: 1, procedure, type: MessageType.MESSAGE, serial: 0, status: 0 }
    this.socket.write(encodeFrame(header))
  }
}

export class FakeDaemon {
  readonly handlers: Handlers = {
    AUTH_LIST: () => ({ types: [] }),
    CONNECT_SUPPORTS_FEATURE: () => ({ supported: 1 }),
    CONNECT_OPEN: () => ({}),
    CONNECT_CLOSE: () => ({}),
    CONNECT_GET_HOSTNAME: () => ({ hostname: 'fake' }),
    CONNECT_DOMAIN_EVENT_CALLBACK_REGISTER_ANY: () => ({ callbackID: 7 }),
    CONNECT_DOMAIN_EVENT_CALLBACK_DEREGISTER_ANY: () => ({})
  }
  readonly clients: FakeClient[] = []
  readonly socketPath: string
  readonly uri: string
  readonly #server: Server
  readonly #options: Required<FakeOptions>
  #onClient: ((client: FakeClient) => void) | undefined

  private constructor(server: Server, socketPath: string, options: FakeOptions) {
    this.#server = server
    this.socketPath = socketPath
    this.uri = `test+unix:///default?socket=${socketPath}`
    this.#options = { maxClientRequests: options.maxClientRequests ?? 5, answerPings: options.answerPings ?? true }
    server.on('connection', (socket) => this.#accept(socket))
  }

  static async start(options: FakeOptions = {}): Promise<FakeDaemon> {
    const folder = await mkdtemp(join(tmpdir(), 'fake-libvirt-'))
    const path = join(folder, 'sock')
    const server = createServer()
    await new Promise<void>((resolve) => void server.listen(path, resolve))
    return new FakeDaemon(server, path, options)
  }

  on<Name extends ProcedureName>(name: Name, handler: Handler<Name>): void {
    Object.assign(this.handlers, { [name]: handler })
  }

  /** The client that connects next. */
  nextClient(): Promise<FakeClient> {
    return new Promise((resolve) => (this.#onClient = resolve))
  }

  get client(): FakeClient {
    return this.clients.at(-1)!
  }

  async stop(): Promise<void> {
    for (const { socket } of this.clients) socket.destroy()
    await new Promise<void>((resolve) => void this.#server.close(() => resolve()))
    await rm(join(this.socketPath, '..'), { recursive: true, force: true })
  }

  #accept(socket: Socket): void {
    const client = new FakeClient(socket)
    this.clients.push(client)
    const splitter = new FrameSplitter()
    socket.on('error', () => {})
    socket.on('data', (chunk: Buffer) => splitter.push(chunk, (frame) => this.#route(client, frame)))
    this.#onClient?.(client)
  }

  #route(client: FakeClient, frame: Frame): void {
    if (frame.program === keepaliveProgram) {
      if (frame.procedure === KeepaliveProcedure.PONG) client.pongs++
      else {
        client.pings++
        if (this.#options.answerPings) client.pong()
      }
    } else if (frame.type === MessageType.STREAM) {
      client.streamFrames.push({ status: frame.status, payload: frame.payload })
      client.onStreamFrame?.(frame)
    } else void this.#answer(client, frame)
  }

  async #answer(client: FakeClient, frame: Frame): Promise<void> {
    const call = decodeCall(frame.procedure, frame.payload)
    if (!call) throw new Error(`procedure ${frame.procedure} is not in the tables`)
    client.calls.push(call)
    client.unanswered++
    client.mostUnanswered = Math.max(client.mostUnanswered, client.unanswered)
    if (client.unanswered >= this.#options.maxClientRequests) client.socket.pause()
    const handler = this.handlers[call.name] as Handler<ProcedureName> | undefined
    const answer = handler ? await handler(call.args, client, frame.serial) : hang
    if (answer === hang) return
    this.answered(client)
    client.reply(call.name, frame.serial, answer)
  }

  /** The test has answered a call that hung. */
  answered(client: FakeClient): void {
    client.unanswered--
    if (client.unanswered < this.#options.maxClientRequests) client.socket.resume()
  }
}

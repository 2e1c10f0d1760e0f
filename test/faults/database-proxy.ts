// A socket before PostgreSQL that loses statements on purpose: before they reach the server, or their answer after the server has done
// them. It speaks as much of PostgreSQL's protocol (version 3) as it takes to see where a statement and its answer end.
// A proxy and not a wrapper around src/db: transactions, the pool, the driver, and what they make of a lost connection are tried as well.
import { mkdtempSync, rmSync } from 'node:fs'
import { createConnection, createServer, type Server, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

/** before: the server never gets it. after: the server has done it, and the answer is lost. In both cases the connection is gone. */
export type StatementFault = { kind: 'before' } | { kind: 'after' } | { kind: 'delay'; ms: number }

/** What goes wrong with a statement, if anything. Both are SQL without values; `before` was the last on this connection. */
export type Decide = (text: string, before: string) => StatementFault | undefined

const portFile = '.s.PGSQL.5432'
const READY = 'Z'.charCodeAt(0)
const SYNC = 'S'.charCodeAt(0)
const QUERY = 'Q'.charCodeAt(0)
const PARSE = 'P'.charCodeAt(0)
const BIND = 'B'.charCodeAt(0)
const EXECUTE = 'E'.charCodeAt(0)

export class DatabaseProxy {
  /** For the same role and database, through here. */
  readonly url: string
  readonly #directory: string
  readonly #server: Server
  readonly #sockets = new Set<Socket>()
  /** May be changed at any time. */
  decide: Decide = () => undefined

  private constructor(url: string) {
    this.#directory = mkdtempSync(join(tmpdir(), 'tk-pg-'))
    const target = new URL(url)
    const to = join(target.searchParams.get('host') ?? '', portFile)
    target.searchParams.set('host', this.#directory)
    this.url = target.href
    this.#server = createServer((near) => this.#accept(near, to))
  }

  #accept(near: Socket, to: string): void {
    const far = createConnection(to)
    for (const socket of [near, far]) {
      this.#sockets.add(socket)
      socket.on('error', () => socket.destroy())
      socket.on('close', () => {
        this.#sockets.delete(socket)
        near.destroy()
        far.destroy()
      })
    }
    new Pair(near, far, (text, before) => this.decide(text, before)).begin()
  }

  /** @param url to a server on a unix socket */
  static async start(url: string): Promise<DatabaseProxy> {
    const proxy = new DatabaseProxy(url)
    await new Promise<void>((resolve) => proxy.#server.listen(join(proxy.#directory, portFile), resolve))
    return proxy
  }

  /** Every connection breaks, as when the server dies. */
  cut(): void {
    for (const socket of this.#sockets) socket.destroy()
  }

  /** May be called twice. */
  async stop(): Promise<void> {
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()))
    this.cut()
    await closed
    rmSync(this.#directory, { recursive: true, force: true })
  }
}

/** One client's connection and the server's. */
class Pair {
  readonly #near: Socket
  readonly #far: Socket
  readonly #decide: Decide
  readonly #fromClient = new Frames(false)
  readonly #fromServer = new Frames(true)
  /** Frames of the statement that is being sent. */
  #held: Buffer[] = []
  /** By the name under which the server keeps them; '' for one that is not kept. */
  readonly #texts = new Map<string, string>()
  #text = ''
  #before = ''
  #executes = false
  #losesAnswer = false
  #sending: Promise<void> = Promise.resolve()

  constructor(near: Socket, far: Socket, decide: Decide) {
    this.#near = near
    this.#far = far
    this.#decide = decide
  }

  begin(): void {
    this.#near.on('data', (bytes: Buffer) => {
      for (const frame of this.#fromClient.add(bytes)) this.#sent(frame)
    })
    this.#far.on('data', (bytes: Buffer) => {
      for (const frame of this.#fromServer.add(bytes)) {
        if (!this.#losesAnswer) this.#near.write(frame)
        else if (frame[0] === READY) this.#break()
      }
    })
  }

  #break(): void {
    this.#near.destroy()
    this.#far.destroy()
  }

  #sent(frame: Buffer): void {
    this.#held.push(frame)
    const kind = this.#fromClient.began ? frame[0] : undefined
    if (kind === PARSE) this.#texts.set(cString(frame, 5), secondString(frame))
    else if (kind === BIND) this.#text = this.#texts.get(secondString(frame)) ?? ''
    else if (kind === QUERY) this.#text = cString(frame, 5)
    if (kind === EXECUTE || kind === QUERY) this.#executes = true
    if (kind === PARSE || (kind !== undefined && kind !== SYNC && kind !== QUERY && this.#held.length > 1)) return
    const statement = Buffer.concat(this.#held)
    const fault = this.#executes ? this.#decide(this.#text, this.#before) : undefined
    this.#before = this.#text
    this.#held = []
    this.#executes = false
    // In order, also behind one that is delayed.
    this.#sending = this.#sending.then(() => this.#pass(statement, fault))
  }

  async #pass(statement: Buffer, fault: StatementFault | undefined): Promise<void> {
    if (fault?.kind === 'before') return this.#break()
    if (fault?.kind === 'delay') await new Promise((resolve) => setTimeout(resolve, fault.ms))
    if (fault?.kind === 'after') this.#losesAnswer = true
    if (!this.#far.destroyed) this.#far.write(statement)
  }
}

/** After the kind, the length and a first string: of Parse the SQL, of Bind the name of what was parsed. */
const secondString = (frame: Buffer): string => cString(frame, frame.indexOf(0, 5) + 1)

const cString = (frame: Buffer, from: number): string => frame.toString('utf8', from, frame.indexOf(0, from))

/** Cuts bytes into messages: a kind, four bytes of length, the rest; a client's first has no kind. */
class Frames {
  #bytes: Buffer = Buffer.alloc(0)
  #hasKind: boolean
  /** The frame that was given last has a kind. */
  began: boolean

  constructor(hasKind: boolean) {
    this.#hasKind = hasKind
    this.began = hasKind
  }

  *add(bytes: Buffer): Generator<Buffer> {
    this.#bytes = this.#bytes.length === 0 ? bytes : Buffer.concat([this.#bytes, bytes])
    for (;;) {
      const kind = this.#hasKind ? 1 : 0
      if (this.#bytes.length < kind + 4) return
      const length = kind + this.#bytes.readInt32BE(kind)
      if (this.#bytes.length < length) return
      const frame = this.#bytes.subarray(0, length)
      this.#bytes = this.#bytes.subarray(length)
      this.began = this.#hasKind
      this.#hasKind = true
      yield frame
    }
  }
}

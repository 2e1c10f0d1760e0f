// Calls between a test and a process of its own that it started: one side asks by name, the other answers. A process whose test is
// gone ends by itself. Not a protocol of the product: nothing under src knows of it.
import { fork, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { flushCompileCache } from 'node:module'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

/** What a process does when asked. Arguments and answers are copied (structured clone), so that bigints and dates cross. */
// oxlint-disable-next-line typescript/no-explicit-any -- each handler has its own arguments
export type Handlers = Record<string, (...args: any[]) => unknown>

type Request = { id: number; name: string; args: unknown[] }
type Answer = { id: number; value?: unknown; error?: string }
type Told = { told: unknown }

/** Answers what the test asks, until the test is gone. */
export function answer(handlers: Handlers): void {
  process.on('message', (request: Request) => void reply(handlers, request))
  process.once('disconnect', () => process.exit(0))
  // Whoever is killed writes none at his end.
  flushCompileCache()
  tell({ ready: true })
}

/** Says something that nobody asked for. */
export function tell(what: unknown): void {
  if (process.connected) process.send?.({ told: what } satisfies Told)
}

async function reply(handlers: Handlers, { id, name, args }: Request): Promise<void> {
  let answered: Answer
  try {
    const handler = handlers[name]
    if (!handler) throw new Error(`this process does not know how to ${name}`)
    answered = { id, value: await handler(...args) }
  } catch (error) {
    answered = { id, error: error instanceof Error ? (error.stack ?? error.message) : String(error) }
  }
  if (process.connected) process.send?.(answered)
}

type Calls<H extends Handlers> = {
  [Name in keyof H]: (...args: Parameters<H[Name]>) => Promise<Awaited<ReturnType<H[Name]>>>
}

/** A process of its own, from the side of the test. */
export type Remote<H extends Handlers> = {
  readonly pid: number
  readonly call: Calls<H>
  /** Why it ended; undefined while it runs. */
  ended(): string | undefined
  signal(signal: NodeJS.Signals): void
  /** SIGKILL, also of one that is stopped; resolves when it is gone. May be called twice. */
  kill(): Promise<void>
}

const compileCache = join(tmpdir(), 'taskomatic-test-compile-cache')

/**
 * Starts a program beside this one and resolves once it answers.
 * @param onTold hears what it says unasked
 */
export async function startRemote<H extends Handlers>(
  program: string,
  options: { env?: Record<string, string>; onTold?: (what: unknown) => void } = {}
): Promise<Remote<H>> {
  const child = fork(join(import.meta.dirname, program), [], {
    execArgv: [],
    serialization: 'advanced',
    stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
    env: { ...process.env, NODE_COMPILE_CACHE: compileCache, ...options.env }
  })
  const remote = new ChildRemote(child, program, options.onTold)
  await remote.ready
  return { pid: child.pid ?? 0, call: remote.calls<H>(), ended: () => remote.why, ...remote.ends() }
}

class ChildRemote {
  readonly #child: ChildProcess
  readonly #program: string
  readonly #waiting = new Map<number, { resolve: (value: unknown) => void; reject: (error: Error) => void }>()
  readonly #exit: Promise<void>
  readonly ready: Promise<void>
  #lastId = 0
  why: string | undefined

  constructor(child: ChildProcess, program: string, onTold: ((what: unknown) => void) | undefined) {
    this.#child = child
    this.#program = program
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    this.ready = promise
    this.#exit = this.#untilExit(reject)
    child.on('message', (message: Answer | Told) => {
      if (!('told' in message)) return this.#answered(message)
      if (isReady(message.told)) resolve()
      else onTold?.(message.told)
    })
  }

  async #untilExit(notReady: (error: Error) => void): Promise<void> {
    const [code, signal] = (await once(this.#child, 'exit')) as [number | null, string | null]
    this.why = signal === null ? `ended with ${code}` : `was ended by ${signal}`
    const error = new Error(`${this.#program} ${this.why}`)
    for (const { reject } of this.#waiting.values()) reject(error)
    this.#waiting.clear()
    notReady(error)
  }

  #answered({ id, value, error }: Answer): void {
    const waiting = this.#waiting.get(id)
    this.#waiting.delete(id)
    if (error === undefined) waiting?.resolve(value)
    else waiting?.reject(new Error(error))
  }

  #ask(name: string, args: unknown[]): Promise<unknown> {
    if (this.why !== undefined) return Promise.reject(new Error(`${this.#program} ${this.why}`))
    const id = ++this.#lastId
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject })
      this.#child.send({ id, name, args } satisfies Request)
    })
  }

  calls<H extends Handlers>(): Calls<H> {
    return new Proxy({} as Calls<H>, {
      get: (_, name) => (typeof name === 'string' ? (...args: unknown[]) => this.#ask(name, args) : undefined)
    })
  }

  ends(): Pick<Remote<Handlers>, 'signal' | 'kill'> {
    return {
      signal: (signal) => void this.#child.kill(signal),
      kill: async () => {
        this.#child.kill('SIGKILL')
        await this.#exit
      }
    }
  }
}

const isReady = (told: unknown): boolean => typeof told === 'object' && told !== null && 'ready' in told

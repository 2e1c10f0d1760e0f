// The product as its users have it: a `taskomatic server` process with a state directory of its own, and `taskomatic` commands
// against it, each a process. Everything goes when `stop` is called, and with the tests' process at the latest.
// Looks into nothing but what the command prints; what the hosts say is virsh's to tell.

import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { tokenFile } from '../../src/api/places.ts'
import type { TaskView } from '../../src/api/task.ts'
import { outcome, type Ending } from './command.ts'

const program = join(import.meta.dirname, '../../bin/taskomatic')
const startTimeoutMs = 60_000
const stopTimeoutMs = 45_000
const keptLines = 200

type Enter = (command: string, args?: readonly string[]) => { command: string; args: string[] }

export type TaskomaticOptions = {
  /** Where server and commands run, e.g. `Hosts.asManager`. Default: here. */
  enter?: Enter
  /** Further words for `taskomatic server`. */
  words?: readonly string[]
}

/** Starts a server on a free port and resolves when it listens. */
export async function startTaskomatic(options: TaskomaticOptions = {}): Promise<Taskomatic> {
  const state = await mkdtemp(join(tmpdir(), 'tk-server-'))
  const server = new Taskomatic(state, options)
  try {
    await server.start(options.words ?? [])
    return server
  } catch (error) {
    await server.stop()
    throw error
  }
}

export class Taskomatic {
  readonly state: string
  readonly #enter: Enter
  readonly #log: string[] = []
  #child: ChildProcess | undefined
  #url = ''
  #stopping: Promise<void> | undefined

  constructor(state: string, options: TaskomaticOptions) {
    this.state = state
    this.#enter = options.enter ?? ((command, args = []) => ({ command, args: [...args] }))
  }

  /** What the server logged last, for whoever has to find out why. */
  get log(): string {
    return this.#log.join('\n')
  }

  /** Once more after a `kill`, on what that one left. */
  async start(words: readonly string[]): Promise<void> {
    const inside = this.#enter(program, ['server', '--port', '0', ...words])
    // TERM, so that a server whose test was killed still ends its own PostgreSQL.
    const child = spawn('setpriv', ['--pdeathsig', 'TERM', inside.command, ...inside.args], {
      env: this.#env(),
      stdio: ['ignore', 'inherit', 'pipe']
    })
    this.#child = child
    const listens = Promise.withResolvers<void>()
    createInterface({ input: child.stderr }).on('line', (line) => {
      this.#log.push(line)
      if (this.#log.length > keptLines) this.#log.shift()
      const { msg, url } = readLogLine(line)
      if (msg !== 'server listens' || url === undefined) return
      this.#url = url
      listens.resolve()
    })
    child.once('error', listens.reject)
    child.once('exit', (code, signal) =>
      listens.reject(new Error(`the server ended with ${code ?? signal}: ${this.log}`))
    )
    const timer = setTimeout(
      () => listens.reject(new Error(`the server does not listen after ${startTimeoutMs} ms: ${this.log}`)),
      startTimeoutMs
    )
    await listens.promise.finally(() => clearTimeout(timer))
  }

  #env(): NodeJS.ProcessEnv {
    const { DATABASE_URL: _, TASKOMATIC_URL: _url, TASKOMATIC_TOKEN: _token, ...env } = process.env
    return { ...env, TASKOMATIC_STATE: this.state, NO_COLOR: '1' }
  }

  /** One command; its exit code is an answer. */
  async cli(...words: string[]): Promise<Ending> {
    const { command, args } = this.#enter(program, words)
    return outcome(command, args, { env: this.#env(), timeoutMs: 170_000 })
  }

  /** One command that must succeed, printing JSON. @throws Error with all that it said otherwise */
  async json<T>(...words: string[]): Promise<T> {
    const ending = await this.cli(...words, '-o', 'json')
    if (ending.code !== 0) throw new Error(`${told(words, ending)}\n${this.log}`)
    return JSON.parse(ending.stdout) as T
  }

  /** Submits one task and waits for its end, however it ends. */
  async task(...words: string[]): Promise<TaskView> {
    const ending = await this.cli(...words, '--wait', '-o', 'json')
    if (![0, 3, 6].includes(ending.code)) throw new Error(`${told(words, ending)}\n${this.log}`)
    const [{ id }] = JSON.parse(ending.stdout) as [{ id: number }]
    return this.json('task', 'show', String(id))
  }

  /** Submits, waits, and insists that all of it is complete. */
  async done(...words: string[]): Promise<void> {
    const ending = await this.cli(...words, '--wait', '-o', 'json')
    if (ending.code !== 0) throw new Error(`${told(words, ending)}\n${this.log}`)
  }

  /** Submits one task and does not wait; its number. */
  async submit(...words: string[]): Promise<number> {
    const [{ id }] = await this.json<[{ id: number }]>(...words, '--no-wait')
    return id
  }

  /** A metric without labels, as the server counts it now. */
  async metric(name: string): Promise<number> {
    const token = (await readFile(tokenFile(this.state), 'utf8')).trim()
    const answer = await fetch(`${this.#url}/metrics`, { headers: { authorization: `Bearer ${token}` } })
    const text = await answer.text()
    const value = new RegExp(`^${name} (.*)$`, 'm').exec(text)?.[1]
    if (value === undefined) throw new Error(`no ${name} in ${text}`)
    return Number(value)
  }

  /** Ends the server by SIGKILL, and nothing else: what it kept stays. */
  async kill(): Promise<void> {
    const child = this.#child
    if (!child) return
    const ended = once(child, 'exit')
    child.kill('SIGKILL')
    await ended
  }

  /** Drains and ends the server, and removes what it kept. May be called twice. */
  stop(): Promise<void> {
    this.#stopping ??= this.#stop()
    return this.#stopping
  }

  async #stop(): Promise<void> {
    const child = this.#child
    if (child && child.exitCode === null && child.signalCode === null) {
      const ended = once(child, 'exit')
      child.kill('SIGTERM')
      const timer = setTimeout(() => child.kill('SIGKILL'), stopTimeoutMs)
      await ended.finally(() => clearTimeout(timer))
    }
    await rm(this.state, { recursive: true, force: true, maxRetries: 5 })
  }
}

function readLogLine(line: string): { msg?: string; url?: string } {
  try {
    return JSON.parse(line) as { msg?: string; url?: string }
  } catch {
    return {}
  }
}

const told = (words: readonly string[], { code, stdout, stderr }: Ending): string =>
  `taskomatic ${words.join(' ')} ended with ${code}: ${stderr}${stdout}`

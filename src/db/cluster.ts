// Starts and stops one PostgreSQL server from given binaries, on a unix socket only. Not a supervisor: what dies is reported,
// not restarted. Where the binaries come from is embedded.ts's business.

import { spawn } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { chmod, mkdir, mkdtemp, readFile, rename, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import { createInterface } from 'node:readline'
import { accountFor, giveTo, type Account } from './account.ts'
import { DatabaseError } from './error.ts'

export type ClusterOptions = {
  /** Holds initdb and postgres. */
  binDirectory: string
  /** Made by initdb if it is not there. */
  dataDirectory: string
  /** As root, who may not run PostgreSQL: as which account; default as account.ts finds a way. Ignored when we are not root. */
  asUser?: { uid: number; gid: number }
  /** `-c name=value`. */
  settings?: { [name: string]: string }
  /** PostgreSQL's own log, a line at a time. */
  onLog?: (line: string) => void
  startTimeoutMs?: number
}

export type Cluster = {
  pid: number
  /** For the superuser `postgres`, trusted on the socket, whose directory only we may enter. */
  adminUrl: string
  /** Resolves when the server has ended, for whatever reason. */
  ended: Promise<void>
  /** A fast shutdown, waited for. May be called twice. */
  stop(): Promise<void>
}

// A unix socket's path has 107 bytes at most; `/.s.PGSQL.5432.lock` comes after the directory.
const LONGEST_SOCKET_DIRECTORY = 107 - '/.s.PGSQL.5432.lock'.length
const STOP_TIMEOUT_MS = 15_000
const KEPT_LINES = 30

export async function startCluster(options: ClusterOptions): Promise<Cluster> {
  const dataDirectory = resolve(options.dataDirectory)
  const account = await accountFor(options.asUser)
  if (!existsSync(join(dataDirectory, 'PG_VERSION'))) await initialise(options, account, dataDirectory)
  await checkVersion(options, account, dataDirectory)
  await giveTo(dataDirectory, account)
  const { socketDirectory, removeSocketDirectory } = await socketDirectoryFor(account, dataDirectory)
  const settings = { listen_addresses: '', unix_socket_permissions: '0700', ...options.settings }
  const child = launch(account, [
    join(options.binDirectory, 'postgres'),
    '-D', dataDirectory, '-k', socketDirectory,
    ...Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`])
  ]) // prettier-ignore
  const ended = once(child, 'exit').then(removeSocketDirectory)
  await untilReady(child, options, dataDirectory)
  child.unref()
  let stopping: Promise<void> | undefined
  return {
    pid: child.pid ?? 0,
    adminUrl: `postgresql://postgres@localhost/postgres?host=${encodeURIComponent(socketDirectory)}`,
    ended,
    stop() {
      stopping ??= stopChild(child, ended)
      return stopping
    }
  }
}

function launch(account: Account, command: string[]): ChildProcess {
  const [program = '', ...args] = [...account.prefix, ...command]
  // In a session of its own, so that a Ctrl-C in the terminal reaches us alone and we decide the order of the ends.
  return spawn(program, args, { stdio: ['ignore', 'ignore', 'pipe'], detached: true, cwd: '/' })
}

// Into a directory beside it, then renamed: of two that start at once one wins, and a crash leaves no half-made cluster.
async function initialise(options: ClusterOptions, account: Account, dataDirectory: string): Promise<void> {
  await mkdir(dirname(dataDirectory), { recursive: true, mode: 0o700 })
  const fresh = await mkdtemp(`${dataDirectory}.new-`)
  try {
    await giveTo(fresh, account)
    const child = launch(account, [
      join(options.binDirectory, 'initdb'),
      '-D', fresh, '-U', 'postgres', '--auth=trust', '--no-sync', '-E', 'UTF8', '--locale=C.UTF-8', '--no-instructions'
    ]) // prettier-ignore
    const lines = collectLines(child, options)
    const code = await exitOf(child)
    if (code !== 0) throw new DatabaseError('start_failed', `initdb failed (${code}): ${lines.join('\n')}`)
    await rename(fresh, dataDirectory).catch((error: unknown) => {
      if (!existsSync(join(dataDirectory, 'PG_VERSION'))) {
        throw new DatabaseError('data_directory', `${dataDirectory} is in the way and is no data directory`, {
          cause: error
        })
      }
    })
  } finally {
    await rm(fresh, { recursive: true, force: true })
  }
}

async function checkVersion(options: ClusterOptions, account: Account, dataDirectory: string): Promise<void> {
  const made = (await readFile(join(dataDirectory, 'PG_VERSION'), 'utf8')).trim()
  const child = launch(account, ['sh', '-c', `"$0" --version >&2`, join(options.binDirectory, 'postgres')])
  const lines = collectLines(child, {})
  const code = await exitOf(child)
  const have = /PostgreSQL\) (\d+)/.exec(lines.join('\n'))?.[1]
  if (code !== 0 || have === undefined) {
    throw new DatabaseError('start_failed', `${options.binDirectory}/postgres does not run: ${lines.join('\n')}`)
  }
  if (have !== made) {
    throw new DatabaseError(
      'data_directory',
      `${dataDirectory} was made by PostgreSQL ${made}; these binaries are ${have}`
    )
  }
}

async function socketDirectoryFor(account: Account, dataDirectory: string) {
  // The data directory is private already and always the same: nothing is left behind by a kill -9.
  if (Buffer.byteLength(dataDirectory) <= LONGEST_SOCKET_DIRECTORY) {
    return { socketDirectory: dataDirectory, removeSocketDirectory: () => undefined }
  }
  const socketDirectory = await mkdtemp(join(tmpdir(), 'taskomatic-'))
  await chmod(socketDirectory, 0o700)
  await giveTo(socketDirectory, account)
  return { socketDirectory, removeSocketDirectory: () => rm(socketDirectory, { recursive: true, force: true }) }
}

async function untilReady(child: ChildProcess, options: ClusterOptions, dataDirectory: string): Promise<void> {
  const ready = Promise.withResolvers<void>()
  const lines = collectLines(child, {
    onLog(line) {
      options.onLog?.(line)
      if (line.includes('database system is ready to accept connections')) ready.resolve()
    }
  })
  const failed = (why: string) => {
    const said = lines.join('\n')
    const other = /Is another postmaster \(PID (\d+)\)|another postmaster|lock file "[^"]+" already exists/.exec(said)
    ready.reject(
      other
        ? new DatabaseError(
            'already_running',
            `PostgreSQL${other[1] ? ` (pid ${other[1]})` : ''} already runs on ${dataDirectory}`
          )
        : new DatabaseError('start_failed', `PostgreSQL ${why}: ${said}`)
    )
  }
  const limitMs = options.startTimeoutMs ?? 60_000
  const timer = setTimeout(() => {
    child.kill('SIGQUIT')
    failed(`was not ready after ${limitMs} ms`)
  }, limitMs)
  child.once('close', (code) => failed(`ended (${code})`))
  child.once('error', (error) => failed(error.message))
  try {
    await ready.promise
  } finally {
    clearTimeout(timer)
  }
}

function collectLines(child: ChildProcess, options: Pick<ClusterOptions, 'onLog'>): string[] {
  const lines: string[] = []
  if (child.stderr) {
    createInterface({ input: child.stderr }).on('line', (line) => {
      lines.push(line)
      if (lines.length > KEPT_LINES) lines.shift()
      options.onLog?.(line)
    })
  }
  return lines
}

function exitOf(child: ChildProcess): Promise<number | null> {
  return new Promise((resolvePromise, reject) => {
    child.once('close', (code) => resolvePromise(code))
    child.once('error', (error) => reject(new DatabaseError('start_failed', error.message, { cause: error })))
  })
}

async function stopChild(child: ChildProcess, ended: Promise<void>): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return ended
  child.ref()
  child.kill('SIGINT')
  const timer = setTimeout(() => child.kill('SIGQUIT'), STOP_TIMEOUT_MS)
  await ended.finally(() => clearTimeout(timer))
}

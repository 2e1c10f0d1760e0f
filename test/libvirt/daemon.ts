// A real libvirtd of our own for tests: unprivileged (in a user namespace when we are root), with its sockets, state and configuration in a
// temporary folder, so that it touches nothing of the machine's. It ends with us, and by itself when nobody has used it for a minute.

import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync
} from 'node:fs'
import { createConnection, type NetConnectOpts } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

/** Why tests with a real libvirtd cannot run here; undefined when they can. With CI=true they must: then it throws. */
export function whyNoDaemon(programs: readonly string[] = ['libvirtd', 'unshare', 'setpriv']): string | undefined {
  const missing = programs.filter((program) => !findProgram(program))
  if (missing.length === 0) return undefined
  const reason = `not installed: ${missing.join(', ')}`
  if (process.env['CI'] === 'true') throw new Error(`tests that must run in CI cannot: ${reason}`)
  return reason
}

function findProgram(name: string): string | undefined {
  const folders = [...(process.env['PATH'] ?? '').split(':'), '/usr/sbin', '/sbin']
  return folders.map((folder) => join(folder, name)).find((path) => existsSync(path))
}

export interface DaemonOptions {
  /** Lines of libvirtd.conf, e.g. { max_client_requests: 5 }. */
  readonly config?: Readonly<Record<string, string | number>>
  /** Listen on TCP or TLS as the configuration says. */
  readonly listen?: boolean
  /** Files to copy into the daemon's folder, which `{folder}` in the configuration means. */
  readonly files?: Readonly<Record<string, string>>
}

export class LibvirtDaemon {
  readonly folder: string
  readonly socketPath: string
  readonly #child: ChildProcess
  readonly #exited: Promise<void>

  private constructor(folder: string, child: ChildProcess) {
    this.folder = folder
    this.socketPath = join(folder, 'run', 'libvirt', 'libvirt-sock')
    this.#child = child
    this.#exited = new Promise((resolve) => child.once('exit', () => resolve()))
  }

  /** Starts one; resolves when its socket is there (about 0.3 s). */
  static async start(options: DaemonOptions = {}): Promise<LibvirtDaemon> {
    const folder = mkdtempSync(join(tmpdir(), 'libvirtd-'))
    return LibvirtDaemon.startIn(folder, options)
  }

  /** Starts one on a folder that an earlier one left. */
  static async startIn(folder: string, options: DaemonOptions = {}): Promise<LibvirtDaemon> {
    const at = (name: string): string => join(folder, name)
    for (const name of ['run/libvirt', 'config', 'data', 'cache', 'home']) mkdirSync(at(name), { recursive: true })
    for (const name of ['', 'run', 'run/libvirt', 'config', 'data', 'cache', 'home']) chmodSync(at(name), 0o777)
    const config = {
      unix_sock_dir: at('run/libvirt'),
      auth_unix_rw: 'none',
      auth_unix_ro: 'none',
      log_outputs: `3:file:${at('log')}`,
      listen_tls: 0,
      ...options.config
    }
    const lines = Object.entries(config).map(
      ([key, value]) => `${key} = ${typeof value === 'number' ? value : `"${value.replace('{folder}', folder)}"`}\n`
    )
    writeFileSync(at('libvirtd.conf'), lines.join(''))
    rmSync(at('run/libvirt/libvirt-sock'), { force: true })
    for (const [name, source] of Object.entries(options.files ?? {})) {
      copyFileSync(source, at(name))
      chmodSync(at(name), 0o644)
    }
    const daemon = [
      'libvirtd',
      '-t',
      '60',
      '-f',
      at('libvirtd.conf'),
      '-p',
      at('pid'),
      ...(options.listen ? ['-l'] : [])
    ]
    const asNobody = process.getuid?.() === 0 ? ['unshare', '--user', '--map-user=65534', '--map-group=65534'] : []
    const command = [...asNobody, 'setpriv', '--pdeathsig', 'TERM', ...daemon]
    const child = spawn(command[0]!, command.slice(1), { stdio: 'ignore', env: environment(folder) })
    const started = new LibvirtDaemon(folder, child)
    await started.#untilListening()
    return started
  }

  /** The address of a driver of this daemon, e.g. `test:///default`. */
  uri(name: string): string {
    return `${name.replace(':', '+unix:')}?socket=${this.socketPath}`
  }

  get pid(): number {
    return this.#child.pid!
  }

  /** What virsh prints, run against this daemon as another client would. */
  virsh(name: string, ...args: string[]): string {
    return execFileSync('virsh', ['-q', '-c', this.uri(name), ...args], { encoding: 'utf8', stdio: 'pipe' })
  }

  log(): string {
    const path = join(this.folder, 'log')
    return existsSync(path) ? readFileSync(path, 'utf8') : ''
  }

  async kill(signal: NodeJS.Signals = 'SIGKILL'): Promise<void> {
    this.#child.kill(signal)
    await this.#exited
  }

  async stop(): Promise<void> {
    await this.kill('SIGTERM')
    rmSync(this.folder, { recursive: true, force: true })
  }

  // The socket's file is there a moment before it listens, so only a connection tells.
  async #untilListening(): Promise<void> {
    let ended = false
    void this.#exited.then(() => (ended = true))
    await untilListening({ path: this.socketPath }, () => {
      if (ended) throw new Error(`libvirtd ended at its start: ${this.log()}`)
    })
  }
}

/** Resolves when something accepts connections there; `check` may throw before each try. */
export async function untilListening(where: NetConnectOpts, check: () => void = () => {}): Promise<void> {
  for (;;) {
    check()
    const accepted = await new Promise<boolean>((resolve) => {
      const socket = createConnection(where, () => {
        socket.destroy()
        resolve(true)
      })
      socket.once('error', () => resolve(false))
    })
    if (accepted) return
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
}

function environment(folder: string): NodeJS.ProcessEnv {
  return {
    PATH: `${process.env['PATH'] ?? ''}:/usr/sbin:/usr/bin:/sbin:/bin`,
    LC_ALL: 'C',
    HOME: join(folder, 'home'),
    XDG_RUNTIME_DIR: join(folder, 'run'),
    XDG_CONFIG_HOME: join(folder, 'config'),
    XDG_DATA_HOME: join(folder, 'data'),
    XDG_CACHE_HOME: join(folder, 'cache')
  }
}

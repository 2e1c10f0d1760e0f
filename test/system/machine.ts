// One test host: its namespaces, its process 1, its libvirtd. Switched on and off, frozen, looked into.
// What it finds on its disk is host-files.ts's business, what it hears from the others the switch's.

import { spawn, type ChildProcess } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { closeSync, openSync } from 'node:fs'
import { mkdir, readFile, rm } from 'node:fs/promises'
import { connect } from 'node:net'
import { join } from 'node:path'
import { createInterface, type Interface } from 'node:readline'
import { setTimeout as delay } from 'node:timers/promises'
import { run, type CommandOptions } from './command.ts'
import { expectLine } from './expect-line.ts'
import { hostAddress, type Switch } from './switch.ts'

const bootTimeoutMs = 40_000
const initScript = join(import.meta.dirname, 'host-init.sh')

export class Machine {
  /** h1, h2 … */
  readonly name: string
  readonly address: string
  /** What the host's capabilities say; the same after a boot. */
  readonly uuid: string
  /** The host's own files as the machine sees them: `lib` is its /var/lib/libvirt, `log` its /var/log/libvirt. */
  readonly directory: string
  /** Path of libvirtd's socket, reachable from everywhere on the machine. */
  readonly socket: string
  private readonly switch: Switch
  private child: ChildProcess | undefined
  private lines: Interface | undefined

  constructor(index: number, parent: string, network: Switch) {
    this.name = `h${index}`
    this.address = hostAddress(index)
    this.uuid = randomUUID()
    this.directory = join(parent, this.name)
    this.socket = join(this.directory, 'run/libvirt/libvirt-sock')
    this.switch = network
  }

  get uri(): string {
    return `qemu+unix:///system?socket=${this.socket}`
  }

  /** Switches it on and waits until libvirtd answers. */
  async boot(): Promise<void> {
    if (this.child) throw new Error(`test host ${this.name} is on`)
    await rm(join(this.directory, 'run'), { recursive: true, force: true })
    await mkdir(join(this.directory, 'run/sshd'), { recursive: true })
    const log = openSync(join(this.directory, 'log/init.log'), 'a')
    const namespaces = ['--mount', '--uts', '--ipc', '--pid', '--net', '--propagation', 'private']
    // Both halves die with us: unshare by the signal that setpriv asks for, process 1 by --kill-child.
    const unshare = ['unshare', ...namespaces, '--fork', '--kill-child=KILL', initScript, this.name, this.directory]
    const child = spawn('setpriv', ['--pdeathsig', 'KILL', ...unshare], { stdio: ['pipe', 'pipe', log] })
    closeSync(log)
    child.stdin!.on('error', () => {}) // switched off again: its exit tells
    this.child = child
    this.lines = createInterface({ input: child.stdout! })
    try {
      await expectLine(child, this.lines, 'named', this.name)
      await this.switch.plugIn(this.name, child.pid!, this.address)
      child.stdin!.end('network\n')
      await this.answers()
    } catch (error) {
      throw new Error(`test host ${this.name} did not start: ${await this.lastWords()}`, { cause: error })
    }
  }

  /** Pulls the plug. Does nothing when it is off. */
  async kill(): Promise<void> {
    const child = this.child
    if (!child) return
    this.child = undefined
    this.lines?.close()
    const ended = child.exitCode === null && child.signalCode === null ? once(child, 'exit') : undefined
    child.kill('SIGKILL')
    await ended
    await this.switch.unplug(this.name)
  }

  /** Runs a command in all the host's namespaces. */
  async exec(command: readonly string[], options?: CommandOptions): Promise<string> {
    if (!this.child) throw new Error(`test host ${this.name} is off`)
    const pid = String(this.child.pid)
    const namespaces = ['--net', '--mount', '--uts', '--ipc', `--pid=/proc/${pid}/ns/pid_for_children`]
    return run('nsenter', ['--target', pid, ...namespaces, '--', ...command], options)
  }

  async restartLibvirtd(signal: 'TERM' | 'KILL'): Promise<void> {
    if (!this.child || !this.lines) throw new Error(`test host ${this.name} is off`)
    const exited = expectLine(this.child, this.lines, 'exited', `${this.name}'s libvirtd`)
    await Promise.all([exited, this.signal('/run/libvirtd.pid', signal)])
    await this.answers()
  }

  /** Sends a signal to the process whose number is in `pidFile`. */
  async signal(pidFile: string, signal: 'TERM' | 'KILL' | 'STOP' | 'CONT'): Promise<void> {
    await this.exec(['sh', '-c', `kill -${signal} "$(cat '${pidFile}')"`])
  }

  /** Resolves when libvirtd accepts on its socket and QEMU's driver answers. Polls: nothing announces this. */
  private async answers(): Promise<void> {
    const deadline = Date.now() + bootTimeoutMs
    while (!(await accepts(this.socket))) {
      if (this.child?.exitCode !== null) throw new Error('its process 1 has ended')
      if (Date.now() > deadline) throw new Error(`no libvirtd on ${this.socket} after ${bootTimeoutMs} ms`)
      await delay(20)
    }
    await run('virsh', ['-q', '-c', this.uri, 'version'], { timeoutMs: Math.max(1000, deadline - Date.now()) })
  }

  private async lastWords(): Promise<string> {
    const read = (file: string): Promise<string> => readFile(join(this.directory, 'log', file), 'utf8').catch(() => '')
    return `${await read('init.log')}\n${await read('libvirtd.log')}`.trim().slice(-2000)
  }
}

function accepts(socket: string): Promise<boolean> {
  return new Promise((resolve) => {
    const connection = connect(socket)
    const end = (answer: boolean): void => {
      connection.destroy()
      resolve(answer)
    }
    connection.once('connect', () => end(true)).once('error', () => end(false))
  })
}

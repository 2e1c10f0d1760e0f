// Real hosts on one machine for the system tests: each a set of namespaces with a real libvirtd, QEMU (emulating) and
// sshd of its own, joined by a bridge in one more network namespace, where the manager under test can run too.
// A host's pulling of the plug is a kill of its process 1; everything dies with the process that started it, even by
// kill -9, since namespaces have no names here and the first processes carry a parent-death signal.
// Not a simulator (that is src/sim): what runs here takes seconds and needs root.
//
//   node test/system/hosts.ts [COUNT]      keeps hosts up until Ctrl-C and says how to reach them

import { spawn, type ChildProcess } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { existsSync, openSync, closeSync } from 'node:fs'
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface, type Interface } from 'node:readline'
import { setTimeout as delay } from 'node:timers/promises'
import { createAuthority } from './certificates.ts'
import { run, type CommandOptions } from './command.ts'
import { copyCapabilities, createSshKey, writeHostFiles, type LibvirtLimits } from './host-files.ts'

const prefix = 'tk-hosts-'
const network = '10.77.0'
const managerAddress = `${network}.254`
const bootTimeoutMs = 40_000
/** sun_path holds 108 bytes; the longest socket is the one below `h9/run/libvirt/`. */
const longestDirectory = 108 - '/h9/run/libvirt/libvirt-admin-sock'.length - 1
const initScript = join(import.meta.dirname, 'host-init.sh')
const capabilitiesCache = join(import.meta.dirname, '../../node_modules/.cache/taskomatic/qemu-capabilities')

export type HostsOptions = {
  /** 1 to 9; default 3. */
  count?: number
  /** Default: room for 32 requests a connection and 64 workers, so that tests of other things do not meet the limits. */
  limits?: LibvirtLimits
}

export type TestHost = {
  /** h1, h2 … */
  readonly name: string
  readonly address: string
  /** What the host's capabilities say; the same after a boot. */
  readonly uuid: string
  /** Path of libvirtd's socket, reachable from everywhere on the machine. */
  readonly socket: string
  /** `qemu+unix:///system?socket=…`: works everywhere on the machine. */
  readonly uri: string
  /** `qemu+tls://h1/system`: works on the hosts and, with `Hosts.tls`, in the manager's namespace. Also the peer URI. */
  readonly tlsUri: string
  /** `qemu+ssh://root@h1/system?command=…`: works everywhere on the machine, the command enters the network. */
  readonly sshUri: string
  /** The host's own files as the machine sees them: `lib` is its /var/lib/libvirt, `log` its /var/log/libvirt. */
  readonly directory: string
}

type Machine = TestHost & { process?: ChildProcess; lines?: Interface }

/** Starts the hosts and waits until each answers. Needs what `missingParts` of test/harness/parts.ts lists. */
export async function startHosts(options: HostsOptions = {}): Promise<Hosts> {
  const { count = 3, limits = { maxClientRequests: 32, maxWorkers: 64 } } = options
  if (!Number.isInteger(count) || count < 1 || count > 9) throw new RangeError(`${count} hosts: 1 to 9 are possible`)
  await removeLeftovers()
  const hosts = new Hosts(await createDirectory())
  try {
    await hosts.start(count, limits)
    return hosts
  } catch (error) {
    await hosts.stop()
    throw error
  }
}

async function createDirectory(): Promise<string> {
  const base = tmpdir().length + prefix.length + 7 <= longestDirectory ? tmpdir() : '/tmp'
  const directory = await mkdtemp(join(base, prefix))
  await writeFile(join(directory, 'owner'), `${process.pid} ${await startTime(process.pid)}`)
  return directory
}

/** Clock ticks from the machine's boot to the process's start: tells a process from a later one with its number. */
async function startTime(pid: number | string): Promise<string | undefined> {
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => undefined)
  return stat?.slice(stat.lastIndexOf(')') + 2).split(' ')[19]
}

/** Removes directories of runs that were killed before they could: those whose recorded owner is gone. */
async function removeLeftovers(): Promise<void> {
  for (const base of new Set([tmpdir(), '/tmp'])) {
    for (const entry of await readdir(base)) {
      if (!entry.startsWith(prefix)) continue
      const owner = await readFile(join(base, entry, 'owner'), 'utf8').catch(() => undefined)
      if (owner === undefined) continue // being made this very moment
      const [pid = '', started] = owner.split(' ')
      if ((await startTime(pid)) !== started) await rm(join(base, entry), { recursive: true, force: true })
    }
  }
}

export class Hosts {
  /** Fresh, short, readable by root only; gone after `stop`. */
  readonly directory: string
  /** A directory that all hosts and the manager see at the same path. */
  readonly shared: string
  /** Client certificate for `tlsUri`: paths, and `directory` in the layout that libvirt's `?pkipath=` expects. */
  readonly tls: { ca: string; cert: string; key: string; directory: string }
  /** `command` is an ssh that reaches the hosts from everywhere on the machine: `COMMAND h1 hostname`. */
  readonly ssh: { command: string; config: string; key: string; knownHosts: string }
  private readonly machines: Machine[] = []
  private switch: ChildProcess | undefined
  private stopping: Promise<void> | undefined

  constructor(directory: string) {
    this.directory = directory
    this.shared = join(directory, 'shared')
    const pki = join(directory, 'client')
    this.tls = {
      ca: join(pki, 'cacert.pem'),
      cert: join(pki, 'clientcert.pem'),
      key: join(pki, 'clientkey.pem'),
      directory: pki
    }
    const ssh = join(directory, 'ssh')
    this.ssh = {
      command: join(ssh, 'ssh'),
      config: join(ssh, 'config'),
      key: join(ssh, 'key'),
      knownHosts: join(ssh, 'known_hosts')
    }
  }

  get all(): readonly TestHost[] {
    return this.machines
  }

  /** The host of that name; throws for a name that there is not. */
  host(name: string): TestHost {
    return this.machine(name)
  }

  /** Used once, by `startHosts`. */
  async start(count: number, limits: LibvirtLimits): Promise<void> {
    for (const place of [this.shared, this.tls.directory, join(this.directory, 'ssh')]) await mkdir(place)
    // Mount points; the daemon makes most of them at its first start anyway.
    const places = ['/etc/libvirt', '/etc/pki', '/var/lib/libvirt', '/var/cache/libvirt', '/var/log/libvirt']
    for (const place of places) await mkdir(place, { recursive: true })
    for (let index = 1; index <= count; index++) this.machines.push(this.describe(index))
    await this.prepare(limits)
    await this.startSwitch()

    const cached = existsSync(capabilitiesCache)
    const [first, ...others] = this.machines
    if (!cached && first) await this.bootMachine(first)
    const probed = cached ? capabilitiesCache : join(first!.directory, 'cache/qemu')
    const rest = cached ? this.machines : others
    for (const machine of rest) await copyCapabilities(probed, join(machine.directory, 'cache/qemu'))
    await Promise.all(rest.map((machine) => this.bootMachine(machine)))
    if (!cached) await copyCapabilities(probed, capabilitiesCache)
  }

  private describe(index: number): Machine {
    const name = `h${index}`
    const directory = join(this.directory, name)
    const socket = join(directory, 'run/libvirt/libvirt-sock')
    return {
      name,
      address: `${network}.${index}`,
      uuid: randomUUID(),
      directory,
      socket,
      uri: `qemu+unix:///system?socket=${socket}`,
      tlsUri: `qemu+tls://${name}/system`,
      sshUri: `qemu+ssh://root@${name}/system?command=${this.ssh.command}`
    }
  }

  private async prepare(limits: LibvirtLimits): Promise<void> {
    const authority = await createAuthority(join(this.directory, 'authority'))
    const authorizedKey = await createSshKey(this.ssh.key)
    const hostsFile = [
      '127.0.0.1 localhost',
      `${managerAddress} manager`,
      ...this.machines.map((machine) => `${machine.address} ${machine.name}\n`)
    ].join('\n')
    await writeFile(join(this.directory, 'hosts'), hostsFile)

    const knownHosts: string[] = []
    for (const { name, address, uuid, directory } of this.machines) {
      const host = { name, address, uuid, directory }
      const { sshHostKey } = await writeHostFiles({ ...host, hostsFile, limits, authority, authorizedKey })
      knownHosts.push(`${name},${address} ${sshHostKey}\n`)
    }
    await writeFile(this.ssh.knownHosts, knownHosts.join(''))
    const { key, config } = this.ssh
    const sshConfig = ['User root', `IdentityFile ${key}`, 'IdentitiesOnly yes', 'BatchMode yes']
    await writeFile(config, [...sshConfig, `UserKnownHostsFile ${this.ssh.knownHosts}\n`].join('\n'))
    const client = await authority.issue('manager', { names: `DNS:manager,IP:${managerAddress}`, usage: 'clientAuth' })
    await copyCapabilities(authority.ca, this.tls.ca)
    await copyCapabilities(client.cert, this.tls.cert)
    await copyCapabilities(client.key, this.tls.key)
  }

  /** The namespace with the bridge. Its address is the manager's; it has its own /etc/hosts, so that names work there. */
  private async startSwitch(): Promise<void> {
    const script = `mount --bind '${this.directory}/hosts' /etc/hosts && echo ready && exec sleep infinity`
    const unshare = ['unshare', '--net', '--mount', '--propagation', 'private', 'sh', '-c', script]
    this.switch = spawn('setpriv', ['--pdeathsig', 'KILL', ...unshare], { stdio: ['ignore', 'pipe', 'inherit'] })
    await within(10_000, 'the switch of the test hosts', firstLine(this.switch, 'ready'))
    const ssh = this.asManager('ssh', ['-F', this.ssh.config])
    await writeFile(this.ssh.command, `#!/bin/sh\nexec ${ssh.command} ${ssh.args.join(' ')} "$@"\n`, { mode: 0o755 })
    await this.inSwitch('ip', 'link', 'set', 'lo', 'up')
    await this.inSwitch('ip', 'link', 'add', 'br0', 'type', 'bridge')
    await this.inSwitch('ip', 'addr', 'add', `${managerAddress}/24`, 'dev', 'br0')
    await this.inSwitch('ip', 'link', 'set', 'br0', 'up')
  }

  private async inSwitch(...command: string[]): Promise<string> {
    const { command: program, args } = this.asManager(command[0]!, command.slice(1))
    return run(program, args)
  }

  /**
   * The command that runs `command` in the manager's namespace, on 10.77.0.254 with the hosts' names known: there TLS and
   * ssh reach the hosts. Files and unix sockets are the machine's; 127.0.0.1 is the namespace's own.
   */
  asManager(command: string, args: readonly string[] = []): { command: string; args: string[] } {
    const pid = String(this.switch?.pid)
    return { command: 'nsenter', args: ['--target', pid, '--net', '--mount', '--', command, ...args] }
  }

  private machine(name: string): Machine {
    const found = this.machines.find((machine) => machine.name === name)
    if (!found)
      throw new RangeError(`no test host ${name}: there are ${this.machines.map((host) => host.name).join(', ')}`)
    return found
  }

  private async bootMachine(machine: Machine): Promise<void> {
    const { name, directory } = machine
    await rm(join(directory, 'stop'), { force: true })
    await rm(join(directory, 'run'), { recursive: true, force: true })
    await mkdir(join(directory, 'run/sshd'), { recursive: true })
    const log = openSync(join(directory, 'log/init.log'), 'a')
    const unshare = ['unshare', '--mount', '--uts', '--ipc', '--pid', '--net', '--fork', '--kill-child=KILL']
    const child = spawn(
      'setpriv',
      ['--pdeathsig', 'KILL', ...unshare, '--propagation', 'private', initScript, name, directory],
      { stdio: ['pipe', 'pipe', log], env: { PATH: process.env['PATH'] } }
    )
    closeSync(log)
    machine.process = child
    machine.lines = createInterface({ input: child.stdout! })
    child.stdin!.on('error', () => {}) // the host was crashed: its exit tells
    try {
      await within(10_000, `${name}'s namespaces`, firstLine(child, 'named', machine.lines))
      await this.plugIn(machine)
      child.stdin!.end('network\n')
      await this.answers(machine)
    } catch (error) {
      throw new Error(`test host ${name} did not start: ${await this.lastWords(machine)}`, { cause: error })
    }
  }

  private async plugIn({ name, address, process: child }: Machine): Promise<void> {
    const pid = String(child!.pid)
    await this.inSwitch('ip', 'link', 'add', name, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', pid)
    await this.inSwitch('ip', 'link', 'set', name, 'master', 'br0', 'up')
    const script = `ip link set lo up && ip addr add ${address}/24 dev eth0 && ip link set eth0 up`
    await run('nsenter', ['--target', pid, '--net', '--', 'sh', '-c', script])
  }

  /** Resolves when libvirtd accepts on its socket and QEMU's driver answers. Polls: nothing announces this. */
  private async answers(machine: Machine): Promise<void> {
    const deadline = Date.now() + bootTimeoutMs
    while (!(await accepts(machine.socket))) {
      if (machine.process?.exitCode !== null) throw new Error(`its process 1 has ended`)
      if (Date.now() > deadline) throw new Error(`no libvirtd on ${machine.socket} after ${bootTimeoutMs} ms`)
      await delay(20)
    }
    await run('virsh', ['-q', '-c', machine.uri, 'version'], { timeoutMs: Math.max(1000, deadline - Date.now()) })
  }

  private async lastWords({ directory }: Machine): Promise<string> {
    const read = (file: string): Promise<string> => readFile(join(directory, 'log', file), 'utf8').catch(() => '')
    return `${await read('init.log')}\n${await read('libvirtd.log')}`.trim().slice(-2000)
  }

  /** The real virsh against a host; resolves with its stdout. */
  async virsh(name: string, ...args: string[]): Promise<string> {
    return run('virsh', ['-q', '-c', this.machine(name).uri, ...args])
  }

  /** Defines a guest from XML, which virsh reads from a file only. */
  async define(name: string, xml: string): Promise<void> {
    const file = join(this.directory, `define-${randomUUID()}.xml`)
    await writeFile(file, xml)
    await this.virsh(name, 'define', file)
    await rm(file)
  }

  /** Runs a command inside the host, in all its namespaces. */
  async exec(name: string, command: readonly string[], options?: CommandOptions): Promise<string> {
    const pid = this.machine(name).process?.pid
    const namespaces = ['--net', '--mount', '--uts', '--ipc', `--pid=/proc/${pid}/ns/pid_for_children`]
    return run('nsenter', ['--target', String(pid), ...namespaces, '--', ...command], options)
  }

  /** Pulls the plug: libvirtd, sshd and all guests are gone at once. `silent`: peers hear nothing, not even a reset. */
  async crash(name: string, { silent = false } = {}): Promise<void> {
    if (silent) await this.cutLink(name)
    await this.kill(this.machine(name))
  }

  private async kill(machine: Machine): Promise<void> {
    const child = machine.process
    if (!child?.pid) return
    delete machine.process
    machine.lines?.close()
    const ended = child.exitCode === null && child.signalCode === null ? once(child, 'exit') : undefined
    child.kill('SIGKILL')
    await ended
    // The kernel takes the network namespace down a little later; its name in the switch must be free for the next boot.
    await this.inSwitch('ip', 'link', 'del', machine.name).catch(() => {})
  }

  /** Switches a crashed host on again, with the disks that it had. */
  async boot(name: string): Promise<void> {
    const machine = this.machine(name)
    if (machine.process) throw new Error(`test host ${name} is on`)
    await this.bootMachine(machine)
  }

  /** Ends the host's libvirtd with `signal` and waits until the next one answers. Guests go on. */
  async restartLibvirtd(name: string, signal: 'TERM' | 'KILL' = 'TERM'): Promise<void> {
    const machine = this.machine(name)
    const exited = once(machine.lines!, 'line')
    await this.signalLibvirtd(name, signal)
    await within(20_000, `the end of ${name}'s libvirtd`, exited)
    await this.answers(machine)
  }

  /** `STOP` makes the daemon hang as a host under memory pressure does, `CONT` lets it go on. */
  async signalLibvirtd(name: string, signal: 'TERM' | 'KILL' | 'STOP' | 'CONT'): Promise<void> {
    await this.exec(name, ['sh', '-c', `kill -${signal} "$(cat /run/libvirtd.pid)"`])
  }

  /** `STOP` freezes a guest's QEMU: calls to libvirt that ask it hang. */
  async signalGuest(name: string, guest: string, signal: 'STOP' | 'CONT' | 'KILL'): Promise<void> {
    await this.exec(name, ['sh', '-c', `kill -${signal} "$(cat '/run/libvirt/qemu/${guest}.pid')"`])
  }

  /** Nothing passes between this host and the others any more; nobody is told. Its unix socket stays reachable. */
  async cutLink(name: string): Promise<void> {
    await this.inSwitch('ip', 'link', 'set', this.machine(name).name, 'nomaster')
  }

  async restoreLink(name: string): Promise<void> {
    await this.inSwitch('ip', 'link', 'set', this.machine(name).name, 'master', 'br0')
  }

  /** Everything off, everything removed. May be called twice. */
  stop(): Promise<void> {
    this.stopping ??= this.stopAll()
    return this.stopping
  }

  private async stopAll(): Promise<void> {
    await Promise.all(this.machines.map((machine) => this.kill(machine)))
    if (this.switch && this.switch.exitCode === null) {
      const ended = once(this.switch, 'exit')
      this.switch.kill('SIGKILL')
      await ended
    }
    await rm(this.directory, { recursive: true, force: true, maxRetries: 5 })
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

async function firstLine(child: ChildProcess, expected: string, lines?: Interface): Promise<void> {
  const input = lines ?? createInterface({ input: child.stdout! })
  const line = await Promise.race([
    once(input, 'line').then(([text]) => String(text)),
    once(child, 'exit').then(([code]) => `exit ${code}`)
  ])
  if (line !== expected) throw new Error(`expected ${expected}, got ${line}`)
}

async function within<T>(timeoutMs: number, what: string, promise: Promise<T>): Promise<T> {
  const timer = new AbortController()
  const late = delay(timeoutMs, undefined, { signal: timer.signal }).then(() => {
    throw new Error(`${what}: not there after ${timeoutMs} ms`)
  })
  try {
    return await Promise.race([promise, late])
  } finally {
    timer.abort()
    late.catch(() => {})
  }
}

if (import.meta.main) {
  const hosts = await startHosts({ count: Number(process.argv[2] ?? 3) })
  for (const host of hosts.all) console.log(`virsh -c '${host.uri}'`)
  console.log(`shared directory ${hosts.shared}\nmanager: ${['', ...hosts.asManager('sh').args].join(' ').trim()}`)
  console.log('Ctrl-C ends them.')
  await Promise.race([once(process, 'SIGINT'), once(process, 'SIGTERM')])
  await hosts.stop()
}

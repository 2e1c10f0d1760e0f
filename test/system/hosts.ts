// Real hosts on one machine for the system tests: each a set of namespaces with a real libvirtd, QEMU (emulating) and
// sshd of its own, joined by a bridge in one more network namespace, where the manager under test can run too.
// Everything dies with the process that started it, even by kill -9, and nothing has a name outside of a fresh temporary
// directory; so several runs go side by side, and a killed one leaves that directory at most.
// Not a simulator (that is src/sim): what runs here takes seconds and needs root.
//
//   node test/system/hosts.ts [COUNT]      keeps hosts up until Ctrl-C and says how to reach them

import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { copyFile, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createAuthority } from './certificates.ts'
import { run, type CommandOptions } from './command.ts'
import { copyCapabilities, createSshKey, writeHostFiles, type Keepalive, type LibvirtLimits } from './host-files.ts'
import { Machine } from './machine.ts'
import { managerAddress, Switch } from './switch.ts'

const prefix = 'tk-hosts-'
/** sun_path holds 108 bytes; the longest socket is the one below `h9/run/libvirt/`. */
const longestDirectory = 108 - '/h9/run/libvirt/libvirt-admin-sock'.length - 1
const capabilitiesCache = join(import.meta.dirname, '../../node_modules/.cache/taskomatic/qemu-capabilities')

export type HostsOptions = {
  /** 1 to 9; default 3. */
  count?: number
  /** Default: room for 32 requests a connection and 64 workers, so that tests of other things do not meet the limits. */
  limits?: LibvirtLimits
  /** Default: a silent peer is given up after 20 s. */
  keepalive?: Keepalive
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

/** Starts the hosts and waits until each answers. Needs what test/harness/parts.ts lists for `real hosts`. */
export async function startHosts(options: HostsOptions = {}): Promise<Hosts> {
  const {
    count = 3,
    limits = { maxClientRequests: 32, maxWorkers: 64 },
    keepalive = { intervalSeconds: 5, count: 3 }
  } = options
  if (!Number.isInteger(count) || count < 1 || count > 9) throw new RangeError(`${count} hosts: 1 to 9 are possible`)
  await removeLeftovers()
  const hosts = new Hosts(await createDirectory(), count)
  try {
    await hosts.start({ limits, keepalive })
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
      if (!owner) continue // being made this very moment
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
  readonly all: readonly TestHost[]
  private readonly machines: Machine[] = []
  private readonly network = new Switch()
  private stopping: Promise<void> | undefined

  constructor(directory: string, count: number) {
    this.directory = directory
    this.shared = join(directory, 'shared')
    const pki = join(directory, 'pki')
    const inPki = (file: string): string => join(pki, file)
    this.tls = {
      ca: inPki('cacert.pem'),
      cert: inPki('clientcert.pem'),
      key: inPki('clientkey.pem'),
      directory: pki
    }
    const inSsh = (file: string): string => join(directory, 'ssh', file)
    this.ssh = {
      command: inSsh('ssh'),
      config: inSsh('config'),
      key: inSsh('key'),
      knownHosts: inSsh('known_hosts')
    }
    for (let index = 1; index <= count; index++) this.machines.push(new Machine(index, directory, this.network))
    this.all = this.machines.map(({ name, address, uuid, socket, uri, directory: own }) => ({
      name,
      address,
      uuid,
      socket,
      uri,
      directory: own,
      tlsUri: `qemu+tls://${name}/system`,
      sshUri: `qemu+ssh://root@${name}/system?command=${this.ssh.command}`
    }))
  }

  /** The host of that name; throws for a name that there is not. */
  host(name: string): TestHost {
    const found = this.all.find((host) => host.name === name)
    if (!found) throw new RangeError(`no test host ${name}: there are ${this.all.map((host) => host.name).join(', ')}`)
    return found
  }

  private machine(name: string): Machine {
    return this.machines[this.all.indexOf(this.host(name))]!
  }

  /** Used once, by `startHosts`. */
  async start(settings: { limits: LibvirtLimits; keepalive: Keepalive }): Promise<void> {
    for (const place of [this.shared, this.tls.directory, join(this.directory, 'ssh')]) await mkdir(place)
    // Mount points; the daemon makes most of them at its first start anyway.
    const places = ['/etc/libvirt', '/etc/pki', '/var/lib/libvirt', '/var/cache/libvirt', '/var/log/libvirt']
    for (const place of places) await mkdir(place, { recursive: true })
    await this.writeFiles(settings)
    await this.network.start(join(this.directory, 'hosts'))
    const ssh = this.asManager('ssh', ['-F', this.ssh.config])
    await writeFile(this.ssh.command, `#!/bin/sh\nexec ${ssh.command} ${ssh.args.join(' ')} "$@"\n`, { mode: 0o755 })

    // The first host of a machine asks QEMU what it can do; the answers are kept for the others and for later runs.
    const [first, ...others] = this.machines
    const cached = existsSync(capabilitiesCache)
    if (!cached) {
      await first!.boot()
      await copyCapabilities(join(first!.directory, 'cache/qemu'), capabilitiesCache)
    }
    const rest = cached ? this.machines : others
    for (const machine of rest) await copyCapabilities(capabilitiesCache, join(machine.directory, 'cache/qemu'))
    await Promise.all(rest.map((machine) => machine.boot()))
  }

  private async writeFiles(settings: { limits: LibvirtLimits; keepalive: Keepalive }): Promise<void> {
    const authority = await createAuthority(join(this.directory, 'authority'))
    const client = await authority.issue('manager', { names: `DNS:manager,IP:${managerAddress}`, usage: 'clientAuth' })
    await copyFile(authority.ca, this.tls.ca)
    await copyFile(client.cert, this.tls.cert)
    await copyFile(client.key, this.tls.key)

    const { key, config, knownHosts } = this.ssh
    const authorizedKey = await createSshKey(key)
    const sshConfig = ['User root', `IdentityFile ${key}`, 'IdentitiesOnly yes', 'BatchMode yes']
    await writeFile(config, [...sshConfig, `UserKnownHostsFile ${knownHosts}\n`].join('\n'))

    const names = this.machines.map(({ name, address }) => `${address} ${name}`)
    const hostsFile = ['127.0.0.1 localhost', `${managerAddress} manager`, ...names, ''].join('\n')
    await writeFile(join(this.directory, 'hosts'), hostsFile)
    const known: string[] = []
    for (const { name, address, uuid, directory } of this.machines) {
      const own = { name, address, uuid, directory }
      const { sshHostKey } = await writeHostFiles({ ...own, hostsFile, ...settings, authority, authorizedKey })
      known.push(`${name},${address} ${sshHostKey}\n`)
    }
    await writeFile(knownHosts, known.join(''))
  }

  /**
   * The command that runs `command` in the manager's namespace, on 10.77.0.254 with the hosts' names known: there TLS and
   * ssh reach the hosts. Files and unix sockets are the machine's; 127.0.0.1 is the namespace's own.
   */
  asManager(command: string, args: readonly string[] = []): { command: string; args: string[] } {
    return this.network.inside(command, args)
  }

  /** The real virsh against a host; resolves with its stdout. */
  async virsh(name: string, ...args: string[]): Promise<string> {
    return run('virsh', ['-q', '-c', this.host(name).uri, ...args])
  }

  /** Defines a guest from XML, which virsh reads from a file only. */
  async define(name: string, xml: string): Promise<void> {
    const file = join(this.directory, `define-${randomUUID()}.xml`)
    await writeFile(file, xml)
    await this.virsh(name, 'define', file)
    await rm(file)
  }

  /** Runs a command inside the host, in all its namespaces. */
  exec(name: string, command: readonly string[], options?: CommandOptions): Promise<string> {
    return this.machine(name).exec(command, options)
  }

  /** Pulls the plug: libvirtd, sshd and all guests are gone at once. `silent`: peers hear nothing, not even a reset. */
  async crash(name: string, { silent = false } = {}): Promise<void> {
    if (silent) await this.cutLink(name)
    await this.machine(name).kill()
  }

  /** Switches a crashed host on again, with the disks that it had and its link restored. */
  boot(name: string): Promise<void> {
    return this.machine(name).boot()
  }

  /** Ends the host's libvirtd with `signal` and waits until the next one answers. Guests go on. */
  restartLibvirtd(name: string, signal: 'TERM' | 'KILL' = 'TERM'): Promise<void> {
    return this.machine(name).restartLibvirtd(signal)
  }

  /** `STOP` makes the daemon hang as on a host under memory pressure, `CONT` lets it go on. */
  signalLibvirtd(name: string, signal: 'STOP' | 'CONT'): Promise<void> {
    return this.machine(name).signal('/run/libvirtd.pid', signal)
  }

  /** `STOP` freezes a guest's QEMU: calls to libvirt that ask it hang. */
  signalGuest(name: string, guest: string, signal: 'STOP' | 'CONT' | 'KILL'): Promise<void> {
    return this.machine(name).signal(`/run/libvirt/qemu/${guest}.pid`, signal)
  }

  /** Nothing passes between this host and the others any more; nobody is told. Its unix socket stays reachable. */
  async cutLink(name: string): Promise<void> {
    await this.network.cut(this.host(name).name)
  }

  async restoreLink(name: string): Promise<void> {
    await this.network.restore(this.host(name).name)
  }

  /** Everything off, everything removed. May be called twice. */
  stop(): Promise<void> {
    this.stopping ??= this.stopAll()
    return this.stopping
  }

  private async stopAll(): Promise<void> {
    await Promise.all(this.machines.map((machine) => machine.kill()))
    await this.network.stop()
    await rm(this.directory, { recursive: true, force: true, maxRetries: 5 })
  }
}

if (import.meta.main) {
  const hosts = await startHosts({ count: Number(process.argv[2] ?? 3) })
  for (const host of hosts.all) console.log(`virsh -c '${host.uri}'`)
  console.log(`shared directory: ${hosts.shared}`)
  const manager = hosts.asManager('sh')
  console.log(`the manager's network: ${manager.command} ${manager.args.join(' ')}`)
  console.log('Ctrl-C ends them.')
  await Promise.race([once(process, 'SIGINT'), once(process, 'SIGTERM')])
  await hosts.stop()
}

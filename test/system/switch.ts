// The network of the test hosts: a bridge in a network namespace without a name, in which the manager can run as well.
// It is gone with its process, and that with its parent. Names of hosts resolve there through an /etc/hosts of its own.

import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { run } from './command.ts'
import { expectLine } from './expect-line.ts'

const network = '10.77.0'
export const managerAddress = `${network}.254`

/** The address of the host with that number. */
export function hostAddress(index: number): string {
  return `${network}.${index}`
}

export class Switch {
  private child: ChildProcess | undefined

  /** `hostsFile` is the path of the file that becomes /etc/hosts in here. */
  async start(hostsFile: string): Promise<void> {
    const script = `mount --bind '${hostsFile}' /etc/hosts && echo ready && exec sleep infinity`
    const unshare = ['unshare', '--net', '--mount', '--propagation', 'private', 'sh', '-c', script]
    this.child = spawn('setpriv', ['--pdeathsig', 'KILL', ...unshare], { stdio: ['ignore', 'pipe', 'inherit'] })
    await expectLine(this.child, createInterface({ input: this.child.stdout! }), 'ready', 'the switch')
    await this.ip('link', 'set', 'lo', 'up')
    await this.ip('link', 'add', 'br0', 'type', 'bridge')
    await this.ip('addr', 'add', `${managerAddress}/24`, 'dev', 'br0')
    await this.ip('link', 'set', 'br0', 'up')
  }

  /** The command that runs `command` in here. Files and unix sockets are the machine's. */
  inside(command: string, args: readonly string[] = []): { command: string; args: string[] } {
    const pid = String(this.child?.pid)
    return { command: 'nsenter', args: ['--target', pid, '--net', '--mount', '--', command, ...args] }
  }

  private async ip(...args: string[]): Promise<void> {
    const inside = this.inside('ip', args)
    await run(inside.command, inside.args)
  }

  /** Gives the namespace of process `pid` an interface `eth0` with `address`, known here as `name`. */
  async plugIn(name: string, pid: number, address: string): Promise<void> {
    // A host has one card, whenever it is switched on: with another the others would look for the old one for a while.
    const card = `02:00:00:00:00:${address.split('.').at(-1)!.padStart(2, '0')}`
    await this.ip('link', 'add', name, 'type', 'veth', 'peer', 'name', 'eth0', 'address', card, 'netns', String(pid))
    await this.restore(name)
    await this.ip('link', 'set', name, 'up')
    const script = `ip link set lo up && ip addr add ${address}/24 dev eth0 && ip link set eth0 up`
    await run('nsenter', ['--target', String(pid), '--net', '--', 'sh', '-c', script])
  }

  /** The kernel takes a dead host's interface down in its own time; this frees the name at once. */
  async unplug(name: string): Promise<void> {
    await this.ip('link', 'del', name).catch(() => {})
  }

  /** Both ends keep their carrier: nobody is told that nothing passes any more. */
  async cut(name: string): Promise<void> {
    await this.ip('link', 'set', name, 'nomaster')
  }

  async restore(name: string): Promise<void> {
    await this.ip('link', 'set', name, 'master', 'br0')
  }

  async stop(): Promise<void> {
    const child = this.child
    if (!child || child.exitCode !== null || child.signalCode !== null) return
    const ended = once(child, 'exit')
    child.kill('SIGKILL')
    await ended
  }
}

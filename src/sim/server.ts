// The host's libvirtd: a listener on a unix socket, and the daemon's and the machine's ups and downs.

import { rmSync } from 'node:fs'
import { createServer, type Server, type Socket } from 'node:net'
import type { SimHost } from './host.ts'
import { JobLock } from './job.ts'
import { boot } from './lifecycle.ts'
import { Session } from './session.ts'

export class SimServer {
  readonly host: SimHost
  readonly #path: string
  #server: Server | null = null
  /** Connections of a machine that went silent: closed when it comes back or the simulation ends. */
  readonly #silent: Socket[] = []

  constructor(host: SimHost) {
    this.host = host
    this.#path = host.settings.socketPath
  }

  /** Listens. A second start does nothing. */
  async start(): Promise<void> {
    if (this.#server) return
    rmSync(this.#path, { force: true })
    const server = createServer((socket) => void new Session(this.host, socket))
    this.#server = server
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject)
      server.listen({ path: this.#path, backlog: 511 }, resolve)
    })
    server.on('error', () => {})
  }

  /** Ends the daemon; guests live on, calls under way are lost. */
  async stop(): Promise<void> {
    const server = this.#server
    this.#server = null
    for (const session of this.host.sessions) session.drop(false)
    for (const socket of this.#silent.splice(0)) socket.destroy()
    if (server) await new Promise<void>((resolve) => server.close(() => resolve()))
    rmSync(this.#path, { force: true })
  }

  /** A restart of libvirtd: connections end, guests and definitions stay. */
  async restartDaemon(): Promise<void> {
    this.host.world.journal.add({
      host: this.host.name,
      kind: 'daemon_stopped',
      subject: this.host.uuid,
      name: this.host.name
    })
    await this.stop()
    for (const domain of this.host.domains.values()) {
      domain.job?.abort?.()
      domain.lock = new JobLock()
    }
    await this.start()
    this.host.world.journal.add({
      host: this.host.name,
      kind: 'daemon_started',
      subject: this.host.uuid,
      name: this.host.name
    })
  }

  /** Cuts the power. `silent`: peers are not told, as when the cable goes with it; else their connections are reset. */
  async powerOff(options: { silent?: boolean } = {}): Promise<void> {
    const { host } = this
    if (!host.powered) return
    host.powered = false
    for (const session of host.sessions) {
      if (options.silent) session.freeze()
      else session.drop(true)
    }
    const server = this.#server
    this.#server = null
    if (server && !options.silent) server.close()
    host.losePower()
    if (server && options.silent) server.close()
    rmSync(this.#path, { force: true })
  }

  /** Boots the machine: guests are off, but for those with autostart. */
  async boot(): Promise<void> {
    const { host } = this
    if (host.powered) return
    host.powered = true
    host.bootedAt = Date.now()
    host.note('host_boot', host)
    for (const pool of host.pools.values()) if (pool.autostart && !pool.active) pool.start(host)
    for (const network of host.networks.values()) network.active = network.autostart
    for (const domain of host.domains.values())
      if (domain.autostart && domain.persistent)
        await boot(host, domain, domain.persistent, { paused: false }).catch((error: Error) =>
          host.note('fault', domain, { detail: `autostart: ${error.message}` })
        )
    await this.start()
  }
}

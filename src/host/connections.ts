// The hosts of the fleet, each with its link. Which hosts there are is told from outside; nothing here reads the inventory.
import { HostError } from './error.ts'
import type { Host, Hosts } from './host.ts'
import { LibvirtHost } from './libvirt-host.ts'
import { HostLink, type LinkOptions, type LinkState } from './link.ts'

export type HostTarget = {
  name: string
  controlUri: string
  /** The machine that must answer. */
  uuid: string | null
}

export type HostConnectionsOptions = Omit<LinkOptions, 'onState'>

type Entry = { target: HostTarget; link: HostLink; host: LibvirtHost; state: LinkState | undefined }

export class HostConnections implements Hosts {
  readonly #options: HostConnectionsOptions
  readonly #entries = new Map<string, Entry>()
  readonly #hearers = new Set<(host: string, state: LinkState) => void>()
  #started = false
  #stopped = false

  constructor(options: HostConnectionsOptions = {}) {
    this.#options = options
  }

  /** Connects to every host, now and as they are added. May be called twice. */
  start(): void {
    this.#started = true
    for (const { link } of this.#entries.values()) link.start()
  }

  /** Ends all connections. May be called twice. */
  async stop(): Promise<void> {
    this.#stopped = true
    await Promise.all([...this.#entries.values()].map(({ link }) => link.stop()))
    this.#entries.clear()
  }

  /** Adds, removes and re-addresses hosts until these are the ones there are. A host that stays keeps its connections. */
  setHosts(targets: readonly HostTarget[]): void {
    if (this.#stopped) return
    const wanted = new Map(targets.map((target) => [target.name, target]))
    for (const [name, { target, link }] of this.#entries) {
      const now = wanted.get(name)
      if (now && now.controlUri === target.controlUri && now.uuid === target.uuid) continue
      this.#entries.delete(name)
      void link.stop()
    }
    for (const target of targets) if (!this.#entries.has(target.name)) this.#add(target)
  }

  #add(target: HostTarget): void {
    const link = new HostLink(target, {
      ...this.#options,
      onState: (state) => {
        if (this.#entries.get(target.name)?.link !== link) return
        entry.state = state
        for (const hearer of this.#hearers) hearer(target.name, state)
      }
    })
    const entry: Entry = { target, link, host: new LibvirtHost(link), state: undefined }
    this.#entries.set(target.name, entry)
    if (this.#started) link.start()
  }

  names(): string[] {
    return [...this.#entries.keys()]
  }

  host(name: string): Host {
    const entry = this.#entries.get(name)
    if (!entry) throw new HostError('unknown_host', name, `there is no host ${JSON.stringify(name)}`)
    return entry.host
  }

  /** undefined: not heard from yet, or there is no such host. */
  state(name: string): LinkState | undefined {
    return this.#entries.get(name)?.state
  }

  /** Calls back whenever a host comes up or goes down; returns a function that ends it. */
  onState(callback: (host: string, state: LinkState) => void): () => void {
    const own = (host: string, state: LinkState) => callback(host, state)
    this.#hearers.add(own)
    return () => this.#hearers.delete(own)
  }

  /**
   * A connection of its own to a host that is not among these: one that is about to be added, or is looked over.
   * @throws HostError `unreachable` or `bad_input` when it cannot be had
   */
  connect(address: { name: string; controlUri: string }): Promise<{ host: Host; close: () => Promise<void> }> {
    return connectHost(address, this.#options)
  }
}

/** A host by its address alone, whatever machine answers. */
export async function connectHost(
  address: { name: string; controlUri: string },
  options: HostConnectionsOptions = {}
): Promise<{ host: Host; close: () => Promise<void> }> {
  const link = new HostLink({ ...address, uuid: null }, options)
  link.start()
  try {
    await link.basics()
  } catch (error) {
    await link.stop()
    throw error
  }
  return { host: new LibvirtHost(link), close: () => link.stop() }
}

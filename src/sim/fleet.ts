// A fleet of simulated hosts in one process: their sockets, what they share, and the network between them.

import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { SimHost, type Surroundings } from './host.ts'
import type { SimHostOptions } from './host-options.ts'
import { Journal } from './journal.ts'
import { addNetwork } from './network-calls.ts'
import { refuse } from './refusal.ts'
import { loseSource } from './migration.ts'
import { SimServer } from './server.ts'
import { SimStore } from './store.ts'

export type SharedStore = {
  name: string
  /** Where it appears on the hosts; a `dir` pool there shows it. */
  path: string
  /** `file` (default) has QEMU's image lock, `block` has none. */
  kind?: 'file' | 'block'
  capacityBytes?: bigint
  /** Names of the hosts that have it; all where not given. */
  hosts?: string[]
}

export type SimFleetOptions = {
  /** A directory for the sockets; made if missing. Paths of unix sockets are short: keep it under about 80 characters. */
  dir: string
  /** Their number (then h1, h2 …) or their names. */
  hosts: number | string[]
  sharedStores?: SharedStore[]
  /** Makes the chances of faults follow from it. */
  seed?: number
  /** Options of single hosts, by name. */
  perHost?: Record<string, Partial<SimHostOptions>>
} & Omit<Partial<SimHostOptions>, 'name' | 'socketPath' | 'uuid'>

/** A host with its daemon: state, and the ups and downs of the machine. */
export type FleetHost = SimHost & { readonly server: SimServer }

export class SimFleet implements Surroundings {
  readonly journal = new Journal()
  readonly hosts: FleetHost[] = []
  readonly stores = new Map<string, SimStore>()
  readonly #remote = new Map<string, SimStore>()
  readonly #cut = new Set<string>()

  /** Control URIs by host name, for libvirt clients such as `virsh -c`. */
  get uris(): Record<string, string> {
    return Object.fromEntries(this.hosts.map((host) => [host.name, host.uri]))
  }

  host(name: string): FleetHost {
    const host = this.hosts.find((other) => other.name === name)
    if (!host) throw new Error(`the simulated fleet has no host ${name}`)
    return host
  }

  /** Adds and starts a host; a fleet can grow. */
  async add(options: SimHostOptions): Promise<FleetHost> {
    const plain = new SimHost(options, this)
    const host: FleetHost = Object.assign(plain, { server: new SimServer(plain) })
    for (const network of host.settings.networks) addNetwork(host, network)
    this.hosts.push(host)
    await host.server.start()
    return host
  }

  /** Stops everything. Tolerates a second call. */
  async stop(): Promise<void> {
    for (const host of this.hosts) {
      host.cancelAll()
      await host.server.stop()
    }
  }

  // The ups and downs of a host

  /** Cuts a host's power; `silent`: without a word to its peers. Arriving and leaving migrations fail. */
  async powerOff(name: string, options: { silent?: boolean } = {}): Promise<void> {
    const host = this.host(name)
    await host.server.powerOff(options)
    for (const other of this.hosts) {
      this.#breakMigrations(other, name)
      loseSource(other, name)
    }
  }

  /** Boots a host that has no power. */
  boot(name: string): Promise<void> {
    return this.host(name).server.boot()
  }

  /** Restarts a host's libvirtd: its clients are dropped, its guests live. */
  restartDaemon(name: string): Promise<void> {
    return this.host(name).server.restartDaemon()
  }

  // The network between the hosts

  /** Cuts the link between two hosts: peer-to-peer migrations between them fail, and none can begin. */
  partition(a: string, b: string): void {
    this.#cut.add(linkOf(a, b))
    this.#breakMigrations(this.host(a), b)
    this.#breakMigrations(this.host(b), a)
  }

  #breakMigrations(from: SimHost, to: string): void {
    for (const domain of from.domains.values())
      if (domain.migratingTo === to)
        domain.job?.fail(refuse('OPERATION_FAILED', 'QEMU', 'migration out job: unexpectedly failed'))
  }

  /** Joins two hosts again. */
  heal(a: string, b: string): void {
    this.#cut.delete(linkOf(a, b))
  }

  linked(a: string, b: string): boolean {
    return !this.#cut.has(linkOf(a, b))
  }

  hostByUri(uri: string): SimHost | undefined {
    const socket = /[?&]socket=([^&]*)/.exec(uri)?.[1]
    if (socket !== undefined) {
      const path = decodeURIComponent(socket)
      return this.hosts.find((host) => host.settings.socketPath === path)
    }
    const name = /^[a-z+]+:\/\/(?:[^@/]*@)?([^/:]+)/.exec(uri)?.[1]
    return this.hosts.find((host) => host.name === name)
  }

  remoteStore(source: string): SimStore {
    const known = this.#remote.get(source)
    if (known) return known
    const kind = source.startsWith('iscsi') || source.startsWith('rbd') || source === 'network disks' ? 'block' : 'file'
    const made = new SimStore(source, this.journal, { shared: true, kind })
    this.#remote.set(source, made)
    return made
  }
}

const linkOf = (a: string, b: string): string => (a < b ? `${a} ${b}` : `${b} ${a}`)

/** Starts a fleet of simulated hosts. Each listens on `DIR/NAME.sock`; reach them with `fleet.uris`. */
export async function startSimFleet(options: SimFleetOptions): Promise<SimFleet> {
  const { dir, hosts, sharedStores = [], seed, perHost = {}, ...common } = options
  mkdirSync(dir, { recursive: true })
  const names = typeof hosts === 'number' ? Array.from({ length: hosts }, (_, index) => `h${index + 1}`) : hosts
  const fleet = new SimFleet()
  for (const shared of sharedStores)
    fleet.stores.set(shared.name, new SimStore(shared.name, fleet.journal, { ...shared, shared: true }))
  for (const [index, name] of names.entries()) {
    const host = await fleet.add({ ...common, ...perHost[name], name, socketPath: join(dir, `${name}.sock`) })
    if (seed !== undefined) host.faults.seed(seed + index)
    for (const shared of sharedStores) {
      const store = fleet.stores.get(shared.name)
      if (store && (shared.hosts ?? names).includes(name)) host.mount(shared.path, store)
    }
  }
  return fleet
}

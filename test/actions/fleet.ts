// A fleet made by hand, for tests of actions' pure functions: name what matters, the rest is plausible.
import type { JsonObject } from '../../src/db/json.ts'
import type {
  HostFacts,
  NetworkFacts,
  PlacedDisk,
  PoolFacts,
  StoreFacts,
  VmFacts,
  VolumeFacts
} from '../../src/inventory/facts.ts'
import { FleetState, type Overlay } from '../../src/inventory/fleet-state.ts'
import { resource } from '../../src/model/resource.ts'

/** What was not put in does not exist: nothing is ever "not loaded". */
class Everything extends Map<string, JsonObject | null> {
  override get(subject: string): JsonObject | null {
    return super.get(subject) ?? null
  }

  override has(): boolean {
    return true
  }
}

type Facts = HostFacts | VmFacts | PoolFacts | StoreFacts | VolumeFacts | NetworkFacts

export const uuidOf = (n: number): string => `00000000-0000-4000-8000-${String(n).padStart(12, '0')}`

export class Fleet {
  readonly #facts = new Everything()

  put(subject: string, facts: Facts | JsonObject): this {
    this.#facts.set(subject, facts)
    return this
  }

  host(name: string, more: Partial<HostFacts> = {}): this {
    return this.put(resource.host(name), { ...host(name), ...more })
  }

  /** An active directory pool, and a store for it: HOST/POOL unless `store` names one. */
  pool(hostName: string, name: string, more: Partial<PoolFacts> = {}): this {
    const facts = { ...pool(hostName, name), ...more }
    const known = this.#facts.get(resource.store(facts.store)) as unknown as StoreFacts | null
    const { target, active } = facts
    return this.put(resource.pool(hostName, name), facts).put(resource.store(facts.store), {
      name: facts.store,
      shared: facts.store !== `${hostName}/${name}`,
      type: facts.type,
      rawPercent: 100,
      thinPercent: 25,
      pools: { ...known?.pools, [hostName]: { pool: name, target, active } }
    })
  }

  volume(store: string, name: string, more: Partial<VolumeFacts> = {}): this {
    return this.put(resource.volume(store, name), { ...volume(store, name), ...more })
  }

  network(hostName: string, name: string, more: Partial<NetworkFacts> = {}): this {
    return this.put(resource.network(hostName, name), { host: hostName, name, active: true, bridge: 'virbr0', ...more })
  }

  vm(n: number, more: Partial<VmFacts> = {}): this {
    const facts = { ...vm(n), ...more }
    const homes = this.#facts.get(resource.vmName(facts.name)) ?? {}
    return this.put(resource.vm(facts.uuid), facts).put(resource.vmName(facts.name), {
      ...homes,
      [facts.uuid]: facts.home
    })
  }

  /** As predicted at submission, with effects of open tasks laid over. */
  queued(...effects: Overlay[]): FleetState {
    const overlays = new Map<string, Overlay[]>()
    for (const effect of effects) overlays.set(effect.subject, [...(overlays.get(effect.subject) ?? []), effect])
    return new FleetState({ phase: 'queued', base: this.#facts, overlays })
  }

  /** As observed when the task starts, bound to a host. */
  starting(boundHost: string | null): FleetState {
    return new FleetState({ phase: 'starting', base: this.#facts, boundHost })
  }
}

const host = (name: string): HostFacts => ({
  name,
  uuid: `host-${name}`,
  controlUri: `qemu+tls://${name}/system`,
  peerUri: `qemu+tls://${name}/system`,
  migrationUri: null,
  connection: 'up',
  connectionReason: null,
  cordoned: false,
  cordonReason: null,
  inMaintenance: false,
  maintenanceSince: null,
  confirmedOff: null,
  unreconciled: false,
  arch: 'x86_64',
  domainType: 'kvm',
  emulator: '/usr/bin/qemu-system-x86_64',
  machine: 'q35',
  cpus: 8,
  memoryMiB: 16_384,
  definitions: 0,
  activeVms: 0,
  committedMiB: 0
})

const pool = (hostName: string, name: string): PoolFacts => ({
  host: hostName,
  name,
  uuid: `pool-${hostName}-${name}`,
  type: 'dir',
  store: `${hostName}/${name}`,
  target: `/srv/${name}`,
  active: true,
  autostart: true,
  capacityBytes: 1e12,
  availableBytes: 9e11
})

const volume = (store: string, name: string): VolumeFacts => ({
  store,
  name,
  path: `/srv/${store.split('/').at(-1)}/${name}`,
  format: 'qcow2',
  capacityBytes: 1024 ** 3,
  allocationBytes: 0,
  backing: null,
  usedBy: []
})

/** `web1` (n = 1) … off on h1, without disks. */
const vm = (n: number): VmFacts => ({
  uuid: uuidOf(n),
  name: `web${n}`,
  home: 'h1',
  activeOn: null,
  power: 'off',
  reason: 'shutdown',
  persistent: true,
  autostart: false,
  hasSavedImage: false,
  memoryMiB: 1024,
  maxMemoryMiB: 1024,
  vcpus: 1,
  disks: [],
  nics: [],
  snapshots: [],
  owner: 'ours',
  elsewhere: {},
  job: null,
  observedAt: '2030-01-01T00:00:00.000Z'
})

export const disk = (store: string, name: string, more: Partial<PlacedDisk> = {}): PlacedDisk => ({
  target: 'vda',
  device: 'disk',
  kind: 'file',
  source: `/srv/${store.split('/').at(-1)}/${name}`,
  format: 'qcow2',
  bus: 'virtio',
  readOnly: false,
  shareable: false,
  store,
  volume: name,
  ...more
})

export const running = { power: 'running', reason: 'booted', activeOn: 'h1' } as const

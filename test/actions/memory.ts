// An inventory in memory: what was observed, by whom it was asked to be recorded, as facts. Only for tests of actions.
import type {
  HostFacts,
  ImageFacts,
  PoolFacts,
  StartsWithHost,
  StoreFacts,
  VmFacts,
  VolumeFacts
} from '../../src/inventory/facts.ts'
import type { DumpedSnapshot } from '../../src/host/snapshots.ts'
import type { HostIdentity } from '../../src/model/host.ts'
import { parseResource } from '../../src/model/resource.ts'
import type { ObservedNetwork, ObservedPool } from '../../src/model/storage.ts'
import { isActive, type ObservedVm } from '../../src/model/vm.ts'

export type Known = {
  name: string
  uuid: string
  controlUri: string
  peerUri: string | null
  migrationUri: string | null
}
export type Sighting = { state: 'active' | 'defined' | 'absent' | 'unknown'; vm: ObservedVm | undefined }

/** What was observed, by whom it was asked to be recorded; nothing else is known. */
export class Memory {
  readonly hosts = new Map<string, Known>()
  readonly identities = new Map<string, HostIdentity>()
  readonly confirmedOff = new Map<string, string>()
  readonly cordons = new Map<string, string>()
  readonly whereabouts = new Map<string, Map<string, Sighting>>()
  readonly pools = new Map<string, ObservedPool>()
  readonly networks = new Map<string, ObservedNetwork>()
  readonly shares = new Map<string, string>()
  readonly images = new Map<string, ImageFacts>()
  /** VM → host that has an image which may be restored. */
  readonly saved = new Map<string, string>()
  readonly pendingEdits = new Map<string, string>()
  readonly edits = new Map<string, { xml: string; editedDigest: string | null }>()
  readonly autostarts = new Map<string, StartsWithHost>()
  readonly kept: { uuid: string; host: string; xml: string }[] = []
  readonly keptSnapshots = new Map<string, DumpedSnapshot[]>()

  sighted(uuid: string, host: string, vm: ObservedVm | undefined): void {
    const places = this.whereabouts.get(uuid) ?? new Map<string, Sighting>()
    this.whereabouts.set(uuid, places)
    if (vm && isActive(vm.power)) this.saved.delete(uuid)
    places.set(host, { state: vm ? (isActive(vm.power) ? 'active' : 'defined') : 'absent', vm })
  }

  storeOf = (host: string, pool: string): string => this.shares.get(`${host}/${pool}`) ?? `${host}/${pool}`

  facts(subject: string): object | null {
    const { kind, parts } = parseResource(subject) ?? { kind: undefined, parts: [] }
    const [first = '', second = ''] = parts
    if (kind === 'vm') return this.#vm(first)
    if (kind === 'vm-name') return this.#homes(first)
    if (kind === 'host') return this.#host(first)
    if (kind === 'pool') return this.#pool(first, second)
    if (kind === 'store') return this.#store(first)
    if (kind === 'volume') return this.#volume(first, second)
    if (kind === 'image') return this.images.get(first) ?? null
    if (kind === 'mac') return this.#mac(first)
    if (kind === 'network') return this.networks.get(`${first}/${second}`) ?? null
    return null
  }

  #vm(uuid: string): VmFacts | null {
    const places = [...(this.whereabouts.get(uuid) ?? [])].filter(([, { vm }]) => vm !== undefined)
    const active = places.find(([, { state }]) => state === 'active')
    const home = active ?? places[0]
    const vm = home?.[1].vm
    if (!home || !vm) return null
    const elsewhere: VmFacts['elsewhere'] = {}
    for (const [host, { state }] of places) if (host !== home[0] && state !== 'absent') elsewhere[host] = state
    const disks = vm.disks.map((disk) => {
      const at = disk.source?.lastIndexOf('/') ?? -1
      const [dir, file] = [disk.source?.slice(0, at), disk.source?.slice(at + 1) ?? null]
      const pool = [...this.pools].find(([key, { target }]) => key.startsWith(`${home[0]}/`) && target === dir)?.[1]
      return { ...disk, store: pool ? this.storeOf(home[0], pool.name) : null, volume: pool ? file : null }
    })
    const overlays = [...this.pools]
      .filter(([key]) => key.startsWith(`${home[0]}/`))
      .flatMap(([, pool]) => pool.volumes)
    const overlaid = vm.disks.flatMap(({ target, source }) =>
      overlays.some(({ backing }) => backing !== null && backing === source) ? [target] : []
    )
    const { foreignMetadata, mark, ...rest } = vm
    const owner = mark ? 'ours' : foreignMetadata.length > 0 ? 'foreign' : 'plain'
    const restorable = vm.hasSavedImage && this.saved.get(uuid) === home[0]
    const startsWithHost = this.autostarts.get(uuid) ?? null
    return {
      ...rest,
      restorable,
      startsWithHost,
      home: home[0],
      activeOn: active?.[0] ?? null,
      disks,
      owner,
      elsewhere,
      ...(overlaid.length > 0 ? { overlaid } : {}),
      observedAt: null
    }
  }

  #homes(name: string): object | null {
    const found = [...this.whereabouts.keys()].map((uuid) => this.#vm(uuid)).filter((vm) => vm?.name === name)
    return found.length > 0 ? Object.fromEntries(found.map((vm) => [vm?.uuid, vm?.home])) : null
  }

  #mac(mac: string): object | null {
    const found = [...this.whereabouts.keys()]
      .map((uuid) => this.#vm(uuid))
      .filter((vm) => vm?.nics.some((nic) => nic.mac === mac))
    return found.length > 0 ? Object.fromEntries(found.map((vm) => [vm?.uuid, vm?.name])) : null
  }

  #host(name: string): HostFacts | null {
    const known = this.hosts.get(name)
    if (!known) return null
    const seen = this.identities.get(name)
    const vms = [...this.whereabouts.keys()].map((uuid) => this.#vm(uuid)).filter((vm) => vm?.home === name)
    return {
      ...known,
      connection: 'up',
      connectionReason: null,
      cordoned: this.cordons.has(name),
      cordonReason: this.cordons.get(name) ?? null,
      inMaintenance: false,
      maintenanceSince: null,
      confirmedOff: this.confirmedOff.get(name) ?? null,
      unreconciled: false,
      arch: seen?.arch ?? null,
      domainType: seen?.domainType ?? null,
      emulator: seen?.emulator ?? null,
      machine: seen?.machine ?? null,
      cpus: seen?.cpus ?? 0,
      memoryMiB: seen?.memoryMiB ?? 0,
      definitions: vms.length,
      activeVms: vms.filter((vm) => vm?.activeOn === name).length,
      committedMiB: 0
    }
  }

  #pool(host: string, name: string): PoolFacts | null {
    const pool = this.pools.get(`${host}/${name}`)
    return pool ? { ...pool, host, store: this.storeOf(host, name) } : null
  }

  #store(name: string): StoreFacts | null {
    const members = [...this.pools].filter(([key]) => this.storeOf(...split(key)) === name)
    const type = members[0]?.[1].type
    if (type === undefined) return null
    const pools = members.map(
      ([key, { name: pool, target, active }]) => [split(key)[0], { pool, target, active }] as const
    )
    const counted = { rawPercent: 100, thinPercent: 25 }
    return { name, shared: !name.includes('/'), type, ...counted, pools: Object.fromEntries(pools) }
  }

  #volume(store: string, name: string): VolumeFacts | null {
    for (const [key, pool] of this.pools) {
      const volume = pool.volumes.find((candidate) => candidate.name === name)
      if (!volume || this.storeOf(...split(key)) !== store) continue
      const users = [...this.whereabouts].filter(([, places]) =>
        [...places.values()].some(({ vm }) => vm?.disks.some(({ source }) => source === volume.path))
      )
      const image = [...this.images.values()].find((known) => known.store === store && known.volume === name)
      return { ...volume, store, usedBy: users.map(([uuid]) => uuid), image: image?.name ?? null }
    }
    return null
  }
}

export const split = (key: string): [string, string] => {
  const at = key.indexOf('/')
  return [key.slice(0, at), key.slice(at + 1)]
}

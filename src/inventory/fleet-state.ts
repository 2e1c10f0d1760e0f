// What an action's pure functions see of the fleet: facts by subject, observed or predicted.
// Reading is synchronous and recorded. A subject that is not loaded yet throws NotLoaded; whoever evaluates the action
// (evaluate.ts in src/actions) loads what is missing, for a whole plan at once, and asks again. So actions need not
// declare what they read, and what they read is known exactly.
import type { JsonObject } from '../db/json.ts'
import type {
  HostFacts,
  ImageFacts,
  MacFacts,
  NetworkFacts,
  PoolFacts,
  StoreFacts,
  VmFacts,
  VmNameFacts,
  VolumeFacts
} from './facts.ts'
import { resource } from '../model/resource.ts'

export class NotLoaded extends Error {
  override readonly name = 'NotLoaded'
  readonly subjects: readonly string[]
  constructor(subjects: readonly string[]) {
    super(`facts of ${subjects.slice(0, 5).join(', ')} are not loaded`)
    this.subjects = subjects
  }
}

/** Facts laid over a subject by one task; null ends the subject. */
export type Overlay = { task: number | string; title: string; subject: string; facts: JsonObject | null }

export type FleetPhase = 'queued' | 'starting'

export class FleetState {
  /** `queued`: predicted, at submission. `starting`: observed, just before the task runs. */
  readonly phase: FleetPhase
  /** The host that the task is bound to when it starts; null at submission. */
  readonly boundHost: string | null
  /** The host that the task brings a VM to, as bound; else null. */
  readonly boundTarget: string | null
  readonly #base: ReadonlyMap<string, JsonObject | null>
  readonly #overlays: ReadonlyMap<string, readonly Overlay[]>
  readonly #without: number | string | undefined
  readonly #reads = new Set<string>()

  constructor(options: {
    phase: FleetPhase
    base: ReadonlyMap<string, JsonObject | null>
    overlays?: ReadonlyMap<string, readonly Overlay[]>
    /** Leaves out one task's effects: is the request possible without it? */
    without?: number | string
    boundHost?: string | null
    boundTarget?: string | null
  }) {
    this.phase = options.phase
    this.#base = options.base
    this.#overlays = options.overlays ?? new Map()
    this.#without = options.without
    this.boundHost = options.boundHost ?? null
    this.boundTarget = options.boundTarget ?? null
  }

  /** Subjects read so far. */
  get reads(): ReadonlySet<string> {
    return this.#reads
  }

  /** The facts of a subject after the open tasks; undefined when there is no such thing. */
  facts(subject: string): JsonObject | undefined {
    this.#reads.add(subject)
    const base = this.#base.get(subject)
    if (base === undefined) throw new NotLoaded([subject])
    let folded: JsonObject | null = base
    for (const overlay of this.#overlays.get(subject) ?? []) {
      if (overlay.task === this.#without) continue
      folded = lay(folded, overlay, subject)
    }
    return folded ?? undefined
  }

  // Stored JSON is taken for typed facts here and nowhere else: the inventory and the actions' effects write them typed.
  /** Says what will be read next, so that it is loaded in one go: for lists whose length nobody bounds. */
  need(subjects: readonly string[]): void {
    const missing = subjects.filter((subject) => !this.#base.has(subject))
    if (missing.length > 0) throw new NotLoaded(missing)
  }

  vm(uuid: string): VmFacts | undefined {
    return this.facts(resource.vm(uuid)) as unknown as VmFacts | undefined
  }

  /** Every VM of that name, with its home; a fleet that was adopted may have several. */
  vmsNamed(name: string): VmFacts[] {
    const byUuid = (this.facts(resource.vmName(name)) as unknown as VmNameFacts | undefined) ?? {}
    const uuids = Object.entries(byUuid).flatMap(([uuid, home]) => (home === null ? [] : [uuid]))
    this.need(uuids.map((uuid) => resource.vm(uuid)))
    return uuids.map((uuid) => this.vm(uuid)).filter((vm): vm is VmFacts => vm !== undefined && vm.name === name)
  }

  host(name: string): HostFacts | undefined {
    return this.facts(resource.host(name)) as unknown as HostFacts | undefined
  }

  pool(host: string, pool: string): PoolFacts | undefined {
    return this.facts(resource.pool(host, pool)) as unknown as PoolFacts | undefined
  }

  store(store: string): StoreFacts | undefined {
    return this.facts(resource.store(store)) as unknown as StoreFacts | undefined
  }

  volume(store: string, volume: string): VolumeFacts | undefined {
    return this.facts(resource.volume(store, volume)) as unknown as VolumeFacts | undefined
  }

  image(name: string): ImageFacts | undefined {
    return this.facts(resource.image(name)) as unknown as ImageFacts | undefined
  }

  /** VMs that have a card with the address, by UUID. */
  vmsWithMac(mac: string): Map<string, string> {
    const byUuid = (this.facts(resource.mac(mac)) as unknown as MacFacts | undefined) ?? {}
    return new Map(Object.entries(byUuid).flatMap(([uuid, name]) => (name === null ? [] : [[uuid, name] as const])))
  }

  network(host: string, network: string): NetworkFacts | undefined {
    return this.facts(resource.network(host, network)) as unknown as NetworkFacts | undefined
  }
}

/** Changed facts say nothing of a subject that does not exist: only facts that name it bring it into being. */
function lay(facts: JsonObject | null, overlay: Overlay, subject: string): JsonObject | null {
  if (overlay.facts === null) return null
  const makes = 'name' in overlay.facts || subject.startsWith('vm-name/') || subject.startsWith('mac/')
  return facts === null && !makes ? null : { ...facts, ...overlay.facts }
}

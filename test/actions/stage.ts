// Actions run against simulated hosts through the real host layer, with an inventory in memory in place of the database:
// what a task would see is what was last observed, and a task is bound, checked and run as the dispatcher does it.
import { randomUUID } from 'node:crypto'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import type { Action, ActionContext, Observer, Outcome, Probe, Verdict } from '../../src/actions/action.ts'
import type { Json, JsonObject } from '../../src/db/json.ts'
import { HostConnections } from '../../src/host/connections.ts'
import { HostError } from '../../src/host/error.ts'
import { InventoryError } from '../../src/inventory/error.ts'
import type { VmFacts } from '../../src/inventory/facts.ts'
import { FleetState } from '../../src/inventory/fleet-state.ts'
import { Staging } from '../../src/staging/staging.ts'
import { startSimFleet, type SimFleet, type SimFleetOptions } from '../../src/sim/fleet.ts'
import { refuseTwoWriters } from '../support/two-writers.ts'
import { Memory, split, type Known, type Sighting } from './memory.ts'

const instance = '1f0c93ab-0000-4000-8000-000000000000'

export type Ran = {
  outcome: Outcome
  steps: string[]
  logs: string[]
  progress: { done: number; total: number | null }[]
}

/** Hosts of whatever kind, reached through the real host layer. */
export class AnyStage {
  readonly hosts: HostConnections
  readonly memory = new Memory()
  /** Made when the first bytes are kept. */
  readonly stagingDirectory = join(tmpdir(), `act-staging-${randomUUID()}`)
  readonly staging = new Staging({ directory: this.stagingDirectory })
  #task = 40
  #macs = 0

  constructor(hosts: HostConnections) {
    this.hosts = hosts
  }

  /** Hosts are known and everything that they have; each has the shared directory as pool `nfs1`, all of them one store. */
  async prepare(known: readonly Known[], shared: string): Promise<void> {
    for (const host of known) this.memory.hosts.set(host.name, host)
    this.hosts.setHosts(known)
    this.hosts.start()
    for (const name of this.memory.hosts.keys()) {
      await this.hosts.host(name).definePool({ name: 'nfs1', type: 'dir', target: shared })
      await this.hosts.host(name).setPoolAutostart('nfs1', true)
      this.memory.shares.set(`${name}/nfs1`, 'nfs1')
    }
    await this.relist()
  }

  /** As the watchers do on every (re)connect; hosts that are down keep what was known. */
  async relist(): Promise<void> {
    for (const host of this.memory.hosts.keys()) {
      try {
        await this.observer.host(host)
      } catch (error) {
        if (!(error instanceof HostError)) throw error
      }
    }
  }

  /** A host whose connection was cut is connected to again. */
  async reachable(host: string): Promise<void> {
    for (let tries = 0; ; tries++) {
      try {
        await this.hosts.host(host).vmByName('')
        return
      } catch (error) {
        if (!(error instanceof HostError) || error.code !== 'unreachable' || tries > 200) throw error
        await delay(20)
      }
    }
  }

  readonly observer: Observer = {
    vm: async (host, uuid) => this.memory.sighted(uuid, host, await this.hosts.host(host).vm(uuid)),
    follow: (host, uuid) => ({
      until: async (holds, options) => {
        const seen = await this.hosts.host(host).untilVm(uuid, holds, options)
        this.memory.sighted(uuid, host, seen)
        return seen
      },
      end: () => {}
    }),
    pool: async (host, name) => {
      const pool = await this.hosts.host(host).pool(name)
      if (pool) this.memory.pools.set(`${host}/${name}`, pool)
      else this.memory.pools.delete(`${host}/${name}`)
    },
    host: async (host) => {
      const handle = this.hosts.host(host)
      this.memory.identities.set(host, await handle.identify())
      const { vms, pools, networks } = await handle.list()
      for (const [uuid, places] of this.memory.whereabouts)
        if (places.has(host)) this.memory.sighted(uuid, host, undefined)
      for (const vm of vms) this.memory.sighted(vm.uuid, host, vm)
      for (const key of this.memory.pools.keys()) if (split(key)[0] === host) this.memory.pools.delete(key)
      for (const pool of pools) this.memory.pools.set(`${host}/${pool.name}`, pool)
      for (const network of networks) this.memory.networks.set(`${host}/${network.name}`, network)
    },
    forgetHost: async (host) => {
      this.memory.hosts.delete(host)
      for (const places of this.memory.whereabouts.values()) places.delete(host)
      this.hosts.setHosts([...this.memory.hosts.values()])
      return []
    },
    addHost: async ({ name, uuid: machine, controlUri, peerUri, migrationUri }) => {
      const host = { name, uuid: machine, controlUri, peerUri, migrationUri }
      const twin = [...this.memory.hosts.values()].find((known) => (known.name === name) !== (known.uuid === machine))
      if (twin) throw new InventoryError('duplicate_host', `the machine ${host.uuid} is ${twin.name}`)
      this.memory.hosts.set(host.name, host)
      this.hosts.setHosts([...this.memory.hosts.values()])
    },
    setLabels: async () => {},
    setLimit: async () => null,
    setStore: async () => null,
    setCordon: async (host, cordon) => {
      if (cordon) this.memory.cordons.set(host, cordon.reason)
      else this.memory.cordons.delete(host)
    },
    confirmOff: async (host, { reason }) => {
      this.memory.confirmedOff.set(host, reason)
      this.memory.cordons.set(host, reason)
      return true
    },
    isConfirmedOff: async (host) => this.memory.confirmedOff.has(host),
    leaveBehind: async (uuid, host) => this.memory.whereabouts.get(uuid)?.delete(host) ?? false,
    setImage: async (name, image) => {
      if (image) this.memory.images.set(name, { ...image, name, addedAt: null })
      else this.memory.images.delete(name)
    },
    shareStore: async (store, pools) => {
      for (const { host, pool } of pools) this.memory.shares.set(`${host}/${pool}`, store)
    },
    whereabouts: async (uuid) =>
      [...(this.memory.whereabouts.get(uuid) ?? [])].map(([host, { state }]) => ({ host, state })),
    vmFacts: async (uuid) => (this.memory.facts(`vm/${uuid}`) ?? undefined) as VmFacts | undefined,
    bindWhereabouts: async (uuid, host) => {
      const places = this.memory.whereabouts.get(uuid) ?? new Map<string, Sighting>()
      this.memory.whereabouts.set(uuid, places)
      if (!places.has(host)) places.set(host, { state: 'unknown', vm: undefined })
    },
    keepDefinition: async (uuid, host, xml) => void this.memory.kept.push({ uuid, host, xml }),
    keepSnapshots: async (uuid, _, snapshots) => {
      const before = this.memory.keptSnapshots.get(uuid) ?? []
      const others = before.filter(({ name }) => !snapshots.some((snapshot) => snapshot.name === name))
      this.memory.keptSnapshots.set(uuid, [...others, ...snapshots])
    },
    keptSnapshots: async (uuid) => this.memory.keptSnapshots.get(uuid) ?? [],
    dropKeptSnapshots: async (uuid) => void this.memory.keptSnapshots.delete(uuid),
    keptDefinition: async (uuid) => this.memory.kept.findLast((kept) => kept.uuid === uuid),
    keepBeforeEdit: async (uuid, _host, xml) => void this.memory.pendingEdits.set(uuid, xml),
    noteEdited: async (uuid, editedDigest) => {
      const xml = this.memory.pendingEdits.get(uuid) ?? this.memory.edits.get(uuid)?.xml
      this.memory.pendingEdits.delete(uuid)
      if (xml !== undefined) this.memory.edits.set(uuid, { xml, editedDigest })
    },
    beforeEdit: async (uuid) => this.memory.edits.get(uuid),
    noteSaved: async (uuid, host) => void this.memory.saved.set(uuid, host),
    forgetSaved: async (uuid) => void this.memory.saved.delete(uuid),
    setAutostart: async (uuid, start) => {
      if (start) this.memory.autostarts.set(uuid, start)
      else this.memory.autostarts.delete(uuid)
    }
  }

  /** Facts as observed, bound to a host; each subject is computed when it is read. */
  #state(boundHost: string | null, loaded?: ReadonlySet<string>, boundTarget: string | null = null): FleetState {
    const memory = this.memory
    class Observed extends Map<string, JsonObject | null> {
      override get(subject: string): JsonObject | null | undefined {
        // What the pure functions did not read is not there when the task runs.
        if (loaded && !loaded.has(subject)) return undefined
        return memory.facts(subject) as JsonObject | null
      }

      override has(subject: string): boolean {
        return loaded?.has(subject) ?? true
      }
    }
    return new FleetState({ phase: 'starting', base: new Observed(), boundHost, boundTarget })
  }

  /** A task as it would be stored: prepared once. A second `run` of it is a further attempt. */
  task(of: Action, args: object): Task {
    const macs = Array.from(
      { length: of.freshMacs?.(args as never) ?? 0 },
      () => `52:54:00:00:00:${(16 + this.#macs++).toString(16)}`
    )
    const prepared = of.prepare ? of.prepare(args as never, { macs }) : args
    const filled = of.fillIn?.(prepared as never, this.observed(null)) ?? prepared
    return new Task(this, of, { ...filled }, ++this.#task)
  }

  /** One attempt at a new task. */
  run(of: Action, args: object): Promise<Ran> {
    return this.task(of, args).run()
  }

  /** Runs it and expects a good end; returns the result. */
  async done(of: Action, args: object): Promise<JsonObject> {
    const { outcome } = await this.run(of, args)
    if (outcome.outcome !== 'complete') throw new Error(`${of.name} ended as ${JSON.stringify(outcome, null, 1)}`)
    return outcome.result as JsonObject
  }

  observed(boundHost: string | null, loaded?: ReadonlySet<string>, boundTarget: string | null = null): FleetState {
    return this.#state(boundHost, loaded, boundTarget)
  }
}

/** Simulated hosts, which can be broken on purpose and tell what really happened. */
export class Stage extends AnyStage {
  readonly fleet: SimFleet

  constructor(fleet: SimFleet, hosts: HostConnections) {
    super(hosts)
    this.fleet = fleet
  }
}

export class Task {
  readonly args: object
  readonly id: number
  readonly #stage: AnyStage
  readonly #action: Action
  readonly #abort = new AbortController()
  #attempt = 0
  #bound: { host: string | null; target: string | null } = { host: null, target: null }

  constructor(stage: AnyStage, of: Action, args: object, id: number) {
    this.#stage = stage
    this.#action = of
    this.args = args
    this.id = id
  }

  cancel(): void {
    this.#abort.abort()
  }

  /** As the dispatcher: bind, claims and check on observed facts; `impossible` fails; else it runs. */
  /** `onStep` may throw, as a process dies. */
  async run(options: { onStep?: (step: string) => void } = {}): Promise<Ran> {
    const ran: Ran = { outcome: { outcome: 'complete', result: null }, steps: [], logs: [], progress: [] }
    const { ctx, verdict } = this.#prepare(ran, options.onStep)
    if (verdict.verdict === 'impossible') {
      const { code, message, next } = verdict
      ran.outcome = { outcome: 'failed', error: { code, message, next, step: 'check' } }
    } else ran.outcome = await this.#action.run(ctx, this.args as never)
    return ran
  }

  async probe(): Promise<Probe> {
    return this.#action.probe(
      this.#prepare({ outcome: { outcome: 'complete', result: null }, steps: [], logs: [], progress: [] }).ctx,
      this.args as never
    )
  }

  #prepare(ran: Ran, onStep?: (step: string) => void): { ctx: ActionContext; verdict: Verdict } {
    const args = this.args as never
    // As the dispatcher: an earlier attempt's binding is known to the next one.
    const unbound = this.#stage.observed(this.#bound.host, undefined, this.#bound.target)
    const to = this.#action.bindTo?.(args, unbound) ?? null
    const host = to === null ? null : 'host' in to ? to.host : placed(unbound, this.#stage, to.place.stores)
    const wanted = to === null || 'place' in to ? undefined : to.target
    const target = typeof wanted === 'object' ? placed(unbound, this.#stage, wanted.stores, host) : (wanted ?? null)
    this.#bound = { host, target }
    const state = this.#stage.observed(host, undefined, target)
    this.#action.claims(args, state)
    const verdict = this.#action.check(args, state)
    const loaded = new Set([...unbound.reads, ...state.reads])
    this.#attempt++
    const ctx: ActionContext = {
      task: { id: this.id, attempt: this.#attempt, action: this.#action.name, title: 'a task', by: 'tester' },
      instance,
      state: this.#stage.observed(host, loaded, target),
      boundHost: host,
      boundTarget: target,
      signal: this.#abort.signal,
      host: (name) => this.#stage.hosts.host(name),
      connect: (address) => this.#stage.hosts.connect(address),
      observe: this.#stage.observer,
      staging: this.#stage.staging,
      log: (level, message) => void ran.logs.push(`${level}: ${message}`),
      step(name) {
        ran.steps.push(name)
        onStep?.(name)
      },
      progress: ({ done, total }) => void ran.progress.push({ done, total }),
      get clearing(): never {
        throw new Error('no host is cleared here')
      },
      proposeMoves: () => Promise.resolve([]),
      planChildren: () => Promise.reject(new Error('nothing expands here')),
      hasParts: () => Promise.resolve(false),
      dropPromises: () => Promise.reject(new Error('nothing is promised here')),
      markUndone: () => Promise.reject(new Error('nothing is undone here'))
    }
    return { ctx, verdict }
  }
}

/** The first host that has the stores and is open. */
function placed(state: FleetState, stage: AnyStage, stores: readonly string[], except: string | null = null): string {
  const fits = [...stage.memory.hosts.keys()].find(
    (name) =>
      name !== except && !state.host(name)?.cordoned && stores.every((store) => state.store(store)?.pools[name]?.active)
  )
  if (fits === undefined) throw new Error('no host fits')
  return fits
}

/**
 * Runs `use` on a fleet with a shared directory /shared; everything is stopped whatever happens.
 * @throws where two guests wrote to one disk and `use` resolves to anything but 'two writers'
 */
export async function withStage(
  options: Partial<SimFleetOptions>,
  use: (stage: Stage) => Promise<void | 'two writers'>
): Promise<void> {
  const dir = mkdtempSync(join(tmpdir(), 'act-'))
  const fleet = await startSimFleet({ hosts: 2, sharedStores: [{ name: 'nfs', path: '/shared' }], ...options, dir })
  const hosts = new HostConnections({ firstRetryMs: 10, lastRetryMs: 50 })
  try {
    const stage = new Stage(fleet, hosts)
    const known = fleet.hosts.map(({ name, uuid, uri }) => ({
      name,
      uuid,
      controlUri: uri,
      peerUri: uri,
      migrationUri: null
    }))
    await stage.prepare(known, '/shared')
    try {
      if ((await use(stage)) !== 'two writers') refuseTwoWriters(fleet)
    } finally {
      rmSync(stage.stagingDirectory, { recursive: true, force: true })
    }
  } finally {
    await hosts.stop()
    await fleet.stop()
    rmSync(dir, { recursive: true, force: true })
  }
}

/** The error of an outcome that is not good. */
export function errorIn({ outcome }: Ran) {
  if ('error' in outcome) return outcome.error
  throw new Error(`there is no error in ${JSON.stringify(outcome)}`)
}

/** A field of a result that is text. */
export function textOf(value: Json | undefined): string {
  if (typeof value !== 'string') throw new Error(`${JSON.stringify(value)} is no text`)
  return value
}

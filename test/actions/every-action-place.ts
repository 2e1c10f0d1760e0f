// Where one action is tried: a host of its own, and another where it needs two. Everything made there ends in `of`, which is new for
// every stage that is set.
import { expect } from 'vitest'
import type { JsonObject } from '../../src/db/json.ts'
import type { Task } from '../../src/queue/task.ts'
import type { SimDomain } from '../../src/sim/domain.ts'
import type { FleetHost } from '../../src/sim/fleet.ts'
import { difference, pictureOf, type Picture } from './every-action-picture.ts'
import type { World } from './every-action-world.ts'

export class Place {
  readonly world: World
  readonly host: string
  readonly peer: string
  readonly hosts: readonly string[]
  readonly number: number
  of = ''
  stages = 0

  constructor(world: World, number: number, hosts: readonly string[]) {
    this.world = world
    this.number = number
    this.hosts = hosts
    this.host = hosts[0] ?? ''
    this.peer = hosts[1] ?? ''
  }

  get sims(): FleetHost[] {
    return this.hosts.map((name) => this.world.fleet.host(name))
  }

  get sim(): FleetHost {
    return this.world.fleet.host(this.host)
  }

  /** The store of the host alone, and the one that it has in common with its peer. */
  get store(): string {
    return `${this.host}/data`
  }

  get common(): string {
    return `common-${this.host}`
  }

  /** Adds the hosts with their pools; they have nothing else. */
  async settle(): Promise<void> {
    for (const name of this.hosts) {
      const { uri } = this.world.fleet.host(name)
      await this.done('host.add', { host: name, controlUri: uri, peerUri: uri })
      await this.done('pool.create', { host: name, pool: 'data', target: '/srv/data' })
    }
    if (this.peer === '') return
    for (const host of this.hosts)
      await this.done('pool.create', { host, pool: this.common, target: `/srv/nfs/${this.host}` })
    await this.done('store.share', {
      store: this.common,
      pools: this.hosts.map((host) => ({ host, pool: this.common }))
    })
  }

  renew(): void {
    this.of = `${this.host}x${++this.stages}`
  }

  /** Runs a task that must be complete; its result. */
  async done(action: string, args: JsonObject): Promise<JsonObject> {
    const { id } = await this.world.ask(action, args)
    const task = await this.world.until(id)
    expect(task, `${action} ${JSON.stringify(task.error)}`).toMatchObject({ state: 'complete' })
    return (task.result ?? {}) as JsonObject
  }

  /** A VM of 64 MiB with a disk; its name. */
  async vm({
    on = false,
    name = 'vm',
    store = this.store,
    ...more
  }: JsonObject & { on?: boolean; name?: string; store?: string } = {}): Promise<string> {
    const full = `${name}-${this.of}`
    await this.done('vm.create', {
      name: full,
      memoryMiB: 64,
      host: this.host,
      disks: [{ store, sizeMiB: 8 }],
      ...more
    })
    if (on) await this.done('vm.start', { vm: full })
    return full
  }

  async volume(name: string, more: JsonObject = {}): Promise<string> {
    const full = `${name}-${this.of}.img`
    await this.done('volume.create', { store: this.store, name: full, sizeMiB: 8, ...more })
    return `${this.store}/${full}`
  }

  /** On the place's host, by the beginning of its name. */
  domain(name: string): SimDomain {
    const found = this.sim.domainByName(`${name}-${this.of}`)
    if (!found) throw new Error(`${this.host} has no ${name}-${this.of}`)
    return found
  }

  /** Until the inventory says so of the host. */
  async connection(wanted: 'up' | 'down'): Promise<void> {
    await expect
      .poll(() => this.world.database.query('select connection from inventory.host where name = $1', [this.host]), {
        timeout: 10_000
      })
      .toEqual([{ connection: wanted }])
  }

  picture(): Promise<Picture> {
    return pictureOf(this.world.database, this.world.fleet, this.hosts)
  }

  /** What has changed since, once it is as expected; or as it is when it does not become so within 2 s. */
  async changed(before: Picture, expected: readonly string[]): Promise<string[]> {
    const until = performance.now() + 2_000
    for (;;) {
      const now = difference(before, await this.picture(), this.of)
      if (same(now, expected) || performance.now() > until) return now
      await new Promise((resolve) => setTimeout(resolve, 25))
    }
  }

  /** What has changed since, once the inventory has heard of all of it: as seen twice, 100 ms apart. */
  async settledChanges(before: Picture): Promise<string[]> {
    for (let last: string[] | undefined; ;) {
      const now = difference(before, await this.picture(), this.of)
      if (last && same(last, now)) return now
      last = now
      await new Promise((resolve) => setTimeout(resolve, 100))
    }
  }

  /** Tasks that have ended hold nothing, whatever happened to them: no claim, no unit, no worker, no promise of memory that counts. */
  async nothingHeld(): Promise<void> {
    const held = await this.world.database.query(
      `select t.id, t.action, h.what from queue.task t join
         (select task, 'claim ' || resource as what from queue.claim union all select task, 'run' from queue.run
          union all select task, 'unit ' || key from queue.cost where granted union all select task, 'wait' from queue.wait
          union all select task, 'parked' from queue.parked) h on h.task = t.id
       where t.outcome is not null`
    )
    expect(held).toEqual([])
  }
}

const same = (one: readonly string[], other: readonly string[]): boolean =>
  JSON.stringify(one) === JSON.stringify(other)

/** Why a task did not end well, in one line. */
export const endOf = ({ state, error }: Task): string => `${state}${error ? `: ${error.code}, ${error.message}` : ''}`

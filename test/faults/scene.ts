// A fleet of simulated hosts and engines, each in a process of its own, on a database of its own: what the fault runs play on.
import { registry } from '../../src/actions/registry.ts'
import { createSubmitter, type RequestedTask, type Submitter } from '../../src/actions/submit.ts'
import type { JsonObject } from '../../src/db/json.ts'
import type { SimFleetOptions } from '../../src/sim/fleet.ts'
import { freshDatabase, type FreshDatabase } from '../support/postgres.ts'
import type { EngineProcessOptions } from './engine-process.ts'
import { judge, type Findings } from './history-checker.ts'
import { Processes, type EngineProcess, type HostsProcess } from './processes.ts'
import { untilEnded } from './until-ended.ts'
import type { Batch, Group } from './workload.ts'

export type SceneOptions = {
  hosts: number
  /** Hosts that share a store; default 5. */
  groupSize?: number
  engines: number
  engine?: Partial<EngineProcessOptions>
  fleet?: Omit<Partial<SimFleetOptions>, 'dir' | 'hosts' | 'sharedStores'>
}

export class Scene {
  readonly processes: Processes
  readonly fresh: FreshDatabase
  readonly hosts: HostsProcess
  readonly groups: readonly Group[]
  readonly submitter: Submitter
  readonly engines: EngineProcess[] = []
  /** Every task that was acknowledged. */
  readonly submitted: number[] = []
  readonly #options: SceneOptions

  private constructor(
    options: SceneOptions,
    parts: { processes: Processes; fresh: FreshDatabase; hosts: HostsProcess; groups: readonly Group[] }
  ) {
    this.#options = options
    this.processes = parts.processes
    this.fresh = parts.fresh
    this.hosts = parts.hosts
    this.groups = parts.groups
    this.submitter = createSubmitter({ database: parts.fresh.database, registry })
  }

  static async start(options: SceneOptions): Promise<Scene> {
    const processes = new Processes()
    const fresh = await freshDatabase({ poolSize: 10 })
    try {
      const groups = groupsOf(options.hosts, options.groupSize ?? 5)
      const sharedStores = groups.map(({ store, hosts }) => ({ name: store, path: `/srv/${store}`, hosts: [...hosts] }))
      const hosts = await processes.hosts({ ...options.fleet, hosts: options.hosts, sharedStores })
      const scene = new Scene(options, { processes, fresh, hosts, groups })
      await Promise.all(
        Array.from({ length: options.engines }, async () => scene.engines.push(await scene.newEngine()))
      )
      await scene.#prepare()
      return scene
    } catch (error) {
      await processes.stop()
      await fresh.drop()
      throw error
    }
  }

  newEngine(): Promise<EngineProcess> {
    return this.processes.engine({ url: this.fresh.serverUrl, poolSize: 6, ...this.#options.engine })
  }

  async #prepare(): Promise<void> {
    const add = Object.entries(this.hosts.uris).map(([host, uri]) =>
      this.submit('host.add', { host, controlUri: uri, peerUri: uri })
    )
    await this.#complete(await Promise.all(add))
    const pools = this.groups.flatMap(({ store, hosts }) =>
      hosts.map((host) => this.submit('pool.create', { host, pool: store, target: `/srv/${store}` }))
    )
    await this.#complete(await Promise.all(pools))
    const share = this.groups.map(({ store, hosts }) =>
      this.submit('store.share', { store, pools: hosts.map((host) => ({ host, pool: store })) })
    )
    await this.#complete(await Promise.all(share))
  }

  async #complete(ids: readonly number[]): Promise<void> {
    for (const task of await untilEnded(this.fresh.database, ids))
      if (task.state !== 'complete') throw new Error(`task ${task.id} is ${task.state}: ${JSON.stringify(task.error)}`)
  }

  async submit(action: string, args: JsonObject): Promise<number> {
    return (await this.submitPlan([{ action, args }], false))[0] ?? -1
  }

  async submitPlan(tasks: readonly RequestedTask[], isPlan = true): Promise<number[]> {
    const plan = isPlan ? { plan: { onFailure: 'continue' as const } } : {}
    const answer = await this.submitter.submit({ tasks, ...plan, by: 'test' })
    const ids = answer.tasks.map(({ id }) => id)
    this.submitted.push(...ids)
    return ids
  }

  /** Plan by plan; the ids of all its tasks. */
  async submitBatch(batch: Batch): Promise<number[]> {
    const ids: number[] = []
    for (const plan of batch.plans) ids.push(...(await this.submitPlan(plan)))
    return ids
  }

  /** What the independent judge says of everything so far. */
  async judge(): Promise<Findings> {
    const [journal, now] = [await this.hosts.call.journal(), await this.hosts.call.truth()]
    return judge(this.fresh.database, { submitted: this.submitted, journal, now })
  }

  /** May be called twice. */
  async stop(): Promise<void> {
    await this.processes.stop()
    await this.fresh.drop()
  }
}

function groupsOf(hosts: number, size: number): Group[] {
  const names = Array.from({ length: hosts }, (_, index) => `h${index + 1}`)
  const groups: Group[] = []
  for (let at = 0; at < hosts; at += size)
    groups.push({ store: `nfs${groups.length + 1}`, hosts: names.slice(at, at + size) })
  return groups
}

// Chooses the host for a VM and promises it the memory, in the caller's transaction. QEMU starts what does not fit; only the
// promises made here keep hosts from being over-committed.
import type { JsonObject } from '../db/json.ts'
import type { Tx } from '../db/open.ts'

export type Need = {
  /** The promise is to this task; a later one replaces it. */
  task: number
  vm: string
  /** The most that the guest may have. */
  memoryMiB: number
  vcpus: number
  /** Each must have an active pool on the host. */
  stores: readonly string[]
  /** Each must be active on the host. */
  networks: readonly string[]
  /** Hosts not to be considered, with the reason. */
  without?: ReadonlyMap<string, string>
}

/** Why each host was or was not chosen; kept with the task. */
export type Placement =
  | { host: string; considered: JsonObject }
  | { host: null; reason: string; considered: JsonObject }

type Candidate = {
  host: string
  connection: string
  cordonReason: string | null
  cpus: number | null
  totalMiB: number | null
  freeMiB: number
  /** Free once everything at home there is started as well. */
  expectedFreeMiB: number
  needMiB: number
  lacksStores: string[]
  lacksNetworks: string[]
}

/** Notified on this channel when memory becomes free: what did not fit may now. */
export const ROOM_CHANNEL = 'inventory_room'

/** Of a large fleet the explanation names this many hosts. */
const NAMED = 50

export async function placeVm(tx: Tx, need: Need): Promise<Placement> {
  const candidates = await readCandidates(tx, need, null)
  const why = new Map(candidates.map((candidate) => [candidate.host, refusal(candidate, need)]))
  const fitting = candidates.filter((candidate) => why.get(candidate.host) === undefined)
  // Given back for the next host: whoever held two hosts' rows could wait for another who holds them the other way round.
  await tx.query('savepoint placement')
  for (const { host } of fitting) {
    await lockHost(tx, host)
    // What was promised since the first look is seen now.
    const [now] = await readCandidates(tx, need, host)
    const lost = now ? refusal(now, need) : 'it was removed'
    if (now && lost === undefined) {
      await promise(tx, need.task, host, need.vm, now.needMiB)
      return { host, considered: explain(candidates, why, host, need) }
    }
    why.set(host, lost)
    await tx.query('rollback to savepoint placement')
  }
  return { host: null, reason: summary(candidates, why), considered: explain(candidates, why, null, need) }
}

/** Promises memory on a given host: the home of a VM that is started there, the target of a migration. */
export async function reserveOn(
  tx: Tx,
  need: { task: number; host: string; vm: string; memoryMiB: number }
): Promise<{ reserved: true } | { reserved: false; reason: string }> {
  await lockHost(tx, need.host)
  const [found] = await readCandidates(tx, { ...need, vcpus: 0, stores: [], networks: [] }, need.host)
  if (!found) return { reserved: false, reason: `there is no host ${need.host}` }
  const lacking = memoryRefusal(found)
  if (lacking !== undefined) return { reserved: false, reason: `${need.host}: ${lacking}` }
  await promise(tx, need.task, need.host, need.vm, found.needMiB)
  return { reserved: true }
}

async function lockHost(tx: Tx, host: string): Promise<void> {
  await tx.query(`select from inventory.host where name = $1 for no key update`, [host])
}

async function promise(tx: Tx, task: number, host: string, vm: string, needMiB: number): Promise<void> {
  await tx.query(
    `insert into inventory.reservation (task, host, vm, memory_mib) values ($1, $2, $3, $4)
     on conflict (task) do update set
       host = excluded.host, vm = excluded.vm, memory_mib = excluded.memory_mib, made_at = clock_timestamp()`,
    [task, host, vm, needMiB]
  )
}

async function readCandidates(tx: Tx, need: Need, only: string | null): Promise<Candidate[]> {
  return tx.query<Candidate>(
    `select host, connection, cordon_reason as "cordonReason", cpus, total_mib as "totalMiB", free_mib as "freeMiB",
       expected_free_mib as "expectedFreeMiB", need_mib as "needMiB", lacks_stores as "lacksStores",
       lacks_networks as "lacksNetworks"
     from inventory.candidates($1, $2, $3, $4, $5, $6)`,
    [only, need.vm, need.task, need.memoryMiB, need.stores, need.networks]
  )
}

function refusal(candidate: Candidate, need: Need): string | undefined {
  const excluded = need.without?.get(candidate.host)
  if (excluded !== undefined) return excluded
  if (candidate.connection !== 'up') return candidate.connection === 'down' ? 'down' : 'not connected yet'
  if (candidate.cordonReason !== null) return `cordoned: ${candidate.cordonReason}`
  if (candidate.totalMiB === null) return 'its size is not known yet'
  if (candidate.lacksStores.length > 0) return `no active pool on ${candidate.lacksStores.join(', ')}`
  if (candidate.lacksNetworks.length > 0) return `no active network ${candidate.lacksNetworks.join(', ')}`
  if (candidate.cpus !== null && candidate.cpus > 0 && need.vcpus > candidate.cpus)
    return `${candidate.cpus} CPUs for ${need.vcpus} virtual ones`
  return memoryRefusal(candidate)
}

const memoryRefusal = ({ freeMiB, needMiB }: Candidate) =>
  freeMiB >= needMiB ? undefined : `${Math.max(0, freeMiB)} MiB free, ${needMiB} MiB needed`

function explain(
  candidates: readonly Candidate[],
  why: ReadonlyMap<string, string | undefined>,
  chosen: string | null,
  need: Need
): JsonObject {
  return {
    chosen,
    memoryMiB: need.memoryMiB,
    needMiB: candidates[0]?.needMiB ?? null,
    hosts: candidates.slice(0, NAMED).map((candidate) => ({
      host: candidate.host,
      freeMiB: candidate.freeMiB,
      expectedFreeMiB: candidate.expectedFreeMiB,
      why: why.get(candidate.host) ?? (candidate.host === chosen ? 'most free memory' : 'fits, less free memory')
    })),
    more: Math.max(0, candidates.length - NAMED)
  }
}

function summary(candidates: readonly Candidate[], why: ReadonlyMap<string, string | undefined>): string {
  if (candidates.length === 0) return 'there are no hosts'
  const named = candidates.slice(0, 5).map(({ host }) => `${host}: ${why.get(host) ?? 'fits'}`)
  const more = candidates.length - named.length
  return `no host fits (${named.join('; ')}${more > 0 ? `; and ${more} more` : ''})`
}

// Chooses the host for a VM and promises it the memory, in the caller's transaction. QEMU starts what does not fit; only the
// promises made here keep hosts from being over-committed.
import type { JsonObject } from '../db/json.ts'
import type { Tx } from '../db/open.ts'
import { lacksRoom, readCandidates, whyNot, type Candidate, type Need, type Room } from './candidates.ts'

export type { Need } from './candidates.ts'

/** Why each host was or was not chosen; kept with the task. */
export type Placement =
  | { host: string; considered: JsonObject }
  | { host: null; reason: string; considered: JsonObject }

/** Notified on this channel, with the host's name, when memory becomes free: what did not fit may now. */
export const ROOM_CHANNEL = 'inventory_room'

/** Of a large fleet the explanation names this many hosts. */
const NAMED = 50

export async function placeVm(tx: Tx, need: Need): Promise<Placement> {
  const preferred = need.prefer === undefined ? undefined : await tryHost(tx, need, need.prefer)
  if (preferred?.fits)
    return { host: preferred.candidate.host, considered: explainPreferred(preferred.candidate, need) }
  const candidates = await readCandidates(tx, need, null)
  const why = new Map(candidates.map((candidate) => [candidate.host, whyNot(candidate, need)]))
  for (const { host } of candidates.filter((candidate) => why.get(candidate.host) === undefined)) {
    const tried = await tryHost(tx, need, host)
    if (tried.fits) return { host, considered: explain(candidates, why, host, need) }
    // What was promised since the first look is seen now.
    why.set(host, tried.why)
  }
  return { host: null, reason: summary(candidates, why, need), considered: explain(candidates, why, null, need) }
}

/** Promises memory on a given host: the home of a VM that is started there, the target of a migration. */
export async function reserveOn(
  tx: Tx,
  need: { task: number; host: string; vm: string; memoryMiB: number }
): Promise<{ reserved: true; considered: JsonObject } | { reserved: false; reason: string; considered: JsonObject }> {
  const { task, host, vm, memoryMiB } = need
  const [row] = await tx.query<Room & { reserved: boolean; freeMiB: number; expectedFreeMiB: number }>(
    `select reserved, free_mib as "freeMiB", expected_free_mib as "expectedFreeMiB", need_mib as "needMiB",
       is_there as "isThere", apart_from as "apartFrom", kept_apart as "group"
     from inventory.reserve($1, $2, $3, $4)`,
    [task, host, vm, memoryMiB]
  )
  const none = { chosen: null, memoryMiB, needMiB: row?.needMiB ?? null, hosts: [], more: 0 }
  if (!row) return { reserved: false, reason: `there is no host ${host}`, considered: none }
  const lacking = row.reserved ? undefined : lacksRoom(row)
  if (lacking === undefined) return { reserved: true, considered: asNamed(host, memoryMiB, row) }
  const considered = { ...none, hosts: [figures({ ...row, host }, lacking)] }
  return { reserved: false, reason: `${host}: ${lacking}`, considered }
}

type Figures = { freeMiB: number; expectedFreeMiB: number; needMiB: number }

const asNamed = (host: string, memoryMiB: number, row: Figures): JsonObject => ({
  chosen: host,
  memoryMiB,
  needMiB: row.needMiB,
  hosts: [figures({ ...row, host }, 'it fits where it was to be: no other host was looked at')],
  more: 0
})

/**
 * As reserveOn, for many tasks at once, each on its host. Undefined for whom reserveOn is to be asked: it got no room beside the others,
 * or is kept apart from VMs.
 */
export async function reserveMany(
  tx: Tx,
  needs: readonly { task: number; host: string; vm: string; memoryMiB: number }[]
): Promise<Map<number, JsonObject>> {
  const rows = await tx.query<Figures & { task: number }>(
    `select task, free_mib as "freeMiB", expected_free_mib as "expectedFreeMiB", need_mib as "needMiB"
     from inventory.reserve_many($1, $2, $3, $4) where reserved`,
    [
      needs.map(({ task }) => task),
      needs.map(({ host }) => host),
      needs.map(({ vm }) => vm),
      needs.map(({ memoryMiB }) => memoryMiB)
    ]
  )
  const asked = new Map(needs.map((need) => [need.task, need]))
  return new Map(
    rows.map((row) => {
      const { host = '', memoryMiB = 0 } = asked.get(row.task) ?? {}
      return [row.task, asNamed(host, memoryMiB, row)]
    })
  )
}

/** These promise nothing after all. */
export async function giveBack(tx: Tx, tasks: readonly number[]): Promise<void> {
  await tx.query(`delete from inventory.reservation where task = any ($1::bigint[])`, [tasks])
}

type Tried = { fits: true; candidate: Candidate } | { fits: false; why: string }

/** Given back for the next host: whoever held two hosts' rows could wait for another who holds them the other way round. */
async function tryHost(tx: Tx, need: Need, host: string): Promise<Tried> {
  await tx.query('savepoint placement')
  await lockHost(tx, host)
  const [candidate] = await readCandidates(tx, need, [host])
  const why = candidate ? whyNot(candidate, need) : 'it was removed'
  if (candidate && why === undefined) {
    await promise(tx, need.task, host, need.vm, candidate.needMiB)
    return { fits: true, candidate }
  }
  await tx.query('rollback to savepoint placement')
  return { fits: false, why: why ?? 'it was removed' }
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

const figures = (
  { host, freeMiB, expectedFreeMiB }: Pick<Candidate, 'host' | 'freeMiB' | 'expectedFreeMiB'>,
  why: string
): JsonObject => ({
  host,
  freeMiB,
  expectedFreeMiB,
  why
})

/** Nobody else was asked: it may run where it is at home. */
const explainPreferred = (candidate: Candidate, need: { memoryMiB: number }): JsonObject => ({
  chosen: candidate.host,
  memoryMiB: need.memoryMiB,
  needMiB: candidate.needMiB,
  hosts: [figures(candidate, 'it fits where it was to be: no other host was looked at')],
  more: 0
})

function explain(
  candidates: readonly Candidate[],
  why: ReadonlyMap<string, string | undefined>,
  chosen: string | null,
  need: { memoryMiB: number; prefer?: string }
): JsonObject {
  // The chosen and the home first: of a large fleet only some are named.
  const rank = ({ host }: Candidate) => (host === chosen ? 0 : host === need.prefer ? 1 : 2)
  const ordered = candidates.toSorted((a, b) => rank(a) - rank(b))
  return {
    chosen,
    memoryMiB: need.memoryMiB,
    needMiB: candidates[0]?.needMiB ?? null,
    hosts: ordered
      .slice(0, NAMED)
      .map((candidate) =>
        figures(
          candidate,
          why.get(candidate.host) ?? (candidate.host === chosen ? 'most free memory' : 'fits, less free memory')
        )
      ),
    more: Math.max(0, candidates.length - NAMED)
  }
}

function summary(candidates: readonly Candidate[], why: ReadonlyMap<string, string | undefined>, need: Need): string {
  if (candidates.length === 0) return 'there are no hosts'
  const home = need.prefer
  if (need.pinned !== undefined && home !== undefined) {
    const there = why.get(home) ?? (why.has(home) ? 'fits' : 'there is no such host')
    return `it can only run on ${home} (${need.pinned}), and ${home}: ${there}`
  }
  const ordered = candidates.toSorted((a, b) => Number(b.host === home) - Number(a.host === home))
  const named = ordered.slice(0, 5).map(({ host }) => `${host}: ${why.get(host) ?? 'fits'}`)
  const more = candidates.length - named.length
  return `no host fits (${named.join('; ')}${more > 0 ? `; and ${more} more` : ''})`
}

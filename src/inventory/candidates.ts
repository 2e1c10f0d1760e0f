// The hosts that a VM could be put on, as the inventory has them, and why one of them cannot be it. Chooses nothing.
import type { Tx } from '../db/open.ts'
import { memoryText } from '../model/memory-text.ts'

/** VMs with one value of this label are never active on one host. */
const ANTI_AFFINITY = 'anti-affinity'

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
  /** Taken if it fits, whatever the others offer: the home of a VM that starts. */
  prefer?: string
  /** Only `prefer` will do, for this reason: a local disk, a saved image. */
  pinned?: string
  /** The host must have it; left out or null: any. */
  arch?: string | null
  /** Other hosts must know how to reach it: the target of a migration. */
  peerUri?: boolean
  /** It is being made: VMs that it must be kept apart from count where they are defined, too. Default false. */
  resting?: boolean
}

export type Candidate = {
  host: string
  connection: 'up' | 'down' | 'unknown'
  cordonReason: string | null
  cpus: number | null
  arch: string | null
  peerUri: string | null
  totalMiB: number | null
  freeMiB: number
  /** Free once everything at home there is started as well. */
  expectedFreeMiB: number
  needMiB: number
  /** The VM is active there: it needs no more. */
  isThere: boolean
  lacksStores: string[]
  lacksNetworks: string[]
  /** A VM of its anti-affinity group that is there. */
  apartFrom: string | null
  group: string | null
}

/** All hosts or `only` these, the emptiest first. */
export async function readCandidates(tx: Tx, need: Need, only: readonly string[] | null): Promise<Candidate[]> {
  const [label] = await tx.query<{ value: string }>(
    `select l.value from inventory.vm_label l where l.vm = $1 and l.key = '${ANTI_AFFINITY}'`,
    [need.vm]
  )
  const group = label?.value ?? null
  const rows = await tx.query<Omit<Candidate, 'group'>>(
    `select host, connection, cordon_reason as "cordonReason", cpus, arch, peer_uri as "peerUri", total_mib as "totalMiB",
       free_mib as "freeMiB", expected_free_mib as "expectedFreeMiB", need_mib as "needMiB", is_there as "isThere",
       lacks_stores as "lacksStores", lacks_networks as "lacksNetworks", apart_from as "apartFrom"
     from inventory.candidates($1, $2, $3, $4, $5, $6, $7, $8)`,
    [only, need.vm, need.task, need.memoryMiB, need.stores, need.networks, group, need.resting ?? false]
  )
  return rows.map((row) => ({ ...row, group }))
}

/** Why it is not this one; undefined when it fits. */
export function whyNot(candidate: Candidate, need: Need): string | undefined {
  const excluded = need.without?.get(candidate.host)
  if (excluded !== undefined) return excluded
  if (need.pinned !== undefined && candidate.host !== need.prefer) return need.pinned
  if (candidate.connection !== 'up') return candidate.connection === 'down' ? 'down' : 'not connected yet'
  if (candidate.cordonReason !== null) return `cordoned: ${candidate.cordonReason}`
  if (candidate.totalMiB === null) return 'its size is not known yet'
  if (need.arch && candidate.arch !== null && candidate.arch !== need.arch)
    return `${candidate.arch}, and the VM is ${need.arch}`
  if (need.peerUri && candidate.peerUri === null) return 'no peer URI: other hosts do not know how to reach it'
  if (candidate.lacksStores.length > 0) return `no active pool on ${candidate.lacksStores.join(', ')}`
  if (candidate.lacksNetworks.length > 0) return `no active network ${candidate.lacksNetworks.join(', ')}`
  if (candidate.cpus !== null && candidate.cpus > 0 && need.vcpus > candidate.cpus)
    return `${candidate.cpus} CPUs for ${need.vcpus} virtual ones`
  return lacksRoom(candidate)
}

export type Room = Pick<Candidate, 'freeMiB' | 'needMiB' | 'isThere' | 'apartFrom' | 'group'>

/** Memory and neighbours: what holds for a host that was named as well. */
export function lacksRoom({ freeMiB, needMiB, isThere, apartFrom, group }: Room): string | undefined {
  if (isThere) return undefined
  if (apartFrom !== null) return `${ANTI_AFFINITY}=${group}: ${apartFrom} is there`
  if (freeMiB >= needMiB) return undefined
  return `${memoryText(Math.max(0, freeMiB))} free, ${memoryText(needMiB)} needed`
}

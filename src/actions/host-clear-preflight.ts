// What clearing a host would do to each of its VMs, before anything moves: where it goes, or why it cannot. All of them together, so that
// the room that one takes is not promised to the next. Also what `--dry-run` prints.
import type { JsonObject } from '../db/json.ts'
import type { Sql, Tx } from '../db/open.ts'
import { readCandidates, whyNot, type Candidate, type Need } from '../inventory/candidates.ts'
import { vmsOfHost } from '../inventory/clearing.ts'
import type { VmFacts } from '../inventory/facts.ts'
import type { FleetState } from '../inventory/fleet-state.ts'
import { resource } from '../model/resource.ts'
import { stalledOn } from '../queue/under-way.ts'
import type { HostClearArgs } from './host-clear-args.ts'
import { Predicted } from './predicted.ts'
import { whyNotMovable } from './vm-migrate-check.ts'
import { ownVm } from './vm-refusal.ts'

export type ClearRow = {
  vm: string
  name: string
  power: string
  memoryMiB: number
  /** `migrate` while it runs, `move` its definition while it is off, `shut down`, `delete`, or it stays, for a reason. */
  does: 'migrate' | 'move' | 'shut down' | 'delete' | 'stays'
  to: string | null
  why: string | null
}

type Asked = Pick<HostClearArgs, 'host' | 'vms' | 'onFailure' | 'copyStorage' | 'unsafe'>

/** Of a large fleet so many hosts are named in the reason. */
const namedHosts = 8

/** `only`: these of its VMs. `without`: the clear itself, whose promises are not counted. */
export async function preflightClear(
  sql: Sql | Tx,
  asked: Asked,
  options: { only?: ReadonlySet<string>; without?: number } = {}
): Promise<ClearRow[]> {
  const all = await vmsOfHost(sql, asked.host)
  const vms = all.filter(({ uuid }) => options.only?.has(uuid) ?? true).map(({ uuid }) => uuid)
  if (vms.length === 0) return []
  const predicted = new Predicted(sql, options.without)
  await predicted.load(vms.map(resource.vm))
  const stalled = new Map((await stalledOn(sql, vms.map(resource.vm))).map((one) => [one.resource, one]))
  const facts = (await predicted.ask((may) => vms.map((uuid) => may((state) => state.vm(uuid))))).filter(
    (vm) => vm !== undefined
  )
  const candidates = new Map<string, Candidate[]>()
  if ((asked.vms ?? 'migrate') === 'migrate') {
    for (const vm of facts) candidates.set(vm.uuid, await candidatesFor(sql, vm))
  }
  return predicted.ask((may) => {
    const taken = new Taken()
    return facts.map((vm) => {
      const waits = stalled.get(resource.vm(vm.uuid))
      const row = rowOf(vm)
      if (waits) return { ...row, does: 'stays', why: `task ${waits.task} (${waits.title}) has it: ${waits.why}` }
      return may((state) => decide(vm, row, asked, state, candidates.get(vm.uuid) ?? [], taken)) ?? row
    })
  })
}

const rowOf = (vm: VmFacts): ClearRow => ({
  vm: vm.uuid,
  name: vm.name,
  power: vm.power,
  memoryMiB: vm.maxMemoryMiB,
  does: 'stays',
  to: null,
  why: null
})

/** Where room was given to VMs of this clear, and which groups that keep apart are where. */
class Taken {
  readonly #mib = new Map<string, number>()
  readonly #groups = new Set<string>()

  lacks(candidate: Candidate): string | undefined {
    if (candidate.group !== null && this.#groups.has(`${candidate.host}\0${candidate.group}`))
      return `another of group ${candidate.group} goes there`
    const taken = this.#mib.get(candidate.host) ?? 0
    if (taken === 0 || candidate.isThere || candidate.freeMiB - taken >= candidate.needMiB) return undefined
    return 'the VMs before it fill it'
  }

  free({ host, expectedFreeMiB }: Candidate): number {
    return expectedFreeMiB - (this.#mib.get(host) ?? 0)
  }

  take({ host, needMiB, group }: Candidate): void {
    this.#mib.set(host, (this.#mib.get(host) ?? 0) + needMiB)
    if (group !== null) this.#groups.add(`${host}\0${group}`)
  }
}

/** Its size alone: stores and networks are told by the migration's own check, in its own words. */
const sizeOf = ({ uuid, maxMemoryMiB, vcpus }: VmFacts): Need => ({
  task: 0,
  vm: uuid,
  memoryMiB: maxMemoryMiB,
  vcpus,
  stores: [],
  networks: []
})

function candidatesFor(sql: Sql, vm: VmFacts): Promise<Candidate[]> {
  // Only reads: it needs no transaction.
  return readCandidates(sql as Tx, sizeOf(vm), null)
}

function decide(
  vm: VmFacts,
  row: ClearRow,
  asked: Asked,
  state: FleetState,
  candidates: readonly Candidate[],
  taken: Taken
): ClearRow {
  const isActive = vm.activeOn !== null
  const { refusal } = ownVm(vm.uuid, state)
  if (refusal?.verdict === 'impossible') return { ...row, why: refusal.message }
  switch (asked.vms ?? 'migrate') {
    case 'shut-down':
      return isActive ? { ...row, does: 'shut down' } : { ...row, why: 'it is off already' }
    case 'delete':
      return { ...row, does: 'delete' }
    default:
  }
  const found = targetFor(vm, asked, state, candidates, taken)
  if ('to' in found) {
    if (isActive) taken.take(found.to)
    return { ...row, does: isActive ? 'migrate' : 'move', to: found.to.host }
  }
  if (isActive && asked.onFailure === 'shut-down') return { ...row, does: 'shut down', why: found.why }
  return { ...row, why: found.why }
}

/** The emptiest host that takes it, the room given to those before it counted. */
function targetFor(
  vm: VmFacts,
  asked: Asked,
  state: FleetState,
  candidates: readonly Candidate[],
  taken: Taken
): { to: Candidate } | { why: string } {
  const need = sizeOf(vm)
  const how = { copyStorage: asked.copyStorage ?? false, unsafe: asked.unsafe ?? false }
  const why: string[] = []
  const others = candidates
    .filter(({ host }) => host !== asked.host)
    .toSorted((a, b) => taken.free(b) - taken.free(a) || (a.host < b.host ? -1 : 1))
  for (const candidate of others) {
    const refusal =
      (vm.activeOn === null ? refuseOff(candidate) : (whyNot(candidate, need) ?? taken.lacks(candidate))) ??
      whyNotMovable(vm.uuid, candidate.host, state, how)
    if (refusal === undefined) return { to: candidate }
    why.push(`${candidate.host}: ${refusal}`)
  }
  if (why.length === 0) return { why: 'there is no other host' }
  const more = why.length - namedHosts
  return { why: `${why.slice(0, namedHosts).join('; ')}${more > 0 ? `; and ${more} more hosts` : ''}` }
}

/** A definition needs no room, only a host that answers and is open. */
function refuseOff({ connection, cordonReason }: Candidate): string | undefined {
  if (connection !== 'up') return 'down'
  return cordonReason === null ? undefined : `cordoned: ${cordonReason}`
}

export const asJson = (rows: readonly ClearRow[]): JsonObject[] => rows.map((row) => ({ ...row }))

// Which running VMs would have to move so that hosts are about equally full: a proposal, by memory. Nothing moves here.
import type { JsonObject } from '../db/json.ts'
import type { Sql, Tx } from '../db/open.ts'
import { readCandidates, whyNot, type Candidate, type Need } from '../inventory/candidates.ts'
import { activeVms, type ActiveVm } from '../inventory/clearing.ts'
import { resource } from '../model/resource.ts'
import { Predicted } from './predicted.ts'
import { whyNotMovable } from './vm-migrate-check.ts'
import { ownVm } from './vm-refusal.ts'

export type BalanceAsked = {
  /** Only among these; default all. */
  hosts?: readonly string[]
  /** Hosts whose fullness differs by no more than so many percent of their memory are left as they are; default 10. */
  withinPercent?: number
  /** Default 20. */
  maxMoves?: number
}

export type ProposedMove = { vm: string; name: string; memoryMiB: number; from: string; to: string; why: string }

const defaultWithinPercent = 10
const defaultMaxMoves = 20

/** Each move is the one that evens the fullest and the emptiest host out most, the moves before it counted. */
export async function proposeMoves(sql: Sql, asked: BalanceAsked): Promise<ProposedMove[]> {
  const hosts = new Map((await openHosts(sql, asked.hosts)).map((host) => [host.host, host]))
  const vms = (await activeVms(sql, [...hosts.keys()])).filter(({ host }) => hosts.has(host))
  const predicted = new Predicted(sql)
  await predicted.load(vms.map(({ uuid }) => resource.vm(uuid)))
  return predicted.ask((may) => {
    const fill = new Fill(hosts)
    const left = new Map(vms.map((vm) => [vm.uuid, vm]))
    const moves: ProposedMove[] = []
    const isMovable = ({ uuid }: ActiveVm, to: string): boolean =>
      may((state) => ownVm(uuid, state).refusal === undefined && whyNotMovable(uuid, to, state) === undefined) ?? false
    while (moves.length < (asked.maxMoves ?? defaultMaxMoves)) {
      const move = fill.best([...left.values()], (asked.withinPercent ?? defaultWithinPercent) / 100, isMovable)
      if (!move) break
      left.delete(move.vm)
      moves.push(move)
    }
    return moves
  })
}

/** Hosts that take VMs now; their room does not depend on which VM is asked about. */
async function openHosts(sql: Sql, only: readonly string[] | undefined): Promise<Candidate[]> {
  const need: Need = {
    task: 0,
    vm: '00000000-0000-0000-0000-000000000000',
    memoryMiB: 0,
    vcpus: 0,
    stores: [],
    networks: []
  }
  // Only reads: it needs no transaction.
  const hosts = await readCandidates(sql as Tx, need, only ?? null)
  return hosts.filter((host) => whyNot({ ...host, needMiB: 0 }, need) === undefined && (host.totalMiB ?? 0) > 0)
}

/** How full each host is, moves that are proposed already counted. */
class Fill {
  readonly #hosts: ReadonlyMap<string, Candidate>
  readonly #freeMiB: Map<string, number>

  constructor(hosts: ReadonlyMap<string, Candidate>) {
    this.#hosts = hosts
    this.#freeMiB = new Map([...hosts].map(([name, { freeMiB }]) => [name, freeMiB]))
  }

  /** 0 is empty, 1 is full. */
  #of(host: string, addedMiB = 0): number {
    return 1 - ((this.#freeMiB.get(host) ?? 0) - addedMiB) / (this.#hosts.get(host)?.totalMiB ?? 1)
  }

  best(
    vms: readonly ActiveVm[],
    within: number,
    isMovable: (vm: ActiveVm, to: string) => boolean
  ): ProposedMove | undefined {
    const byFill = [...this.#hosts.keys()].toSorted((a, b) => this.#of(b) - this.#of(a) || (a < b ? -1 : 1))
    for (const from of byFill) {
      for (const to of byFill.toReversed()) {
        const spread = this.#of(from) - this.#of(to)
        if (spread <= within) break
        const better = vms
          .filter((vm) => vm.host === from && vm.needMiB <= (this.#freeMiB.get(to) ?? 0))
          .map((vm) => ({ vm, after: Math.abs(this.#of(from, -vm.needMiB) - this.#of(to, vm.needMiB)) }))
          .filter(({ after }) => after < spread)
          .toSorted((a, b) => a.after - b.after || (a.vm.uuid < b.vm.uuid ? -1 : 1))
          .find(({ vm }) => isMovable(vm, to))
        if (better) return this.#move(better.vm, to)
      }
    }
    return undefined
  }

  #move(vm: ActiveVm, to: string): ProposedMove {
    const { uuid, name, memoryMiB, needMiB, host: from } = vm
    const before = `${percent(this.#of(from))} and ${percent(this.#of(to))} full`
    this.#freeMiB.set(from, (this.#freeMiB.get(from) ?? 0) + needMiB)
    this.#freeMiB.set(to, (this.#freeMiB.get(to) ?? 0) - needMiB)
    const after = `${percent(this.#of(from))} and ${percent(this.#of(to))}`
    return { vm: uuid, name, memoryMiB, from, to, why: `${from} and ${to} are ${before}, and then ${after}` }
  }
}

const percent = (part: number): string => `${Math.round(part * 100)} %`

/** As a dry run shows them. */
export const movesAsRows = (moves: readonly ProposedMove[]): JsonObject[] =>
  moves.map((move) => ({ ...move, power: 'running', does: 'migrate' }))

// Closing a host for a clear: in one transaction it is cordoned, and what was queued for it by name goes to other hosts or is held.
// What named no host needs nothing: it is placed when it runs.
import type { Database, Tx } from '../db/open.ts'
import type { JsonObject } from '../db/json.ts'
import { DatabaseError } from '../db/error.ts'
import { lacksRoom, readCandidates, whyNot, type Candidate, type Need } from '../inventory/candidates.ts'
import { FleetState, NotLoaded, type Overlay } from '../inventory/fleet-state.ts'
import { setCordon } from '../inventory/hosts.ts'
import { resource } from '../model/resource.ts'
import { doChores } from '../queue/chores.ts'
import { exclusivelyClaimed } from '../queue/exclusive.ts'
import {
  holdInstead,
  lockForRewriting,
  positionsOf,
  rewrite,
  unstartedTasks,
  type Rewrite,
  type Unstarted
} from '../queue/rewrite.ts'
import { ensureResources } from '../queue/submit.ts'
import { notYetBound } from '../queue/under-way.ts'
import type { Action } from './action.ts'
import { evaluatePlan } from './evaluate.ts'
import { Predicted } from './predicted.ts'

export type Requeued = {
  rewritten: { task: number; title: string; to: string }[]
  held: { task: number; title: string; why: string }[]
  /** Attempts that were about to be bound, and may not have seen that the host is closed. */
  unbound: { task: number; attempt: number }[]
}

export type ClosingClear = { id: number; title: string; by: string; host: string; reason: string }

// Two deadlocks in a row are bad luck; five are something else.
const maxRaces = 5
/** So many hosts are asked about for one task before it is held. */
const mostTried = 50
const maxLoadRounds = 100

export async function closeAndRequeue(
  database: Database,
  registry: ReadonlyMap<string, Action>,
  clear: ClosingClear
): Promise<Requeued> {
  for (let race = 1; ; race++) {
    try {
      const requeued = await database.transaction((tx) => close(tx, database, registry, clear))
      await doChores(database)
      return requeued
    } catch (error) {
      if (!(error instanceof DatabaseError) || error.code !== 'conflict' || race === maxRaces) throw error
    }
  }
}

async function close(
  tx: Tx,
  database: Database,
  registry: ReadonlyMap<string, Action>,
  clear: ClosingClear
): Promise<Requeued> {
  const { host, reason, by } = clear
  await setCordon(tx, host, { reason, by })
  await lockForRewriting(tx, [resource.host(host)])
  const queued = (await unstartedTasks(tx, [resource.host(host)])).filter(
    (task) => task.args[registry.get(task.action)?.bringsVmTo ?? ''] === host
  )
  const replan = new Replan(tx, registry, clear)
  const choices: Choice[] = []
  for (const task of queued) choices.push(await replan.choose(task))
  const chosen = choices.filter((choice) => 'rewrite' in choice)
  await ensureResources(database, [
    ...new Set(chosen.flatMap((choice) => choice.rewrite.claims.map((claim) => claim.resource)))
  ])
  const answers = await rewrite(tx, { rewrites: chosen.map((choice) => choice.rewrite), by })
  const requeued: Requeued = { rewritten: [], held: [], unbound: await notYetBound(tx) }
  const unfit: { task: Unstarted; why: string }[] = choices.flatMap((choice) => ('why' in choice ? [choice] : []))
  for (const [index, { answer }] of answers.entries()) {
    const choice = chosen[index]
    if (choice && answer === 'rewritten')
      requeued.rewritten.push({ task: choice.task.task, title: choice.rewrite.title, to: choice.to })
    if (choice && answer === 'circle')
      unfit.push({ task: choice.task, why: `on ${choice.to} it would wait for itself` })
  }
  for (const { task, why } of unfit) {
    const told = `task ${clear.id} clears ${host}, and no other host takes it: ${why}`
    // Who holds it already knows better when to let it go.
    if (task.heldAs !== null || (await holdInstead(tx, { task: task.task, reason: told.slice(0, 1000), by })))
      requeued.held.push({ task: task.task, title: task.title, why })
  }
  return requeued
}

type Choice = { task: Unstarted; to: string; rewrite: Rewrite } | { task: Unstarted; why: string }

/** Finds each task another host, those before it counted, in the state that will be predicted where it stands. */
class Replan {
  readonly #tx: Tx
  readonly #registry: ReadonlyMap<string, Action>
  readonly #clear: ClosingClear
  readonly #predicted: Predicted
  readonly #positions = new Map<number, number[] | null>()
  readonly #taken = new Map<string, number>()
  #leaving: ReadonlyMap<string, string> | undefined

  constructor(tx: Tx, registry: ReadonlyMap<string, Action>, clear: ClosingClear) {
    this.#tx = tx
    this.#registry = registry
    this.#clear = clear
    this.#predicted = new Predicted(tx)
  }

  async choose(task: Unstarted): Promise<Choice> {
    const action = this.#registry.get(task.action)
    if (!action) return { task, why: `this version has no action ${task.action}` }
    const need = await this.#needOf(task, action)
    if (!need) return { task, why: 'what it needs is not known' }
    const why: string[] = []
    const candidates = (await readCandidates(this.#tx, need, null)).filter(({ host }) => host !== this.#clear.host)
    candidates.sort((a, b) => this.#free(b) - this.#free(a) || (a.host < b.host ? -1 : 1))
    for (const candidate of candidates.slice(0, mostTried)) {
      const lacking = whyNot(candidate, need) ?? lacksRoom({ ...candidate, freeMiB: this.#room(candidate) })
      const found = lacking === undefined ? await this.#evaluate(task, action, candidate.host) : { why: lacking }
      if ('rewrite' in found) {
        this.#taken.set(candidate.host, (this.#taken.get(candidate.host) ?? 0) + candidate.needMiB)
        return found
      }
      why.push(`${candidate.host}: ${found.why}`)
    }
    return { task, why: why.length > 0 ? why.slice(0, 8).join('; ') : 'there is no other host' }
  }

  #free = ({ host, expectedFreeMiB }: Candidate): number => expectedFreeMiB - (this.#taken.get(host) ?? 0)

  #room = ({ host, freeMiB }: Candidate): number => freeMiB - (this.#taken.get(host) ?? 0)

  async #needOf(task: Unstarted, action: Action): Promise<Need | undefined> {
    this.#leaving ??= new Map(
      (await exclusivelyClaimed(this.#tx, resource.host(''))).map(({ name, task: other, title }) => [
        name,
        `task ${other} has claimed it (${title})`
      ])
    )
    const without = this.#leaving
    const { vm: uuid } = task.args
    const anywhere = { ...task.args }
    delete anywhere[action.bringsVmTo ?? '']
    return this.#asked(task, (state) => {
      if (typeof uuid === 'string') {
        const vm = state.vm(uuid)
        // What the VM needs of stores and networks is asked with the whole action; here its size.
        return (
          vm && {
            task: task.task,
            vm: uuid,
            memoryMiB: vm.maxMemoryMiB,
            vcpus: vm.vcpus,
            stores: [],
            networks: [],
            without
          }
        )
      }
      const to = action.bindTo?.(anywhere, state)
      return to && 'place' in to ? { ...to.place, task: task.task, without } : undefined
    })
  }

  /** Asked of the state that will be predicted where the task stands. */
  async #asked<T>(task: Unstarted, question: (state: FleetState) => T): Promise<T> {
    for (let round = 0; round < maxLoadRounds; round++) {
      const overlays = await this.#before(task)
      try {
        return question(new FleetState({ phase: 'queued', base: this.#predicted.base, overlays }))
      } catch (error) {
        if (!(error instanceof NotLoaded)) throw error
        await this.#predicted.load(error.subjects)
      }
    }
    throw new Error(`facts of task ${task.task} (${task.action}) led to further facts ${maxLoadRounds} times`)
  }

  async #evaluate(
    task: Unstarted,
    action: Action,
    to: string
  ): Promise<Extract<Choice, { rewrite: Rewrite }> | { why: string }> {
    const args: JsonObject = { ...task.args, [action.bringsVmTo ?? '']: to }
    for (let round = 0; round < maxLoadRounds; round++) {
      const overlays = await this.#before(task)
      const evaluation = evaluatePlan([{ action, args }], { base: this.#predicted.base, overlays })
      if (evaluation.missing !== null) {
        await this.#predicted.load([...evaluation.missing])
        continue
      }
      const [refusal] = evaluation.refusals
      const [evaluated] = evaluation.tasks
      if (refusal || !evaluated) return { why: refusal?.error.message ?? 'it is not possible' }
      if (task.action === 'vm.migrate' && evaluated.verdict.verdict === 'nothing_to_do') return { why: 'it is there' }
      // A prerequisite of another kind than it has would have to be put before it: then rather another host.
      const thanks = evaluated.thanksTo.find((author) => typeof author !== 'number' || !task.after.includes(author))
      if (thanks !== undefined) return { why: `it would first need task ${JSON.stringify(thanks)}` }
      this.#replace(task, evaluated.effects)
      const { id, title, host } = this.#clear
      return {
        task,
        to,
        rewrite: {
          task: task.task,
          attempts: task.attempts,
          title: evaluated.title,
          args: evaluated.args,
          claims: evaluated.claims,
          effects: evaluated.effects,
          limits: evaluated.limits,
          message: `rewritten from ${host} to ${to}: task ${id} (${title}) clears ${host}`,
          data: { clear: id, from: host, to }
        }
      }
    }
    throw new Error(`facts of task ${task.task} (${task.action}) led to further facts ${maxLoadRounds} times`)
  }

  /** What those that are rewritten bring about counts as rewritten for those behind them. */
  #replace(task: Unstarted, effects: readonly { subject: string; facts: JsonObject | null }[]): void {
    for (const [subject, list] of this.#predicted.overlays)
      this.#predicted.overlays.set(
        subject,
        list.filter((overlay) => overlay.task !== task.task)
      )
    for (const { subject, facts } of effects) {
      const list = this.#predicted.overlays.get(subject) ?? []
      this.#predicted.overlays.set(subject, list)
      list.push({ task: task.task, title: task.title, subject, facts })
    }
  }

  /** Effects of the tasks that stand before it. */
  async #before(task: Unstarted): Promise<Map<string, Overlay[]>> {
    const authors = new Set([...this.#predicted.overlays.values()].flat().map((overlay) => Number(overlay.task)))
    const unknown = [...authors].filter((author) => !this.#positions.has(author))
    for (const [author, path] of await positionsOf(this.#tx, unknown)) this.#positions.set(author, path)
    const own = task.path.every((at) => at !== null) ? task.path.map(Number) : null
    const isBefore = (author: number) => {
      const path = this.#positions.get(author)
      return author !== task.task && (own === null || (path != null && compare(path, own) < 0))
    }
    return new Map(
      [...this.#predicted.overlays].map(([subject, list]) => [
        subject,
        list
          .filter((overlay) => isBefore(Number(overlay.task)))
          .toSorted((a, b) =>
            compare(this.#positions.get(Number(a.task)) ?? [], this.#positions.get(Number(b.task)) ?? [])
          )
      ])
    )
  }
}

function compare(a: readonly number[], b: readonly number[]): number {
  for (const [index, at] of a.entries()) {
    const other = b[index]
    if (other === undefined) return 1
    if (at !== other) return at - other
  }
  return a.length - b.length
}

// What happened in a simulated run, as somebody sees it who sees everything: which attempt was handed to whom, whose lease holds, what
// was done to the world and how often, which results count. It judges from answers and from its own clockwork, not from the model's
// state, but for how tasks stand; the moment itself is judged by test/queue/wait-graph.ts.
import type { Claimed, Settled } from './dispatch.ts'
import type { End } from './ends.ts'
import type { Answer, Operation } from './operations.ts'
import type { Planned } from './sketches.ts'
import type { State } from './state.ts'
import type { Expanded } from './expand.ts'
import type { Submitted } from './submit.ts'

type Known = {
  planned: Planned
  asked: { task: number; needs: 'complete' | 'ended' }[]
  /** The last attempt that was handed out, and to whom. */
  attempt: number
  dispatcher: number
  /** Of this life; a retry by hand begins another. */
  effects: number
  results: number
}

export class Ledger {
  readonly tasks = new Map<number, Known>()
  readonly wrong: string[] = []
  late = 0
  takenOver = 0
  readonly #state: State
  readonly #leases = new Map<number, { leaseMs: number; until: number }>()
  readonly #heard = new Set<string>()
  #now = 0

  constructor(state: State) {
    this.#state = state
  }

  planned(id: number): Planned | undefined {
    return this.tasks.get(id)?.planned
  }

  /** Done to the world; once a life. */
  effect(id: number): void {
    const known = this.tasks.get(id)
    if (!known) return
    known.effects += 1
    if (known.effects > 1) this.wrong.push(`task ${id} was done twice`)
  }

  happened(id: number): boolean {
    return (this.tasks.get(id)?.effects ?? 0) > 0
  }

  /** `planned`: what was asked for with a submission or an expansion. */
  note(operation: Operation, answer: Answer, planned: readonly Planned[] = []): void {
    if (operation.do === 'pass') this.#now += operation.ms
    if ('refused' in answer && operation.do === 'settle') this.late += operation.ends.length
    if ('refused' in answer) return
    const { value } = answer
    switch (operation.do) {
      case 'register':
        this.#leases.set(value as number, { leaseMs: operation.leaseMs, until: this.#now + operation.leaseMs })
        break
      case 'beat': {
        const lease = this.#leases.get(operation.dispatcher)
        if (value && lease) lease.until = this.#now + lease.leaseMs
        break
      }
      case 'submit': {
        const { tasks, replayed } = value as Submitted
        if (!replayed) this.#add(tasks, planned)
        break
      }
      case 'expand':
        if (value !== 'stale') this.#expanded(value as Exclude<Expanded, 'stale'>, planned)
        break
      case 'settle':
        this.#settled(operation, value as Settled)
        break
      case 'takeOver':
        this.takenOver += (value as Claimed[]).length
        for (const claimed of value as Claimed[]) this.#handOut(claimed, operation.dispatcher)
        break
      case 'bind':
        if ((value as { answer: string }).answer === 'started') this.#begins(operation.task)
        break
      case 'verdict':
        this.#result(operation.task)
        break
      case 'retry':
        this.#broughtBack(new Set(value as number[]))
        break
    }
  }

  #broughtBack(back: ReadonlySet<number>): void {
    for (const [id, known] of this.tasks) {
      if (back.has(id)) Object.assign(known, { effects: 0, results: 0 })
      // For what was open its end has counted.
      else if (this.#state.tasks.get(id)?.outcome === null)
        known.asked = known.asked.filter(({ task }) => !back.has(task))
    }
  }

  #add(ids: readonly number[], planned: readonly Planned[]): void {
    for (const [at, one] of planned.entries()) {
      const asked = one.sketch.after.map(({ task, element, needs }) => ({
        task: task ?? ids[element ?? -1] ?? 0,
        needs
      }))
      this.tasks.set(ids[at] ?? 0, { planned: one, asked, attempt: 0, dispatcher: 0, effects: 0, results: 0 })
    }
  }

  #expanded({ children }: Exclude<Expanded, 'stale'>, planned: readonly Planned[]): void {
    this.#add(children, planned)
  }

  #settled({ dispatcher, ends }: { dispatcher: number; ends: readonly End[] }, { stale, claimed }: Settled): void {
    const isStale = (end: End) => stale.some(({ task, attempt }) => task === end.task && attempt === end.attempt)
    for (const end of ends) {
      const known = this.tasks.get(end.task)
      if (isStale(end)) this.late += 1
      else if (known) this.#accepted(dispatcher, end, known)
    }
    for (const one of claimed) {
      this.#handOut(one, dispatcher)
      if (!one.binds) this.#begins(one.task)
    }
  }

  #accepted(dispatcher: number, end: End, known: Known): void {
    // Said again, since the reply was lost: the queue knows it already.
    const again = `${end.task} ${end.attempt} ${end.outcome}`
    if (this.#heard.has(again)) return
    this.#heard.add(again)
    const said = `what dispatcher ${dispatcher} said of attempt ${end.attempt} of task ${end.task}`
    if (end.attempt !== known.attempt)
      this.wrong.push(`${said} was accepted, although attempt ${known.attempt} was under way`)
    if (!this.#hasLease(dispatcher)) this.wrong.push(`${said} was accepted, although its lease had run out`)
    if (end.outcome === 'complete' || end.outcome === 'failed' || end.outcome === 'cancelled') this.#result(end.task)
    if (end.outcome === 'complete' && !known.planned.fate.children && known.effects === 0)
      this.wrong.push(`task ${end.task} is complete, and was never done`)
  }

  #result(id: number): void {
    const known = this.tasks.get(id)
    if (!known) return
    known.results += 1
    if (known.results > 1) this.wrong.push(`task ${id} has ${known.results} results`)
  }

  #handOut({ task, attempt }: Claimed, dispatcher: number): void {
    const known = this.tasks.get(task)
    if (!known) return
    const holder = this.#state.tasks.get(task)
    if (attempt <= known.attempt) this.wrong.push(`attempt ${attempt} of task ${task} was handed out twice`)
    if (!this.#hasLease(dispatcher))
      this.wrong.push(`task ${task} was handed to dispatcher ${dispatcher}, which has no lease`)
    if (known.dispatcher !== dispatcher && holder?.run?.takenOver && !this.#wasLeft(known))
      this.wrong.push(`task ${task} was taken from dispatcher ${known.dispatcher}, whose lease holds`)
    Object.assign(known, { attempt, dispatcher })
  }

  #wasLeft({ dispatcher, planned }: Known): boolean {
    // What is awaited is looked for at its deadline, whoever began it.
    return !this.#hasLease(dispatcher) || planned.fate.children === undefined
  }

  #hasLease(dispatcher: number): boolean {
    return (this.#leases.get(dispatcher)?.until ?? -Infinity) > this.#now
  }

  /** It starts now: everything that it was told to wait for must have ended as it needs. */
  #begins(id: number): void {
    for (const { task: prerequisite, needs } of this.tasks.get(id)?.asked ?? []) {
      const outcome = this.#state.tasks.get(prerequisite)?.outcome ?? null
      if (outcome === null || (needs === 'complete' && outcome !== 'complete'))
        this.wrong.push(`task ${id} started before ${prerequisite} was ${needs}`)
    }
  }
}

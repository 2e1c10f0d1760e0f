// One simulated life of the queue's core: clients and dispatchers that take turns by dice, on a clock that only the dice move. Messages
// are lost before they arrive, or their replies are; dispatchers die, stop for longer than their lease and go on, report late and
// twice. After every step the moment and the ledger are judged; in the end everything that was asked for must have ended.
import { Dice } from '../queue/dice.ts'
import { judgeMoment } from '../queue/wait-graph.ts'
import { Ledger } from './ledger.ts'
import { momentOf } from './moment.ts'
import { apply, type Answer, type Operation } from './operations.ts'
import { SimulatedDispatcher } from './simulated-dispatcher.ts'
import { CAPS, randomPlan, type Planned } from './sketches.ts'
import { State, type Broken } from './state.ts'
import type { Settled } from './dispatch.ts'
import type { Submitted } from './submit.ts'

export type Life = {
  wrong: string[]
  steps: number
  tasks: number
  lost: number
  late: number
  takenOver: number
}

type OnOperation = (operation: Operation, answer: Answer) => void

export const LEASE_MS = 1000
const DISPATCHERS = 3
const STEPS = 40
const MOST_STEPS = 3000
const LOSS = 0.08

/** What a caller gets to know of what it asked: nothing, when the message or the reply was lost. */
export type Reply = Answer | 'lost'

export class Simulation {
  readonly state: State
  readonly ledger: Ledger
  readonly dice: Dice
  /** Faults happen; no more in the end. */
  rough = true
  readonly #dispatchers: SimulatedDispatcher[]
  readonly #onOperation: OnOperation | undefined
  /** Requests name any task, parts too, and caps change: nothing is judged then. */
  readonly #wild: boolean
  readonly #submitted: number[] = []
  #wrong: string[] = []
  #lost = 0
  #steps = 0

  constructor(seed: number, options: { broken?: readonly Broken[]; wild?: boolean; onOperation?: OnOperation } = {}) {
    this.dice = new Dice(seed)
    this.state = new State(options.broken)
    this.ledger = new Ledger(this.state)
    this.#wild = options.wild ?? false
    this.#onOperation = options.onOperation
    this.#dispatchers = Array.from({ length: DISPATCHERS }, () => new SimulatedDispatcher(this))
  }

  live(): Life {
    for (const [key, cap] of Object.entries(CAPS)) this.do({ do: 'setCap', key, cap })
    for (; this.#steps < STEPS && this.#wrong.length === 0; this.#steps++) this.#step()
    this.#calmDown()
    for (; this.state.open.size > 0 && this.#wrong.length === 0; this.#steps++) {
      if (this.#steps > MOST_STEPS) this.#wrong.push(`${this.#left()} never ended`)
      else this.#settleDown()
    }
    return {
      wrong: this.#wrong,
      steps: this.#steps,
      tasks: this.ledger.tasks.size,
      lost: this.#lost,
      late: this.ledger.late,
      takenOver: this.ledger.takenOver
    }
  }

  /** Asks over a bad line. */
  ask(operation: Operation, planned?: readonly Planned[]): Reply {
    const luck = this.rough ? this.dice.next() : 1
    if (luck < LOSS) {
      this.#lost += 1
      return 'lost'
    }
    const answer = this.do(operation, planned)
    if (luck >= 2 * LOSS) return answer
    this.#lost += 1
    return 'lost'
  }

  /** Does it, and looks at what became of everything. */
  do(operation: Operation, planned?: readonly Planned[]): Answer {
    const answer = apply(this.state, operation)
    this.#onOperation?.(operation, answer)
    this.ledger.note(operation, answer, planned)
    if (!this.#wild && mayChange(operation, answer)) this.#look()
    return answer
  }

  #look(): void {
    if (this.#wrong.length > 0) return
    // A place is taken in a transaction of its own, by whoever comes next.
    const unjust = judgeMoment(momentOf(this.state)).filter((line) => !line.endsWith('and has no place'))
    this.#wrong.push(...this.ledger.wrong, ...unjust)
  }

  #step(): void {
    if (this.dice.chance(0.35)) return this.#request()
    if (this.dice.chance(0.25)) return this.#pass()
    this.dice.pick(this.#dispatchers)?.step()
  }

  #request(): void {
    const dice = this.dice
    const what = dice.next()
    const task = this.#wild ? 1 + dice.below(2 * this.state.tasks.size) : dice.pick(this.#submitted.slice(-10))
    if (this.#wild && dice.chance(0.1)) return this.#changeCap()
    if (what < 0.55 || task === undefined) return this.#submit()
    if (what < 0.68) this.ask({ do: 'cancel', task })
    else if (what < 0.76) this.ask({ do: 'hold', task })
    else if (what < 0.84) this.ask({ do: 'release', task: dice.pick(this.#heldTasks()) ?? task })
    else if (what < 0.92)
      this.ask({ do: 'retry', task: dice.pick(this.#badlyEnded()) ?? task, withDependants: dice.chance(0.5) })
    else if (what < 0.96) this.ask({ do: 'unpark', key: 'world' })
    else this.#verdict()
  }

  /** Mostly for less time than a beat may take, now and then for longer than a lease. */
  #pass(): void {
    this.do({ do: 'pass', ms: this.dice.below(this.dice.chance(0.2) ? 1.3 * LEASE_MS : LEASE_MS / 3) })
  }

  #changeCap(): void {
    const key = this.dice.pick([...Object.keys(CAPS), 'move/0']) ?? ''
    this.ask({ do: 'setCap', key, cap: this.dice.chance(0.2) ? null : this.dice.below(4) })
  }

  #submit(): void {
    const planned = randomPlan(this.dice, { earlier: this.#submitted, now: this.state.now })
    const key = { key: `k${this.#submitted.length}`, fingerprint: `f${this.#steps}` }
    const operation: Operation = {
      do: 'submit',
      tasks: planned.map(({ sketch }) => sketch),
      plan: planned.length > 1,
      key
    }
    // Whoever hears nothing asks again with the same key.
    for (let reply: Reply = 'lost'; reply === 'lost';) {
      reply = this.ask(operation, planned)
      if (reply !== 'lost' && 'value' in reply) this.#submitted.push(...(reply.value as Submitted).tasks)
    }
  }

  #heldTasks = (): number[] => [...this.state.open].filter(({ held }) => held).map(({ id }) => id)

  #badlyEnded = (): number[] =>
    this.#submitted.filter((id) => {
      const { outcome } = this.state.get(id)
      return outcome === 'failed' || outcome === 'cancelled'
    })

  /** An operator who has looked. */
  #verdict(): void {
    for (const { id, run } of this.state.open) {
      if (run?.phase !== 'uncertain') continue
      this.ask({ do: 'verdict', task: id, happened: this.ledger.happened(id) })
      return
    }
  }

  #left = (): string => `tasks ${[...this.state.open].map(({ id }) => id).join(', ')}`

  #calmDown(): void {
    this.rough = false
    for (const dispatcher of this.#dispatchers) dispatcher.wakeUp()
  }

  /** Whatever keeps tasks back is lifted; dispatchers work on. */
  #settleDown(): void {
    for (const task of this.#heldTasks()) this.do({ do: 'release', task })
    if ([...this.state.open].some(({ parked }) => parked === 'world')) this.do({ do: 'unpark', key: 'world' })
    this.#verdict()
    this.do({ do: 'pass', ms: LEASE_MS / 5 })
    for (const dispatcher of this.#dispatchers) dispatcher.work()
  }
}

/** Looking costs more than doing: where nothing can have changed there is nothing to see. */
function mayChange(operation: Operation, answer: Answer): boolean {
  if ('refused' in answer || answer.value === 0) return false
  if (operation.do === 'settle') {
    const { claimed, promoted } = answer.value as Settled
    return operation.ends.length > 0 || claimed.length > 0 || promoted > 0
  }
  if (operation.do === 'takeOver') return (answer.value as unknown[]).length > 0
  return !['pass', 'beat', 'register', 'unregister', 'setCap'].includes(operation.do)
}

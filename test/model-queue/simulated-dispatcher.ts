// A dispatcher in the simulation: it knows only what it was told. It dies and comes back, stops and goes on without knowing, asks again
// when it hears nothing, and writes to hosts only while its last beat is younger than half its lease, by its own clock.
import type { Claimed, Settled } from './dispatch.ts'
import type { End } from './ends.ts'
import { LEASE_MS, type Reply, type Simulation } from './simulation.ts'

type Slot = Claimed & {
  started: boolean
  awaited: boolean
  /** It was done; its end is to be told. */ end: End | null
  under: number
}

const SLOTS = 3

export class SimulatedDispatcher {
  readonly #simulation: Simulation
  #id: number | null = null
  #lastBeat = -Infinity
  #slots = new Map<number, Slot>()
  #ends: End[] = []
  #stoppedUntil = -Infinity

  constructor(simulation: Simulation) {
    this.#simulation = simulation
  }

  step(): void {
    const { dice, state } = this.#simulation
    if (state.now < this.#stoppedUntil) return
    if (this.#stoppedUntil > -Infinity) {
      // It goes on where it was, and knows nothing of the time that went by.
      this.#stoppedUntil = -Infinity
      return this.#workOn(dice.pick([...this.#slots.values()]))
    }
    if (dice.chance(0.03)) return this.#die()
    if (this.#slots.size > 0 && dice.chance(0.15)) {
      this.#stoppedUntil = state.now + (0.5 + dice.below(3)) * LEASE_MS
      return
    }
    this.work()
  }

  wakeUp(): void {
    this.#stoppedUntil = -Infinity
  }

  work(): void {
    const { dice, rough } = this.#simulation
    if (this.#id === null) return this.#begin()
    // Who was stopped goes on where it was, and may not have beaten yet.
    if (!rough || dice.chance(0.6)) this.#beatIfDue()
    if (!rough) return this.#workOff()
    if (dice.chance(0.7)) this.#workOn(dice.pick([...this.#slots.values()]))
    if (dice.chance(0.6)) this.#settle()
    if (dice.chance(0.3)) this.#takeOver()
    if (dice.chance(0.7)) this.#chores()
  }

  /** Without delay. */
  #workOff(): void {
    this.#takeOver()
    this.#settle()
    for (const slot of this.#slots.values()) this.#workOn(slot)
    this.#settle()
    this.#chores()
  }

  #die(): void {
    this.#id = null
    this.#slots.clear()
    this.#ends = []
  }

  #begin(): void {
    const at = this.#simulation.state.now
    const id = valueOf(this.#simulation.ask({ do: 'register', leaseMs: LEASE_MS })) as number | undefined
    if (id === undefined) return
    this.#id = id
    this.#lastBeat = at
    // What it had under the lease that it lost is somebody else's by now; what it says of it is late.
    for (const slot of this.#slots.values()) this.#say(slot)
  }

  #beatIfDue(): void {
    const { now } = this.#simulation.state
    if (this.#id === null || now - this.#lastBeat < LEASE_MS / 4) return
    const alive = valueOf(this.#simulation.ask({ do: 'beat', dispatcher: this.#id })) as boolean | undefined
    if (alive) this.#lastBeat = now
    if (alive === false) this.#begin()
  }

  #mayWrite({ under }: Slot): boolean {
    const { state } = this.#simulation
    return state.broken.has('unfenced') || (under === this.#id && state.now - this.#lastBeat < LEASE_MS / 2)
  }

  #settle(): void {
    const { dice, rough } = this.#simulation
    if (this.#id === null) return
    const ends = this.#ends
    const take = Math.max(0, Math.min(SLOTS - this.#slots.size, rough ? dice.below(SLOTS + 1) : SLOTS))
    const reply = this.#simulation.ask({ do: 'settle', dispatcher: this.#id, ends, take })
    const settled = valueOf(reply) as Settled | undefined
    if (!settled) return
    this.#ends = []
    for (const claimed of settled.claimed) this.#take(claimed)
  }

  #take(claimed: Claimed): void {
    const { task, binds } = claimed
    this.#slots.set(task, {
      ...claimed,
      started: !binds || claimed.children !== null,
      awaited: false,
      end: null,
      under: this.#id ?? 0
    })
  }

  /** What others have left, and what it was given without hearing of it. */
  #takeOver(): void {
    const free = SLOTS - this.#slots.size
    if (this.#id === null || free <= 0) return
    const holding = [...this.#slots.values(), ...this.#ends].map(({ task, attempt }) => ({ task, attempt }))
    const reply = this.#simulation.ask({ do: 'takeOver', dispatcher: this.#id, limit: free, holding })
    for (const claimed of (valueOf(reply) as Claimed[] | undefined) ?? []) this.#take(claimed)
  }

  #chores(): void {
    this.#simulation.ask({ do: 'endDoomed', limit: 1 + this.#simulation.dice.below(5) })
    this.#simulation.ask({ do: 'placeWaiting', limit: 1 + this.#simulation.dice.below(5) })
  }

  /** One of what it has: binds it, expands it, does it, or hears of what it awaited. */
  #workOn(slot: Slot | undefined): void {
    if (!slot) return
    const { ledger, dice } = this.#simulation
    const planned = ledger.planned(slot.task)
    if (!planned) return
    if (slot.end) return this.#say(slot)
    if (!slot.started) return this.#bind(slot)
    if (planned.fate.children && slot.children === null) return this.#expand(slot)
    if (slot.takenOver && !slot.awaited && !planned.fate.children && !this.#simulation.state.broken.has('unprobed')) {
      // Did it happen? Only one of them can have done it: the other is fenced by now.
      if (dice.chance(0.2)) return this.#end(slot, { task: slot.task, attempt: slot.attempt, outcome: 'uncertain' })
      if (ledger.happened(slot.task))
        return this.#end(slot, { task: slot.task, attempt: slot.attempt, outcome: 'complete' })
    }
    this.#perform(slot, planned.fate.children !== undefined)
  }

  #perform(slot: Slot, isParent: boolean): void {
    const { dice, ledger, rough } = this.#simulation
    const end = { task: slot.task, attempt: slot.attempt }
    if (!this.#mayWrite(slot)) return
    const luck = dice.next()
    if (luck < 0.1) return this.#end(slot, { ...end, outcome: 'failed' })
    if (rough && !isParent && !slot.awaited && slot.attempt < 5) {
      if (luck < 0.16) return this.#end(slot, { ...end, outcome: 'retry', afterMs: dice.below(2) * 400 })
      if (luck < 0.22) return this.#end(slot, { ...end, outcome: 'park', key: 'world' })
      if (luck < 0.28) return this.#end(slot, { ...end, outcome: 'awaiting', deadlineMs: 500 + dice.below(2) * 2000 })
    }
    if (!isParent) ledger.effect(slot.task)
    if (!isParent && rough && luck > 0.95) return this.#end(slot, { ...end, outcome: 'uncertain' })
    this.#end(slot, { ...end, outcome: luck < 0.32 ? 'cancelled' : 'complete' })
  }

  /** Between doing and telling anything may happen. */
  #end(slot: Slot, end: End): void {
    slot.end = end
    if (!this.#simulation.rough || this.#simulation.dice.chance(0.6)) this.#say(slot)
  }

  #say(slot: Slot): void {
    this.#slots.delete(slot.task)
    if (slot.end) this.#ends.push(slot.end)
  }

  #bind(slot: Slot): void {
    const { late } = this.#simulation.ledger.planned(slot.task)?.fate ?? {}
    if (this.#id === null || !late) return
    const { task, attempt } = slot
    const reply = this.#simulation.ask({ do: 'bind', dispatcher: this.#id, task, attempt, ...late })
    if (reply === 'lost') return
    if ('refused' in reply) return this.#end(slot, { task, attempt, outcome: 'failed' })
    const { answer } = reply.value as { answer: string }
    if (answer === 'started') slot.started = true
    else this.#slots.delete(task)
  }

  #expand(slot: Slot): void {
    const children = this.#simulation.ledger.planned(slot.task)?.fate.children ?? []
    if (this.#id === null) return
    const { task, attempt } = slot
    const sketches = children.map(({ sketch }) => sketch)
    const reply = this.#simulation.ask(
      { do: 'expand', dispatcher: this.#id, task, attempt, children: sketches },
      children
    )
    if (reply === 'lost') return
    if ('refused' in reply) return this.#end(slot, { task, attempt, outcome: 'cancelled' })
    this.#slots.delete(task)
  }
}

function valueOf(reply: Reply): unknown {
  return reply !== 'lost' && 'value' in reply ? reply.value : undefined
}

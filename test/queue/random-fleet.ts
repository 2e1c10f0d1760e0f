// A random crowd at the queue: clients that submit, cancel, hold, release and retry, and dispatchers that run faked actions of
// random length, some of which expand or decide late where they run. Whether the queue kept its promises is judged by order-checker.ts.

import { setTimeout as sleep } from 'node:timers/promises'
import { DatabaseError } from '../../src/db/error.ts'
import type { Database } from '../../src/db/open.ts'
import { bind, expand, registerDispatcher, settle, unpark } from '../../src/queue/dispatch.ts'
import type { ClaimedTask, End } from '../../src/queue/dispatch.ts'
import { QueueError } from '../../src/queue/error.ts'
import { cancel, cancelRequests, hold, release, retry } from '../../src/queue/requests.ts'
import type { NewTask } from '../../src/queue/task.ts'
import type { Submitted } from '../../src/queue/submit.ts'
import { Dice } from './dice.ts'
import type { Edge, Stint } from './order-checker.ts'
import { claim, submitAll, task as newTask, unlessStopped } from './support.ts'
import type { TaskSketch } from './support.ts'

export type Crowd = {
  db: Database
  seed: number
  operations: number
  submitters: number
  things: number
  dispatchers: number
  slots: number
  longestMs: number
  /** Give up then, whatever is left. */
  deadlineMs: number
  onError: (error: unknown) => void
}

type Fate = {
  /** As submitted, for whoever writes down what was held. */
  claims: string[]
  ms: number
  end: 'complete' | 'failed' | 'retry' | 'park'
  children?: Fate[]
  /** A claim that it finds out about only when it is about to run. */
  late?: string
}

/** An end, without whose it is. */
type Said =
  Extract<End, { outcome: keyof typeof OUTCOMES }> extends infer E
    ? E extends End
      ? Omit<E, 'task' | 'attempt'>
      : never
    : never

const OUTCOMES = {
  complete: 'complete',
  failed: 'failed',
  cancelled: 'cancelled',
  retry: 'again',
  park: 'again'
} as const

const PLACES = 3

export class RandomFleet {
  readonly asked: Edge[] = []
  readonly stints: Stint[] = []
  readonly broughtBack = new Set<number>()
  refusedChildren = 0
  refusedBindings = 0
  conflicts = 0
  readonly #crowd: Crowd
  readonly #stored: number[] = []
  readonly #held = new Set<number>()
  /** What a client might want to bring back. */
  readonly #endedBadly: number[] = []
  #submitting = true
  /** One bell for all dispatchers, rung by submissions; each hears its own workers itself, and of the others' ends when it looks again. */
  #bell = Promise.withResolvers<void>()
  readonly #giveUpAt: number

  constructor(crowd: Crowd) {
    this.#crowd = crowd
    this.#giveUpAt = performance.now() + crowd.deadlineMs
  }

  /** Resolves when every operation was made and every task has ended. */
  async run(): Promise<void> {
    const { submitters, dispatchers } = this.#crowd
    const workers = Array.from({ length: dispatchers }, () => this.#dispatch())
    await Promise.all(Array.from({ length: submitters }, (_, index) => this.#submit(index)))
    for (const task of this.#held) await release(this.#crowd.db, { task, by: 'crowd' }).catch(() => undefined)
    this.#submitting = false
    await Promise.all(workers)
  }

  #ring(): void {
    const bell = this.#bell
    this.#bell = Promise.withResolvers<void>()
    bell.resolve()
  }

  async #submit(index: number): Promise<void> {
    const { db, seed, operations, submitters, onError } = this.#crowd
    const dice = new Dice(seed * 1000 + index)
    const mine = Math.ceil((operations - index) / submitters)
    for (let n = 0; n < mine; n++) {
      try {
        if (this.#stored.length > 0 && dice.chance(0.15)) await this.#request(db, dice)
        else await this.#submitSome(db, dice)
      } catch (error) {
        if (!(error instanceof QueueError)) onError(error)
      }
      this.#ring()
    }
  }

  async #submitSome(db: Database, dice: Dice): Promise<void> {
    const size = dice.chance(0.7) ? 1 : 2 + dice.below(4)
    const sketches = Array.from({ length: size }, (_, at) => this.#sketch(at, dice))
    const { tasks } = await this.#submitAgain(db, sketches, size > 1 ? { plan: { onFailure: 'stop' } } : {})
    for (const [at, sketch] of sketches.entries()) {
      for (const { task, needs } of sketch.after ?? []) {
        const prerequisite = typeof task === 'number' ? task : tasks[task.index]
        this.asked.push({ task: tasks[at]!, prerequisite: prerequisite!, needs, derived: false })
      }
    }
    for (const [at, sketch] of sketches.entries()) if (sketch.hold) this.#held.add(tasks[at]!)
    this.#stored.push(...tasks)
  }

  /** One of those that it needs may be held in the same moment: nothing was stored then, and it is asked for again. */
  async #submitAgain(...request: Parameters<typeof submitAll>): Promise<Submitted> {
    for (;;) {
      try {
        return await submitAll(...request)
      } catch (error) {
        if (!(error instanceof DatabaseError && error.sqlState === '40001')) throw error
        this.conflicts += 1
      }
    }
  }

  async #request(db: Database, dice: Dice): Promise<void> {
    const what = dice.next()
    const from = what < 0.85 || this.#endedBadly.length === 0 ? this.#stored : this.#endedBadly
    const task = dice.pick(dice.chance(0.7) ? from.slice(-40) : from)!
    const by = 'crowd'
    if (what < 0.5) {
      if ((await cancel(db, { task, by })) === 'cancelled') this.#endedBadly.push(task)
    } else if (what < 0.7) {
      await hold(db, { task, by, reason: 'crowd' })
      this.#held.add(task)
    } else if (what < 0.85) {
      await release(db, { task: dice.pick([...this.#held]) ?? task, by })
    } else {
      const back = await retry(db, { task, by, withDependants: dice.chance(0.5) })
      for (const one of back) this.broughtBack.add(one)
    }
  }

  #claims(dice: Dice): string[] {
    const { things } = this.#crowd
    const claims = new Map<string, string>()
    for (let n = 1 + dice.below(2); n > 0; n--) {
      const thing = `vm/${dice.below(things)}`
      claims.set(thing, (dice.next() < 0.4 ? '~' : '') + thing)
    }
    if (dice.next() < 0.4) {
      const place = `host/${dice.below(PLACES)}`
      claims.set(place, (dice.next() < 0.97 ? '~' : '') + place)
    }
    return [...claims.values()]
  }

  #fate(dice: Dice): Fate {
    const end = dice.next()
    return {
      claims: [],
      ms: dice.below(this.#crowd.longestMs),
      end: end < 0.8 ? 'complete' : end < 0.9 ? 'failed' : end < 0.95 ? 'retry' : 'park'
    }
  }

  #sketch(at: number, dice: Dice): TaskSketch {
    const fate = this.#fate(dice)
    const sketch: TaskSketch = { claims: this.#claims(dice), priority: dice.below(3) - 1 }
    const after: { task: number | { index: number }; needs: 'complete' | 'ended' }[] = []
    const needs = () => (dice.next() < 0.5 ? ('complete' as const) : ('ended' as const))
    if (at > 0 && dice.next() < 0.5) after.push({ task: { index: dice.below(at) }, needs: needs() })
    const earlier = dice.pick(this.#stored.slice(-20))
    if (earlier !== undefined && dice.next() < 0.2) after.push({ task: earlier, needs: needs() })
    const kind = dice.next()
    if (kind < 0.2) fate.children = this.#children(1, dice)
    // Complex tasks claim gates, not places.
    else if (kind < 0.3) fate.late = `~host/${dice.below(PLACES)}`
    else if (kind < 0.4) fate.late = `vm/${dice.below(this.#crowd.things)}`
    if (fate.children) sketch.claims = sketch.claims?.filter((text) => !text.startsWith('host/')) ?? []
    if (dice.next() < 0.05) sketch.notBefore = new Date(Date.now() + dice.below(200))
    if (dice.next() < 0.03) sketch.hold = { reason: 'crowd' }
    return { ...sketch, after, binds: fate.late !== undefined, args: { ...fate, claims: [...(sketch.claims ?? [])] } }
  }

  #children(depth: number, dice: Dice): Fate[] {
    return Array.from({ length: 1 + dice.below(3) }, () => {
      const fate = this.#fate(dice)
      if (depth < 2 && dice.next() < 0.2) fate.children = this.#children(depth + 1, dice)
      const claims = this.#claims(dice).filter((text) => !fate.children || !text.startsWith('host/'))
      return { ...fate, claims }
    })
  }

  async #dispatch(): Promise<void> {
    const { db, slots, onError } = this.#crowd
    const { id: dispatcher } = await registerDispatcher(db, { name: 'crowd', leaseMs: 3_600_000 })
    let ends: End[] = []
    let running = 0
    let own = Promise.withResolvers<void>()
    const begin = async (task: ClaimedTask) => {
      running += 1
      try {
        const end = await this.#perform(dispatcher, task)
        if (end) ends.push({ task: task.id, attempt: task.attempt, ...end })
      } catch (error) {
        onError(error)
      } finally {
        running -= 1
        own.resolve()
      }
    }
    while (performance.now() < this.#giveUpAt) {
      const now = ends
      ends = []
      own = Promise.withResolvers<void>()
      const bell = this.#bell.promise
      const answer = await settle(db, { dispatcher, ends: now, take: slots - running }).catch((error: unknown) => {
        onError(error)
        return { settled: [], claimed: [], nextDueMs: null }
      })
      for (const { task, outcome } of answer.settled)
        if (outcome === 'stale') onError(new Error(`task ${task} was stale`))
      for (const task of answer.claimed) void begin(task)
      if (now.length === 0 && answer.claimed.length === 0 && running === 0) {
        await unpark(db, 'crowd')
        const [left] = await db.query<{ n: number }>('select count(*) as n from queue.place')
        if (!this.#submitting && left?.n === 0) return
      }
      if (answer.settled.length === 0) await Promise.race([own.promise, bell, sleep(20)])
    }
  }

  async #perform(dispatcher: number, task: ClaimedTask): Promise<Said | undefined> {
    const { db } = this.#crowd
    const { id, attempt } = task
    const fate = task.args as unknown as Fate
    let claims = fate.claims.map(claim)
    if (fate.late !== undefined) {
      const late = claim(fate.late)
      claims = [...claims.filter(({ resource }) => resource !== late.resource), late]
      try {
        const bound = await bind(db, { dispatcher, task: id, attempt, claims, bound: { late: fate.late } })
        if (bound.outcome === 'stale') throw new Error(`binding of ${id} was stale`)
        if (bound.outcome !== 'started') return undefined
      } catch (error) {
        if (!(error instanceof QueueError && error.code === 'circle')) throw error
        this.refusedBindings += 1
        return { outcome: 'failed', error: { code: error.code, message: error.message } }
      }
    }
    const stint: Stint = { task: id, began: performance.now(), ended: null, outcome: null, claims }
    this.stints.push(stint)
    const said = fate.children && task.children === null ? undefined : await this.#work(dispatcher, task, fate)
    stint.ended = performance.now()
    if (said?.outcome === 'failed' && task.parent === null) this.#endedBadly.push(id)
    stint.outcome = said ? OUTCOMES[said.outcome] : 'expanded'
    if (said || (await this.#expand(dispatcher, task, fate))) return said
    stint.outcome = OUTCOMES.cancelled
    return { outcome: 'cancelled', error: { code: 'cancelled', message: 'asked to stop before it had parts' } }
  }

  async #work(dispatcher: number, { id, attempt }: ClaimedTask, fate: Fate): Promise<Said> {
    const error = { code: 'broken', message: 'it broke' }
    await sleep(fate.ms)
    if (fate.ms % 2 === 0 && (await cancelRequests(this.#crowd.db, dispatcher)).includes(id)) {
      return { outcome: 'cancelled', error: { code: 'cancelled', message: 'as asked' } }
    }
    if (fate.end === 'failed') return { outcome: 'failed', error }
    if (fate.end === 'retry' && attempt === 1) return { outcome: 'retry', afterMs: fate.ms, error }
    if (fate.end === 'park' && attempt === 1) return { outcome: 'park', reason: 'crowd', key: 'crowd' }
    return { outcome: 'complete', result: null }
  }

  /** False when it was asked to stop before it had any children. */
  async #expand(dispatcher: number, { id, attempt }: ClaimedTask, fate: Fate): Promise<boolean> {
    const children = (fate.children ?? []).map(asChild)
    const expanded = await unlessStopped(expand(this.#crowd.db, { dispatcher, task: id, attempt, children }))
    if (expanded === 'stopped') return false
    if (expanded === 'stale') throw new Error(`expansion of ${id} was stale`)
    this.refusedChildren += expanded.refused.length
    return true
  }
}

function asChild(fate: Fate): NewTask {
  return newTask({
    action: 'thing.part',
    title: 'A part',
    args: fate,
    claims: fate.claims,
    binds: fate.late !== undefined
  })
}

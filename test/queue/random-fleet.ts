// A random crowd at the queue: clients that submit, cancel, hold, release and retry, and dispatchers that run faked actions of
// random length, some of which expand or decide late where they run. Whether the queue kept its promises is judged by checker.ts.

import { setTimeout as sleep } from 'node:timers/promises'
import type { Database } from '../../src/db/open.ts'
import { bind, expand, registerDispatcher, settle, unpark } from '../../src/queue/dispatch.ts'
import type { ClaimedTask, End } from '../../src/queue/dispatch.ts'
import { QueueError } from '../../src/queue/error.ts'
import { cancel, cancelRequests, hold, release, retry } from '../../src/queue/requests.ts'
import type { Claim, JsonObject, NewTask } from '../../src/queue/task.ts'
import type { AskedEdge } from './checker.ts'
import { submitAll } from './support.ts'
import type { TaskSketch } from './support.ts'

/** mulberry32: small, seeded, good enough. */
function randomFrom(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296
  }
}

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
  complex?: boolean
  requests?: boolean
  onError: (error: unknown) => void
}

type Fate = { ms: number; end: 'complete' | 'failed' | 'retry' | 'park'; children?: JsonObject[]; late?: string }

const PLACES = 3

export class RandomFleet {
  readonly asked: AskedEdge[] = []
  readonly #crowd: Crowd
  readonly #random: () => number
  readonly #stored: number[] = []
  readonly #held = new Set<number>()
  #submitting = true
  /** One bell for all dispatchers, as in one process: rung by submissions and ends. */
  #bell = Promise.withResolvers<void>()
  readonly #giveUpAt: number
  #refusedChildren = 0

  constructor(crowd: Crowd) {
    this.#crowd = crowd
    this.#random = randomFrom(crowd.seed)
    this.#giveUpAt = performance.now() + crowd.deadlineMs
  }

  get refusedChildren(): number {
    return this.#refusedChildren
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

  #below(n: number): number {
    return Math.floor(this.#random() * n)
  }

  #pick<T>(from: readonly T[]): T | undefined {
    return from[this.#below(from.length)]
  }

  async #submit(index: number): Promise<void> {
    const { db, operations, submitters, requests, onError } = this.#crowd
    const mine = Math.ceil((operations - index) / submitters)
    for (let n = 0; n < mine; n++) {
      try {
        if (requests && this.#random() < 0.2 && this.#stored.length > 0) await this.#request(db)
        else await this.#submitSome(db)
      } catch (error) {
        if (!(error instanceof QueueError)) onError(error)
      }
      this.#ring()
    }
  }

  async #submitSome(db: Database): Promise<void> {
    const size = this.#random() < 0.7 ? 1 : 2 + this.#below(4)
    const sketches = Array.from({ length: size }, (_, at) => this.#sketch(at))
    const { tasks } = await submitAll(db, sketches, size > 1 ? { plan: { onFailure: 'stop' } } : {})
    for (const [at, sketch] of sketches.entries()) {
      for (const { task, needs } of sketch.after ?? []) {
        const prerequisite = typeof task === 'number' ? task : tasks[task.index]
        this.asked.push({ task: tasks[at]!, prerequisite: prerequisite!, needs })
      }
    }
    for (const [at, sketch] of sketches.entries()) if (sketch.hold) this.#held.add(tasks[at]!)
    this.#stored.push(...tasks)
  }

  async #request(db: Database): Promise<void> {
    const task = this.#pick(this.#stored)!
    const what = this.#random()
    const by = 'crowd'
    if (what < 0.5) await cancel(db, { task, by })
    else if (what < 0.7) {
      await hold(db, { task, by, reason: 'crowd' })
      this.#held.add(task)
    } else if (what < 0.85) {
      await release(db, { task: this.#pick([...this.#held]) ?? task, by })
    } else await retry(db, { task, by, withDependants: this.#random() < 0.5 })
  }

  #claims(): string[] {
    const { things } = this.#crowd
    const claims = new Map<string, string>()
    for (let n = 1 + this.#below(2); n > 0; n--) {
      const thing = `vm/${this.#below(things)}`
      claims.set(thing, (this.#random() < 0.4 ? '~' : '') + thing)
    }
    if (this.#random() < 0.4) {
      const place = `host/${this.#below(PLACES)}`
      claims.set(place, (this.#random() < 0.97 ? '~' : '') + place)
    }
    return [...claims.values()]
  }

  #fate(): Fate {
    const end = this.#random()
    return {
      ms: this.#below(this.#crowd.longestMs),
      end: end < 0.8 ? 'complete' : end < 0.9 ? 'failed' : end < 0.95 ? 'retry' : 'park'
    }
  }

  #sketch(at: number): TaskSketch {
    const fate = this.#fate()
    const sketch: TaskSketch = { claims: this.#claims(), priority: this.#below(3) - 1 }
    const after: { task: number | { index: number }; needs: 'complete' | 'ended' }[] = []
    const needs = () => (this.#random() < 0.5 ? ('complete' as const) : ('ended' as const))
    if (at > 0 && this.#random() < 0.5) after.push({ task: { index: this.#below(at) }, needs: needs() })
    const earlier = this.#pick(this.#stored.slice(-20))
    if (earlier !== undefined && this.#random() < 0.2) after.push({ task: earlier, needs: needs() })
    const kind = this.#random()
    if (this.#crowd.complex && kind < 0.2) fate.children = this.#children(1)
    // Complex tasks claim gates, not places: a late claim is never waited for in a circle then.
    else if (this.#crowd.complex && kind < 0.4) fate.late = `~host/${this.#below(PLACES)}`
    if (fate.children) sketch.claims = sketch.claims?.filter((text) => !text.startsWith('host/')) ?? []
    if (this.#crowd.requests && this.#random() < 0.05) sketch.notBefore = new Date(Date.now() + this.#below(200))
    if (this.#crowd.requests && this.#random() < 0.03) sketch.hold = { reason: 'crowd' }
    return { ...sketch, after, binds: fate.late !== undefined, args: fate }
  }

  #children(depth: number): JsonObject[] {
    return Array.from({ length: 1 + this.#below(3) }, () => {
      const fate = this.#fate()
      if (depth < 2 && this.#random() < 0.2) fate.children = this.#children(depth + 1)
      const claims = this.#claims().filter((text) => !fate.children || !text.startsWith('host/'))
      return { claims, fate }
    })
  }

  async #dispatch(): Promise<void> {
    const { db, slots, onError } = this.#crowd
    const { id: dispatcher } = await registerDispatcher(db, { name: 'crowd', leaseMs: 3_600_000 })
    let ends: End[] = []
    let running = 0
    const begin = async (task: ClaimedTask) => {
      running += 1
      try {
        const end = await this.#perform(dispatcher, task)
        if (end) ends.push({ task: task.id, attempt: task.attempt, ...end } as End)
      } catch (error) {
        onError(error)
      } finally {
        running -= 1
        this.#ring()
      }
    }
    while (performance.now() < this.#giveUpAt) {
      const now = ends
      ends = []
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
      if (answer.settled.length > 0) this.#ring()
      else await Promise.race([bell, sleep(20)])
    }
  }

  async #perform(dispatcher: number, task: ClaimedTask): Promise<Omit<End, 'task' | 'attempt'> | undefined> {
    const { db } = this.#crowd
    const fate = task.args as unknown as Fate
    const broken = { code: 'broken', message: 'it broke' }
    const { id, attempt } = task
    if (task.binds) {
      const claims = await this.#finalClaims(id, fate)
      try {
        const bound = await bind(db, { dispatcher, task: id, attempt, claims, bound: { place: fate.late ?? null } })
        if (bound.outcome !== 'started') return undefined
      } catch (error) {
        if (!(error instanceof QueueError && error.code === 'circle')) throw error
        return { outcome: 'failed', error: { code: error.code, message: error.message } } as End
      }
    }
    if (fate.children && task.children === null) {
      const children = fate.children.map(asChild)
      const expanded = await expand(db, { dispatcher, task: id, attempt, children })
      if (expanded === 'stale') throw new Error(`expansion of ${id} was stale`)
      this.#refusedChildren += expanded.refused.length
      return undefined
    }
    await sleep(fate.ms)
    if ((await cancelRequests(db, dispatcher)).includes(id) && fate.ms % 2 === 0) {
      return { outcome: 'cancelled', error: { code: 'cancelled', message: 'as asked' } } as End
    }
    if (fate.end === 'failed') return { outcome: 'failed', error: broken } as End
    if (fate.end === 'retry' && attempt === 1) return { outcome: 'retry', afterMs: fate.ms, error: broken } as End
    if (fate.end === 'park' && attempt === 1) return { outcome: 'park', reason: 'crowd', key: 'crowd' } as End
    return { outcome: 'complete', result: null } as End
  }

  async #finalClaims(id: number, fate: Fate): Promise<Claim[]> {
    const [row] = await this.#crowd.db.query<{ claims: Claim[] }>('select claims from queue.task where id = $1', [id])
    const late = fate.late?.slice(1) ?? ''
    return [...(row?.claims ?? []).filter(({ resource }) => resource !== late), { resource: late, mode: 'shared' }]
  }
}

function asChild(child: JsonObject): NewTask {
  const claims = (child['claims'] as string[]).map((text): Claim =>
    text.startsWith('~') ? { resource: text.slice(1), mode: 'shared' } : { resource: text, mode: 'exclusive' }
  )
  return { action: 'thing.part', title: 'A part', args: child['fate'] as JsonObject, claims, effects: [], binds: false }
}

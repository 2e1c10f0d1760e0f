// A small world that lives on the real queue: complex tasks that expand and expand again, clear-like ones that claim gates, removes,
// migrations that bind late, conflicting claims everywhere, limits, holds, cancels, retries. It acts one step at a time, by dice, so
// that a seed repeats it; whether the queue is right after a step is judged by wait-graph.ts.
import type { Database, Tx } from '../../src/db/open.ts'
import { bind, expand, unpark, type ClaimedTask, type End } from '../../src/queue/dispatch.ts'
import { QueueError, raised } from '../../src/queue/error.ts'
import { cancel } from '../../src/queue/requests.ts'
import { ensureResources, submit } from '../../src/queue/submit.ts'
import type { NewTask, Units } from '../../src/queue/task.ts'
import type { Dice } from './dice.ts'
import { claim, failure, task as newTask, unlessStopped, type TaskSketch } from './support.ts'

type Fate = {
  world: number
  claims: string[]
  /** What it claims once it is about to run. */
  late?: string[]
  children?: TaskSketch[]
  limits?: Units[]
}

/** Keys of limits with their caps. Shared by all worlds. */
export const CAPS: Readonly<Record<string, number>> = { 'out/0': 1, 'out/1': 2, 'in/0': 1, 'in/1': 2, starts: 3 }

const HOSTS = 2
const VMS = 3
const by = 'world'

export class World {
  readonly #db: Database
  readonly #dice: Dice
  readonly #number: number
  readonly #now: () => number
  #left: number
  readonly #roots: number[] = []
  readonly #held = new Set<number>()
  readonly #badly: number[] = []
  readonly #running = new Map<number, { task: ClaimedTask; phase: 'claimed' | 'started' | 'awaiting' | 'refused' }>()
  readonly #asked = new Set<number>()
  tasks = 0
  refused = 0
  waitedAnew = 0

  constructor(parts: { db: Database; dice: Dice; number: number; submissions: number; now: () => number }) {
    this.#db = parts.db
    this.#dice = parts.dice
    this.#number = parts.number
    this.#now = parts.now
    this.#left = parts.submissions
  }

  /** Nothing is asked for any more and nothing runs: what is left must be for want of a release. */
  get idle(): boolean {
    return this.#left === 0 && this.#running.size === 0
  }

  get over(): boolean {
    return this.idle && this.#held.size === 0
  }

  /** All that was ever asked for has ended, and no more will be: nothing that it could ask would change anything. */
  isDone(open: ReadonlySet<number>): boolean {
    return this.#left === 0 && !this.#roots.some((root) => open.has(root))
  }

  take(task: ClaimedTask): void {
    this.#running.set(task.id, { task, phase: task.binds && task.children === null ? 'claimed' : 'started' })
  }

  /** What the next call to the queue reports for this world: some of what runs has ended. */
  ends(): End[] {
    const ends: End[] = []
    for (const [id, { task, phase }] of this.#running) {
      if (phase === 'claimed' || !this.#dice.chance(0.4)) continue
      const end = this.#endOf(task, phase)
      if (end.outcome === 'awaiting' || end.outcome === 'uncertain') this.#running.set(id, { task, phase: 'awaiting' })
      else this.#running.delete(id)
      if (end.outcome === 'failed' && task.parent === null) this.#badly.push(id)
      ends.push(end)
    }
    return ends
  }

  #endOf({ id, attempt, children }: ClaimedTask, phase: string): End {
    const end = { task: id, attempt }
    if (phase === 'refused') return { ...end, outcome: 'failed', error: failure }
    if (this.#asked.has(id) && this.#dice.chance(0.7)) return { ...end, outcome: 'cancelled', error: failure }
    const dice = this.#dice.next()
    if (dice < 0.12) return { ...end, outcome: 'failed', error: failure }
    if (children === null && phase !== 'awaiting' && attempt < 4) {
      if (dice < 0.18) return { ...end, outcome: 'retry', afterMs: this.#dice.below(2) * 1000, error: failure }
      if (dice < 0.24) return { ...end, outcome: 'park', reason: 'for a while', key: 'world' }
      if (dice < 0.3) return { ...end, outcome: 'awaiting', what: 'an event', deadlineMs: 3_600_000 }
      if (dice < 0.34) return { ...end, outcome: 'uncertain', error: failure, evidence: null }
    }
    return { ...end, outcome: 'complete', result: null }
  }

  /** One thing that happens: a task that was handed out begins, or a client asks for something. */
  async step(dispatcher: number): Promise<void> {
    try {
      const fresh = [...this.#running.values()].filter(
        ({ task, phase }) => phase === 'claimed' || (phase === 'started' && expands(task))
      )
      const next = this.#dice.pick(fresh)
      if (next && this.#dice.chance(0.6)) return await this.#begin(dispatcher, next.task, next.phase)
      if (this.#left > 0 && this.#dice.chance(0.7)) return await this.#submit()
      await this.#request()
    } catch (error) {
      if (!(error instanceof QueueError)) throw error
    }
  }

  /** Lets go of everything that a person keeps back. */
  async letGo(): Promise<void> {
    for (const task of this.#held) await this.#ask('release($1, $2)', [task, by]).catch(ignoreRefusal)
    this.#held.clear()
    await unpark(this.#db, 'world')
  }

  async #begin(dispatcher: number, task: ClaimedTask, phase: string): Promise<void> {
    const fate = task.args as unknown as Fate
    const { id, attempt } = task
    if (phase === 'claimed') {
      const claims = [
        ...new Map([...fate.claims, ...(fate.late ?? [])].map(claim).map((one) => [one.resource, one])).values()
      ]
      try {
        const bound = await bind(this.#db, { dispatcher, task: id, attempt, claims, bound: null })
        if (bound.outcome === 'started') this.#running.set(id, { task, phase: 'started' })
        else this.#running.delete(id)
        if (bound.outcome === 'waiting') this.waitedAnew += 1
      } catch (error) {
        if (!(error instanceof QueueError && error.code === 'circle')) throw error
        // It cannot be had: the attempt fails, as a dispatcher's would.
        this.refused += 1
        this.#running.set(id, { task, phase: 'refused' })
      }
      return
    }
    const children = (fate.children ?? []).map((sketch) => newTask(sketch))
    const expanded = await unlessStopped(expand(this.#db, { dispatcher, task: id, attempt, children }))
    if (expanded === 'stopped') {
      // It has no parts: the attempt ends, as a dispatcher's would.
      this.#running.set(id, { task, phase: 'refused' })
      return
    }
    this.#running.delete(id)
    if (expanded === 'stale') throw new Error(`the expansion of task ${id} was stale`)
    this.tasks += expanded.children.length
    this.refused += expanded.refused.length
  }

  async #submit(): Promise<void> {
    const size = this.#dice.chance(0.6) ? 1 : 2 + this.#dice.below(3)
    const sketches = Array.from({ length: size }, (_, at) => {
      const after: NonNullable<TaskSketch['after']>[number][] = []
      const needs = this.#dice.chance(0.5) ? 'complete' : 'ended'
      if (at > 0 && this.#dice.chance(0.3)) after.push({ task: { index: this.#dice.below(at) }, needs })
      const earlier = this.#dice.pick(this.#roots.slice(-6))
      if (earlier !== undefined && this.#dice.chance(0.15)) after.push({ task: earlier, needs })
      const sketch = { ...this.#sketch(0), after }
      if (this.#dice.chance(0.05)) return { ...sketch, hold: { reason: 'not yet' } }
      return this.#dice.chance(0.05) ? { ...sketch, notBefore: new Date(this.#now() + 2000) } : sketch
    })
    this.#left -= 1
    const { tasks } = await this.#store(sketches)
    this.tasks += size
    this.#roots.push(...tasks)
    for (const [at, sketch] of sketches.entries()) if ('hold' in sketch) this.#held.add(tasks[at] ?? 0)
  }

  /** Makes every name of this world known. */
  async begin(): Promise<void> {
    const things = Array.from({ length: VMS }, (_, vm) => `w${this.#number}/vm/${vm}`)
    const places = Array.from({ length: HOSTS }, (_, host) => [this.#host(host), this.#gate(host)]).flat()
    await ensureResources(this.#db, [...things, ...places])
  }

  /** In one statement: it locks what it needs itself, and nobody is looked for before. */
  #store(sketches: readonly TaskSketch[]): Promise<{ tasks: number[] }> {
    const plan = sketches.length > 1 ? { plan: { onFailure: 'stop' as const } } : {}
    return submit(this.#db as unknown as Tx, { tasks: sketches.map(newTask), by, ...plan })
  }

  /** What requests.ts asks, without the chores: these are done for all worlds at once. */
  async #ask(request: string, values: unknown[]): Promise<unknown> {
    const [row] = await raised(this.#db.query<{ answer: unknown }>(`select queue.${request} as answer`, values))
    return row?.answer
  }

  async #request(): Promise<void> {
    const what = this.#dice.next()
    const task = this.#dice.pick(this.#roots.slice(-12))
    if (task === undefined) return
    if (what < 0.25) {
      const answer = await cancel(this.#db, { task, by })
      if (answer === 'cancelled') this.#badly.push(task)
      if (answer === 'cancelling') this.#asked.add(task)
    } else if (what < 0.45) {
      await this.#ask('hold($1, $2, $3)', [task, 'wait', by])
      this.#held.add(task)
    } else if (what < 0.7) {
      const held = this.#dice.pick([...this.#held])
      if (held === undefined) return
      this.#held.delete(held)
      await this.#ask('release($1, $2)', [held, by])
    } else if (what < 0.85) {
      const back = this.#dice.pick(this.#badly)
      if (back === undefined || this.#left === 0) return
      const open = (await this.#ask('retry($1, $2, $3)', [back, by, this.#dice.chance(0.5)])) as number[]
      for (const one of open) this.#asked.delete(one)
    } else {
      await unpark(this.#db, 'world')
    }
  }

  // What there is to do.

  #vm = () => `w${this.#number}/vm/${this.#dice.below(VMS)}`
  #host = (host = this.#dice.below(HOSTS)) => `w${this.#number}/host/${host}`
  #gate = (host: number) => `w${this.#number}/host-gate/${host}`

  #sketch(depth: number): TaskSketch {
    const kind = this.#dice.next()
    if (depth < 3 && kind < (depth === 0 ? 0.2 : 0.1)) return this.#clear(depth)
    if (depth < 3 && kind < (depth === 0 ? 0.4 : 0.25)) return this.#nested(depth)
    if (kind < 0.5 && depth === 0) return this.#remove()
    if (kind < 0.65) return this.#migration(this.#vm())
    if (kind < 0.8) return this.#start()
    if (kind < 0.9) return this.#made({ claims: [this.#vm()], late: [this.#vm()] })
    return this.#made({ claims: [this.#vm(), this.#shared(this.#vm()), this.#shared(this.#host())] })
  }

  #made({ claims, ...more }: Omit<Fate, 'world'>): TaskSketch {
    // Of two on one resource the stronger counts, as everywhere.
    const strongest = new Map<string, string>()
    for (const text of claims) {
      const name = text.replace('~', '')
      if (strongest.get(name) !== name) strongest.set(name, text)
    }
    const fate: Fate = { world: this.#number, claims: [...strongest.values()], ...more }
    return {
      claims: fate.claims,
      args: fate as unknown as NewTask['args'],
      binds: more.late !== undefined,
      priority: this.#dice.below(3) - 1,
      ...(more.limits ? { limits: more.limits } : {})
    }
  }

  #shared = (name: string) => `~${name}`

  /** host.clear: the gate, and a migration for each VM; some of them are complex themselves. */
  #clear(depth: number): TaskSketch {
    const host = this.#dice.below(HOSTS)
    const children = Array.from({ length: 1 + this.#dice.below(3) }, (_, at) => {
      const child = this.#dice.chance(0.75) ? this.#migration(this.#vm()) : this.#sketch(depth + 1)
      return at > 0 && this.#dice.chance(0.2)
        ? { ...child, after: [{ task: { index: at - 1 }, needs: 'ended' as const }] }
        : child
    })
    return this.#made({ claims: [this.#gate(host)], children })
  }

  #nested(depth: number): TaskSketch {
    const children = Array.from({ length: 1 + this.#dice.below(3) }, () => {
      const child = this.#sketch(depth + 1)
      const earlier = this.#dice.pick(this.#roots.slice(-8))
      return earlier !== undefined && this.#dice.chance(0.1)
        ? { ...child, after: [{ task: earlier, needs: 'ended' as const }] }
        : child
    })
    const claims = this.#dice.chance(0.5) ? [this.#vm()] : [this.#shared(this.#vm()), this.#vm()]
    return this.#made({
      claims,
      children,
      ...(this.#dice.chance(0.3) ? { limits: [{ key: 'starts', units: 1 }] } : {})
    })
  }

  #remove(): TaskSketch {
    const host = this.#dice.below(HOSTS)
    return this.#made({ claims: [this.#host(host), this.#gate(host)] })
  }

  #migration(vm: string): TaskSketch {
    const from = this.#dice.below(HOSTS)
    const to = (from + 1) % HOSTS
    const limits = [
      { key: `out/${from}`, units: 1 },
      { key: `in/${to}`, units: 1 }
    ]
    return this.#made({ claims: [vm], late: [this.#shared(this.#host(from)), this.#shared(this.#host(to))], limits })
  }

  #start(): TaskSketch {
    const limits = [{ key: 'starts', units: 1 + this.#dice.below(2) }]
    return this.#made({ claims: [this.#vm()], late: [this.#shared(this.#host())], limits })
  }
}

const expands = (task: ClaimedTask): boolean =>
  task.children === null && task.attempt <= 3 && ((task.args as unknown as Fate).children?.length ?? 0) > 0

function ignoreRefusal(error: unknown): void {
  if (!(error instanceof QueueError)) throw error
}

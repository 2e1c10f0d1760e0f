// Looks at VMs on their hosts and records what was seen: for the tasks that act on them and for the watchers that hear of them, in
// batches, and once where both want to know the same.
import type { Following } from '../actions/action.ts'
import type { Database } from '../db/open.ts'
import { HostError } from '../host/error.ts'
import type { Host } from '../host/host.ts'
import { beginSights, recordSights, type SightOfVm } from '../inventory/observe.ts'
import { noteRuns } from '../inventory/vm-life.ts'
import type { ObservedVm } from '../model/vm.ts'
import { gather } from './gather.ts'

export type Seen = ObservedVm | undefined

export interface Sights {
  /** A moment: looks that begin later have a larger one. */
  now(): number
  /**
   * What the host says of the VM, recorded before it resolves; undefined = it says that it has no such VM. `since`: a look that is
   * under way will do if it began after that moment; default now.
   * @throws HostError; InventoryError `unknown_host`
   */
  look(host: Host, uuid: string, since?: number): Promise<Seen>
  /** Hears of every look at the VM that begins from now on, whoever asked for it. Always end it. */
  follow(host: Host, uuid: string): Following
  /** VMs were heard to begin to run, so long ago. */
  ran(runs: readonly Run[]): Promise<void>
}

type Run = { vm: string; agoMs: number }
/** Undefined until it begins. */
type Look = { number: number | undefined; seen: Promise<Seen> }

export function createSights(database: Database): Sights {
  let moment = 0
  /** The last one that was asked for, of each VM that is looked at. */
  const looks = new Map<string, Look>()
  const followers = new Map<string, Set<Follower>>()

  const begin = gather((asked: null[]) => beginSights(database, asked.length), { most: 500, atOnce: 2 })
  const record = gather(async (sights: SightOfVm[]) => {
    await recordSights(database, sights)
    return sights
  })
  const noted = gather(async (runs: (readonly Run[])[]) => {
    await noteRuns(database, runs.flat())
    return runs
  })

  async function lookAt(look: { number: number | undefined }, key: string, host: Host, uuid: string): Promise<Seen> {
    const sight = await begin(null)
    look.number = ++moment
    const seen = await host.vm(uuid)
    await record({ ...sight, host: host.name, vm: uuid, seen })
    for (const follower of followers.get(key) ?? []) follower.tell(look.number, seen)
    return seen
  }

  const sights: Sights = {
    now: () => moment,
    look(host, uuid, since = moment) {
      const key = `${host.name}/${uuid}`
      const last = looks.get(key)
      if (last && (last.number === undefined || last.number > since)) return last.seen
      const number: { number: number | undefined } = { number: undefined }
      const look: Look = Object.assign(number, { seen: lookAt(number, key, host, uuid) })
      looks.set(key, look)
      const over = () => {
        if (looks.get(key) === look) looks.delete(key)
      }
      look.seen.then(over, over)
      return look.seen
    },
    follow(host, uuid) {
      const key = `${host.name}/${uuid}`
      const follower = new Follower(sights, host, uuid, () => {
        all.delete(follower)
        if (all.size === 0 && followers.get(key) === all) followers.delete(key)
      })
      const all = followers.get(key) ?? new Set()
      followers.set(key, all.add(follower))
      return follower
    },
    async ran(runs) {
      await noted(runs)
    }
  }
  return sights
}

/** Without an event it is looked at this often. */
const pollMs = 1000

class Follower implements Following {
  readonly #sights: Sights
  readonly #host: Host
  readonly #uuid: string
  readonly #end: () => void
  readonly #stopHearing: () => void
  /** When it was last known to have changed: as it was followed, then its last event. */
  #changed: number
  #last: { number: number; seen: Seen } | undefined
  #wake: (() => void) | undefined

  constructor(sights: Sights, host: Host, uuid: string, end: () => void) {
    this.#sights = sights
    this.#host = host
    this.#uuid = uuid
    this.#end = end
    this.#changed = sights.now()
    this.#stopHearing = host.onChange((change) => {
      if ((change.kind !== 'vm' && change.kind !== 'job') || change.uuid !== uuid) return
      this.#changed = sights.now()
      this.#wake?.()
    })
  }

  tell(number: number, seen: Seen): void {
    if (number <= (this.#last?.number ?? this.#changed)) return
    this.#last = { number, seen }
    this.#wake?.()
  }

  end(): void {
    this.#stopHearing()
    this.#end()
  }

  async until(
    holds: (vm: Seen) => boolean,
    { timeoutMs, signal }: { timeoutMs: number; signal: AbortSignal }
  ): Promise<Seen> {
    const deadline = performance.now() + timeoutMs
    const poke = () => this.#wake?.()
    signal.addEventListener('abort', poke)
    try {
      for (;;) {
        const { name } = this.#host
        if (signal.aborted) throw new HostError('aborted', name, `${name}: stopped waiting for VM ${this.#uuid}`)
        if (this.#last && holds(this.#last.seen)) return this.#last.seen
        const changed = this.#changed
        const seen = await this.#sights.look(this.#host, this.#uuid, changed)
        if (holds(seen)) return seen
        const leftMs = deadline - performance.now()
        if (leftMs <= 0) throw this.#timeout(seen, timeoutMs)
        if (this.#changed === changed) await this.#pause(Math.min(leftMs, pollMs))
      }
    } finally {
      signal.removeEventListener('abort', poke)
    }
  }

  #pause(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, ms)
      this.#wake = () => {
        clearTimeout(timer)
        this.#wake = undefined
        resolve()
      }
    })
  }

  #timeout(seen: Seen, timeoutMs: number): HostError {
    const { name } = this.#host
    const now = seen ? `${seen.name} is ${seen.power} (${seen.reason})` : `there is no VM ${this.#uuid}`
    return new HostError('timeout', name, `${name}: after ${timeoutMs / 1000} s ${now}`)
  }
}

// Stops a transaction between the statements of the queue's own functions, and lets two of them go on step by step in a chosen
// order. A stop is an advisory lock that the stepper holds until it is that session's turn; what a session then waits for is
// either its next stop or the other session.
import pg from 'pg'
import type { Alteration } from './altered.ts'

const STOPS = 20

/** Put before `at` in a function's text. Only sessions that set `test.side` stop there. */
export const stopBefore = (name: string, at: string, number: number): Alteration => [
  name,
  at,
  `perform queue.stop(${number}); ${at}`
]

/** To be run by the owner once. */
export const STOP_FUNCTION = `create or replace function queue.stop(p_number integer) returns void
  language plpgsql set search_path = pg_catalog, pg_temp as $$
  declare side constant text := coalesce(current_setting('test.side', true), '');
  begin
    if side <> '' then
      perform pg_advisory_lock(77, side::integer * ${STOPS} + p_number);
      perform pg_advisory_unlock(77, side::integer * ${STOPS} + p_number);
    end if;
  end $$`

/** All ways to merge `a` steps of the first side with `b` of the second: true = the first side's turn. */
export function merges(a: number, b: number): boolean[][] {
  if (a === 0) return [Array.from({ length: b }, () => false)]
  if (b === 0) return [Array.from({ length: a }, () => true)]
  return [...merges(a - 1, b).map((rest) => [true, ...rest]), ...merges(a, b - 1).map((rest) => [false, ...rest])]
}

/** A statement, with the numbers of the stops that it passes, in their order. */
export type Stage = { run: (client: pg.Client) => Promise<unknown>; stops: readonly number[] }

type Step = { kind: 'run'; stage: Stage } | { kind: 'pass'; stop: number }

class Side {
  readonly client: pg.Client
  readonly pid: number
  readonly number: number
  readonly #stepper: pg.Client
  readonly #stepperPid: number
  #steps: Step[] = []
  #running: Promise<unknown> | undefined
  #done = true
  #failure: unknown

  constructor(sides: { client: pg.Client; pid: number; number: number; stepper: pg.Client; stepperPid: number }) {
    this.client = sides.client
    this.pid = sides.pid
    this.number = sides.number
    this.#stepper = sides.stepper
    this.#stepperPid = sides.stepperPid
  }

  get left(): number {
    return this.#steps.length + (this.#done ? 0 : 1)
  }

  async begin(stages: readonly Stage[]): Promise<void> {
    this.#steps = stages.flatMap((stage): Step[] => [
      { kind: 'run', stage },
      ...stage.stops.map((stop): Step => ({ kind: 'pass', stop }))
    ])
    this.#failure = undefined
    for (const { stops } of stages) for (const stop of stops) await this.#lock('pg_advisory_lock', stop)
  }

  /** Goes on to the next stop, the end of a statement, or where the other side keeps it up. False: it could not move. */
  async turn(): Promise<boolean> {
    if (!this.#done && (await this.#waitsFor()) === 'other') return false
    // Let go by the other side's commit, it goes on to its own next stop first.
    await this.#rest()
    const step = this.#steps[0]
    if (!step) return false
    if (step.kind === 'run' && !this.#done) return false
    this.#steps.shift()
    if (step.kind === 'pass') await this.#lock('pg_advisory_unlock', step.stop)
    else {
      this.#done = false
      this.#running = step.stage
        .run(this.client)
        .catch((error: unknown) => {
          this.#failure ??= error
        })
        .finally(() => {
          this.#done = true
        })
    }
    await this.#rest()
    return true
  }

  /** What its statements threw, if any did. Stops that it did not come to are opened. */
  async end(): Promise<unknown> {
    await this.#running
    if (this.#failure) {
      await this.client.query('rollback')
      for (const step of this.#steps) if (step.kind === 'pass') await this.#lock('pg_advisory_unlock', step.stop)
      this.#steps = []
    }
    return this.#failure
  }

  /** Once a statement failed there is nothing more to do. */
  get over(): boolean {
    return (this.#failure !== undefined && this.#done) || this.left === 0
  }

  async #rest(): Promise<void> {
    while (!this.#done && (await this.#waitsFor()) === 'nothing') await new Promise((resolve) => setImmediate(resolve))
    if (this.#done) await this.#running
  }

  async #waitsFor(): Promise<'nothing' | 'stop' | 'other'> {
    const { rows } = await this.#stepper.query<{ by: number[] }>('select pg_blocking_pids($1) as by', [this.pid])
    const by = rows[0]?.by ?? []
    return by.includes(this.#stepperPid) ? 'stop' : by.length > 0 ? 'other' : 'nothing'
  }

  #lock(what: 'pg_advisory_lock' | 'pg_advisory_unlock', stop: number): Promise<unknown> {
    return this.#stepper.query(`select ${what}(77, $1)`, [this.number * STOPS + stop])
  }
}

export class Stepper {
  readonly #sides: readonly [Side, Side]
  readonly #clients: readonly pg.Client[]
  /** How often one side was kept up by the other. */
  keptUp = 0

  private constructor(sides: readonly [Side, Side], clients: readonly pg.Client[]) {
    this.#sides = sides
    this.#clients = clients
  }

  static async start(url: string): Promise<Stepper> {
    const clients = [0, 1, 2].map(() => new pg.Client({ connectionString: url }))
    const pids: number[] = []
    for (const client of clients) {
      await client.connect()
      pids.push((await client.query<{ pid: number }>('select pg_backend_pid() as pid')).rows[0]!.pid)
    }
    const [one, two, stepper] = clients as [pg.Client, pg.Client, pg.Client]
    const side = async (client: pg.Client, number: number) => {
      await client.query(`set test.side = ${number}`)
      return new Side({ client, pid: pids[number - 1]!, number, stepper, stepperPid: pids[2]! })
    }
    return new Stepper([await side(one, 1), await side(two, 2)], clients)
  }

  /** Lets both go on in this order, then to their ends. Returns what each threw. */
  async meet(
    order: readonly boolean[],
    first: readonly Stage[],
    second: readonly Stage[]
  ): Promise<readonly [unknown, unknown]> {
    const [a, b] = this.#sides
    await a.begin(first)
    await b.begin(second)
    for (const turn of order) if (!(await (turn ? a : b).turn())) this.keptUp += 1
    for (let still = 0; !(a.over && b.over);) {
      const moved = [!a.over && (await a.turn()), !b.over && (await b.turn())]
      still = moved.includes(true) ? 0 : still + 1
      if (still > 1000) throw new Error('both stand still')
    }
    return [await a.end(), await b.end()]
  }

  async stop(): Promise<void> {
    await Promise.all(this.#clients.map((client) => client.end()))
  }
}

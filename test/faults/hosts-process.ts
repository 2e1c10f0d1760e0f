// Simulated hosts in a process of their own: they live on when engines are killed, and their journal tells what really happened.
// Started by processes.ts.
import type { EventName } from '../../src/libvirt/wire.gen.ts'
import { startSimFleet, type SimFleet, type SimFleetOptions } from '../../src/sim/fleet.ts'
import type { FaultRule } from '../../src/sim/faults.ts'
import type { JournalEntry, JournalKind } from '../../src/sim/journal.ts'
import { populate, type Population } from '../../src/sim/populate.ts'
import { answer } from './ipc.ts'
import { truthOf, type Truth } from './truth.ts'

let started: SimFleet | undefined
const fleet = (): SimFleet => {
  if (!started) throw new Error('the hosts have not been started')
  return started
}
const hostsNamed = (name: string | null) => (name === null ? fleet().hosts : [fleet().host(name)])

type Wanted = { kind?: JournalKind; host?: string; name?: string; after?: number }

const handlers = {
  /** Control URIs by host. */
  async start(options: SimFleetOptions): Promise<Record<string, string>> {
    started = await startSimFleet(options)
    return started.uris
  },
  populate: (population: Population) => populate(fleet(), population),
  /** Entries after the one of that number. */
  journal: (after = 0): JournalEntry[] =>
    fleet()
      .journal.entries()
      .filter(({ seq }) => seq > after),
  counters: () => ({ overCommitted: fleet().journal.overCommitted, twoWriters: fleet().journal.twoWriters }),
  /** The first entry that fits, waited for. */
  async next({ after = 0, ...wanted }: Wanted, timeoutMs = 10_000): Promise<JournalEntry> {
    const fits = (entry: JournalEntry) =>
      entry.seq > after &&
      Object.entries(wanted).every(([key, value]) => value === undefined || entry[key as keyof JournalEntry] === value)
    return fleet().journal.entries().find(fits) ?? (await fleet().journal.next(fits, timeoutMs))
  },
  /** The nth entry, waited for, whose name begins like that. */
  async nth(prefix: string, n: number, timeoutMs: number): Promise<JournalEntry> {
    const fits = (entry: JournalEntry) => entry.name.startsWith(prefix)
    const earlier = fleet().journal.entries().filter(fits)
    let left = n - earlier.length
    return earlier[n - 1] ?? (await fleet().journal.next((entry) => fits(entry) && --left === 0, timeoutMs))
  },
  /** What is there now. */
  truth: (): Truth => truthOf(fleet()),
  /** null: of every host. */
  addFault(host: string | null, rule: FaultRule): void {
    for (const one of hostsNamed(host)) one.faults.add(rule)
  },
  clearFaults(host: string | null): void {
    for (const one of hostsNamed(host)) one.faults.clear()
  },
  loseEvents(host: string | null, times: number, event?: EventName): void {
    for (const one of hostsNamed(host)) one.faults.loseEvents(times, event)
  },
  powerOff: (host: string, silent = false) => fleet().powerOff(host, { silent }),
  boot: (host: string) => fleet().boot(host),
  restartDaemon: (host: string) => fleet().restartDaemon(host),
  partition: (a: string, b: string) => fleet().partition(a, b),
  heal: (a: string, b: string) => fleet().heal(a, b),
  stop: () => started?.stop()
}

export type HostsHandlers = typeof handlers

answer(handlers)

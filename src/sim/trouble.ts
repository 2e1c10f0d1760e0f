// Trouble by script: what goes wrong on a simulated fleet, and when, as a file says it. A script is a list of rules about calls
// (faults.ts) and of happenings at a time. Reading refuses what is not understood; nothing is half applied.
import { ErrorCode, ErrorDomain } from '../libvirt/constants.gen.ts'
import { events, procedures, type EventName, type ProcedureName } from '../libvirt/wire.gen.ts'
import type { Fault, FaultRule } from './faults.ts'
import type { SimFleet } from './fleet.ts'
import type { RefusalCode, RefusalDomain } from './refusal.ts'

/** A rule about calls of one host, or of every host. */
export type RuleStep = { kind: 'rule'; host: string | undefined; rule: FaultRule }

type Happening =
  | { happening: 'power-off'; host: string; silent: boolean }
  | { happening: 'boot'; host: string }
  | { happening: 'restart-daemon'; host: string }
  | { happening: 'partition' | 'heal'; between: [string, string] }
  | { happening: 'lose-events'; host: string; times: number; event: EventName | undefined }
  | { happening: 'guest'; vm: string; dirtyMiBps: number | undefined; obeysShutdown: boolean | undefined }

export type TroubleStep = RuleStep | { kind: 'happening'; atMs: number; what: Happening }

export class TroubleError extends Error {
  override readonly name = 'TroubleError'
  readonly code = 'not_understood'
}

const refuse = (at: number, why: string): never => {
  throw new TroubleError(`entry ${at + 1}: ${why}`)
}

/**
 * A parsed YAML or JSON file as steps. Each entry is either a rule, `{ host?, on?, fault, times?, skip?, chance?, subject? }`, or a
 * happening, `{ at: seconds, do, … }`.
 * @throws TroubleError
 */
export function readTrouble(value: unknown): TroubleStep[] {
  if (!Array.isArray(value)) throw new TroubleError('a script of faults is a list')
  return value.map((entry: unknown, at) => {
    if (typeof entry !== 'object' || entry === null || Array.isArray(entry))
      return refuse(at, 'it is no map of keys and values')
    const reader = new Reader(entry as Record<string, unknown>, at)
    const step = 'do' in entry ? readHappening(reader) : readRule(reader)
    reader.end()
    return step
  })
}

function readRule(reader: Reader): TroubleStep {
  const host = reader.text('host')
  const on = reader.words('on')
  for (const name of on ?? [])
    if (!Object.hasOwn(procedures, name)) reader.fail(`${show(name)} is no call of libvirt's protocol`)
  const [times, skip] = [reader.number('times', 1), reader.number('skip', 0)]
  const chance = reader.number('chance', 0, 1)
  const subject = reader.text('subject')
  const rule: FaultRule = {
    fault: readFault(reader),
    ...(on ? { on: on as ProcedureName[] } : {}),
    ...(times === undefined ? {} : { times }),
    ...(skip === undefined ? {} : { skip }),
    ...(chance === undefined ? {} : { chance }),
    ...(subject === undefined ? {} : { subject })
  }
  return { kind: 'rule', host, rule }
}

const plainFaults = ['hang', 'drop_before', 'drop_after', 'lose_reply', 'half_copy'] as const

function readFault(reader: Reader): Fault {
  const kind = reader.needed('fault')
  if (kind === 'delay') return { kind, ms: reader.number('ms', 0) ?? 1000 }
  if (kind === 'error') {
    const code = reader.text('code') ?? 'INTERNAL_ERROR'
    const domain = reader.text('domain') ?? 'QEMU'
    if (!Object.hasOwn(ErrorCode, code)) reader.fail(`${show(code)} is no error code of libvirt's`)
    if (!Object.hasOwn(ErrorDomain, domain)) reader.fail(`${show(domain)} is no error domain of libvirt's`)
    const message = reader.text('message') ?? 'a fault on purpose'
    return { kind, code: code as RefusalCode, domain: domain as RefusalDomain, message }
  }
  const plain = plainFaults.find((one) => one === kind)
  return plain
    ? { kind: plain }
    : reader.fail(`${show(kind)} is no fault: one of delay, error, ${plainFaults.join(', ')}`)
}

function readHappening(reader: Reader): TroubleStep {
  const atMs = (reader.number('at', 0) ?? 0) * 1000
  const happening = (what: Happening): TroubleStep => ({ kind: 'happening', atMs, what })
  const name = reader.needed('do')
  switch (name) {
    case 'power-off':
      return happening({ happening: name, host: reader.needed('host'), silent: reader.flag('silent') ?? false })
    case 'boot':
    case 'restart-daemon':
      return happening({ happening: name, host: reader.needed('host') })
    case 'partition':
    case 'heal': {
      const [a, b, ...more] = reader.words('between') ?? []
      if (a === undefined || b === undefined || more.length > 0) return reader.fail('`between` names two hosts')
      return happening({ happening: name, between: [a, b] })
    }
    case 'lose-events': {
      const event = reader.text('event')
      if (event !== undefined && !Object.hasOwn(events, event)) reader.fail(`${show(event)} is no event of libvirt's`)
      const [host, times] = [reader.needed('host'), reader.number('times', 1) ?? 1]
      return happening({ happening: name, host, times, event: event as EventName | undefined })
    }
    case 'guest': {
      const dirtyMiBps = reader.number('dirtyMiBps', 0)
      return happening({
        happening: name,
        vm: reader.needed('vm'),
        dirtyMiBps,
        obeysShutdown: reader.flag('obeysShutdown')
      })
    }
    default:
      return reader.fail(
        `${show(name)} does not happen here: one of power-off, boot, restart-daemon, partition, heal, lose-events, guest`
      )
  }
}

const show = (value: unknown): string => JSON.stringify(value) ?? String(value)

/** One entry's keys, each asked for once; what nobody asked for is refused. */
class Reader {
  readonly #entry: Record<string, unknown>
  readonly #at: number
  readonly #asked = new Set<string>()

  constructor(entry: Record<string, unknown>, at: number) {
    this.#entry = entry
    this.#at = at
  }

  fail(why: string): never {
    return refuse(this.#at, why)
  }

  #get(key: string): unknown {
    this.#asked.add(key)
    return this.#entry[key]
  }

  text(key: string): string | undefined {
    const value = this.#get(key)
    if (value === undefined || typeof value === 'string') return value
    return this.fail(`\`${key}\` is text, not ${show(value)}`)
  }

  needed(key: string): string {
    return this.text(key) ?? this.fail(`\`${key}\` is missing`)
  }

  flag(key: string): boolean | undefined {
    const value = this.#get(key)
    if (value === undefined || typeof value === 'boolean') return value
    return this.fail(`\`${key}\` is true or false, not ${show(value)}`)
  }

  number(key: string, min: number, max = Number.MAX_SAFE_INTEGER): number | undefined {
    const value = this.#get(key)
    if (value === undefined || (typeof value === 'number' && value >= min && value <= max)) return value
    return this.fail(`\`${key}\` is a number of ${min} or more${max === 1 ? ', 1 at most' : ''}, not ${show(value)}`)
  }

  /** One word or a list of them. */
  words(key: string): string[] | undefined {
    const value = this.#get(key)
    if (value === undefined) return undefined
    const list: unknown[] = Array.isArray(value) ? value : [value]
    return list.every((one) => typeof one === 'string') ? list : this.fail(`\`${key}\` is a name or a list of names`)
  }

  end(): void {
    const unknown = Object.keys(this.#entry).find((key) => !this.#asked.has(key))
    if (unknown !== undefined) this.fail(`\`${unknown}\` is not understood here`)
  }
}

/**
 * Applies a script: rules at once, happenings when their time has come, counted from now. The answer ends what has not happened yet.
 * @param onFault hears of a happening that could not be, such as a start of a host that is up
 * @throws TroubleError where a step names a host that the fleet has not
 */
export function makeTrouble(
  fleet: SimFleet,
  steps: readonly TroubleStep[],
  onFault: (error: Error) => void
): () => void {
  const known = new Set(fleet.hosts.map(({ name }) => name))
  for (const [at, step] of steps.entries())
    for (const name of hostsOf(step)) if (!known.has(name)) refuse(at, `there is no host ${show(name)}`)
  const timers: NodeJS.Timeout[] = []
  for (const step of steps) {
    if (step.kind === 'rule')
      for (const host of fleet.hosts) {
        if (step.host === undefined || step.host === host.name) host.faults.add(step.rule)
      }
    else timers.push(setTimeout(() => void happen(fleet, step.what).catch(onFault), step.atMs))
  }
  return () => timers.forEach(clearTimeout)
}

function hostsOf(step: TroubleStep): string[] {
  if (step.kind === 'rule') return step.host === undefined ? [] : [step.host]
  if ('between' in step.what) return step.what.between
  return 'host' in step.what ? [step.what.host] : []
}

async function happen(fleet: SimFleet, what: Happening): Promise<void> {
  switch (what.happening) {
    case 'power-off':
      return fleet.powerOff(what.host, { silent: what.silent })
    case 'boot':
      return fleet.boot(what.host)
    case 'restart-daemon':
      return fleet.restartDaemon(what.host)
    case 'partition':
      return fleet.partition(...what.between)
    case 'heal':
      return fleet.heal(...what.between)
    case 'lose-events':
      return fleet.host(what.host).faults.loseEvents(what.times, what.event)
    case 'guest':
      for (const host of fleet.hosts) {
        const guest = host.domainByName(what.vm)?.guest
        if (!guest) continue
        guest.dirtyMiBps = what.dirtyMiBps ?? guest.dirtyMiBps
        guest.obeysShutdown = what.obeysShutdown ?? guest.obeysShutdown
      }
  }
}

// Preflight of a migration: everything that the facts can tell before anything moves. The hosts look again as it runs.
import type { VmFacts } from '../inventory/facts.ts'
import type { FleetState } from '../inventory/fleet-state.ts'
import { memoryText } from '../model/memory-text.ts'
import { quote } from '../model/name.ts'
import { impossible, nothingToDo, possible, type Verdict } from './action.ts'
import { refuseHost } from './host-refusal.ts'
import { tiedToHome, whyNotOn, type Tied } from './vm-elsewhere.ts'
import type { VmMigrateArgs } from './vm-migrate-args.ts'
import { needsEngine, placeOf, refuseDisks } from './vm-migrate-disks.ts'
import { named, ownVm } from './vm-refusal.ts'
import { mayResume } from './vm-resume.ts'

/**
 * May this VM move to that host, as it is now: live while it is active, its definition while it is off? Undefined = yes, as far as
 * the facts tell; else why not, in a sentence. `how`: options as vm.migrate has them, e.g. `{ copyStorage: true }`.
 */
export function whyNotMovable(
  uuid: string,
  target: string,
  state: FleetState,
  how: Omit<VmMigrateArgs, 'vm' | 'to' | 'offline'> = {}
): string | undefined {
  const offline = state.vm(uuid)?.activeOn === null
  const verdict = checkMigrate({ ...how, vm: uuid, to: target, offline }, state)
  if (verdict.verdict === 'possible') return undefined
  return verdict.verdict === 'impossible' ? verdict.message : verdict.why
}

export function checkMigrate(args: VmMigrateArgs, state: FleetState): Verdict {
  const { vm, refusal } = ownVm(args.vm, state)
  if (refusal) return refusal
  const to = args.to ?? state.boundTarget
  const closed = to === null ? undefined : refuseHost(state, to)
  if (closed) return closed
  if (to !== null && placeOf(vm) === to && (vm.activeOn !== null || args.offline))
    return nothingToDo(`${named(vm)} is on ${to} already`)
  if (args.offline) return refuseOffline(vm, to, args, state) ?? possible
  return together([...refusalsOfState(vm, args, state), ...(to === null ? [] : refusalsThere(vm, to, args, state))])
}

/** Everything that stands in the way, so that nobody mends one thing only to learn of the next. The first gives the code. */
function together(found: readonly (Verdict | undefined)[]): Verdict {
  const refusals = found.filter((verdict) => verdict?.verdict === 'impossible')
  const [first, ...more] = [...new Map(refusals.map((refusal) => [refusal.message, refusal])).values()]
  if (!first || more.length === 0) return first ?? possible
  const all = [first, ...more].slice(0, maxRefusals)
  const left = more.length + 1 - all.length
  return impossible(
    first.code,
    all.map(({ message }) => message).join('; ') + (left > 0 ? `; and ${left} more` : ''),
    [...new Set(all.map(({ next }) => next))].join('; ')
  )
}

const maxRefusals = 8

/** Options that say how a running guest's memory travels, and mean nothing to a definition. */
const liveOptions = ['managed', 'copyStorage', 'postCopy', 'autoConverge', 'unsafe', 'tls', 'bandwidthMiBps'] as const

function refuseOffline(vm: VmFacts, to: string | null, args: VmMigrateArgs, state: FleetState): Verdict | undefined {
  const live = liveOptions.find((option) => args[option] !== undefined && args[option] !== false)
  if (live) {
    return impossible(
      'offline_and_live',
      `"${live}" says how a running guest moves, and with "offline" only a definition does`,
      'give either, not both'
    )
  }
  if (vm.activeOn !== null) {
    return impossible(
      'vm_running',
      `${named(vm)} is ${vm.power}: only the definition of a VM that is off is moved with \`--offline\``,
      'stop it first, or migrate it live'
    )
  }
  // Snapshots go along, unlike at a cold start.
  const off = { ...vm, snapshots: [] }
  const tied: Tied | undefined = to === null ? tiedToHome(off, state, false) : whyNotOn(off, to, state, false)
  return tied && impossible(tied.code, tied.message, tied.next)
}

const refusalsOfState = (vm: VmFacts, args: VmMigrateArgs, state: FleetState): (Verdict | undefined)[] => [
  refuseCarried(vm, args),
  refusePower(vm, state)
]

/** What it has and cannot take along. */
function refuseCarried(vm: VmFacts, args: VmMigrateArgs): Verdict | undefined {
  if (vm.snapshots.length > 0 && args.copyStorage) {
    return impossible(
      'has_snapshots',
      `${named(vm)} has ${vm.snapshots.length} snapshots inside its disks: a copy of the disks would leave them behind`,
      'delete its snapshots first, or use a store that both hosts have'
    )
  }
  const given = vm.pins?.find(({ kind }) => kind === 'device')
  if (given) {
    return impossible(
      'passthrough_device',
      `${named(vm)} has a ${given.what}: what it does with the device cannot be moved`,
      'detach the device first, or stop the VM and start it elsewhere'
    )
  }
  return undefined
}

function refusePower(vm: VmFacts, state: FleetState): Verdict | undefined {
  // Paused by its own migration, which an earlier attempt began: the run joins it.
  const moving = state.phase === 'starting' || mayResume(vm.reason)
  if (vm.power === 'running' || (vm.power === 'paused' && moving)) return undefined
  if (vm.activeOn === null) {
    return impossible(
      'vm_not_running',
      `${named(vm)} is ${vm.power}: only a running VM is migrated`,
      `move its definition with \`--offline\`, or start it where it is (${vm.home})`
    )
  }
  return impossible(
    'vm_not_running',
    `${named(vm)} is ${vm.power} (${vm.reason}): it cannot be moved so`,
    'let it run, or stop it'
  )
}

const refusalsThere = (vm: VmFacts, to: string, args: VmMigrateArgs, state: FleetState): (Verdict | undefined)[] => [
  refuseTarget(vm, to, args, state),
  refuseTaken(vm, to, state),
  ...refuseDisks(vm, to, args, state),
  ...refuseNetworks(vm, to, state)
]

/** Who carries it through: the hosts among themselves, or we, phase by phase. */
export const isManaged = (vm: VmFacts, args: VmMigrateArgs, state: FleetState): boolean =>
  args.managed === true || needsEngine(vm, state)

function refuseTarget(vm: VmFacts, to: string, args: VmMigrateArgs, state: FleetState): Verdict | undefined {
  const target = state.host(to)
  const source = state.host(placeOf(vm))
  if (!target) return undefined
  if (target.peerUri === null && !isManaged(vm, args, state)) {
    return impossible(
      'no_peer_uri',
      `${target.name} has no peer URI: other hosts do not know how to reach its libvirtd`,
      `let it be carried through from here: \`--managed\`; or add the host again with one: \`taskomatic host add ${target.name} ${target.controlUri} --peer-uri qemu+tls://${target.name}/system\``
    )
  }
  if (source?.arch && target.arch && source.arch !== target.arch) {
    return impossible(
      'other_arch',
      `${source.name} is ${source.arch} and ${target.name} is ${target.arch}`,
      'choose a host of the same architecture'
    )
  }
  if (target.memoryMiB > 0 && vm.maxMemoryMiB > target.memoryMiB) {
    return impossible(
      'does_not_fit',
      `${named(vm)} needs ${memoryText(vm.maxMemoryMiB)} and ${target.name} has ${memoryText(target.memoryMiB)}`,
      'choose a larger host'
    )
  }
  return undefined
}

function refuseTaken(vm: VmFacts, to: string, state: FleetState): Verdict | undefined {
  // As it starts, an earlier attempt may have brought it there in part: the run looks at both hosts.
  const there = state.phase === 'starting' ? undefined : vm.elsewhere[to]
  if (there === 'active') {
    return impossible(
      'vm_active_elsewhere',
      `${named(vm)} is active on ${to} as well`,
      'look at both copies: `taskomatic vm show`'
    )
  }
  if (there === 'defined') {
    return impossible(
      'defined_on_target',
      `${named(vm)} is defined on ${to} too: a migration would replace or remove that definition without a word`,
      `undefine it on ${to} first`
    )
  }
  const namesake = state
    .vmsNamed(vm.name)
    .find((other) => other.uuid !== vm.uuid && (other.home === to || other.activeOn === to))
  if (!namesake) return undefined
  return impossible(
    'name_taken',
    `${to} has another VM ${quote(vm.name)} (${namesake.uuid})`,
    'rename one of them, or choose another host'
  )
}

function refuseNetworks(vm: VmFacts, to: string, state: FleetState): Verdict[] {
  return vm.nics.flatMap((nic) => {
    if (nic.kind !== 'network' || nic.source === null) return []
    const network = state.network(to, nic.source)
    if (network?.active) return []
    return [
      impossible(
        'network_not_on_target',
        `${named(vm)} has a card on network ${quote(nic.source)}, which ${to} ${network ? 'has not started' : 'does not have'}`,
        network ? `start it on ${to}` : 'choose a host that has it'
      )
    ]
  })
}

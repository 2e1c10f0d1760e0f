// Preflight of a migration: everything that the facts can tell before anything moves. The hosts look again as it runs.
import type { PlacedDisk, StoreFacts, VmFacts } from '../inventory/facts.ts'
import type { FleetState } from '../inventory/fleet-state.ts'
import { memoryText } from '../model/memory-text.ts'
import { quote } from '../model/name.ts'
import { impossible, nothingToDo, possible, type Verdict } from './action.ts'
import { refuseHost } from './host-refusal.ts'
import type { VmMigrateArgs } from './vm-migrate-args.ts'
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
  const closed = refuseHost(state, args.to)
  if (closed) return closed
  if (placeOf(vm) === args.to && (vm.activeOn !== null || args.offline))
    return nothingToDo(`${named(vm)} is on ${args.to} already`)
  return (
    refusePower(vm, args, state) ??
    refuseTarget(vm, args, state) ??
    refuseTaken(vm, args, state) ??
    refuseDisks(vm, args, state) ??
    refuseNetworks(vm, args, state) ??
    possible
  )
}

function refusePower(vm: VmFacts, args: VmMigrateArgs, state: FleetState): Verdict | undefined {
  if (vm.snapshots.length > 0 && args.copyStorage) {
    return impossible(
      'has_snapshots',
      `${named(vm)} has ${vm.snapshots.length} snapshots inside its disks: a copy of the disks would leave them behind`,
      'delete its snapshots first, or use a store that both hosts have'
    )
  }
  if (args.offline) return refuseOffline(vm)
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
    `${named(vm)} is ${vm.power} (${vm.reason}): it cannot be moved to ${args.to} so`,
    'let it run, or stop it'
  )
}

function refuseOffline(vm: VmFacts): Verdict | undefined {
  if (vm.activeOn !== null) {
    return impossible(
      'vm_running',
      `${named(vm)} is ${vm.power}: only the definition of a VM that is off is moved with \`--offline\``,
      'stop it first, or migrate it live'
    )
  }
  if (vm.hasSavedImage) {
    return impossible(
      'vm_has_saved_image',
      `${named(vm)} has a saved image on ${vm.home}, which would stay there`,
      'start it where it is, or throw the image away: `taskomatic vm start --discard-saved`'
    )
  }
  return undefined
}

function refuseTarget(vm: VmFacts, args: VmMigrateArgs, state: FleetState): Verdict | undefined {
  const target = state.host(args.to)
  const source = state.host(placeOf(vm))
  if (!target) return undefined
  if (target.peerUri === null) {
    return impossible(
      'no_peer_uri',
      `${target.name} has no peer URI: other hosts do not know how to reach its libvirtd`,
      `add it again with one: \`taskomatic host add ${target.name} ${target.controlUri} --peer-uri qemu+tls://${target.name}/system\``
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

function refuseTaken(vm: VmFacts, args: VmMigrateArgs, state: FleetState): Verdict | undefined {
  // As it starts, an earlier attempt may have brought it there in part: the run looks at both hosts.
  const there = state.phase === 'starting' ? undefined : vm.elsewhere[args.to]
  if (there === 'active') {
    return impossible(
      'vm_active_elsewhere',
      `${named(vm)} is active on ${args.to} as well`,
      'look at both copies: `taskomatic vm show`'
    )
  }
  if (there === 'defined') {
    return impossible(
      'defined_on_target',
      `${named(vm)} is defined on ${args.to} too: a migration would replace or remove that definition without a word`,
      `undefine it on ${args.to} first`
    )
  }
  const namesake = state
    .vmsNamed(vm.name)
    .find((other) => other.uuid !== vm.uuid && (other.home === args.to || other.activeOn === args.to))
  if (!namesake) return undefined
  return impossible(
    'name_taken',
    `${args.to} has another VM ${quote(vm.name)} (${namesake.uuid})`,
    'rename one of them, or choose another host'
  )
}

function refuseDisks(vm: VmFacts, args: VmMigrateArgs, state: FleetState): Verdict | undefined {
  for (const disk of vm.disks) {
    if (disk.kind === 'none' || disk.source === null) continue
    const writable = !disk.readOnly && disk.device !== 'cdrom' && disk.device !== 'floppy'
    const refusal = writable ? refuseWritable(vm, disk, args, state) : refuseDrive(vm, disk, args, state)
    if (refusal) return refusal
  }
  return undefined
}

/**
 * Only files: when the link is cut between the target's resume and the source's hearing of it, a disk without QEMU's image lock
 * ends with two writers.
 */
function refuseWritable(vm: VmFacts, disk: PlacedDisk, args: VmMigrateArgs, state: FleetState): Verdict | undefined {
  const of = `disk ${disk.target} of ${named(vm)}`
  if (disk.shareable) {
    return impossible(
      'shareable_disk',
      `${of} is shareable: nothing would keep two copies of the VM from writing to it`,
      'stop the VM and start it elsewhere'
    )
  }
  if (disk.kind === 'block' || disk.kind === 'network') {
    return impossible(
      'block_disk',
      `${of} is a ${disk.kind} device (${disk.source}): a cut link could leave two writers on it, so such disks are not moved peer-to-peer`,
      'move the disk to a file in a shared store first'
    )
  }
  if (disk.store === null) {
    if (args.copyStorage) return undefined
    return impossible(
      'disk_in_no_pool',
      `${of} (${disk.source}) is in no pool of ${placeOf(vm)}: whether ${args.to} has it is not known`,
      'make pools on its directory on both hosts and share them: `taskomatic store share`, or copy it: `--copy-storage`'
    )
  }
  const store = state.store(disk.store)
  const same = store !== undefined && samePath(store, placeOf(vm), args.to)
  if (args.copyStorage && store?.pools[args.to]) {
    return impossible(
      'copy_onto_itself',
      `${of} is in store ${quote(disk.store)}, which ${args.to} has too: a copy would be written over the disk itself`,
      'migrate without `--copy-storage`'
    )
  }
  if (same || args.copyStorage) return undefined
  return impossible(
    'store_not_on_target',
    `${of} is in store ${quote(disk.store)}, ${whyNot(store, placeOf(vm), args.to)}`,
    `give ${args.to} the store at the same path, or copy the disk: \`--copy-storage\``
  )
}

/** The host that it moves from. */
const placeOf = (vm: VmFacts): string => vm.activeOn ?? vm.home

function samePath(store: StoreFacts, source: string, target: string): boolean {
  const [from, to] = [store.pools[source], store.pools[target]]
  return to?.active === true && from?.target === to.target
}

function whyNot(store: StoreFacts | undefined, source: string, target: string): string {
  const pool = store?.pools[target]
  if (!pool) return `which ${target} has no pool on`
  if (!pool.active) return `whose pool ${quote(pool.pool)} on ${target} is not active`
  return `which is at ${store?.pools[source]?.target ?? 'no path'} on ${source} and at ${pool.target ?? 'no path'} on ${target}`
}

function refuseDrive(vm: VmFacts, disk: PlacedDisk, args: VmMigrateArgs, state: FleetState): Verdict | undefined {
  const store = disk.store === null ? undefined : state.store(disk.store)
  if (store && samePath(store, placeOf(vm), args.to)) return undefined
  return impossible(
    'local_image',
    `${disk.device} ${disk.target} of ${named(vm)} has ${disk.source}, which ${args.to} does not have`,
    'eject it, or put it into a store that both hosts have at the same path'
  )
}

function refuseNetworks(vm: VmFacts, args: VmMigrateArgs, state: FleetState): Verdict | undefined {
  for (const nic of vm.nics) {
    if (nic.kind !== 'network' || nic.source === null) continue
    const network = state.network(args.to, nic.source)
    if (network?.active) continue
    return impossible(
      'network_not_on_target',
      `${named(vm)} has a card on network ${quote(nic.source)}, which ${args.to} ${network ? 'has not started' : 'does not have'}`,
      network ? `start it on ${args.to}` : 'choose a host that has it'
    )
  }
  return undefined
}

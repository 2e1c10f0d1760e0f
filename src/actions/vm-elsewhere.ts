// May a VM that is off start on another host than its home? What ties it there, what the other host lacks, and where it then starts.
// By the facts alone; what is moved, and that the disks are really there, is vm-start-move.ts.
import type { PlacedDisk, VmFacts } from '../inventory/facts.ts'
import type { FleetState } from '../inventory/fleet-state.ts'
import { quote } from '../model/name.ts'
import type { PlacementNeed } from './action.ts'
import { named } from './vm-refusal.ts'

export type Tied = { code: string; message: string; next: string }

const tied = (code: string, message: string, next: string): Tied => ({ code, message, next })

/** Disks and inserted images: everything that the VM needs to find where it starts. */
export const neededDisks = (vm: VmFacts): PlacedDisk[] =>
  vm.disks.filter((disk) => disk.kind !== 'none' && disk.source !== null)

/** What keeps it at home, whatever the other host has. `discardSaved`: its saved image is thrown away. */
export function tiedToHome(vm: VmFacts, state: FleetState, discardSaved: boolean): Tied | undefined {
  if (vm.hasSavedImage && !discardSaved) {
    return tied(
      'vm_has_saved_image',
      `${named(vm)} has a saved image on ${vm.home}, which stays there`,
      'start it at home, or throw the image away: `--discard-saved`'
    )
  }
  if (vm.snapshots.length > 0) {
    return tied(
      'has_snapshots',
      `${named(vm)} has ${vm.snapshots.length} snapshots, which libvirt keeps on ${vm.home}`,
      'start it at home, or delete its snapshots first'
    )
  }
  const [pin] = (vm.pins ?? []).filter(({ kind, what }) => kind !== 'firmware' || besideDisk(vm, what) === undefined)
  if (pin) {
    return tied(
      'vm_pinned',
      `${named(vm)} is tied to ${vm.home} by ${pin.kind === 'firmware' ? `its firmware's variables at ${pin.what}` : pin.what}`,
      pin.kind === 'firmware' ? 'keep the variables beside its disk, in a shared store' : 'start it at home'
    )
  }
  for (const disk of neededDisks(vm)) {
    const store = disk.store === null ? undefined : state.store(disk.store)
    const elsewhere = Object.entries(store?.pools ?? {}).some(([host, pool]) => pool !== null && host !== vm.home)
    if (!elsewhere) {
      return tied(
        'disk_is_local',
        `${disk.device} ${disk.target} of ${named(vm)} (${disk.source}) is on ${vm.home} alone`,
        'move it to a store that other hosts have, or start the VM at home'
      )
    }
  }
  return undefined
}

/** Why it cannot start on that host; undefined = it can, as far as the facts tell. */
export function whyNotOn(vm: VmFacts, host: string, state: FleetState, discardSaved: boolean): Tied | undefined {
  return (
    tiedToHome(vm, state, discardSaved) ??
    lacksStore(vm, host, state) ??
    lacksNetwork(vm, host, state) ??
    taken(vm, host, state)
  )
}

function lacksStore(vm: VmFacts, host: string, state: FleetState): Tied | undefined {
  for (const disk of neededDisks(vm)) {
    const pools = state.store(disk.store ?? '')?.pools
    const [home, there] = [pools?.[vm.home], pools?.[host]]
    if (there?.active === true && home?.target === there.target) continue
    const why = !there
      ? `which ${host} has no pool on`
      : there.active
        ? `which is at ${home?.target ?? 'no path'} on ${vm.home} and at ${there.target ?? 'no path'} on ${host}`
        : `whose pool ${quote(there.pool)} on ${host} is not active`
    return tied(
      'store_not_on_target',
      `${disk.device} ${disk.target} of ${named(vm)} is in store ${quote(disk.store ?? '')}, ${why}`,
      `give ${host} the store at the same path, or choose another host`
    )
  }
  return undefined
}

function lacksNetwork(vm: VmFacts, host: string, state: FleetState): Tied | undefined {
  for (const nic of vm.nics) {
    if (nic.kind !== 'network' || nic.source === null) continue
    const network = state.network(host, nic.source)
    if (network?.active) continue
    return tied(
      'network_not_on_target',
      `${named(vm)} has a card on network ${quote(nic.source)}, which ${host} ${network ? 'has not started' : 'does not have'}`,
      network ? `start it on ${host}` : 'choose a host that has it'
    )
  }
  return undefined
}

function taken(vm: VmFacts, host: string, state: FleetState): Tied | undefined {
  // As it starts, an earlier attempt may have defined it there: the run looks.
  if (state.phase === 'queued' && vm.elsewhere[host] === 'defined') {
    return tied(
      'defined_on_target',
      `${named(vm)} is defined on ${host} too, and nothing says which of the two is the right one`,
      `undefine it on ${host} first, or start it at home`
    )
  }
  const namesake = state
    .vmsNamed(vm.name)
    .find((other) => other.uuid !== vm.uuid && (other.home === host || other.activeOn === host))
  if (!namesake) return undefined
  return tied(
    'name_taken',
    `${host} has another VM ${quote(vm.name)} (${namesake.uuid})`,
    'rename one of them, or choose another host'
  )
}

/** The disk in whose directory the firmware's variables are: where that is shared, so are they. */
function besideDisk(vm: VmFacts, path: string): PlacedDisk | undefined {
  const directory = path.slice(0, path.lastIndexOf('/') + 1)
  return neededDisks(vm).find(({ store, source, volume }) => store !== null && source === `${directory}${volume ?? ''}`)
}

/** Nothing may start at home: it takes no VMs, or an operator said that it is off. */
export const isClosed = (host: string, state: FleetState): boolean => {
  const facts = state.host(host)
  return facts !== undefined && (facts.cordoned || facts.confirmedOff !== null)
}

/** The size, stores and networks that it needs wherever it starts. */
export const needOf = (vm: VmFacts): PlacementNeed => ({
  vm: vm.uuid,
  memoryMiB: vm.maxMemoryMiB,
  vcpus: vm.vcpus,
  stores: [...new Set(neededDisks(vm).flatMap(({ store }) => store ?? []))],
  networks: [...new Set(vm.nics.flatMap(({ kind, source }) => (kind === 'network' && source !== null ? [source] : [])))]
})

/** Where else it could start: what such a host must have, and those that will not do for what only the facts of the VM tell. */
export function placesToStart(vm: VmFacts, state: FleetState): PlacementNeed {
  const need = needOf(vm)
  const without: Record<string, string> = {}
  const hosts = new Set(need.stores.flatMap((store) => Object.keys(state.store(store)?.pools ?? {})))
  for (const host of hosts) {
    const why = host === vm.home ? undefined : (lacksStore(vm, host, state) ?? taken(vm, host, state))
    if (why) without[host] = why.message
  }
  return { ...need, without }
}

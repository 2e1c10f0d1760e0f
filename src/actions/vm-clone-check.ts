// Is a clone possible, and which volumes does it get? The same answer however often it is asked.
import { Type, type Static } from 'typebox'
import type { PlacedDisk, VmFacts } from '../inventory/facts.ts'
import type { FleetState } from '../inventory/fleet-state.ts'
import { quote } from '../model/name.ts'
import { impossible, possible, type Verdict } from './action.ts'
import { newName, StoreRef, VmRef } from './refs.ts'
import { refuseHost } from './host-refusal.ts'
import { named, ownVm, refuseActiveElsewhere } from './vm-refusal.ts'
import { refuseStore } from './volume-place.ts'

/** As many as vm.create makes; a VM with more was made elsewhere. */
export const maxCards = 16

export const vmCloneArgs = Type.Object(
  {
    vm: { ...VmRef, description: 'VM to clone: NAME, NAME@HOST or UUID; it must be off' },
    name: newName('vm', 'Name of the clone, unlike that of any VM'),
    linked: Type.Optional(
      Type.Boolean({
        description:
          "Lay its disks over the VM's instead of copying them: made at once, and the VM can no longer be started; default false",
        default: false
      })
    ),
    store: Type.Optional({ ...StoreRef, description: 'Where its disks are made; default: where those of the VM are' }),
    uuid: Type.Optional(
      Type.String({
        description: 'UUID of the clone; default a new one',
        maxLength: 36,
        pattern: '^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$',
        'x-rule': 'a UUID, like 123e4567-e89b-42d3-a456-426614174000'
      })
    ),
    macs: Type.Optional(
      Type.Array(Type.String({ maxLength: 17, pattern: '^[0-9a-f]{2}(:[0-9a-f]{2}){5}$' }), {
        description: "MAC addresses of its cards, in the VM's order; default new ones",
        maxItems: maxCards
      })
    )
  },
  { additionalProperties: false }
)

export type VmCloneArgs = Static<typeof vmCloneArgs>

export type ClonedDisk = {
  /** The disk's name on its bus. */
  target: string
  from: { store: string; volume: string }
  store: string
  volume: string
  format: string
}

/** Disks that the VM writes to; what it only reads, it shares with its clone. */
const isCloned = (disk: PlacedDisk): boolean =>
  disk.device !== 'cdrom' && disk.device !== 'floppy' && !disk.readOnly && disk.source !== null

/** Disks in no store are left out: the check refuses them. */
export function clonedDisks(args: VmCloneArgs, vm: VmFacts | undefined): ClonedDisk[] {
  let made = 0
  return (vm?.disks ?? []).flatMap((disk) => {
    if (!isCloned(disk) || disk.store === null || disk.volume === null) return []
    const format = args.linked || disk.format === 'qcow2' ? 'qcow2' : 'raw'
    const volume = `${args.name}${made++ === 0 ? '' : `-${made - 1}`}.${format}`
    const from = { store: disk.store, volume: disk.volume }
    return [{ target: disk.target, from, store: args.store ?? disk.store, volume, format }]
  })
}

/** @throws Error before `prepare` */
export function cloneUuid(args: VmCloneArgs): string {
  if (args.uuid === undefined) throw new Error('vm.clone is prepared before it is asked anything')
  return args.uuid.toLowerCase()
}

export function checkClone(args: VmCloneArgs, state: FleetState): Verdict {
  const { vm, refusal } = ownVm(args.vm, state)
  if (refusal) return refusal
  return (
    refuseIdentity(args, state) ??
    refuseSource(vm) ??
    (vm.home === '' ? undefined : refuseHost(state, vm.home)) ??
    refuseDisks(args, vm, state) ??
    possible
  )
}

function refuseIdentity(args: VmCloneArgs, state: FleetState): Verdict | undefined {
  const uuid = cloneUuid(args)
  // As it starts, an earlier attempt may have made it: its mark tells, on the host.
  const mine = state.phase === 'queued' ? state.vm(uuid) : undefined
  if (mine) {
    return impossible('uuid_taken', `UUID ${uuid} is that of ${named(mine)} on ${mine.home}`, 'leave the UUID out')
  }
  const other = state.vmsNamed(args.name).find((namesake) => namesake.uuid !== uuid)
  if (!other) return undefined
  return impossible(
    'name_taken',
    `${quote(args.name)} is the name of a VM${other.home ? ` on ${other.home}` : ''} already: names of new VMs are unique in the fleet`,
    'choose another name, or delete that VM first'
  )
}

function refuseSource(vm: VmFacts): Verdict | undefined {
  if (vm.activeOn !== null) {
    return impossible(
      'vm_running',
      `${named(vm)} is ${vm.power} and writes to its disks: what is made of them meanwhile would be torn`,
      'stop it first'
    )
  }
  if (vm.hasSavedImage) {
    return impossible(
      'vm_has_saved_image',
      `${named(vm)} is saved in the middle of its work: its disks are not at rest`,
      'start it and stop it first'
    )
  }
  if (!vm.persistent) {
    return impossible('vm_transient', `${named(vm)} has no definition to be cloned`, 'create the VM anew')
  }
  if (vm.nics.length > maxCards) {
    return impossible(
      'too_many_cards',
      `${named(vm)} has ${vm.nics.length} network cards, and a clone gets up to ${maxCards}`,
      'remove some of them first'
    )
  }
  return refuseActiveElsewhere(vm)
}

function refuseDisks(args: VmCloneArgs, vm: VmFacts, state: FleetState): Verdict | undefined {
  for (const disk of vm.disks) {
    if (!isCloned(disk)) continue
    if (disk.store === null || disk.volume === null) {
      return impossible(
        'disk_in_no_pool',
        `disk ${disk.target} of ${named(vm)} (${disk.source}) is in no pool of ${vm.home}`,
        'make a pool on its directory: `taskomatic pool create`'
      )
    }
    if (args.linked && disk.kind === 'network') {
      return impossible(
        'disk_not_local',
        `disk ${disk.target} of ${named(vm)} is a network disk: nothing can be laid over it here`,
        'clone it without `--linked`'
      )
    }
  }
  const disks = clonedDisks(args, vm)
  for (const { store, volume, from } of disks) {
    const refusal =
      vm.home === '' ? undefined : (refuseStore(state, store, vm.home) ?? refuseStore(state, from.store, vm.home))
    if (refusal) return refusal
    // As it starts, an earlier attempt may have made it: its marker tells, on the host.
    if (state.phase === 'queued' && state.volume(store, volume)) {
      return impossible(
        'volume_exists',
        `there is a volume "${store}/${volume}" already`,
        'choose another name, or delete the volume'
      )
    }
  }
  return undefined
}

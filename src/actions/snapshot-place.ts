// What the three snapshot actions share: how a snapshot is named, found, refused and predicted.
import { Type } from 'typebox'
import type { VmFacts } from '../inventory/facts.ts'
import type { FleetState } from '../inventory/fleet-state.ts'
import { quote } from '../model/name.ts'
import { resource } from '../model/resource.ts'
import { isActive, type VmSnapshot } from '../model/vm.ts'
import type { Claim, Effect } from '../queue/task.ts'
import { impossible, type Verdict } from './action.ts'
import { ownError } from './error.ts'
import { named } from './vm-refusal.ts'
import { storageClaims, vmClaims } from './vm-place.ts'

const maxDescription = 500

export const snapshotName = (description: string) =>
  Type.String({
    description,
    minLength: 1,
    maxLength: 100,
    pattern: '^[A-Za-z0-9][A-Za-z0-9._-]*$',
    'x-rule': 'made of letters, digits, ".", "_" and "-", beginning with a letter or digit'
  })

export const descriptionText = Type.String({
  description: 'What it is for',
  minLength: 1,
  maxLength: maxDescription,
  pattern: '^[^\\u0000-\\u001f\\u007f]*$',
  'x-rule': 'one line'
})

/** `NAME-20300102-030405-7f3a`: made at submission, so that it is the same however often the task runs. */
export function stampedName(prefix: string): string {
  const stamp = new Date().toISOString().replaceAll(/[-:]/g, '').replace('T', '-').slice(0, 15)
  return `${prefix}-${stamp}-${Math.floor(Math.random() * 0x1_00_00)
    .toString(16)
    .padStart(4, '0')}`
}

/** The VM exclusively, what its disks are in shared: a volume must keep its size and stay while a snapshot of it is made. */
export const snapshotClaims = (uuid: string, state: FleetState): Claim[] => [
  ...vmClaims(uuid, state),
  ...storageClaims(state.vm(uuid))
]

export const snapshotOf = (vm: VmFacts, name: string): VmSnapshot | undefined =>
  vm.snapshots.find((snapshot) => snapshot.name === name)

export function refuseUnknown(vm: VmFacts, name: string): Verdict | undefined {
  if (snapshotOf(vm, name)) return undefined
  const names = vm.snapshots.map((snapshot) => snapshot.name)
  return impossible(
    'snapshot_not_found',
    `${named(vm)} has no snapshot ${quote(name)}`,
    names.length === 0 ? 'make one: `taskomatic vm snapshot create`' : `it has ${names.slice(-10).join(', ')}`
  )
}

export function refuseTransient(vm: VmFacts): Verdict | undefined {
  if (vm.persistent) return undefined
  return impossible(
    'vm_transient',
    `${named(vm)} has no definition: what is kept of it goes when it stops`,
    'define it on its host first'
  )
}

/** Internal snapshots are kept inside the disk, and only qcow2 has room for them. */
export function refuseFormats(vm: VmFacts): Verdict | undefined {
  const writable = vm.disks.filter((disk) => disk.device === 'disk' && !disk.readOnly && disk.source !== null)
  const other = writable.find((disk) => disk.format !== null && disk.format !== 'qcow2')
  if (!other) return undefined
  return impossible(
    'disk_not_qcow2',
    `disk ${other.target} of ${named(vm)} is ${other.format}: a snapshot is kept inside the disk, and only qcow2 can do that`,
    'copy the disk into a qcow2 volume and use that'
  )
}

/** What a new snapshot of the VM looks like before the host has made it. */
export const predicted = (vm: VmFacts, name: string, description: string | null): VmSnapshot => ({
  name,
  parent: vm.snapshots.find(({ current }) => current)?.name ?? null,
  current: true,
  createdAt: '',
  state: vm.power === 'paused' ? 'paused' : isActive(vm.power) ? 'running' : 'off',
  external: false,
  description,
  mark: null
})

/** With one more, which is the current one now. */
export const withSnapshot = (snapshots: readonly VmSnapshot[], added: VmSnapshot): VmSnapshot[] => [
  ...snapshots.map((snapshot) => ({ ...snapshot, current: false })),
  added
]

export const snapshotsEffect = (vm: VmFacts, snapshots: VmSnapshot[], more: Partial<VmFacts> = {}): Effect[] => [
  { subject: resource.vm(vm.uuid), facts: { snapshots, ...more } }
]

export const snapshotTaken = (vm: string, { name, createdAt }: VmSnapshot, host: string, step: string, next: string) =>
  ownError('snapshot_exists', `${vm} has a snapshot ${name} already, which this task did not make`, step, next, {
    host,
    createdAt
  })

// How disks of a VM that exists are named in requests, and what is planned for a disk that is added to it.
import { Type, type Static } from 'typebox'
import type { FleetState } from '../inventory/fleet-state.ts'
import { diskFields } from './vm-create-args.ts'
import { plannedDisk, type PlannedDisk } from './vm-create-disks.ts'
import { splitVolume, VmRef } from './refs.ts'
import { freeTarget } from './vm-devices.ts'

/** `vda`, or the volume that it is. */
export const DiskRef = Type.String({
  description: 'Disk: its name on the bus (vdb) or its volume (STORE/NAME)',
  minLength: 1,
  maxLength: 255,
  pattern: '^[A-Za-z0-9][A-Za-z0-9._+/-]*$',
  'x-rule': 'a name on the bus, like vdb, or STORE/NAME'
})

export const TargetName = Type.String({
  description: 'Name on its bus, e.g. vdb; default the first free one',
  maxLength: 6,
  pattern: '^(vd|sd|hd)[a-z]{1,3}$',
  'x-rule': 'a name on the bus: vd, sd or hd and letters, like vdb'
})

const { cdrom: _, ...fields } = diskFields

export const diskAddArgs = Type.Object(
  {
    vm: VmRef,
    ...fields,
    target: Type.Optional(TargetName),
    readOnly: Type.Optional(Type.Boolean({ description: 'The guest may only read it; default false', default: false })),
    shareable: Type.Optional(
      Type.Boolean({
        description: 'Other VMs may write to it as well: only for a file system made for that; default false',
        default: false
      })
    )
  },
  { additionalProperties: false }
)

export type DiskAddArgs = Static<typeof diskAddArgs>

/** Its name on the bus, its volume's name and its format, as they will be whatever becomes of the VM's other disks. */
export function fillInDisk(args: DiskAddArgs, state: FleetState): DiskAddArgs {
  const vm = state.vm(args.vm)
  const target = args.target ?? freeTarget(vm?.disks ?? [], args.bus ?? 'virtio')
  if (args.volume !== undefined) {
    const { store, volume } = splitVolume(args.volume)
    const known = state.volume(store, volume)?.format
    const format = args.format ?? (known === 'raw' || known === 'qcow2' ? known : 'raw')
    return { ...args, target, format }
  }
  const format = args.format ?? 'qcow2'
  return { ...args, target, format, name: args.name ?? `${vm?.name ?? args.vm}-${target}.${format}` }
}

export type AddedDisk = PlannedDisk & { target: string; shareable: boolean }

/** Undefined when it is not clear what is wanted: the check says so. */
export function addedDisk(args: DiskAddArgs): AddedDisk | undefined {
  const planned = plannedDisk(args)
  return (
    planned && {
      ...planned,
      readOnly: args.readOnly ?? false,
      target: args.target ?? '',
      shareable: args.shareable ?? false
    }
  )
}

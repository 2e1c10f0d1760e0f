// Disks that other volumes lie over: whatever is written to them destroys those, so that a VM with such disks is not started.
import type { VmFacts } from '../inventory/facts.ts'
import { impossible, type Verdict } from './action.ts'
import { named } from './vm-refusal.ts'

export function refuseBase(vm: VmFacts): Verdict | undefined {
  const covered = new Set(vm.overlaid ?? [])
  const disk = vm.disks.find(({ target, readOnly }) => !readOnly && covered.has(target))
  if (!disk) return undefined
  return impossible(
    'disk_is_base',
    `disk ${disk.target} of ${named(vm)} (${disk.source}) lies under disks of other VMs: writing to it would destroy them`,
    'use a clone of it, or delete those that lie over it first'
  )
}

// Why a VM cannot be acted on: verdicts that several actions share, with the value, the rule and the way out.
import type { FleetState } from '../inventory/fleet-state.ts'
import type { VmFacts } from '../inventory/facts.ts'
import { quote } from '../model/name.ts'
import { impossible, type Verdict } from './action.ts'

const noSuchVm = (uuid: string): Verdict =>
  impossible('vm_not_found', `there is no VM ${uuid}`, 'see `taskomatic vm list`')

/** `quote` leaves a good name readable, and a hostile one harmless. */
export const named = (vm: { name: string }): string => quote(vm.name)

/** The VM, or why it may not be touched: it does not exist, or another manager has it. */
export function ownVm(
  uuid: string,
  state: FleetState
): { vm: VmFacts; refusal?: never } | { vm?: never; refusal: Verdict } {
  const vm = state.vm(uuid)
  if (!vm) return { refusal: noSuchVm(uuid) }
  if (vm.owner !== 'foreign') return { vm }
  return {
    refusal: impossible(
      'vm_foreign',
      `${named(vm)} carries another manager's metadata: it is read-only here`,
      'use that manager, or adopt the VM first'
    )
  }
}

/** A second copy elsewhere would write to the same disk. Hosts that are merely silent are asked as the task runs. */
export function refuseActiveElsewhere(vm: VmFacts): Verdict | undefined {
  const [host] = Object.entries(vm.elsewhere).find(([, state]) => state === 'active') ?? []
  if (host === undefined) return undefined
  return impossible(
    'vm_active_elsewhere',
    `${named(vm)} is active on ${host} as well: a second copy would destroy its disk`,
    `stop or delete the copy on ${host} first`
  )
}

export const notRunning = (vm: VmFacts, wanted: string): Verdict =>
  impossible(
    'vm_not_running',
    `${named(vm)} is ${vm.power}: only a ${wanted} VM can do that`,
    'see `taskomatic vm show`'
  )

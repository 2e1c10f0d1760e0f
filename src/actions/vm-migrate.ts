// Moves a VM to another host: a running one live, peer-to-peer or carried through from here; of one that is off its definition.
// Whether it happened is read off both hosts afterwards (migration-outcome.ts), never off a reply.
import type { VmFacts } from '../inventory/facts.ts'
import type { FleetState } from '../inventory/fleet-state.ts'
import { resource } from '../model/resource.ts'
import { action, type Binding } from './action.ts'
import { attempt } from './attempt.ts'
import { limit, oneOf } from './limits.ts'
import { needOf } from './vm-elsewhere.ts'
import { vmMigrateArgs, type VmMigrateArgs } from './vm-migrate-args.ts'
import { checkMigrate, isManaged } from './vm-migrate-check.ts'
import { isWritable, placeOf } from './vm-migrate-disks.ts'
import { migrate, probeMigration } from './vm-migrate-run.ts'
import { bindToVm, poolClaimsOn, shared, storageClaims, storesOf, vmClaims } from './vm-place.ts'

/** Named, or where an attempt was placed; null while neither is known. */
const targetOf = ({ to }: VmMigrateArgs, state: FleetState): string | null => to ?? state.boundTarget

export const vmMigrate = action({
  name: 'vm.migrate',
  summary: 'Move a VM to another host',
  args: vmMigrateArgs,
  title: ({ vm, to }, state) => `Migrate ${state.vm(vm)?.name ?? vm} to ${to ?? 'another host'}`,
  claims(args, state) {
    const to = targetOf(args, state)
    const vm = state.vm(args.vm)
    // Read here so that they are loaded for the run, which needs the target's addresses and the disks' stores.
    if (to !== null) state.host(to)
    if (vm) isManaged(vm, args, state)
    const target = to === null ? [] : [shared(resource.host(to))]
    const pools = poolClaimsOn(state, storesOf(vm), to)
    return [...vmClaims(args.vm, state), ...target, ...storageClaims(vm), ...pools]
  },
  limits(args, state) {
    if (args.offline) return []
    const from = state.vm(args.vm)?.activeOn
    return oneOf(from && limit.migrationsOut(from), limit.migrationsIn(targetOf(args, state) ?? ''))
  },
  check: checkMigrate,
  effect(args, state) {
    const vm = state.vm(args.vm)
    if (!vm) return []
    const to = args.to ?? ''
    // Said although it does not change: while it moves, its target is seen with a guest that has no definition yet.
    const facts = args.offline
      ? { home: to }
      : { home: to, activeOn: to, reason: 'migrated', persistent: vm.persistent }
    return [
      { subject: resource.vm(vm.uuid), facts },
      { subject: resource.vmName(vm.name), facts: { [vm.uuid]: to } }
    ]
  },
  bringsVmTo: 'to',
  bindTo: (args, state) => bindingOf(args, state),
  makesVolumes(args, state) {
    const to = targetOf(args, state)
    if (!args.copyStorage || to === null) return []
    return (state.vm(args.vm)?.disks ?? []).flatMap((disk) => {
      const { store, volume, source, format } = disk
      const facts = store !== null && volume !== null ? state.volume(store, volume) : undefined
      if (!facts || source === null || !isWritable(disk)) return []
      return [{ host: to, path: source, format: format ?? 'raw', capacityBytes: facts.capacityBytes }]
    })
  },
  run: (ctx, args) => attempt(ctx, (step) => migrate(ctx, args, step), { probe: () => probeMigration(ctx, args) }),
  probe: probeMigration,
  undo(args, state) {
    const vm = state.vm(args.vm)
    const from = vm && placeOf(vm)
    if (!from || from === args.to) return { impossible: 'where it came from is not known any more' }
    const { to: _, deadlineSeconds: __, ...how } = args
    return { action: 'vm.migrate', args: { ...how, to: from } }
  }
})

const isSeenOn = (vm: VmFacts, host: string | null): boolean =>
  host !== null && (vm.home === host || vm.activeOn === host || vm.elsewhere[host] !== undefined)

function bindingOf(args: VmMigrateArgs, state: FleetState): Binding | null {
  const vm = state.vm(args.vm)
  const found = bindToVm(args.vm, state)
  if (!found || !vm) return found
  // What an earlier attempt may have brought to the target in part still comes from where that one took it.
  const before = state.boundHost !== null && isSeenOn(vm, targetOf(args, state)) ? state.boundHost : null
  const from = before !== null && state.host(before) ? { host: before } : found
  const room = { vm: vm.uuid, memoryMiB: vm.maxMemoryMiB }
  // A definition takes no memory until it is started.
  if (args.to !== undefined) return { ...from, target: args.to, ...(args.offline ? {} : { room }) }
  const need = needOf(vm)
  return {
    ...from,
    target: {
      ...need,
      stores: args.copyStorage ? [] : need.stores,
      arch: state.host(from.host)?.arch ?? null,
      peerUri: !args.offline && !isManaged(vm, args, state),
      without: { [from.host]: 'it is there' }
    }
  }
}

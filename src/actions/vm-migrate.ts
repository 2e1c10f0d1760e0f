// Moves a running VM to another host, peer-to-peer: the source's libvirtd carries it through even when we are gone.
// Whether it happened is read off both hosts afterwards (migration-outcome.ts), never off a reply.
import { resource } from '../model/resource.ts'
import { action } from './action.ts'
import { attempt } from './attempt.ts'
import { limit, oneOf } from './limits.ts'
import { vmMigrateArgs } from './vm-migrate-args.ts'
import { checkMigrate } from './vm-migrate-check.ts'
import { migrate, probeMigration } from './vm-migrate-run.ts'
import { bindToVm, shared, storageClaims, vmClaims } from './vm-place.ts'

export const vmMigrate = action({
  name: 'vm.migrate',
  summary: 'Move a running VM to another host',
  args: vmMigrateArgs,
  title: ({ vm, to }, state) => `Migrate ${state.vm(vm)?.name ?? vm} to ${to}`,
  claims({ vm, to }, state) {
    // Read here so that it is loaded for the run, which needs its addresses.
    state.host(to)
    return [...vmClaims(vm, state), shared(resource.host(to)), ...storageClaims(state.vm(vm))]
  },
  limits({ vm, to }, state) {
    const from = state.vm(vm)?.activeOn
    return oneOf(from && limit.migrationsOut(from), limit.migrationsIn(to))
  },
  check: checkMigrate,
  effect({ vm: uuid, to }, state) {
    const vm = state.vm(uuid)
    if (!vm) return []
    return [
      { subject: resource.vm(uuid), facts: { home: to, activeOn: to, reason: 'migrated' } },
      { subject: resource.vmName(vm.name), facts: { [uuid]: to } }
    ]
  },
  bindTo({ vm: uuid, to }, state) {
    const vm = state.vm(uuid)
    const from = bindToVm(uuid, state)
    return from && vm ? { ...from, target: to, room: { vm: uuid, memoryMiB: vm.maxMemoryMiB } } : from
  },
  run: (ctx, args) => attempt(ctx, (step) => migrate(ctx, args, step), { probe: () => probeMigration(ctx, args) }),
  probe: probeMigration,
  undo({ vm, to }, state) {
    const from = state.vm(vm)?.activeOn
    if (!from || from === to) return { impossible: 'where it came from is not known any more' }
    return { action: 'vm.migrate', args: { vm, to: from } }
  }
})

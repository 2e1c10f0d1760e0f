// Makes another VM like one that is off: with copies of its disks, or with disks laid over them. New UUID, addresses and names.
import { randomUUID } from 'node:crypto'
import type { VmFacts } from '../inventory/facts.ts'
import type { FleetState } from '../inventory/fleet-state.ts'
import { resource } from '../model/resource.ts'
import type { Effect } from '../queue/task.ts'
import { action } from './action.ts'
import { attempt } from './attempt.ts'
import { limit, oneOf } from './limits.ts'
import { checkClone, clonedDisks, cloneUuid, maxCards, vmCloneArgs, type VmCloneArgs } from './vm-clone-check.ts'
import { cloneVm, probeClone } from './vm-clone-run.ts'
import { volumeName } from './vm-devices.ts'
import { bindToVm, exclusive, hostClaim, poolClaimsOn, shared } from './vm-place.ts'

export const vmClone = action({
  name: 'vm.clone',
  summary: 'Make another VM like one that is off, with copied or linked disks',
  args: vmCloneArgs,
  freshMacs: ({ macs }) => (macs === undefined ? maxCards : 0),
  prepare: (args, { macs }) => ({ ...args, uuid: args.uuid ?? randomUUID(), macs: args.macs ?? [...macs] }),
  fillIn: (args, state) => ({ ...args, macs: (args.macs ?? []).slice(0, state.vm(args.vm)?.nics.length ?? 0) }),
  title: ({ vm, name, linked }, state) => `Clone ${state.vm(vm)?.name ?? vm} as ${name}${linked ? ', linked' : ''}`,
  claims(args, state) {
    const vm = state.vm(args.vm)
    const disks = clonedDisks(args, vm)
    return [
      // Shared: a VM may be cloned many times at once, and must not start meanwhile.
      shared(resource.vm(args.vm)),
      exclusive(resource.vm(cloneUuid(args))),
      exclusive(resource.vmName(args.name)),
      ...hostClaim(state),
      ...poolClaimsOn(state, [...new Set(disks.flatMap(({ store, from }) => [store, from.store]))], state.boundHost),
      ...(args.macs ?? []).map((mac) => exclusive(resource.mac(mac))),
      ...disks.flatMap(({ store, volume, from }) => [
        shared(resource.store(store)),
        shared(resource.store(from.store)),
        shared(resource.volume(from.store, from.volume)),
        exclusive(resource.volume(store, volume))
      ])
    ]
  },
  limits(args, state) {
    if (args.linked) return []
    return oneOf(...clonedDisks(args, state.vm(args.vm)).map(({ store }) => limit.storage(store)))
  },
  check: checkClone,
  effect: (args, state) => cloneEffects(args, state),
  bringsVmTo: 'host',
  bindTo: ({ vm }, state) => bindToVm(vm, state),
  makesVolumes: (args, state) =>
    clonedDisks(args, state.vm(args.vm)).map(({ store, volume, format, from }) => ({
      store,
      volume,
      format,
      capacityBytes: state.volume(from.store, from.volume)?.capacityBytes ?? 0
    })),
  run: (ctx, args) => attempt(ctx, (step) => cloneVm(ctx, args, step), { probe: () => probeClone(ctx, args) }),
  probe: probeClone,
  undo: (args, state) => ({
    action: 'vm.delete',
    // Whatever it is given later is not the clone's to take along.
    args: {
      vm: cloneUuid(args),
      volumes: true,
      onlyVolumes: clonedDisks(args, state.vm(args.vm)).map(volumeName)
    }
  })
})

function cloneEffects(args: VmCloneArgs, state: FleetState): Effect[] {
  const vm = state.vm(args.vm)
  if (!vm) return []
  const uuid = cloneUuid(args)
  const disks = clonedDisks(args, vm)
  const facts: VmFacts = {
    ...vm,
    uuid,
    name: args.name,
    autostart: false,
    restorable: false,
    startsWithHost: null,
    labels: {},
    snapshots: [],
    owner: 'ours',
    elsewhere: {},
    nics: vm.nics.map((nic, index) => ({ ...nic, mac: args.macs?.[index] ?? '' })),
    disks: vm.disks.map((disk) => {
      const own = disks.find(({ target }) => target === disk.target)
      if (!own) return disk
      const { store, volume, format } = own
      return { ...disk, kind: 'file', source: pathOf(state, vm.home, store, volume), format, store, volume }
    }),
    observedAt: null
  }
  delete facts.overlaid
  const covered = [...new Set([...(vm.overlaid ?? []), ...disks.map(({ target }) => target)])]
  return [
    { subject: resource.vm(uuid), facts },
    { subject: resource.vmName(args.name), facts: { [uuid]: vm.home } },
    ...disks.map((disk) => volumeEffect(disk, args, state, vm.home)),
    ...(args.linked ? [{ subject: resource.vm(vm.uuid), facts: { overlaid: covered } }] : []),
    ...(args.linked ? disks.map(({ from }) => usedEffect(from, uuid, state)) : [])
  ]
}

const pathOf = (state: FleetState, host: string, store: string, volume: string): string | null => {
  const target = state.store(store)?.pools[host]?.target
  return target ? `${target}/${volume}` : null
}

function volumeEffect(
  { store, volume, format, from }: ReturnType<typeof clonedDisks>[number],
  args: VmCloneArgs,
  state: FleetState,
  host: string
): Effect {
  const below = state.volume(from.store, from.volume)
  return {
    subject: resource.volume(store, volume),
    facts: {
      store,
      name: volume,
      path: pathOf(state, host, store, volume) ?? '',
      format,
      capacityBytes: below?.capacityBytes ?? 0,
      allocationBytes: args.linked ? 0 : (below?.allocationBytes ?? 0),
      backing: args.linked ? (below?.path ?? null) : null,
      usedBy: [cloneUuid(args)]
    }
  }
}

/** What lies under the clone's disks is used by it. */
function usedEffect(from: { store: string; volume: string }, uuid: string, state: FleetState): Effect {
  const usedBy = state.volume(from.store, from.volume)?.usedBy ?? []
  return { subject: resource.volume(from.store, from.volume), facts: { usedBy: [...new Set([...usedBy, uuid])] } }
}

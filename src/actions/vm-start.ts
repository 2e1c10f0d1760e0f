// Starts a VM at home, or on another host, which is its home from then on. A saved image is restored only when it is recorded as newer
// than the VM's last run anywhere: an old one over a newer disk is corruption.
import { Type, type Static } from 'typebox'
import type { VmFacts } from '../inventory/facts.ts'
import type { FleetState } from '../inventory/fleet-state.ts'
import { resource } from '../model/resource.ts'
import { action, impossible, nothingToDo, possible, type Verdict } from './action.ts'
import { attempt } from './attempt.ts'
import { refuseBase } from './vm-base.ts'
import { refuseHost } from './host-refusal.ts'
import { limit, oneOf } from './limits.ts'
import { HostRef, VmRef } from './refs.ts'
import { isClosed, neededDisks, placesToStart, tiedToHome, whyNotOn } from './vm-elsewhere.ts'
import {
  bindToVm,
  networkClaimsOn,
  poolClaimsOn,
  shared,
  storageClaims,
  storesOf,
  vmClaims,
  vmTitle
} from './vm-place.ts'
import { named, ownVm, refuseActiveElsewhere } from './vm-refusal.ts'
import { arriving, probeStarted, startVm } from './vm-start-run.ts'

const args = Type.Object(
  {
    vm: VmRef,
    host: Type.Optional({
      ...HostRef,
      description:
        'Start it there, which becomes its home; default: at home, or where there is room if its home is closed'
    }),
    paused: Type.Optional(
      Type.Boolean({ description: 'Leave it paused at its first instruction; default false', default: false })
    ),
    discardSaved: Type.Optional(
      Type.Boolean({
        description: 'Boot afresh although the host has a saved image of it, which is thrown away; default false',
        default: false
      })
    )
  },
  { additionalProperties: false }
)

export type VmStartArgs = Static<typeof args>

export const vmStart = action({
  name: 'vm.start',
  summary: 'Start a VM, at home or on another host',
  args,
  title: ({ vm, host }, state) => vmTitle('Start', vm, state) + (host === undefined ? '' : ` on ${host}`),
  claims({ vm: uuid, host }, state) {
    const vm = state.vm(uuid)
    // A host that is named is kept from the start: nobody removes it before, and who clears it finds the task.
    const asked = host === undefined ? [] : [shared(resource.host(host))]
    // The old home is told to forget it.
    const moves = state.phase === 'starting' && vm && vm.home !== '' && vm.home !== state.boundHost
    // Read here so that they are loaded for the run, which looks for its disks.
    if (moves) for (const { store } of neededDisks(vm)) if (store !== null) state.store(store)
    const left = moves ? [shared(resource.host(vm.home))] : []
    const networks = networkClaimsOn(vm, state.boundHost ?? host ?? vm?.home ?? '')
    const pools = poolClaimsOn(state, storesOf(vm), state.boundHost)
    return [...vmClaims(uuid, state), ...asked, ...left, ...networks, ...storageClaims(vm), ...pools]
  },
  limits({ vm, host }, state) {
    const on = state.boundHost ?? host ?? state.vm(vm)?.home
    return oneOf(on && limit.starts(on))
  },
  check: checkStart,
  effect(given, state) {
    const vm = state.vm(given.vm)
    const host = predictedHost(given, state)
    const restored = vm?.restorable === true && !given.discardSaved
    const moved = vm !== undefined && host !== vm.home
    return [
      {
        subject: resource.vm(given.vm),
        facts: {
          // What runs already is not stopped for it.
          power: given.paused && vm?.power !== 'running' ? 'paused' : 'running',
          reason: given.paused ? 'user' : restored ? 'restored' : 'booted',
          activeOn: host,
          hasSavedImage: false,
          restorable: false,
          ...(moved ? { home: host } : {})
        }
      },
      ...(moved ? [{ subject: resource.vmName(vm.name), facts: { [vm.uuid]: host } }] : [])
    ]
  },
  bringsVmTo: 'host',
  bindTo(given, state) {
    const vm = state.vm(given.vm)
    if (!vm) return null
    if (vm.activeOn !== null) return bindToVm(given.vm, state)
    const room = { vm: vm.uuid, memoryMiB: vm.maxMemoryMiB }
    if (given.host !== undefined) return { host: given.host, room }
    if (startsElsewhere(vm, given, state)) return { place: placesToStart(vm, state) }
    if (vm.home === '') return null
    // A home that is silent may still run it: only what it says, or an operator says of it, lets it start elsewhere.
    const mayMove = state.host(vm.home)?.connection === 'up'
    const elsewhere = (asked: FleetState) =>
      tiedToHome(vm, asked, given.discardSaved ?? false) ? null : placesToStart(vm, asked)
    return { host: vm.home, room, ...(mayMove ? { elsewhere } : {}) }
  },
  run: (ctx, given) => attempt(ctx, (step) => startVm(ctx, given, step), { probe: () => probeStarted(ctx, given) }),
  probe: probeStarted,
  undo({ vm, discardSaved }, state) {
    // What went on from its memory would lose it by a power-off.
    if (state.vm(vm)?.restorable && !discardSaved) return { action: 'vm.save', args: { vm } }
    return { action: 'vm.stop', args: { vm, force: true, timeoutSeconds: 0 } }
  }
})

/** Its home is closed, and nothing ties it there. */
const startsElsewhere = (vm: VmFacts, { discardSaved }: VmStartArgs, state: FleetState): boolean =>
  vm.home !== '' && isClosed(vm.home, state) && tiedToHome(vm, state, discardSaved ?? false) === undefined

/** Empty where placement will tell. */
function predictedHost(given: VmStartArgs, state: FleetState): string {
  const vm = state.vm(given.vm)
  if (given.host !== undefined) return given.host
  return !vm || startsElsewhere(vm, given, state) ? '' : vm.home
}

function checkStart(given: VmStartArgs, state: FleetState): Verdict {
  const { vm, refusal } = ownVm(given.vm, state)
  if (refusal) return refusal
  return (
    refusePower(vm, given, state) ??
    refuseImage(vm, given) ??
    refuseActiveElsewhere(vm) ??
    refuseBase(vm) ??
    refusePlace(vm, given, state) ??
    possible
  )
}

function refusePower(vm: VmFacts, given: VmStartArgs, state: FleetState): Verdict | undefined {
  const isOn = vm.power === 'running' || (vm.power === 'paused' && given.paused)
  if (isOn && given.host !== undefined && vm.activeOn !== '' && vm.activeOn !== given.host) {
    return impossible(
      'vm_active_elsewhere',
      `${named(vm)} runs on ${vm.activeOn} already`,
      `move it: \`taskomatic vm migrate --to ${given.host}\``
    )
  }
  if (isOn) return nothingToDo(`${named(vm)} ${given.paused ? 'is started already' : 'runs already'}`)
  const isOwn = state.phase === 'starting' && vm.reason === arriving
  if ((vm.power === 'paused' && !isOwn) || vm.power === 'suspended') {
    return impossible('vm_paused', `${named(vm)} is ${vm.power}: it has been started already`, '`taskomatic vm resume`')
  }
  if (vm.power === 'stopping') {
    return impossible(
      'vm_stopping',
      `${named(vm)} is shutting down`,
      'wait until it is off, or `taskomatic vm stop --force`'
    )
  }
  if (vm.persistent) return undefined
  return impossible('vm_transient', `${named(vm)} has no definition to be started from`, 'create it anew')
}

function refuseImage(vm: VmFacts, given: VmStartArgs): Verdict | undefined {
  if (!vm.hasSavedImage || vm.restorable || given.discardSaved) return undefined
  return impossible(
    'vm_has_saved_image',
    `${named(vm)} has a saved image on ${vm.home} that was not made here, or has run since: it may be older than the disk`,
    'boot afresh and throw the image away with `--discard-saved`, or restore it with virsh'
  )
}

function refusePlace(vm: VmFacts, given: VmStartArgs, state: FleetState): Verdict | undefined {
  // Where it will be made is not known yet.
  if (vm.home === '') return given.host === undefined ? undefined : refuseHost(state, given.host)
  // As it starts, the bound host is the place, wherever it came from.
  const to = given.host ?? (state.phase === 'starting' ? state.boundHost : null) ?? vm.home
  const discard = given.discardSaved ?? false
  if (to !== vm.home) {
    const why = whyNotOn(vm, to, state, discard)
    return refuseHost(state, to) ?? (why && impossible(why.code, why.message, why.next))
  }
  const closed = refuseHost(state, to)
  if (!closed || closed.verdict !== 'impossible' || given.host !== undefined) return closed
  const why = tiedToHome(vm, state, discard)
  return why && { ...closed, message: `${closed.message}, and ${why.message}` }
}

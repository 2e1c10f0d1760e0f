// Sets a VM's processors, memory and autostart: in the guest as it runs, for its next boot, or both. Nothing is believed before it
// is read back; memory that a guest does not give back is said, not counted as done.
import { Type, type Static } from 'typebox'
import type { StartsWithHost, VmFacts } from '../inventory/facts.ts'
import type { FleetState } from '../inventory/fleet-state.ts'
import { memoryText } from '../model/memory-text.ts'
import { resource } from '../model/resource.ts'
import { isActive } from '../model/vm.ts'
import type { JsonObject } from '../db/json.ts'
import { action, impossible, nothingToDo, possible, type Verdict } from './action.ts'
import { attempt } from './attempt.ts'
import { VmRef } from './refs.ts'
import { bindToVm, vmClaims, vmTitle } from './vm-place.ts'
import { named, ownVm } from './vm-refusal.ts'
import { probeSet, setVm } from './vm-set-run.ts'

const count = (description: string) => Type.Optional(Type.Integer({ description, minimum: 1, maximum: 4096 }))
const mebibytes = (description: string) =>
  Type.Optional(Type.Integer({ description, minimum: 1, maximum: 64 * 1024 * 1024 }))
const flag = (description: string) => Type.Optional(Type.Boolean({ description, default: false }))

const args = Type.Object(
  {
    vm: VmRef,
    vcpus: count('Processors that the guest has; where it has all that there can be, that many there can be'),
    maxVcpus: count('Processors that the guest can have, from its next boot on'),
    memoryMiB: mebibytes('Memory that the guest has; where it has all that it may have, that much it may have'),
    maxMemoryMiB: mebibytes('Memory that the guest may have, from its next boot on'),
    autostart: Type.Optional(Type.Boolean({ description: 'Start it when its host has booted' })),
    order: Type.Optional(
      Type.Integer({
        description: 'Of those that start with their host, smaller first; default 100',
        minimum: 0,
        maximum: 1000
      })
    ),
    delaySeconds: Type.Optional(
      Type.Integer({ description: 'What starts after it waits for that long; default 0', minimum: 0, maximum: 3600 })
    ),
    live: flag('Only the guest as it runs; default: that and its next boot'),
    nextBoot: flag('Only from its next boot on; default: that and the guest as it runs')
  },
  { additionalProperties: false }
)

export type VmSetArgs = Static<typeof args>

const defaultOrder = 100

export const vmSet = action({
  name: 'vm.set',
  summary: "Set a VM's processors, memory and autostart",
  args,
  title: (given, state) => `${vmTitle('Set', given.vm, state)}: ${wordsOf(given)}`,
  claims: ({ vm }, state) => vmClaims(vm, state),
  check: checkSet,
  effect: (given, state) => {
    const vm = state.vm(given.vm)
    if (!vm) return []
    const off = !isActive(vm.power)
    const now = off || !onlyNextBoot(given)
    const max = given.maxMemoryMiB ?? (vm.memoryMiB === vm.maxMemoryMiB ? given.memoryMiB : undefined)
    return [
      {
        subject: resource.vm(vm.uuid),
        facts: {
          ...(now && given.vcpus !== undefined ? { vcpus: given.vcpus } : {}),
          ...(now && given.memoryMiB !== undefined ? { memoryMiB: given.memoryMiB } : {}),
          ...(off && max !== undefined ? { maxMemoryMiB: max } : {}),
          ...(changesStart(given) ? { startsWithHost: startOf(given, vm) } : {})
        }
      }
    ]
  },
  // What only the inventory keeps needs no host.
  bindTo: (given, state) => (setsSizes(given) || state.vm(given.vm)?.autostart ? bindToVm(given.vm, state) : null),
  run: (ctx, given) =>
    attempt(ctx, (step) => setVm(ctx, given, startAfter(given, ctx.state), step), {
      probe: () => probeSet(ctx, given, startAfter(given, ctx.state))
    }),
  probe: (ctx, given) => probeSet(ctx, given, startAfter(given, ctx.state)),
  undoesHalf: true,
  undo(given, state) {
    const vm = state.vm(given.vm)
    if (!vm) return { impossible: 'what it had before is not known' }
    return { action: 'vm.set', args: oldValues(given, vm) }
  }
})

const changesStart = ({ autostart, order, delaySeconds }: VmSetArgs): boolean =>
  autostart !== undefined || order !== undefined || delaySeconds !== undefined

const setsSizes = ({ vcpus, maxVcpus, memoryMiB, maxMemoryMiB }: VmSetArgs): boolean =>
  [vcpus, maxVcpus, memoryMiB, maxMemoryMiB].some((size) => size !== undefined)

/** Both flags together are what neither says: everything. */
export const onlyLive = ({ live, nextBoot }: VmSetArgs): boolean => live === true && !nextBoot
export const onlyNextBoot = ({ live, nextBoot }: VmSetArgs): boolean => nextBoot === true && !live

function startOf(given: VmSetArgs, vm: Pick<VmFacts, 'startsWithHost'>): StartsWithHost | null {
  if (given.autostart === false) return null
  const before = vm.startsWithHost
  return {
    order: given.order ?? before?.order ?? defaultOrder,
    delaySeconds: given.delaySeconds ?? before?.delaySeconds ?? 0
  }
}

/** Undefined: it stays as it is. */
const startAfter = (given: VmSetArgs, state: FleetState): StartsWithHost | null | undefined =>
  changesStart(given) ? startOf(given, state.vm(given.vm) ?? {}) : undefined

function oldValues(given: VmSetArgs, vm: VmFacts): JsonObject {
  const before = vm.startsWithHost
  return {
    vm: vm.uuid,
    ...(given.vcpus === undefined && given.maxVcpus === undefined ? {} : { vcpus: vm.vcpus }),
    ...(given.memoryMiB === undefined && given.maxMemoryMiB === undefined
      ? {}
      : { memoryMiB: vm.memoryMiB, maxMemoryMiB: vm.maxMemoryMiB }),
    ...(changesStart(given) ? { autostart: before != null, ...before } : {}),
    ...(onlyLive(given) ? { live: true } : {}),
    ...(onlyNextBoot(given) ? { nextBoot: true } : {})
  }
}

function checkSet(given: VmSetArgs, state: FleetState): Verdict {
  const { vm, refusal } = ownVm(given.vm, state)
  if (refusal) return refusal
  if (!setsSizes(given) && !changesStart(given))
    return impossible('nothing_given', 'nothing is to be set', 'name a setting, e.g. vcpus=4 or memory=2GiB')
  return (
    refuseSizes(given, vm, state) ??
    refuseScope(given, vm) ??
    refuseStart(given, vm) ??
    (isSo(given, vm) ? nothingToDo('it is so already') : possible)
  )
}

function refuseSizes(given: VmSetArgs, vm: VmFacts, state: FleetState): Verdict | undefined {
  const { vcpus, maxVcpus, memoryMiB, maxMemoryMiB } = given
  if (vcpus !== undefined && maxVcpus !== undefined && vcpus > maxVcpus)
    return tooMany(`${vcpus} vCPUs are more than the ${maxVcpus} that there can be`)
  if (memoryMiB !== undefined && maxMemoryMiB !== undefined && memoryMiB > maxMemoryMiB)
    return tooMany(`${memoryText(memoryMiB)} is more than the ${memoryText(maxMemoryMiB)} that it may have`)
  const host = state.host(vm.activeOn || vm.home)
  const most = Math.max(memoryMiB ?? 0, maxMemoryMiB ?? 0)
  if (host && host.memoryMiB > 0 && most > host.memoryMiB)
    return impossible(
      'does_not_fit',
      `${named(vm)} would have ${memoryText(most)} and ${host.name} has ${memoryText(host.memoryMiB)}`,
      'give it less, or move it to a larger host first'
    )
  // A running guest's maxima are given: what is more comes with the next boot.
  if (isActive(vm.power) && !onlyNextBoot(given) && memoryMiB !== undefined && memoryMiB > vm.maxMemoryMiB)
    return impossible(
      'above_maximum',
      `${named(vm)} runs with at most ${vm.maxMemoryMiB} MiB: ${memoryMiB} MiB come with its next boot`,
      'set it for then with `--next-boot`'
    )
  return undefined
}

const tooMany = (message: string): Verdict =>
  impossible('above_maximum', message, 'raise the maximum too, or ask for less')

function refuseScope(given: VmSetArgs, vm: VmFacts): Verdict | undefined {
  if (!setsSizes(given)) return undefined
  if (onlyLive(given) && !isActive(vm.power))
    return impossible(
      'vm_not_running',
      `${named(vm)} is ${vm.power}: nothing runs that could be set`,
      'leave out `--live`'
    )
  if (onlyLive(given) && (given.maxVcpus ?? given.maxMemoryMiB) !== undefined)
    return impossible('maximum_is_fixed', `what a guest can have is fixed while it runs`, 'leave out `--live`')
  if (!onlyLive(given) && !vm.persistent)
    return impossible('vm_transient', `${named(vm)} has no definition: it has no next boot`, 'set it with `--live`')
  return undefined
}

function refuseStart(given: VmSetArgs, vm: VmFacts): Verdict | undefined {
  if (given.autostart === true || !changesStart(given)) return undefined
  const details = given.order !== undefined || given.delaySeconds !== undefined
  if (!details || (given.autostart === undefined && vm.startsWithHost)) return undefined
  return impossible(
    'no_autostart',
    `${named(vm)} does not start with its host: it has neither an order nor a delay`,
    'add `autostart=on`'
  )
}

/** Only what the facts hold for certain: of sizes, the next boot's are not among them. */
const isSo = (given: VmSetArgs, vm: VmFacts): boolean =>
  !setsSizes(given) && !vm.autostart && JSON.stringify(startOf(given, vm)) === JSON.stringify(vm.startsWithHost ?? null)

function wordsOf(given: VmSetArgs): string {
  const words = [
    given.vcpus === undefined ? '' : `${given.vcpus} vCPUs`,
    given.maxVcpus === undefined ? '' : `at most ${given.maxVcpus} vCPUs`,
    given.memoryMiB === undefined ? '' : memoryText(given.memoryMiB),
    given.maxMemoryMiB === undefined ? '' : `at most ${memoryText(given.maxMemoryMiB)}`,
    changesStart(given) ? (given.autostart === false ? 'no autostart' : 'autostart') : '',
    onlyLive(given) ? 'as it runs' : onlyNextBoot(given) ? 'from its next boot' : ''
  ]
  return words.filter((word) => word !== '').join(', ')
}

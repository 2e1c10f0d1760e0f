// Carries a vm.set out: first in the running guest, which may refuse, then in the definition; only what differs is set.
import { HostError } from '../host/error.ts'
import type { Host } from '../host/host.ts'
import type { VmSizes } from '../host/vm-settings.ts'
import type { StartsWithHost } from '../inventory/facts.ts'
import { complete, failed, type ActionContext, type Outcome, type Probe } from './action.ts'
import type { Step } from './attempt.ts'
import { ownError } from './error.ts'
import { boundVm } from './vm-place.ts'
import { named } from './vm-refusal.ts'
import { onlyLive, onlyNextBoot, type VmSetArgs } from './vm-set.ts'

/** How long a guest may take to give memory back, or to take it. */
const balloonMs = 30_000

export async function setVm(
  ctx: ActionContext,
  given: VmSetArgs,
  start: StartsWithHost | null | undefined,
  step: Step
): Promise<Outcome> {
  if (ctx.boundHost !== null) {
    const refused = await setSizes(ctx, given, step)
    if (refused) return refused
  }
  if (start !== undefined) {
    step('keep whether it starts with its host')
    await ctx.observe.setAutostart(given.vm, start, ctx.task.by)
    // The host would start it by itself, whatever runs elsewhere by then.
    if (ctx.boundHost !== null && ctx.state.vm(given.vm)?.autostart) {
      step("take the host's own autostart away")
      await ctx.host(ctx.boundHost).setAutostart(given.vm, false)
    }
  }
  if (ctx.boundHost !== null) await ctx.observe.vm(ctx.boundHost, given.vm)
  const sizes = ctx.boundHost === null ? undefined : await ctx.host(ctx.boundHost).vmSizes(given.vm)
  return complete({ host: ctx.boundHost, ...sizes, ...(start === undefined ? {} : { startsWithHost: start }) })
}

async function setSizes(ctx: ActionContext, given: VmSetArgs, step: Step): Promise<Outcome | undefined> {
  step('look at the VM')
  const { host, vm } = await boundVm(ctx, given.vm)
  const sizes = await host.vmSizes(given.vm)
  if (!vm || !sizes) return failed(notThere(given.vm, host.name))
  if (sizes.running && !onlyNextBoot(given)) {
    const refused = await setRunning(ctx, host, vm.name, given, sizes.running, step)
    if (refused) return refused
  }
  if (sizes.definition && !onlyLive(given)) await setDefinition(host, given, sizes.definition, step)
  step('read it back')
  const now = await host.vmSizes(given.vm)
  const differing = now && firstDifference(given, now)
  return differing === undefined ? undefined : failed(notSo(vm.name, host.name, differing))
}

async function setRunning(
  ctx: ActionContext,
  host: Host,
  name: string,
  { vm: uuid, vcpus, memoryMiB }: VmSetArgs,
  now: VmSizes,
  step: Step
): Promise<Outcome | undefined> {
  if (vcpus !== undefined && vcpus > now.maxVcpus) return failed(aboveMaximum(name, host.name, vcpus, now.maxVcpus))
  if (vcpus !== undefined && vcpus !== now.vcpus) {
    step('set the processors of the running guest')
    await host.setVcpus(uuid, vcpus, 'running')
  }
  if (memoryMiB === undefined || memoryMiB === now.memoryMiB) return undefined
  step('set the memory of the running guest')
  await host.setMemory(uuid, memoryMiB, 'running')
  step('wait until the guest follows')
  try {
    await host.untilVm(uuid, (vm) => vm === undefined || vm.memoryMiB === memoryMiB, {
      timeoutMs: balloonMs,
      signal: ctx.signal
    })
  } catch (error) {
    if (!(error instanceof HostError) || error.code !== 'timeout') throw error
    const has = (await host.vmSizes(uuid))?.running?.memoryMiB
    if (has !== memoryMiB) return failed(keepsMemory(name, host.name, has, memoryMiB))
  }
  return undefined
}

/** A maximum goes up before what it bounds, and down after it. */
async function setDefinition(host: Host, given: VmSetArgs, now: VmSizes, step: Step): Promise<void> {
  const uuid = given.vm
  const wanted = wantedOf(given, now)
  const steps = [
    { has: now.maxVcpus, wants: wanted.maxVcpus, of: 'most processors', set: host.setVcpus.bind(host), maximum: true },
    { has: now.vcpus, wants: wanted.vcpus, of: 'processors', set: host.setVcpus.bind(host), maximum: false },
    {
      has: now.maxMemoryMiB,
      wants: wanted.maxMemoryMiB,
      of: 'most memory',
      set: host.setMemory.bind(host),
      maximum: true
    },
    { has: now.memoryMiB, wants: wanted.memoryMiB, of: 'memory', set: host.setMemory.bind(host), maximum: false }
  ]
  const isRise = ({ has, wants, maximum }: (typeof steps)[number]) => maximum && wants > has
  const isFall = ({ has, wants, maximum }: (typeof steps)[number]) => maximum && wants < has
  const inOrder = [...steps.filter(isRise), ...steps.filter(({ maximum }) => !maximum), ...steps.filter(isFall)]
  for (const { has, wants, of, set, maximum } of inOrder) {
    if (has === wants) continue
    step(`set the ${of} of its next boot`)
    await set(uuid, wants, 'definition', { maximum })
  }
}

/** What was not asked for stays, but a maximum that the guest has all of follows what it has. */
function wantedOf({ vcpus, maxVcpus, memoryMiB, maxMemoryMiB }: VmSetArgs, now: VmSizes): VmSizes {
  const bound = (asked: number | undefined, max: number | undefined, has: number, most: number): [number, number] => {
    const follows = asked !== undefined && (has === most || asked > most) ? asked : most
    const newMost = max ?? follows
    return [Math.min(asked ?? has, newMost), newMost]
  }
  const [newVcpus, newMaxVcpus] = bound(vcpus, maxVcpus, now.vcpus, now.maxVcpus)
  const [newMemory, newMaxMemory] = bound(memoryMiB, maxMemoryMiB, now.memoryMiB, now.maxMemoryMiB)
  return { vcpus: newVcpus, maxVcpus: newMaxVcpus, memoryMiB: newMemory, maxMemoryMiB: newMaxMemory }
}

/** Undefined when everything that was asked for is so, where it was asked for. */
function firstDifference(given: VmSetArgs, now: { running: VmSizes | null; definition: VmSizes | null }) {
  const asked = { vcpus: given.vcpus, memoryMiB: given.memoryMiB }
  const maxima = { maxVcpus: given.maxVcpus, maxMemoryMiB: given.maxMemoryMiB }
  const compare = (where: string, has: VmSizes | null, wanted: Partial<Record<keyof VmSizes, number | undefined>>) =>
    Object.entries(wanted).flatMap(([size, wants]) => {
      const is = has?.[size as keyof VmSizes]
      return wants === undefined || is === undefined || is === wants
        ? []
        : [`${size} of ${where} is ${is}, not ${wants}`]
    })
  const differences = [
    ...(onlyNextBoot(given) ? [] : compare('the running guest', now.running, asked)),
    ...(onlyLive(given) ? [] : compare('its next boot', now.definition, { ...asked, ...maxima }))
  ]
  return differences[0]
}

export async function probeSet(
  ctx: ActionContext,
  given: VmSetArgs,
  start: StartsWithHost | null | undefined
): Promise<Probe> {
  // What only the inventory keeps is written again without harm.
  if (ctx.boundHost === null) return { happened: 'no', evidence: null }
  const host = ctx.host(ctx.boundHost)
  const now = await host.vmSizes(given.vm)
  const evidence = { host: host.name, ...now }
  if (!now || firstDifference(given, now) !== undefined || start !== undefined) return { happened: 'no', evidence }
  await ctx.observe.vm(host.name, given.vm)
  return { happened: 'yes', evidence, result: evidence }
}

const notThere = (uuid: string, host: string) =>
  ownError(
    'vm_not_found',
    `${host} has no VM ${uuid}`,
    'look at the VM',
    `\`taskomatic host refresh ${host}\`, then look where it is`,
    { host }
  )

const aboveMaximum = (name: string, host: string, vcpus: number, most: number) =>
  ownError(
    'above_maximum',
    `${named({ name })} runs with at most ${most} vCPUs on ${host}: ${vcpus} come with its next boot`,
    'look at the VM',
    'set it for then with `--next-boot`',
    { host }
  )

const keepsMemory = (name: string, host: string, has: number | undefined, wanted: number) =>
  ownError(
    'guest_keeps_memory',
    `${named({ name })} has ${has ?? 'no'} MiB on ${host} ${balloonMs / 1000} s after ${wanted} MiB were asked of it; it may still follow`,
    'wait until the guest follows',
    'the guest needs a balloon driver that runs; or set it for its next boot with `--next-boot`',
    { host }
  )

const notSo = (name: string, host: string, difference: string) =>
  ownError(
    'not_as_set',
    `${host} accepted what was set of ${named({ name })}, and shows otherwise: ${difference}`,
    'read it back',
    'look at its definition on the host and retry the task',
    { host }
  )

// Where a VM is: what a task on it claims, and how it is looked for on every host that may have it.
// Absence is only what a host said; a host that cannot be asked leaves the question open.
import type { JsonObject } from '../db/json.ts'
import { HostError } from '../host/error.ts'
import type { Host } from '../host/host.ts'
import type { FleetState } from '../inventory/fleet-state.ts'
import type { VmFacts } from '../inventory/facts.ts'
import { resource } from '../model/resource.ts'
import { isActive, type ObservedVm } from '../model/vm.ts'
import type { Claim } from '../queue/task.ts'
import { park, type ActionContext, type Outcome } from './action.ts'
import { hostKey } from './attempt.ts'

export const shared = (name: string): Claim => ({ resource: name, mode: 'shared' })
export const exclusive = (name: string): Claim => ({ resource: name, mode: 'exclusive' })

/** The bound host, shared: known only when the task starts, since the VM may have moved until then. */
export function hostClaim(state: FleetState): Claim[] {
  if (state.phase !== 'starting' || state.boundHost === null) return []
  // Read here so that it is loaded for the run, which waits for a cordoned host.
  state.host(state.boundHost)
  return [shared(resource.host(state.boundHost))]
}

/** The VM exclusively and its bound host; for what leaves its disks alone. */
export const vmClaims = (uuid: string, state: FleetState): Claim[] => [
  exclusive(resource.vm(uuid)),
  ...hostClaim(state)
]

/** Stores and volumes of its disks, shared: neither may go away nor change size while the VM starts or moves. */
export const storageClaims = (vm: VmFacts | undefined): Claim[] =>
  (vm?.disks ?? []).flatMap(({ store, volume }) =>
    store === null
      ? []
      : [shared(resource.store(store)), ...(volume === null ? [] : [shared(resource.volume(store, volume))])]
  )

/** The host's pools on the stores, shared: none is stopped there meanwhile. Known only when the task starts, like its host. */
export function poolClaimsOn(state: FleetState, stores: readonly string[], host: string | null): Claim[] {
  if (state.phase !== 'starting' || host === null) return []
  return [...new Set(stores)].flatMap((store) => {
    const pool = state.store(store)?.pools[host]
    return pool ? [shared(resource.pool(host, pool.pool))] : []
  })
}

/** Stores of its disks. */
export const storesOf = (vm: VmFacts | undefined): string[] =>
  (vm?.disks ?? []).flatMap(({ store }) => (store === null ? [] : [store]))

/** Networks of its host that its interfaces are in, shared: none is stopped while the VM starts. */
export const networkClaimsOn = (vm: VmFacts | undefined, host: string): Claim[] =>
  host === ''
    ? []
    : (vm?.nics ?? []).flatMap(({ kind, source }) =>
        kind === 'network' && source !== null ? [shared(resource.network(host, source))] : []
      )

/** The host to talk to about a VM: where it runs, else where it is defined; undefined when nobody knows yet. */
const hostOf = (vm: VmFacts | undefined): string | undefined => vm?.activeOn || vm?.home || undefined

export const bindToVm = (uuid: string, state: FleetState): { host: string } | null => {
  const host = hostOf(state.vm(uuid))
  return host === undefined ? null : { host }
}

export const vmTitle = (verb: string, uuid: string, state: FleetState): string =>
  `${verb} ${state.vm(uuid)?.name ?? uuid}`

/** The bound host and what it says of the VM; where nothing was bound, the host that the facts name. @throws HostError */
export async function boundVm(ctx: ActionContext, uuid: string): Promise<{ host: Host; vm: ObservedVm | undefined }> {
  const name = ctx.boundHost ?? hostOf(ctx.state.vm(uuid))
  if (name === undefined) throw new HostError('unknown_host', '', `nobody knows where VM ${uuid} is`)
  const host = ctx.host(name)
  return { host, vm: await host.vm(uuid) }
}

export type Sightings = {
  seen: { host: string; vm: ObservedVm }[]
  absent: string[]
  unknown: { host: string; reason: string }[]
}

/**
 * Asks every host on which the VM was ever seen or to which an attempt was bound, and `also`, all at once.
 * A silent host that is recorded to have said that it has no such VM counts as absent: it cannot run what it does not define.
 */
export async function lookEverywhere(
  ctx: ActionContext,
  uuid: string,
  also: readonly string[] = []
): Promise<Sightings> {
  const recorded = new Map((await ctx.observe.whereabouts(uuid)).map(({ host, state }) => [host, state]))
  const hosts = [...new Set([...recorded.keys(), ...also])]
  const answers = await Promise.all(hosts.map(async (host) => ({ host, answer: await lookOn(ctx, host, uuid) })))
  const sightings: Sightings = { seen: [], absent: [], unknown: [] }
  for (const { host, answer } of answers) {
    if (!(answer instanceof HostError)) {
      if (answer) sightings.seen.push({ host, vm: answer })
      else sightings.absent.push(host)
    } else if (recorded.get(host) === 'absent') sightings.absent.push(host)
    else sightings.unknown.push({ host, reason: answer.message })
  }
  return sightings
}

async function lookOn(ctx: ActionContext, host: string, uuid: string): Promise<ObservedVm | undefined | HostError> {
  try {
    return await ctx.host(host).vm(uuid)
  } catch (error) {
    if (!(error instanceof HostError) || error.code === 'fenced') throw error
    // Somebody answers for it: nothing runs there, whatever is left there.
    return (await ctx.observe.isConfirmedOff(host)) ? undefined : error
  }
}

export const activeSightings = (sightings: Sightings): { host: string; vm: ObservedVm }[] =>
  sightings.seen.filter(({ vm }) => isActive(vm.power))

/** Waits for the first host that could not be asked; undefined when all answered. */
export function parkForSilent(name: string, sightings: Sightings): Outcome | undefined {
  const [silent] = sightings.unknown
  if (!silent) return undefined
  return park(`cannot tell whether ${name} runs on ${silent.host}: ${silent.reason}`, hostKey(silent.host))
}

/** What was seen, as evidence. */
export const evidenceOf = ({ seen, absent, unknown }: Sightings): JsonObject => ({
  seen: seen.map(({ host, vm }) => ({ host, power: vm.power, reason: vm.reason, persistent: vm.persistent })),
  absent,
  unknown
})

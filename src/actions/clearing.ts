// What clearing and restoring a host need beside its libvirt: the queue and the inventory as a whole, asked and changed in their own
// transactions. The actions decide; this only does what they say.
import { setTimeout as delay } from 'node:timers/promises'
import type { Database } from '../db/open.ts'
import type { JsonObject } from '../db/json.ts'
import {
  clearedFrom,
  forgetCleared,
  poolsOfHost,
  recordCleared,
  vmsOfHost,
  type ClearedVm,
  type PoolOfHost,
  type Taken,
  type VmOfHost
} from '../inventory/clearing.ts'
import { beginMaintenance } from '../inventory/maintenance.ts'
import { resource } from '../model/resource.ts'
import { askedToCancel, runningOn } from '../queue/under-way.ts'
import type { Action } from './action.ts'
import type { HostClearArgs } from './host-clear-args.ts'
import { preflightClear, type ClearRow } from './host-clear-preflight.ts'
import { closeAndRequeue, type Requeued } from './host-clear-queue.ts'

export interface Clearing {
  /** Cordons the host; what was queued for it by name goes elsewhere or is held. */
  close(host: string, reason: string): Promise<Requeued>
  /** Resolves once nothing is under way that brings a VM to the host, and nothing of `unbound` may become such. @throws when aborted */
  quiet(host: string, unbound: Requeued['unbound'], signal: AbortSignal): Promise<void>
  /** What would become of its VMs, or of only these, as things are now. */
  preflight(given: HostClearArgs, only?: ReadonlySet<string>): Promise<ClearRow[]>
  vms(host: string): Promise<VmOfHost[]>
  pools(host: string): Promise<PoolOfHost[]>
  /** Begins its maintenance if nothing is active there and nothing may be arriving. */
  begin(host: string): Promise<{ active: number; arriving: number }>
  /** For the restore: what was taken from the host. */
  record(host: string, taken: readonly { vm: string; how: Taken }[]): Promise<void>
  taken(host: string): Promise<ClearedVm[]>
  forget(host: string, vms: readonly string[]): Promise<void>
  /** Who asked to cancel the task, if anybody did. */
  cancelled(): Promise<{ by: string; reason: string | null } | undefined>
}

const firstLookMs = 50
const lastLookMs = 1_000

export function createClearing(
  database: Database,
  registry: ReadonlyMap<string, Action>,
  task: { id: number; title: string; by: string }
): Clearing {
  return {
    close: (host, reason) => closeAndRequeue(database, registry, { ...task, host, reason }),
    async quiet(host, unbound, signal) {
      for (let waitMs = firstLookMs; ; waitMs = Math.min(lastLookMs, waitMs * 2)) {
        const now = await runningOn(database, { resource: resource.host(host), attempts: unbound, but: task.id })
        const arriving = now.running.filter(({ action, args }) => brings(registry.get(action), args, host))
        if (now.unbound.length === 0 && arriving.length === 0) return
        await delay(waitMs, undefined, { signal })
      }
    },
    preflight: (given, only) => preflightClear(database, given, { without: task.id, ...(only ? { only } : {}) }),
    vms: (host) => vmsOfHost(database, host),
    pools: (host) => poolsOfHost(database, host),
    begin: (host) => beginMaintenance(database, host),
    record: (host, taken) => recordCleared(database, host, task.id, taken),
    taken: (host) => clearedFrom(database, host),
    forget: (host, vms) => forgetCleared(database, host, vms),
    cancelled: () => askedToCancel(database, task.id)
  }
}

/** A task that runs on the host and makes a VM active or defined there. A migration claims both hosts: its target counts. */
function brings(action: Action | undefined, args: JsonObject, host: string): boolean {
  const argument = action?.bringsVmTo
  if (argument === undefined) return false
  return action?.name !== 'vm.migrate' || args[argument] === undefined || args[argument] === host
}

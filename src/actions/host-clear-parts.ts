// The parts of a clear: which task does what the preflight decided for a VM or a pool.
import type { JsonObject } from '../db/json.ts'
import { moveOptions, type HostClearArgs } from './host-clear-args.ts'
import type { ClearRow } from './host-clear-preflight.ts'
import type { RequestedTask } from './submission.ts'

/** Undefined for a VM that stays. */
export function childOf(given: HostClearArgs, row: ClearRow): RequestedTask | undefined {
  const { vm } = row
  switch (row.does) {
    case 'migrate':
      return { action: 'vm.migrate', args: { vm, to: row.to, ...moveOptions(given) } }
    case 'move':
      return { action: 'vm.migrate', args: { vm, to: row.to, offline: true } }
    case 'shut down':
      return stopChild(given, vm)
    case 'delete':
      return {
        action: 'vm.delete',
        args: { vm, ...(given.force ? { force: true } : {}), ...(given.volumes ? { volumes: true } : {}) }
      }
    default:
      return undefined
  }
}

export function stopChild(given: HostClearArgs, vm: string): RequestedTask {
  const args: JsonObject = { vm }
  if (given.force) args['force'] = true
  // For a migration hours may be right; a guest that has not heard after that long does not listen.
  if (given.timeoutSeconds !== undefined && given.timeoutSeconds <= 3600) args['timeoutSeconds'] = given.timeoutSeconds
  return { action: 'vm.stop', args }
}

/** Only this host's handle: what other hosts have of the store is not touched. */
export const poolChild = (given: HostClearArgs, pool: string): RequestedTask => ({
  action: given.pools === 'delete' ? 'pool.delete' : 'pool.stop',
  args: { host: given.host, pool, onlyThisHost: true }
})

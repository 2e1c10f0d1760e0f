// Moving a running VM: peer-to-peer, so that the source's daemon carries it through when we are gone; and the job that it is.
import {
  DomainJobOperation,
  DomainJobType,
  DomainMigrateFlags,
  ErrorCode,
  JobField,
  MigrateParam,
  TypedParamType
} from '../libvirt/constants.gen.ts'
import type { Domain, TypedParam } from '../libvirt/wire.gen.ts'
import type { HostCalls } from './calls.ts'
import { refusedWith } from './calls.ts'
import type { MigrateOptions, VmJob } from './host.ts'

/** virsh's choice: by then one pass over the memory has been sent. */
const POSTCOPY_AFTER_ITERATION = 2

export function migrateFlags(options: MigrateOptions): number {
  const flag = DomainMigrateFlags
  let flags: number = flag.PEER2PEER
  if (options.live) flags |= flag.LIVE
  if (options.persistent) flags |= flag.PERSIST_DEST | flag.UNDEFINE_SOURCE
  if (options.tls) flags |= flag.TLS
  if (options.unsafe) flags |= flag.UNSAFE
  if (options.autoConverge) flags |= flag.AUTO_CONVERGE
  if (options.postCopy) flags |= flag.POSTCOPY
  if (options.copyStorage) flags |= flag.NON_SHARED_DISK
  return flags
}

/** A limit holds for what is sent after a switch-over as well: libvirt has another for that, by default none. */
export function bandwidthParams({ bandwidthMiBps, postCopy }: Omit<MigrateOptions, 'peerUri'>): TypedParam[] {
  if (bandwidthMiBps === null) return []
  const fields = [MigrateParam.BANDWIDTH, ...(postCopy ? [MigrateParam.BANDWIDTH_POSTCOPY] : [])]
  return fields.map((field) => ({ field, value: { type: TypedParamType.ULLONG, value: BigInt(bandwidthMiBps) } }))
}

export const migrateVm = (calls: HostCalls, dom: Domain, options: MigrateOptions): Promise<void> =>
  perform(calls, dom, options, migrateFlags(options))

/** A post-copy whose link was cut: its source sends the rest over a new one. */
export const resumePostCopy = (calls: HostCalls, dom: Domain, options: MigrateOptions): Promise<void> =>
  perform(calls, dom, options, migrateFlags({ ...options, postCopy: true }) | DomainMigrateFlags.POSTCOPY_RESUME)

async function perform(calls: HostCalls, dom: Domain, options: MigrateOptions, flags: number): Promise<void> {
  const params: TypedParam[] = []
  if (options.migrationUri !== null)
    params.push({ field: MigrateParam.URI, value: { type: TypedParamType.STRING, value: options.migrationUri } })
  params.push(...bandwidthParams(options))
  const resumes = (flags & DomainMigrateFlags.POSTCOPY_RESUME) !== 0
  const stop = options.postCopy && !resumes ? switchToPostCopy(calls, dom) : () => {}
  try {
    await calls.long('DOMAIN_MIGRATE_PERFORM3_PARAMS', {
      dom,
      dconnuri: options.peerUri,
      params,
      cookie_in: new Uint8Array(),
      flags
    })
  } finally {
    stop()
  }
}

// A guest that writes faster than the network never converges; after the switch it runs on the target, whatever it writes.
export function switchToPostCopy(calls: HostCalls, dom: Domain): () => void {
  let asked = false
  return calls.onChange((change) => {
    if (asked || change.kind !== 'vm' || change.uuid !== dom.uuid || change.event !== 'migration iteration') return
    if (Number(change.detail) < POSTCOPY_AFTER_ITERATION) return
    asked = true
    // Refused when the migration has just ended; then nothing is left to be switched.
    calls.ask('DOMAIN_MIGRATE_START_POST_COPY', { dom, flags: 0 }).catch(() => {})
  })
}

/** The job as its source tells it; undefined when there is none. */
export async function vmJob(calls: HostCalls, dom: Domain): Promise<VmJob | undefined> {
  try {
    const { type, params } = await calls.ask('DOMAIN_GET_JOB_STATS', { dom, flags: 0 })
    if (type !== DomainJobType.BOUNDED && type !== DomainJobType.UNBOUNDED) return undefined
    return jobOf(params)
  } catch (error) {
    // Off, gone, or a driver that has no jobs.
    if (refusedWith(error, ErrorCode.OPERATION_INVALID, ErrorCode.NO_DOMAIN, ErrorCode.NO_SUPPORT)) return undefined
    throw error
  }
}

export function jobOf(params: readonly TypedParam[]): VmJob {
  const number = (field: string): number => Number(params.find((param) => param.field === field)?.value.value ?? 0)
  const has = (field: string): boolean => params.some((param) => param.field === field)
  const operation = number(JobField.OPERATION)
  const kind = Object.entries(DomainJobOperation).find(([, value]) => value === operation)?.[0] ?? 'unknown'
  return {
    kind: kind.toLowerCase().replaceAll('_', ' '),
    elapsedMs: number(JobField.TIME_ELAPSED),
    totalBytes: number(JobField.DATA_TOTAL),
    processedBytes: number(JobField.DATA_PROCESSED),
    remainingBytes: number(JobField.DATA_REMAINING),
    downtimeMs: has(JobField.DOWNTIME) ? number(JobField.DOWNTIME) : null
  }
}

// Procedures about what a domain is busy with.

import {
  DomainGetJobStatsFlags,
  DomainJobOperation,
  DomainJobType,
  JobField,
  TypedParamType
} from '../libvirt/constants.gen.ts'
import type { Empty, TypedParam } from '../libvirt/wire.gen.ts'
import type { Handlers } from './call.ts'
import type { FinishedJob, RunningJob, SimDomain } from './domain.ts'
import type { SimHost } from './host.ts'
import { notValid } from './refusal.ts'

type Numbers = {
  elapsedMs: number
  total: number
  processed: number
  remaining: number
  iteration: number
  dirtyMiBps: number
}

function numbersOf(job: RunningJob): Numbers {
  const processed = job.progress()
  const remaining = Math.max(0, job.totalBytes - processed)
  const { totalBytes: total, iteration, dirtyMiBps } = job
  return { elapsedMs: Date.now() - job.startedAt, total, processed, remaining, iteration, dirtyMiBps }
}

/** Keeps a job's numbers for those who ask when it is over. */
export function completed(host: SimHost, domain: SimDomain, job: RunningJob | null): void {
  if (!job) return
  domain.finishedJob = {
    operation: job.operation,
    elapsedMs: Date.now() - job.startedAt,
    totalBytes: job.totalBytes,
    downtimeMs: Math.min(40, host.settings.migrationMs),
    ok: true
  }
}

const ullong = (field: string, value: number): TypedParam => ({
  field,
  value: { type: TypedParamType.ULLONG, value: BigInt(Math.max(0, Math.round(value))) }
})
const operation = (value: number): TypedParam => ({
  field: JobField.OPERATION,
  value: { type: TypedParamType.INT, value }
})

function statistics(kind: number, numbers: Numbers): TypedParam[] {
  const { elapsedMs, total, processed, remaining } = numbers
  return [
    operation(kind),
    ullong(JobField.TIME_ELAPSED, elapsedMs),
    ullong(JobField.DATA_TOTAL, total),
    ullong(JobField.DATA_PROCESSED, processed),
    ullong(JobField.DATA_REMAINING, remaining),
    ullong(JobField.MEMORY_TOTAL, total),
    ullong(JobField.MEMORY_PROCESSED, processed),
    ullong(JobField.MEMORY_REMAINING, remaining),
    ullong(JobField.MEMORY_BPS, elapsedMs > 0 ? (processed / elapsedMs) * 1000 : 0),
    ullong(JobField.MEMORY_DIRTY_RATE, numbers.dirtyMiBps * 256),
    ullong(JobField.MEMORY_PAGE_SIZE, 4096),
    ullong(JobField.MEMORY_ITERATION, numbers.iteration)
  ]
}

export function finishedStatistics(job: FinishedJob): TypedParam[] {
  const numbers = {
    elapsedMs: job.elapsedMs,
    total: job.totalBytes,
    processed: job.totalBytes,
    remaining: 0,
    iteration: 1,
    dirtyMiBps: 0
  }
  return [...statistics(job.operation, numbers), ullong(JobField.DOWNTIME, job.downtimeMs)]
}

const noJob = { type: DomainJobType.NONE as number, timeElapsed: 0n, timeRemaining: 0n }
const noBytes = { dataTotal: 0n, dataProcessed: 0n, dataRemaining: 0n }
const noMemory = { memTotal: 0n, memProcessed: 0n, memRemaining: 0n }
const noFiles = { fileTotal: 0n, fileProcessed: 0n, fileRemaining: 0n }

function abort(domain: SimDomain): Empty {
  if (!domain.active) throw notValid('domain is not running', 'DOMAIN')
  if (!domain.job?.abort) throw notValid('no job is active on the domain')
  domain.job.abort()
  return {}
}

export const jobCalls: Handlers = {
  DOMAIN_GET_JOB_INFO: ({ dom }, host) => {
    const { job } = host.domain(dom)
    if (!job) return { ...noJob, ...noBytes, ...noMemory, ...noFiles }
    const numbers = numbersOf(job)
    const big = (value: number): bigint => BigInt(Math.max(0, Math.round(value)))
    const total = big(numbers.total)
    const processed = big(numbers.processed)
    const remaining = big(numbers.remaining)
    return {
      type: DomainJobType.UNBOUNDED,
      timeElapsed: big(numbers.elapsedMs),
      timeRemaining: 0n,
      dataTotal: total,
      dataProcessed: processed,
      dataRemaining: remaining,
      memTotal: total,
      memProcessed: processed,
      memRemaining: remaining,
      ...noFiles
    }
  },
  DOMAIN_GET_JOB_STATS: ({ dom, flags }, host) => {
    const domain = host.domain(dom)
    const { COMPLETED, KEEP_COMPLETED } = DomainGetJobStatsFlags
    if (flags & COMPLETED) {
      const job = domain.finishedJob
      if (!job) return { type: DomainJobType.NONE, params: [] }
      if (!(flags & KEEP_COMPLETED)) domain.finishedJob = null
      const incoming = domain.active ? DomainJobOperation.MIGRATION_IN : job.operation
      return { type: DomainJobType.COMPLETED, params: finishedStatistics({ ...job, operation: incoming }) }
    }
    if (host.arriving.has(domain.uuid)) throw notValid('migration statistics are available only on the source host')
    if (!domain.job) return { type: DomainJobType.NONE, params: [] }
    return { type: DomainJobType.UNBOUNDED, params: statistics(domain.job.operation, numbersOf(domain.job)) }
  },
  DOMAIN_ABORT_JOB: ({ dom }, host) => abort(host.domain(dom)),
  DOMAIN_ABORT_JOB_FLAGS: ({ dom }, host) => abort(host.domain(dom))
}

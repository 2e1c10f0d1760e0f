// The time that copying a guest's memory takes: passes over what the guest has changed meanwhile, until the rest fits into
// the downtime, or never.

import { DomainJobOperation } from '../libvirt/constants.gen.ts'
import type { SimDomain } from './domain.ts'
import type { SimHost } from './host.ts'
import { refuse } from './refusal.ts'

const mib = 1024 * 1024
const downtimeMs = 300
/** A pass that does not converge takes at least this long, so that a hopeless migration costs little. */
const minPassMs = 50

export type CopyOptions = {
  /** Asked for by the client; the host's own limit where null. */
  bandwidthMiBps: number | null
  autoConverge: boolean
  postCopyAllowed: boolean
}

export type CopyEnd = { postCopy: boolean; remainingMs: number }

/** Resolves when the guest may be handed over. Rejects when the job is aborted or `fail`ed through the domain's job. */
export function copyMemory(host: SimHost, domain: SimDomain, options: CopyOptions): Promise<CopyEnd> {
  const total = domain.current.memoryKiB * 1024
  const bandwidth = Math.min(host.settings.migrationMiBps, options.bandwidthMiBps ?? Infinity) * mib
  const firstMs = Math.max((total / bandwidth) * 1000, host.settings.migrationMs)
  const speed = firstMs === 0 ? Infinity : total / firstMs
  const { promise, resolve, reject } = Promise.withResolvers<CopyEnd>()
  let passStart = Date.now()
  let passMs = firstMs
  let copied = 0
  let passBytes = total
  let timer: NodeJS.Timeout | null = null
  const inPass = (): number => (passMs === 0 ? 1 : Math.min(1, (Date.now() - passStart) / passMs))
  const job = {
    operation: DomainJobOperation.MIGRATION_OUT,
    startedAt: Date.now(),
    totalBytes: total,
    progress: () => copied + passBytes * inPass(),
    dirtyMiBps: domain.guest.dirtyMiBps,
    iteration: 1,
    throttle: 0,
    abort: () => stop(() => reject(refuse('OPERATION_ABORTED', 'QEMU', 'migration out job: canceled by client'))),
    postCopy: options.postCopyAllowed
      ? () => stop(() => resolve({ postCopy: true, remainingMs: passMs * (1 - inPass()) }))
      : null,
    fail: (error: Error) => stop(() => reject(error))
  }
  const stop = (then: () => void): void => {
    host.cancel(timer)
    then()
  }
  const pass = (): void => {
    host.emit('DOMAIN_EVENT_CALLBACK_MIGRATION_ITERATION', domain.uuid, { dom: domain.ref, iteration: job.iteration })
    passStart = Date.now()
    timer = host.after(passMs, () => {
      copied += passBytes
      const dirty = domain.guest.dirtyMiBps * mib * (1 - job.throttle / 100)
      const rest = domain.guest.dirtyMiBps === 0 ? 0 : Math.min(total, (dirty * passMs) / 1000)
      const restMs = speed === Infinity ? 0 : rest / speed
      const converges = rest === 0 || (dirty < bandwidth && restMs <= downtimeMs)
      if (converges) return resolve({ postCopy: false, remainingMs: 0 })
      if (options.autoConverge) job.throttle = Math.min(99, job.throttle === 0 ? 20 : job.throttle + 10)
      job.iteration++
      passBytes = rest
      passMs = Math.max(restMs, minPassMs)
      pass()
    })
  }
  domain.job = job
  pass()
  return promise
}

// What a domain is busy with. As in libvirt, one job at a time may change a domain; a long one (migration, save) lets only
// some kinds of calls through; whoever waits too long is refused with "cannot acquire state change lock".

import { refuse } from './refusal.ts'

export type JobKind = 'modify' | 'destroy' | 'suspend' | 'migration' | 'save'

/** What gets through while a long job runs (libvirt: qemu_domainjob, QEMU_JOB_DEFAULT_MASK and the migration's mask). */
const allowedDuring: Record<string, readonly JobKind[]> = {
  migration: ['destroy', 'suspend'],
  save: ['destroy']
}

type Waiter = { kind: JobKind; run: () => void }

export class JobLock {
  #held: { kind: JobKind; holder: string } | null = null
  #waiters: Waiter[] = []

  get holder(): string | null {
    return this.#held?.holder ?? null
  }

  /** Runs `act` as the domain's job. */
  async run<T>(kind: JobKind, holder: string, waitMs: number, act: () => T | Promise<T>): Promise<T> {
    const passes = this.#held !== null && (allowedDuring[this.#held.kind]?.includes(kind) ?? false)
    if (passes) return act()
    while (this.#held !== null) await this.#wait(kind, waitMs)
    this.#held = { kind, holder }
    try {
      return await act()
    } finally {
      this.#held = null
      this.#waiters.shift()?.run()
    }
  }

  #wait(kind: JobKind, waitMs: number): Promise<void> {
    const holder = this.holder
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#waiters = this.#waiters.filter((other) => other !== waiter)
        reject(
          refuse(
            'OPERATION_TIMEOUT',
            'QEMU',
            `cannot acquire state change lock (held by monitor=${holder ?? 'unknown'})`
          )
        )
      }, waitMs)
      const waiter: Waiter = {
        kind,
        run: () => {
          clearTimeout(timer)
          resolve()
        }
      }
      this.#waiters.push(waiter)
    })
  }
}

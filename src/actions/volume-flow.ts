// What bringing a volume's bytes to a host and fetching them have in common: progress that is told now and then, and what it means
// that bytes are not there.
import { createHash } from 'node:crypto'
import type { Host } from '../host/host.ts'
import { StagingError } from '../staging/error.ts'
import { failed, type ActionContext, type Outcome } from './action.ts'
import { attempt, type Settle, type Step } from './attempt.ts'
import { ownError } from './error.ts'

/** Progress is written to the database: not with every packet. */
const tellEveryMs = 1_000

/** A function to be told of every byte that has gone. */
export function tellBytes(ctx: ActionContext, total: number | null, note: string): (done: number) => void {
  let toldAt = -Infinity
  return (done) => {
    const now = performance.now()
    if (done !== total && now - toldAt < tellEveryMs) return
    toldAt = now
    ctx.progress({ done, total, unit: 'bytes', note })
  }
}

/** The SHA-256 (hex) of a volume's first bytes, as the host has them. */
export async function checksumOf(
  host: Host,
  pool: string,
  name: string,
  { bytes, signal, onBytes }: { bytes: number; signal?: AbortSignal; onBytes?: (done: number) => void }
): Promise<string> {
  const hash = createHash('sha256')
  let done = 0
  for await (const chunk of host.downloadVolume(pool, name, { length: bytes, ...(signal ? { signal } : {}) })) {
    hash.update(chunk)
    done += chunk.length
    onBytes?.(done)
  }
  return hash.digest('hex')
}

/** One try, in which bytes that are not there, or that nobody takes, fail the task. */
export function attemptFlow(
  ctx: ActionContext,
  body: (step: Step) => Promise<Outcome>,
  settle: Settle
): Promise<Outcome> {
  let current = 'begin'
  const follow = async (step: Step): Promise<Outcome> => {
    try {
      return await body((name) => {
        current = name
        step(name)
      })
    } catch (error) {
      if (!(error instanceof StagingError)) throw error
      const next =
        error.code === 'nobody_there'
          ? 'ask again, and stay until all has come: `taskomatic volume download`'
          : 'send the bytes again: `taskomatic volume upload`'
      return failed(ownError(`staging_${error.code}`, error.message, current, next))
    }
  }
  return attempt(ctx, follow, settle)
}

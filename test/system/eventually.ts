// Waits for what the outside world announces to nobody: a state on a host, a file's content.
// Where there is an event or a signal, tests wait for that instead.

import { setTimeout as delay } from 'node:timers/promises'

/** Tries `check` every 50 ms until it no longer throws; after `timeoutMs` (default 15,000) throws its last error. */
export async function eventually<T>(check: () => Promise<T>, timeoutMs = 15_000): Promise<T> {
  const deadline = Date.now() + timeoutMs
  for (;;) {
    try {
      return await check()
    } catch (error) {
      if (Date.now() > deadline) throw error
    }
    await delay(50)
  }
}

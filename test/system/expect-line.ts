// Waits for what a child process says in its next line: how the namespaces tell that they are made.

import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import type { Interface } from 'node:readline'
import { setTimeout as delay } from 'node:timers/promises'

/** Resolves when the next line of `child` is `expected`; rejects when it says something else, ends, or takes too long. */
export async function expectLine(
  child: ChildProcess,
  lines: Interface,
  expected: string,
  who: string,
  timeoutMs = 20_000
): Promise<void> {
  const done = new AbortController()
  const { signal } = done
  try {
    const said = await Promise.race([
      once(lines, 'line', { signal }).then(([line]) => String(line)),
      once(child, 'exit', { signal }).then(([code]) => `its end (${code})`),
      delay(timeoutMs, `nothing for ${timeoutMs} ms`, { signal })
    ])
    if (said !== expected) throw new Error(`${who}: expected ${expected}, got ${said}`)
  } finally {
    done.abort()
  }
}

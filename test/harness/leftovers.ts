// Finds and ends processes that tests started and did not stop. They are known by a mark in the environment that the
// runner gives to vitest and that children inherit; so it sees only what belongs to this run. Linux only.

import { readdirSync, readFileSync } from 'node:fs'
import { setTimeout as delay } from 'node:timers/promises'

export const markName = 'TASKOMATIC_TEST_RUN'

export type Leftover = { pid: number; command: string }

/** Processes that carry the mark, this one excluded. */
export function markedProcesses(mark: string): Leftover[] {
  if (process.platform !== 'linux') return []
  const found: Leftover[] = []
  for (const entry of readdirSync('/proc')) {
    const pid = Number(entry)
    if (!Number.isInteger(pid) || pid === process.pid) continue
    try {
      const environment = readFileSync(`/proc/${pid}/environ`, 'utf8').split('\0')
      if (!environment.includes(`${markName}=${mark}`)) continue
      const command = readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ').trim()
      if (command) found.push({ pid, command: command.slice(0, 200) }) // an ended one has none
    } catch {
      // ended meanwhile, or another user's
    }
  }
  return found
}

/** Gives marked processes `graceMs` to end, then kills and returns those that did not. */
export async function endLeftovers(mark: string, graceMs = 3000): Promise<Leftover[]> {
  const deadline = Date.now() + graceMs
  while (markedProcesses(mark).length > 0 && Date.now() < deadline) await delay(100)
  const left = markedProcesses(mark)
  for (const { pid } of left) {
    try {
      process.kill(pid, 'SIGKILL')
    } catch {
      // ended meanwhile
    }
  }
  return left
}

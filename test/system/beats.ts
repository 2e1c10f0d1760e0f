// Tells from what a guest said on its serial port whether it ever ran twice. The guest counts, and tells each count as one byte
// (guest.ts, `beats`); its memory moves, and the count with it, while each host has a file of its own for what was said there. So a
// guest that only ever went on from where it had stopped has told each count once. Two copies tell the same counts twice, whether at
// one time or, which destroys the disk just as well, one after the other.

import { open } from 'node:fs/promises'

/** Consecutive counts, told on one host without a gap. */
type Run = { host: string; first: number; length: number }

const following = (count: number): number => (count + 1) % 256
const lastOf = ({ first, length }: Run): number => (first + length - 1) % 256

export class Beats {
  readonly #files: ReadonlyMap<string, string>
  readonly #from = new Map<string, number>()

  /** @param files by host: where the guest's serial port goes there; a host where it never was has none */
  constructor(files: ReadonlyMap<string, string>) {
    this.#files = files
  }

  /** From here on only what is told later counts: the guest is about to boot anew. */
  async forget(): Promise<void> {
    for (const host of this.#files.keys())
      this.#from.set(host, (this.#from.get(host) ?? 0) + (await this.said(host)).length)
  }

  /** The counts told on a host since the last `forget`, each modulo 256. */
  async said(host: string): Promise<Buffer> {
    const path = this.#files.get(host)
    if (path === undefined) return Buffer.alloc(0)
    const file = await open(path).catch(() => undefined)
    if (!file) return Buffer.alloc(0)
    try {
      return (await file.readFile()).subarray(this.#from.get(host) ?? 0)
    } finally {
      await file.close()
    }
  }

  /**
   * The hosts that it ran on, one after the other, since it booted.
   * @throws Error when a count was told twice, or it booted more than once
   */
  async course(): Promise<string[]> {
    const left: Run[] = []
    for (const host of this.#files.keys()) left.push(...runsOf(host, await this.said(host)))
    const told = JSON.stringify(left)
    const course: string[] = []
    for (let next = 1, on = ''; left.length > 0;) {
      // It may come back to a host in the very moment that it left another; of two that fit it is rather elsewhere.
      const fits = left.filter(({ first }) => first === next)
      const run = fits.find(({ host }) => host !== on) ?? fits[0]
      if (!run) throw new Error(`it went on twice from one moment, or booted again: ${told}`)
      left.splice(left.indexOf(run), 1)
      course.push(run.host)
      next = following(lastOf(run))
      on = run.host
    }
    return course
  }
}

function runsOf(host: string, said: Buffer): Run[] {
  const runs: Run[] = []
  for (const count of said) {
    const run = runs.at(-1)
    if (run && following(lastOf(run)) === count) run.length++
    else runs.push({ host, first: count, length: 1 })
  }
  return runs
}

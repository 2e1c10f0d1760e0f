// Where bytes are: directories with files that one host has (its own store) or several (a shared one), without any content
// but what was written through a stream. Finds two guests that write to one disk.

import type { Journal } from './journal.ts'
import { refuse } from './refusal.ts'

export type SimFile = {
  path: string
  format: string
  capacityBytes: bigint
  allocationBytes: bigint
  backing: { path: string; format: string } | null
  /** A copy under way or cut off: full size, but not the bytes. */
  partial: boolean
  /** What was uploaded, from the first byte; the rest reads as zeros. Bounded by `maxContentBytes`. */
  content: Buffer | null
  modifiedAt: number
}

/** A guest on a host: what opens a disk. */
export type Opener = { host: string; uuid: string; name: string }

type Use = { opener: Opener; writing: boolean }

export const maxContentBytes = 16 * 1024 * 1024

export class SimStore {
  readonly name: string
  readonly shared: boolean
  /** `file` has QEMU's image lock, so that a second writer is refused; `block` has none. */
  readonly kind: 'file' | 'block'
  readonly capacityBytes: bigint
  readonly files = new Map<string, SimFile>()
  readonly directories = new Set<string>(['/'])
  readonly #uses = new Map<string, Map<string, Use>>()
  readonly #journal: Journal

  constructor(
    name: string,
    journal: Journal,
    options: { shared?: boolean; kind?: 'file' | 'block'; capacityBytes?: bigint } = {}
  ) {
    this.name = name
    this.#journal = journal
    this.shared = options.shared ?? false
    this.kind = options.kind ?? 'file'
    this.capacityBytes = options.capacityBytes ?? 1024n ** 4n
  }

  get allocationBytes(): bigint {
    let sum = 0n
    for (const file of this.files.values()) sum += file.allocationBytes
    return sum
  }

  /** Files directly in a directory. */
  list(directory: string): SimFile[] {
    const prefix = directory === '/' ? '/' : `${directory}/`
    return [...this.files.values()].filter(
      (file) => file.path.startsWith(prefix) && !file.path.slice(prefix.length).includes('/')
    )
  }

  makeDirectory(path: string): void {
    for (let at = path; at.length > 1; at = at.slice(0, Math.max(1, at.lastIndexOf('/')))) this.directories.add(at)
  }

  create(path: string, file: Partial<SimFile> & { format: string; capacityBytes: bigint }): SimFile {
    const made: SimFile = {
      allocationBytes: 0n,
      backing: null,
      partial: false,
      content: null,
      modifiedAt: Date.now(),
      ...file,
      path
    }
    this.files.set(path, made)
    return made
  }

  /** Whether somebody else has the disk open, for the image lock. */
  lockedBy(path: string, opener: Opener): Opener | undefined {
    for (const use of this.#uses.get(path)?.values() ?? [])
      if (use.opener.uuid !== opener.uuid || use.opener.host !== opener.host) return use.opener
    return undefined
  }

  /** Opens a disk for writing. On a `file` store a disk that is open elsewhere is refused, as QEMU's image lock does. */
  open(path: string, opener: Opener, shareable: boolean): void {
    const other = shareable || this.kind === 'block' ? undefined : this.lockedBy(path, opener)
    if (other)
      throw refuse(
        'INTERNAL_ERROR',
        'QEMU',
        `process exited while connecting to monitor: Failed to get "write" lock\nIs another process using the image [${path}]?`
      )
    const uses = this.#uses.get(path) ?? new Map<string, Use>()
    uses.set(`${opener.host} ${opener.uuid}`, { opener, writing: false })
    this.#uses.set(path, uses)
  }

  close(path: string, opener: Opener): void {
    const uses = this.#uses.get(path)
    uses?.delete(`${opener.host} ${opener.uuid}`)
    if (uses?.size === 0) this.#uses.delete(path)
  }

  /** Notes that a guest runs (or no longer runs) on an open disk; two that run are an alarm in the journal. */
  setWriting(path: string, opener: Opener, writing: boolean, shareable: boolean): void {
    const uses = this.#uses.get(path)
    const mine = uses?.get(`${opener.host} ${opener.uuid}`)
    if (!uses || !mine) return
    mine.writing = writing
    if (!writing || shareable) return
    for (const use of uses.values()) {
      if (use === mine || !use.writing) continue
      const detail = `${this.name}:${path} is also written by ${use.opener.name} on ${use.opener.host}`
      this.#journal.add({
        host: opener.host,
        kind: 'running',
        subject: opener.uuid,
        name: opener.name,
        detail,
        twoWriters: true
      })
    }
  }

  /** Forgets every use by a host that lost power. */
  closeAllOf(host: string): void {
    for (const [path, uses] of this.#uses) {
      for (const [key, use] of uses) if (use.opener.host === host) uses.delete(key)
      if (uses.size === 0) this.#uses.delete(path)
    }
  }
}

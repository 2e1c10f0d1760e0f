// `taskomatic simhost`: simulated hosts that stay up until they are told to stop, for a person with virsh, a demo or a load test.

import { createWriteStream, writeFileSync, type WriteStream } from 'node:fs'
import { once } from 'node:events'
import { mkdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { startSimFleet, type SimFleet } from './fleet.ts'
import { isAlive, ownDirectory, processNamedIn } from './owned-directory.ts'
import { populate } from './populate.ts'
import { makeTrouble, type TroubleStep } from './trouble.ts'

export type RunSimHostsOptions = {
  /** For the sockets, one a host: `DIR/NAME.sock`. Default a temporary one, which goes with the hosts. */
  dir?: string
  /** Their number (h1, h2 …) or their names. */
  hosts: number | string[]
  /** Guests to begin with, spread evenly. Default 0. */
  vms?: number
  vmMemoryMiB?: number
  /** Whether those guests run. Default false. */
  running?: boolean
  memoryMiB?: number
  cpus?: number
  latencyMs?: number
  startMs?: number
  shutdownMs?: number
  migrationMiBps?: number
  migrationMs?: number
  seed?: number
  /** A store that all hosts share, and where it appears; the guests' disks are on it. Default `shared` at /srv/shared. */
  store?: { name: string; path: string; kind?: 'file' | 'block' } | null
  /** What goes wrong, counted from when all hosts are up. */
  trouble?: readonly TroubleStep[]
  /** Every effect is written there, a line of JSON each. */
  journalFile?: string
  /** Where the addresses are told. */
  print: (line: string) => void
  /** For people: what is not an address. */
  say?: (line: string) => void
  /** Ends it. */
  signal: AbortSignal
}

/** How many addresses are printed one by one. */
const shownHosts = 20

export class SimHostsError extends Error {
  override readonly name = 'SimHostsError'
  readonly code = 'directory_taken'
}

/**
 * Resolves when `signal` has aborted and everything is down.
 * @throws SimHostsError when other simulated hosts listen in the directory, TroubleError when the script names an unknown host
 */
export async function runSimHosts(options: RunSimHostsOptions): Promise<void> {
  const { dir, hosts, vms = 0, vmMemoryMiB, running, trouble, journalFile, print, say, signal, ...rest } = options
  const { store = { name: 'shared', path: '/srv/shared' }, ...settings } = rest
  const directory = dir === undefined ? await ownDirectory('taskomatic-sim-') : await takeDirectory(dir)
  let fleet: SimFleet | undefined
  let journal: WriteStream | undefined
  let endTrouble: (() => void) | undefined
  try {
    fleet = await startSimFleet({ dir: directory.path, hosts, sharedStores: store ? [store] : [], ...settings })
    if (journalFile !== undefined) journal = await keepJournal(fleet, journalFile)
    await populate(fleet, {
      vms,
      ...(vmMemoryMiB === undefined ? {} : { memoryMiB: vmMemoryMiB }),
      ...(store ? { store } : {}),
      ...(running === undefined ? {} : { running })
    })
    endTrouble = makeTrouble(fleet, trouble ?? [], (error) => say?.(`did not go wrong as the script says: ${error}`))
    tell(fleet, print)
    if (!signal.aborted) await new Promise((resolve) => signal.addEventListener('abort', resolve, { once: true }))
  } finally {
    endTrouble?.()
    await fleet?.stop()
    if (journal) await once(journal.end(), 'close')
    await directory.remove()
  }
  const { overCommitted, twoWriters } = fleet.journal
  say?.(
    `journal: ${overCommitted} times more guests than memory, ${twoWriters} times two guests that wrote to one disk`
  )
}

/** A directory that the user named is used by one process at a time; it stays, the sockets go. */
async function takeDirectory(path: string): Promise<{ path: string; remove(): Promise<void> }> {
  await mkdir(path, { recursive: true })
  const file = join(path, 'simhost.pid')
  const owner = processNamedIn(file)
  if (owner !== undefined && owner !== process.pid && isAlive(owner))
    throw new SimHostsError(
      `simulated hosts of process ${owner} listen in ${path}: end them, or name another directory`
    )
  writeFileSync(file, String(process.pid))
  return { path, remove: () => rm(file, { force: true }) }
}

async function keepJournal(fleet: SimFleet, file: string): Promise<WriteStream> {
  const stream = createWriteStream(file)
  await once(stream, 'open')
  const write = (entry: object): void => void stream.write(`${JSON.stringify(entry)}\n`)
  for (const entry of fleet.journal.entries()) write(entry)
  fleet.journal.onEntry(write)
  return stream
}

function tell(fleet: SimFleet, print: (line: string) => void): void {
  for (const host of fleet.hosts.slice(0, shownHosts)) print(`${host.name} ${host.uri}`)
  const more = fleet.hosts.length - shownHosts
  if (more > 0) print(`… and ${more} more, named alike`)
}

// Starts simulated hosts and any number of engines, each in a process of its own, and ends every one of them, also after a failure.
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { SimFleetOptions } from '../../src/sim/fleet.ts'
import type { EngineHandlers, EngineProcessOptions, LogLine } from './engine-process.ts'
import type { HostsHandlers } from './hosts-process.ts'
import { startRemote, type Remote } from './ipc.ts'

export type HostsProcess = Remote<HostsHandlers> & {
  /** Control URIs by host. */
  uris: Record<string, string>
}

export type EngineProcess = Remote<EngineHandlers> & {
  /** What it logged, at `level` and above; the last thousand lines. */
  logs: readonly LogLine[]
  /** Resolves with the first line, earlier or later, for which `holds`. */
  logged(holds: (line: LogLine) => boolean): Promise<LogLine>
}

export class Processes {
  readonly #remotes = new Set<{ kill(): Promise<void> }>()
  readonly #directories: string[] = []

  /** Simulated hosts; their sockets are in a directory that goes with them. */
  async hosts(options: Omit<SimFleetOptions, 'dir'>): Promise<HostsProcess> {
    const dir = mkdtempSync(join(tmpdir(), 'tk-'))
    this.#directories.push(dir)
    const remote = await startRemote<HostsHandlers>('hosts-process.ts')
    this.#remotes.add(remote)
    const uris = await remote.call.start({ ...options, dir })
    return { ...remote, uris }
  }

  /** An engine that has registered its dispatcher. */
  async engine(options: EngineProcessOptions, env: Record<string, string> = {}): Promise<EngineProcess> {
    const hearers = new Set<(line: LogLine) => void>()
    const logs: LogLine[] = []
    const onTold = (told: unknown) => {
      const { log } = told as { log: LogLine }
      logs.push(log)
      if (logs.length > 1000) logs.shift()
      for (const hear of hearers) hear(log)
    }
    const remote = await startRemote<EngineHandlers>('engine-process.ts', { onTold, env })
    this.#remotes.add(remote)
    await remote.call.start(options)
    return {
      ...remote,
      logs,
      logged: (holds) =>
        new Promise((resolve) => {
          const earlier = logs.find(holds)
          if (earlier) return resolve(earlier)
          const hear = (line: LogLine) => {
            if (!holds(line)) return
            hearers.delete(hear)
            resolve(line)
          }
          hearers.add(hear)
        })
    }
  }

  engines(count: number, options: EngineProcessOptions): Promise<EngineProcess[]> {
    return Promise.all(Array.from({ length: count }, () => this.engine(options)))
  }

  /** Kills every process that is left, stopped ones too. May be called twice. */
  async stop(): Promise<void> {
    await Promise.all([...this.#remotes].map((remote) => remote.kill()))
    for (const directory of this.#directories) rmSync(directory, { recursive: true, force: true })
  }
}

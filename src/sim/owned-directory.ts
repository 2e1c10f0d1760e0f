// Temporary directories that outlive nobody: each names the process that made it, and the next one made takes away those whose
// process is gone, as after a kill -9.
import { readFileSync } from 'node:fs'
import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

/** In the directory, with the number of its process. */
export const ownerFile = 'owner.pid'

export type OwnedDirectory = {
  path: string
  /** May be called twice. */
  remove(): Promise<void>
}

/** Makes `PREFIXxxxxxx` in the temporary directory, and removes what others of this prefix left behind. */
export async function ownDirectory(prefix: string): Promise<OwnedDirectory> {
  await removeOrphans(prefix)
  const path = await mkdtemp(join(tmpdir(), prefix))
  await writeFile(join(path, ownerFile), String(process.pid))
  return { path, remove: () => rm(path, { recursive: true, force: true }) }
}

// What names no owner is left alone: it may be in the making, or somebody's own.
async function removeOrphans(prefix: string): Promise<void> {
  const beside = await readdir(tmpdir(), { withFileTypes: true }).catch(() => [])
  for (const entry of beside) {
    if (!entry.isDirectory() || !entry.name.startsWith(prefix)) continue
    const path = join(tmpdir(), entry.name)
    const owner = processNamedIn(join(path, ownerFile))
    // Something of its owner may be ending there still, or it may be another user's: it is tried again next time.
    if (owner !== undefined && !isAlive(owner)) await rm(path, { recursive: true, force: true }).catch(() => undefined)
  }
}

/** The process whose number is in a file; undefined where there is none. */
export function processNamedIn(file: string): number | undefined {
  try {
    const pid = Number(readFileSync(file, 'utf8'))
    return Number.isInteger(pid) && pid > 0 ? pid : undefined
  } catch {
    return undefined
  }
}

/** Whether a process runs, whoever's it is. */
export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM'
  }
}

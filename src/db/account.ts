// Whose processes PostgreSQL's are. It refuses to run as root: there it gets a user namespace that maps us to nobody, with files that
// stay ours; where the machine or its container forbids that, it runs as nobody, with its files given to nobody.
import { execFile } from 'node:child_process'
import { lchown, readdir, readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { DatabaseError } from './error.ts'

/** `files`: whose the data directory's files are, where that is for us to say. */
export type Account = { prefix: readonly string[]; files?: { uid: number; gid: number } }

const run = promisify(execFile)

const NOBODY = 65534
const namespace = ['unshare', '--user', `--map-user=${NOBODY}`, `--map-group=${NOBODY}`]

/**
 * How to run it: words before the command.
 * @param asUser as which account; else as we are, or as nobody where we are root
 * @throws DatabaseError `start_failed` where there is no way
 */
export async function accountFor(asUser: { uid: number; gid: number } | undefined): Promise<Account> {
  if (process.getuid?.() !== 0) return { prefix: leash }
  if (asUser) return { prefix: withoutRoot(asUser, []), files: asUser }
  const forbidden = await run(namespace[0] ?? '', [...namespace.slice(1), 'true']).then(
    () => undefined,
    (error: Error & { stderr?: string }) => (error.stderr ?? '').trim() || error.message
  )
  if (forbidden === undefined) return { prefix: [...namespace, ...leash], files: { uid: 0, gid: 0 } }
  const nobody = await nobodysIds()
  const prefix = withoutRoot(nobody, await capabilities())
  try {
    await run(prefix[0] ?? '', [...prefix.slice(1), 'true'])
  } catch (error) {
    throw new DatabaseError(
      'start_failed',
      `PostgreSQL does not run as root; a user namespace is forbidden here (${forbidden}), and so is another account (${(error as Error).message}): run this as another user, or set DATABASE_URL to a PostgreSQL that runs`,
      { cause: error }
    )
  }
  return { prefix, files: nobody }
}

// INT is PostgreSQL's fast shutdown: so even a kill -9 of us leaves no orphan.
const leash = process.platform === 'linux' ? ['setpriv', '--pdeathsig', 'INT'] : []

const withoutRoot = ({ uid, gid }: { uid: number; gid: number }, kept: readonly string[]): string[] => [
  'setpriv',
  `--reuid=${uid}`,
  `--regid=${gid}`,
  '--clear-groups',
  ...kept.flatMap((name) => [`--inh-caps=+${name}`, `--ambient-caps=+${name}`]),
  ...leash.slice(1)
]

/** initdb asks for the account's name: a number alone does not do. */
async function nobodysIds(): Promise<{ uid: number; gid: number }> {
  const accounts = await readFile('/etc/passwd', 'utf8').catch(() => '')
  const [, , uid, gid] = /^nobody:.*$/m.exec(accounts)?.[0].split(':') ?? []
  return { uid: Number(uid ?? NOBODY), gid: Number(gid ?? NOBODY) }
}

// Root's home, where a clone or the state may be, is closed to nobody: it needs to pass through, and if that cannot be given alone
// (containers often lack it), to pass any file's permissions.
async function capabilities(): Promise<string[]> {
  const status = await readFile('/proc/self/status', 'utf8').catch(() => '')
  const held = BigInt(`0x${/^CapEff:\s*([0-9a-f]+)/m.exec(status)?.[1] ?? '0'}`)
  if (held & (1n << 2n)) return ['dac_read_search']
  return held & (1n << 1n) ? ['dac_override'] : []
}

/** Gives a directory and all in it to the account; one that ran in the other way has another's files. */
export async function giveTo(directory: string, { files }: Account): Promise<void> {
  if (!files) return
  const { uid, gid } = await stat(directory)
  if (uid === files.uid && gid === files.gid) return
  for (const entry of await readdir(directory, { recursive: true }))
    await lchown(join(directory, entry), files.uid, files.gid)
  // Last: a change that was cut short is seen by it and done again.
  await lchown(directory, files.uid, files.gid)
}

// The one token of a server, made at its first start. Whoever can read its file is the administrator; there are no other users.
import { createHash, randomBytes, timingSafeEqual } from 'node:crypto'
import { link, mkdir, open, readFile, stat, unlink } from 'node:fs/promises'
import { dirname } from 'node:path'
import { IdentityError } from './error.ts'

/** Whoever did something, as it is written on tasks. */
export type Actor = { name: string }

export interface Authenticator {
  /** @throws IdentityError `missing_token` or `wrong_token` */
  authenticate(authorization: string | undefined): Actor
}

// 256 random bits; the prefix lets secret scanners find one that leaked.
const makeToken = () => `tkm_${randomBytes(32).toString('base64url')}`
const isToken = /^tkm_[A-Za-z0-9_-]{43}$/

/**
 * Reads the token from `file`, mode 0600; makes both if they are missing, also when two servers start at once.
 * @throws IdentityError `token_file`
 */
export async function openToken(file: string): Promise<string> {
  await mkdir(dirname(file), { recursive: true, mode: 0o700 })
  const existing = await readToken(file)
  if (existing !== undefined) return existing
  // Written aside and linked into place: nobody ever sees half a token, and of two makers one wins.
  const aside = `${file}.${randomBytes(6).toString('hex')}`
  const handle = await open(aside, 'wx', 0o600)
  try {
    await handle.writeFile(`${makeToken()}\n`)
    await handle.sync()
  } finally {
    await handle.close()
  }
  await link(aside, file).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'EEXIST')
      throw new IdentityError('token_file', `cannot make ${file}: ${error.message}`, { cause: error })
  })
  await unlink(aside)
  const made = await readToken(file)
  if (made === undefined) throw new IdentityError('token_file', `${file} vanished while it was made`)
  return made
}

async function readToken(file: string): Promise<string | undefined> {
  try {
    const text = (await readFile(file, 'utf8')).trim()
    const { mode } = await stat(file)
    if ((mode & 0o077) !== 0) {
      throw new IdentityError(
        'token_file',
        `${file} can be read by others (mode ${(mode & 0o777).toString(8)}): chmod 600 it, or remove it and restart to have a new one`
      )
    }
    if (!isToken.test(text))
      throw new IdentityError('token_file', `${file} holds no token: remove it and restart to have a new one`)
    return text
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    if (error instanceof IdentityError) throw error
    throw new IdentityError('token_file', `cannot read ${file}: ${(error as Error).message}`, { cause: error })
  }
}

export function tokenAuthenticator(token: string, actor: Actor = { name: 'admin' }): Authenticator {
  // Hashes have one length whatever was sent, and a comparison that takes the same time for every guess.
  const digest = (text: string) => createHash('sha256').update(text).digest()
  const expected = digest(token)
  return {
    authenticate(authorization) {
      const [scheme, sent, ...rest] = (authorization ?? '').split(' ')
      if (!authorization || scheme?.toLowerCase() !== 'bearer' || !sent || rest.length > 0) {
        throw new IdentityError('missing_token', 'this needs a token: send `Authorization: Bearer TOKEN`')
      }
      if (!timingSafeEqual(digest(sent), expected))
        throw new IdentityError('wrong_token', "the token is not this server's")
      return actor
    }
  }
}

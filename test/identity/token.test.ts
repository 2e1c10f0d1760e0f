// The token: made once, private, compared whole.
import { chmod, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { openToken, tokenAuthenticator } from '../../src/identity/token.ts'

let directory: string
beforeEach(async () => (directory = await mkdtemp(join(tmpdir(), 'tk-token-'))))
afterEach(() => rm(directory, { recursive: true, force: true }))

test('the first start makes a token that only its owner can read; later ones read it', async () => {
  const file = join(directory, 'state', 'token')
  const token = await openToken(file)
  expect(token).toMatch(/^tkm_[A-Za-z0-9_-]{43}$/)
  expect((await stat(file)).mode & 0o777).toBe(0o600)
  expect((await stat(join(directory, 'state'))).mode & 0o777).toBe(0o700)
  expect(await openToken(file)).toBe(token)
  expect((await readFile(file, 'utf8')).trim()).toBe(token)
})

test('of many that start at once all have the same token', async () => {
  const file = join(directory, 'token')
  expect(new Set(await Promise.all(Array.from({ length: 20 }, () => openToken(file)))).size).toBe(1)
})

test('a token that others can read is not used', async () => {
  const file = join(directory, 'token')
  await openToken(file)
  await chmod(file, 0o644)
  await expect(openToken(file)).rejects.toMatchObject({
    code: 'token_file',
    message: expect.stringMatching(/644.*chmod 600/)
  })
})

test('a file that holds no token is not used, and not overwritten', async () => {
  const file = join(directory, 'token')
  await writeFile(file, 'my notes', { mode: 0o600 })
  await expect(openToken(file)).rejects.toMatchObject({ code: 'token_file' })
  expect(await readFile(file, 'utf8')).toBe('my notes')
})

test('only the token itself is taken', () => {
  const authenticate = (header: string | undefined) => tokenAuthenticator('tkm_right').authenticate(header)
  expect(authenticate('Bearer tkm_right')).toEqual({ name: 'admin' })
  expect(authenticate('bearer tkm_right')).toEqual({ name: 'admin' })
  for (const header of ['tkm_right', 'Bearer  tkm_right', '', undefined])
    expect(() => authenticate(header)).toThrow(expect.objectContaining({ code: 'missing_token' }))
  for (const header of ['Bearer tkm_righ', 'Bearer tkm_rightt', 'Bearer TKM_RIGHT'])
    expect(() => authenticate(header)).toThrow(expect.objectContaining({ code: 'wrong_token' }))
})

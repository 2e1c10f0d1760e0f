// Password hashes: one that is known, and whatever openssl says.
import { execFileSync } from 'node:child_process'
import { expect, test } from 'vitest'
import { passwordHash } from '../../src/model/password-hash.ts'
import { obstacle } from '../harness/parts.ts'

test('a known hash', () => {
  expect(passwordHash('Hello world!', 'saltstring')).toBe(
    '$6$saltstring$svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjl/O817G3uBnIFNjnQJuesI68u4OTLiBFdcbYEdFCoEOfaS35inz1'
  )
})

test('a salt is drawn anew each time', () => {
  const [a, b] = [passwordHash('x'), passwordHash('x')]
  expect(a).toMatch(/^\$6\$[./0-9A-Za-z]{16}\$[./0-9A-Za-z]{86}$/)
  expect(a).not.toBe(b)
})

test.skipIf(obstacle('real hosts')?.includes('openssl') ?? false)(
  'openssl makes the same of short, long and foreign words',
  () => {
    for (const password of ['a', 'pässwörd', 'x'.repeat(63), 'y'.repeat(64), 'z'.repeat(200)]) {
      const hash = execFileSync('openssl', ['passwd', '-6', '-salt', 'a./Z9', '-stdin'], {
        input: password,
        encoding: 'utf8'
      })
      expect(passwordHash(password, 'a./Z9')).toBe(hash.trim())
    }
  }
)

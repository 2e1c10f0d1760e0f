// A password as Unix keeps it: SHA-512 crypt, `$6$SALT$HASH`, with its 5,000 rounds. Node has no crypt(3).
// Source: Drepper, "Unix crypt using SHA-256 and SHA-512"; the letters are numbered there. Not for logging in here: that is argon2id.
import { createHash, randomBytes } from 'node:crypto'

const rounds = 5000
const digits = './0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz'

const sha512 = (...parts: readonly Uint8Array[]): Buffer => {
  const hash = createHash('sha512')
  for (const part of parts) hash.update(part)
  return hash.digest()
}

/** `digest` over and over, as long as asked. */
const stretched = (digest: Buffer, length: number): Buffer => Buffer.alloc(length, digest)

/** @param salt 1 to 16 of `./0-9A-Za-z`; default 16 random ones */
export function passwordHash(password: string, salt: string = newSalt()): string {
  if (!/^[./0-9A-Za-z]{1,16}$/.test(salt)) throw new RangeError('a salt has 1 to 16 of ./0-9A-Za-z')
  const key = Buffer.from(password, 'utf8')
  const salted = Buffer.from(salt, 'latin1')
  const second = sha512(key, salted, key)
  const first: Uint8Array[] = [key, salted, stretched(second, key.length)]
  for (let bits = key.length; bits > 0; bits >>= 1) first.push(bits & 1 ? second : key)
  let digest = sha512(...first)
  const p = stretched(sha512(...Array.from({ length: key.length }, () => key)), key.length)
  const s = stretched(sha512(...Array.from({ length: 16 + (digest[0] ?? 0) }, () => salted)), salted.length)
  for (let round = 0; round < rounds; round++) {
    const odd = round % 2 === 1
    digest = sha512(
      odd ? p : digest,
      ...(round % 3 === 0 ? [] : [s]),
      ...(round % 7 === 0 ? [] : [p]),
      odd ? digest : p
    )
  }
  return `$6$${salt}$${encoded(digest)}`
}

const newSalt = (): string => [...randomBytes(16)].map((byte) => digits[byte % 64]).join('')

/** Three bytes make four digits, in the order that the source gives: 0 21 42, 22 43 1, 44 2 23 … */
function encoded(digest: Buffer): string {
  let text = ''
  let [a, b, c] = [0, 21, 42]
  for (let group = 0; group < 21; group++) {
    text += four(((digest[a] ?? 0) << 16) | ((digest[b] ?? 0) << 8) | (digest[c] ?? 0), 4)
    ;[a, b, c] = [b + 1, c + 1, a + 1]
  }
  return text + four(digest[63] ?? 0, 2)
}

function four(value: number, count: number): string {
  let text = ''
  for (let index = 0; index < count; index++) text += digits[(value >> (6 * index)) & 63] ?? ''
  return text
}

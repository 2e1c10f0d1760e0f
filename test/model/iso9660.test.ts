// Disc images: what is put in comes out, by a reader of our own for any files and by the real isoinfo for one.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { execFileSync } from 'node:child_process'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { isoImage, type IsoFile } from '../../src/model/iso9660.ts'
import { obstacle } from '../harness/parts.ts'

/** Files of the Joliet tree, or of the plain one, by name. */
function read(image: Buffer, descriptor: 16 | 17): Map<string, Buffer> {
  const at = descriptor * 2048
  expect(image.toString('latin1', at + 1, at + 6)).toBe('CD001')
  const [root, length] = [image.readUInt32LE(at + 158), image.readUInt32LE(at + 166)]
  expect([image.readUInt32BE(at + 162), image.readUInt32LE(at + 80) * 2048]).toEqual([root, image.length])
  const files = new Map<string, Buffer>()
  for (let offset = root * 2048; offset < root * 2048 + length;) {
    const size = image[offset] ?? 0
    if (size === 0) {
      offset = (Math.floor(offset / 2048) + 1) * 2048
      continue
    }
    // No record crosses the end of a sector: readers stop there.
    expect(Math.floor((offset + size - 1) / 2048)).toBe(Math.floor(offset / 2048))
    const id = image.subarray(offset + 33, offset + 33 + (image[offset + 32] ?? 0))
    if ((image[offset + 25] ?? 0) === 0) {
      const name = descriptor === 17 ? Buffer.from(id).swap16().toString('utf16le') : id.toString('latin1')
      const begin = image.readUInt32LE(offset + 2) * 2048
      files.set(name, image.subarray(begin, begin + image.readUInt32LE(offset + 10)))
    }
    offset += size
  }
  return files
}

const name = fc
  .string({ minLength: 1, maxLength: 64, unit: fc.constantFrom(...'abcXYZ019-_.~ +äß'.split('')) })
  .filter((text) => text !== '.' && text !== '..')
const files = fc.uniqueArray(fc.record({ name, bytes: fc.uint8Array({ maxLength: 5000 }) }), {
  selector: (file) => file.name,
  maxLength: 32
})

test('every file is found again under its name with its bytes', () => {
  fc.assert(
    fc.property(files, (given: IsoFile[]) => {
      const image = isoImage('cidata', given)
      expect(image.length % 2048).toBe(0)
      const found = read(image, 17)
      expect(found.size).toBe(given.length)
      for (const file of given) expect(found.get(file.name)?.equals(file.bytes)).toBe(true)
      const plain = read(image, 16)
      expect(plain.size).toBe(given.length)
      for (const id of plain.keys()) expect(id).toMatch(/^[A-Z0-9_]{1,8}\.;1$/)
      expect(isoImage('cidata', given).equals(image)).toBe(true)
    }),
    { numRuns: 60 }
  )
})

test('a directory of many long names takes several sectors', () => {
  const given = Array.from({ length: 32 }, (_, index) => ({
    name: `${index}`.padEnd(64, 'x'),
    bytes: Buffer.from([index])
  }))
  expect(read(isoImage('cidata', given), 17).size).toBe(32)
})

test.each([
  ['a name with a slash', [{ name: 'a/b', bytes: Buffer.from('') }]],
  ['a name that is too long', [{ name: 'a'.repeat(65), bytes: Buffer.from('') }]],
  [
    'a name twice',
    [
      { name: 'a', bytes: Buffer.from('') },
      { name: 'a', bytes: Buffer.from('') }
    ]
  ],
  ['too many files', Array.from({ length: 33 }, (_, index) => ({ name: `f${index}`, bytes: Buffer.from('') }))]
])('%s is refused', (_, given) => {
  expect(() => isoImage('cidata', given)).toThrow(RangeError)
})

test.skipIf(obstacle('disc images') !== undefined)('the real isoinfo reads it', () => {
  const directory = mkdtempSync(join(tmpdir(), 'iso-'))
  try {
    const file = join(directory, 'seed.iso')
    const given = [
      { name: 'user-data', bytes: Buffer.from('#cloud-config\n{}\n') },
      { name: 'meta-data', bytes: Buffer.from('x'.repeat(5000)) },
      { name: 'network-config', bytes: Buffer.from('') }
    ]
    writeFileSync(file, isoImage('cidata', given))
    const isoinfo = (...words: string[]) => execFileSync('isoinfo', ['-i', file, ...words], { encoding: 'utf8' })
    expect(isoinfo('-d')).toMatch(/Volume id: cidata\n[\s\S]*Joliet with UCS level 3 found/)
    expect(isoinfo('-J', '-f').trim().split('\n')).toEqual(['/meta-data', '/network-config', '/user-data'])
    for (const { name: path, bytes } of given) expect(isoinfo('-J', '-x', `/${path}`)).toBe(bytes.toString())
  } finally {
    rmSync(directory, { recursive: true })
  }
})

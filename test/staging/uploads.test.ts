// Bytes kept on their way to a host: whole or not there, bounded, and only images that name no other file.
import { createHash, randomBytes } from 'node:crypto'
import { mkdtempSync, readdirSync, rmSync, statSync, utimesSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { readImage } from '../../src/staging/image.ts'
import { Uploads } from '../../src/staging/uploads.ts'

let directory: string
let uploads: Uploads
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'tk-staging-'))
  uploads = new Uploads({ directory, maxBytes: 2_000_000 })
})
afterEach(() => rmSync(directory, { recursive: true, force: true }))

async function* pieces(...chunks: Buffer[]): AsyncGenerator<Buffer> {
  yield* chunks
}
const sha256 = (bytes: Buffer) => createHash('sha256').update(bytes).digest('hex')
const read = async (upload: string, from = uploads) => {
  const chunks: Buffer[] = []
  for await (const chunk of from.read(upload)) chunks.push(chunk)
  return Buffer.concat(chunks)
}

test('what came is read again as it came, also after a restart, until it is removed', async () => {
  const bytes = randomBytes(700_001)
  const staged = await uploads.stage(pieces(bytes.subarray(0, 5), bytes.subarray(5)), { bytes: bytes.length })
  expect(staged).toMatchObject({
    bytes: 700_001,
    sha256: sha256(bytes),
    format: 'raw',
    capacityBytes: 700_001
  })
  const restarted = new Uploads({ directory })
  expect(await restarted.sweep(60_000, async () => false)).toBe(0)
  expect(await restarted.find(staged.upload)).toEqual(staged)
  expect((await read(staged.upload, restarted)).equals(bytes)).toBe(true)
  await uploads.remove(staged.upload)
  await uploads.remove(staged.upload)
  expect(await uploads.find(staged.upload)).toBeUndefined()
  expect(readdirSync(directory)).toEqual([])
})

test('zeros take no room', async () => {
  const zeros = Buffer.alloc(500_000)
  const { upload } = await uploads.stage(pieces(Buffer.from('begin'), zeros, zeros, Buffer.from('end'), zeros))
  expect(
    (await read(upload)).equals(Buffer.concat([Buffer.from('begin'), zeros, zeros, Buffer.from('end'), zeros]))
  ).toBe(true)
  expect(statSync(join(directory, `${upload}.bytes`)).blocks * 512).toBeLessThan(100_000)
})

test.each([
  ['more than may come', { chunk: 2_000_001 }, {}, 'too_large'],
  ['more is announced than may come', { chunk: 1 }, { bytes: 2_000_001 }, 'too_large'],
  ['fewer than announced', { chunk: 9 }, { bytes: 10 }, 'incomplete'],
  ['nothing', { chunk: 0 }, {}, 'incomplete'],
  ['other bytes than announced', { chunk: 9 }, { sha256: 'ab'.repeat(32) }, 'wrong_checksum']
])('%s is refused, and nothing is left', async (_, { chunk }, announced, code) => {
  await expect(uploads.stage(pieces(Buffer.alloc(chunk)), announced)).rejects.toMatchObject({ code })
  expect(readdirSync(directory)).toEqual([])
})

test('a full disk is refused before anything is written', async () => {
  const full = new Uploads({ directory, spareBytes: Number.MAX_SAFE_INTEGER })
  await expect(full.stage(pieces(Buffer.alloc(9)))).rejects.toMatchObject({ code: 'no_room' })
})

test('a sender that breaks off leaves nothing, and so does a server that dies', async () => {
  const broken = (async function* () {
    yield Buffer.alloc(100)
    throw new Error('reset')
  })()
  await expect(uploads.stage(broken)).rejects.toThrow('reset')
  expect(readdirSync(directory)).toEqual([])
  writeFileSync(join(directory, '1f0c93ab-0000-4000-8000-000000000000.part'), 'half')
  writeFileSync(join(directory, '1f0c93ab-0000-4000-8000-000000000001.bytes'), 'not noted yet')
  expect(await uploads.sweep(60_000, async () => true)).toBe(2)
  expect(readdirSync(directory)).toEqual([])
})

test('what is old goes, unless a task still wants it', async () => {
  const kept = await uploads.stage(pieces(Buffer.from('kept')))
  const old = await uploads.stage(pieces(Buffer.from('old')))
  const young = await uploads.stage(pieces(Buffer.from('young')))
  for (const { upload } of [kept, old]) utimesSync(join(directory, `${upload}.json`), 1, 1)
  expect(await uploads.sweep(60_000, async (upload) => upload === kept.upload)).toBe(1)
  expect(await uploads.find(old.upload)).toBeUndefined()
  for (const { upload } of [kept, young]) expect(await uploads.find(upload)).toBeDefined()
})

test.each(['../../etc/passwd', '', 'x'])('the id %j names no file', async (id) => {
  expect(await uploads.find(id)).toBeUndefined()
  await expect(read(id)).rejects.toMatchObject({ code: 'not_found' })
  await uploads.remove(id)
})

describe('an image', () => {
  const qcow2 = (change: (head: Buffer) => void = () => {}) => {
    const head = Buffer.alloc(4096)
    head.write('QFI\xfb', 'latin1')
    head.writeUInt32BE(3, 4)
    head.writeBigUInt64BE(10n * 1024n ** 3n, 24)
    change(head)
    return head
  }

  test('in qcow2 tells its size as a disk', () => {
    expect(readImage(qcow2(), 4096)).toEqual({ format: 'qcow2', capacityBytes: 10 * 1024 ** 3 })
  })

  test.each([
    ['over a file of the host', qcow2((head) => head.writeBigUInt64BE(512n, 8)), 'lies over another file'],
    ['with its data elsewhere', qcow2((head) => head.writeBigUInt64BE(4n, 72)), 'data in another file'],
    ['left open', qcow2((head) => head.writeBigUInt64BE(1n, 72)), 'not closed cleanly'],
    ['encrypted', qcow2((head) => head.writeUInt32BE(1, 32)), 'encrypted'],
    ['of a later version', qcow2((head) => head.writeUInt32BE(4, 4)), 'version 4'],
    ['cut off', qcow2().subarray(0, 60), 'ends within its header'],
    ['of another make', Buffer.from('KDMV, and more'), 'vmdk'],
    ['of another make further in', Buffer.concat([Buffer.alloc(64), Buffer.from('\x7f\x10\xda\xbe', 'latin1')]), 'vdi']
  ])('%s is not taken', (_, head, why) => {
    expect(() => readImage(head, head.length)).toThrow(why)
  })
})

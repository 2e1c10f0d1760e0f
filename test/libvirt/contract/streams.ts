// The contract: a volume's bytes up and down.

import { createHash, randomBytes } from 'node:crypto'
import { pipeline } from 'node:stream/promises'
import { Readable } from 'node:stream'
import { describe, expect, test } from 'vitest'
import { openDataStream } from '../../../src/libvirt/data-stream.ts'
import type { StoragePool, StorageVolume } from '../../../src/libvirt/wire.gen.ts'
import type { Bench } from '../contract.ts'
import { withPool } from './scratch.ts'

const bytes = 5_000_000 // neither a multiple of the stream's packets nor of a page
const digest = (data: Uint8Array): string => createHash('sha256').update(data).digest('hex')

export function streamContract(bench: Bench): void {
  // What a target cannot do is no skipped test: there is nothing to hold.
  if (!bench.capabilities.streams) return
  const createVolume = async (pool: StoragePool): Promise<StorageVolume> => {
    const xml = `<volume><name>s.raw</name><capacity unit='bytes'>${bytes}</capacity><target><format type='raw'/></target></volume>`
    return (await bench.connection.call('STORAGE_VOL_CREATE_XML', { pool, xml, flags: 0 })).vol
  }
  const whole = { offset: 0n, length: 0n, flags: 0 }

  describe('data streams', () => {
    test('what is uploaded is downloaded again, while calls go on', () =>
      withPool(bench, async (pool) => {
        const vol = await createVolume(pool)
        const data = randomBytes(bytes)
        const upload = await openDataStream(bench.connection, 'STORAGE_VOL_UPLOAD', { vol, ...whole })
        const calls = Array.from({ length: 20 }, () => bench.connection.call('CONNECT_GET_HOSTNAME', {}))
        await pipeline(Readable.from([data.subarray(0, 1000), data.subarray(1000)]), upload.writable())
        await Promise.all(calls)
        const hash = createHash('sha256')
        const download = await openDataStream(
          bench.connection,
          'STORAGE_VOL_DOWNLOAD',
          { vol, ...whole },
          { highWaterBytes: 300_000 }
        )
        for await (const chunk of download) hash.update(chunk)
        expect(hash.digest('hex')).toBe(digest(data))
      }))

    test('a part of a volume is downloaded', () =>
      withPool(bench, async (pool) => {
        const vol = await createVolume(pool)
        const upload = await openDataStream(bench.connection, 'STORAGE_VOL_UPLOAD', {
          vol,
          ...whole,
          offset: 4096n,
          length: 5n
        })
        await upload.write(Buffer.from('hello'))
        await upload.finish()
        const download = await openDataStream(bench.connection, 'STORAGE_VOL_DOWNLOAD', {
          vol,
          offset: 4096n,
          length: 5n,
          flags: 0
        })
        const chunks: Buffer[] = []
        for await (const chunk of download) chunks.push(chunk)
        expect(Buffer.concat(chunks).toString()).toBe('hello')
      }))

    test('a download that is left early ends, and the host goes on answering', () =>
      withPool(bench, async (pool) => {
        const vol = await createVolume(pool)
        const download = await openDataStream(bench.connection, 'STORAGE_VOL_DOWNLOAD', { vol, ...whole })
        for await (const chunk of download) {
          expect(chunk.length).toBeGreaterThan(0)
          break
        }
        await expect(download.write(Buffer.from('x'))).rejects.toMatchObject({
          code: 'stream_failed',
          reason: 'aborted'
        })
        await bench.connection.call('STORAGE_VOL_GET_INFO', { vol })
      }))

    test('more than a volume can hold ends the upload with the host’s error', () =>
      withPool(bench, async (pool) => {
        const vol = await createVolume(pool)
        const upload = await openDataStream(bench.connection, 'STORAGE_VOL_UPLOAD', {
          vol,
          offset: 0n,
          length: 10n,
          flags: 0
        })
        const send = async (): Promise<void> => {
          for (let i = 0; i < 50; i++) await upload.write(Buffer.alloc(100_000))
          await upload.finish()
        }
        await expect(send()).rejects.toMatchObject({ name: 'LibvirtError' })
      }))

    test('a stream that the host refuses never begins', () =>
      withPool(bench, async (pool) => {
        const vol = { pool: pool.name, name: 'none', key: `${bench.folder}/none` }
        await expect(openDataStream(bench.connection, 'STORAGE_VOL_DOWNLOAD', { vol, ...whole })).rejects.toMatchObject(
          {
            codeName: 'NO_STORAGE_VOL'
          }
        )
      }))
  })
}

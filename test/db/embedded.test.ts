// The embedded PostgreSQL: starts, is alone on its directory, and leaves nothing behind.
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { startEmbedded } from '../../src/db/embedded.ts'
import { openDatabase } from '../../src/db/open.ts'

let directory: string
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'embedded-'))
})
afterEach(() => rm(directory, { recursive: true, force: true }))

test('data is kept between two starts, and a second server on the same data is refused by name', async () => {
  const dataDirectory = join(directory, 'data')
  const first = await startEmbedded({ dataDirectory })
  const database = openDatabase({ url: first.adminUrl, poolSize: 1 })
  await database.query('create table kept as select 7 as n')
  await database.stop()

  await expect(startEmbedded({ dataDirectory })).rejects.toMatchObject({ code: 'already_running' })
  await first.stop()
  await first.stop()

  const second = await startEmbedded({ dataDirectory })
  const again = openDatabase({ url: second.adminUrl, poolSize: 1 })
  expect(await again.query('select n from kept')).toEqual([{ n: 7 }])
  await again.stop()
  await second.stop()
})

test('a path too long for a socket works as well', async () => {
  const dataDirectory = join(directory, 'x'.repeat(90), 'data')
  const cluster = await startEmbedded({ dataDirectory })
  const database = openDatabase({ url: cluster.adminUrl, poolSize: 1 })
  expect(await database.query('select 1 as n')).toEqual([{ n: 1 }])
  await database.stop()
  await cluster.stop()
})

test('what is in the way and no data directory is refused, and left alone', async () => {
  const { writeFile, readdir, mkdir } = await import('node:fs/promises')
  const dataDirectory = join(directory, 'mine')
  await mkdir(dataDirectory)
  await writeFile(join(dataDirectory, 'letter.txt'), 'dear')
  await expect(startEmbedded({ dataDirectory })).rejects.toMatchObject({ code: 'data_directory' })
  expect(await readdir(dataDirectory)).toEqual(['letter.txt'])
})

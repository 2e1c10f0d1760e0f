// The embedded PostgreSQL: starts, is alone on its directory, and leaves nothing behind.
import { chmod, mkdir, mkdtemp, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
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
  const { readdir } = await import('node:fs/promises')
  const dataDirectory = join(directory, 'mine')
  await mkdir(dataDirectory)
  await writeFile(join(dataDirectory, 'letter.txt'), 'dear')
  await expect(startEmbedded({ dataDirectory })).rejects.toMatchObject({ code: 'data_directory' })
  expect(await readdir(dataDirectory)).toEqual(['letter.txt'])
})

describe.skipIf(process.getuid?.() !== 0)('as root, where user namespaces are forbidden', () => {
  const path = process.env['PATH'] ?? ''
  afterEach(() => {
    process.env['PATH'] = path
  })
  async function forbid(...programs: string[]): Promise<void> {
    const stubs = join(directory, 'stubs')
    await mkdir(stubs, { recursive: true })
    for (const program of programs)
      await writeFile(join(stubs, program), `#!/bin/sh\necho "${program}: Operation not permitted" >&2\nexit 1\n`, {
        mode: 0o755
      })
    process.env['PATH'] = `${stubs}:${path}`
  }
  const query = async (url: string, sql: string) => {
    const database = openDatabase({ url, poolSize: 1 })
    try {
      return await database.query(sql)
    } finally {
      await database.stop()
    }
  }

  test('it runs as nobody, below a directory that is closed to nobody, and takes over what ran the other way', async () => {
    await chmod(directory, 0o700)
    const dataDirectory = join(directory, 'data')
    const before = await startEmbedded({ dataDirectory })
    await query(before.adminUrl, 'create table kept as select 7 as n')
    await before.stop()
    expect((await stat(join(dataDirectory, 'PG_VERSION'))).uid).toBe(0)

    await forbid('unshare')
    const cluster = await startEmbedded({ dataDirectory })
    const { uid } = await stat(`/proc/${cluster.pid}`)
    expect(uid).not.toBe(0)
    expect((await stat(join(dataDirectory, 'PG_VERSION'))).uid).toBe(uid)
    expect(await query(cluster.adminUrl, 'select n from kept')).toEqual([{ n: 7 }])
    await cluster.stop()

    process.env['PATH'] = path
    const after = await startEmbedded({ dataDirectory })
    expect(await query(after.adminUrl, 'select n from kept')).toEqual([{ n: 7 }])
    await after.stop()
  })

  test('a new one is made so as well', async () => {
    await forbid('unshare')
    const cluster = await startEmbedded({ dataDirectory: join(directory, 'data') })
    expect(await query(cluster.adminUrl, 'select 1 as n')).toEqual([{ n: 1 }])
    await cluster.stop()
  })

  test('without any way it says what was tried and what to do', async () => {
    await forbid('unshare', 'setpriv')
    await expect(startEmbedded({ dataDirectory: join(directory, 'data') })).rejects.toMatchObject({
      code: 'start_failed',
      message: expect.stringMatching(/unshare: Operation not permitted.*set DATABASE_URL/s)
    })
  })
})

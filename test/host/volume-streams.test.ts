// Volumes' bytes through a host's handle, on simulated hosts: what arrives, what is refused, what a loss means.

import { createHash, randomBytes } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { HostConnections } from '../../src/host/connections.ts'
import type { Host } from '../../src/host/host.ts'
import { startSimFleet, type SimFleet } from '../../src/sim/fleet.ts'

const size = 3_000_000
const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex')

let dir: string
let fleet: SimFleet
let connections: HostConnections
let host: Host
let fenced: string | undefined

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'tk-volumes-'))
  fleet = await startSimFleet({ dir, hosts: 1 })
  fenced = undefined
  connections = new HostConnections({ firstRetryMs: 10, lastRetryMs: 20, fence: () => fenced })
  const { uri, uuid } = fleet.host('h1')
  connections.setHosts([{ name: 'h1', controlUri: uri, uuid }])
  connections.start()
  host = connections.host('h1')
  await host.definePool({ name: 'p', type: 'dir', target: '/p' })
  await host.createVolume('p', { name: 'v', format: 'raw', capacityBytes: size })
})
afterEach(async () => {
  await connections.stop()
  await fleet.stop()
  await rm(dir, { recursive: true, force: true })
})

async function* pieces(bytes: Buffer, of = 100_000): AsyncGenerator<Buffer> {
  for (let at = 0; at < bytes.length; at += of) yield bytes.subarray(at, at + of)
}

async function read(options: { offset?: number; length?: number } = {}): Promise<Buffer> {
  const chunks: Buffer[] = []
  for await (const chunk of host.downloadVolume('p', 'v', options)) chunks.push(chunk)
  return Buffer.concat(chunks)
}

test('what is uploaded is there to be downloaded, whole or in part, and its checksum is told', async () => {
  const bytes = randomBytes(size)
  const told: number[] = []
  const sent = await host.uploadVolume('p', 'v', pieces(bytes), { size, onProgress: (done) => told.push(done) })
  expect(sent).toEqual({ bytes: size, sha256: sha256(bytes) })
  expect(told.at(-1)).toBe(size)
  expect(sha256(await read())).toBe(sent.sha256)
  expect(await read({ offset: 1000, length: 10 })).toEqual(bytes.subarray(1000, 1010))
})

test.each([
  ['fewer', size - 1],
  ['more', size + 1]
])('a source that gives %s bytes than announced is refused', async (_what, given) => {
  await expect(host.uploadVolume('p', 'v', pieces(Buffer.alloc(given)), { size })).rejects.toMatchObject({
    code: 'bad_input',
    host: 'h1'
  })
})

test('an upload to a volume that is not there is refused before anything is read', async () => {
  let asked = false
  const source = (async function* () {
    asked = true
    yield Buffer.alloc(size)
  })()
  await expect(host.uploadVolume('p', 'none', source, { size })).rejects.toMatchObject({ code: 'refused' })
  expect(asked).toBe(false)
})

test('a stream that is lost leaves an unknown outcome', async () => {
  const lost = (async function* () {
    yield Buffer.alloc(100_000)
    await fleet.host('h1').server.stop()
    yield Buffer.alloc(100_000)
  })()
  await expect(host.uploadVolume('p', 'v', lost, { size })).rejects.toMatchObject({ code: 'unknown_outcome' })
  await fleet.host('h1').server.start()
})

test('a stopped upload rejects as aborted', async () => {
  const stop = new AbortController()
  const source = (async function* () {
    yield Buffer.alloc(100_000)
    stop.abort()
    yield Buffer.alloc(100_000)
  })()
  await expect(host.uploadVolume('p', 'v', source, { size, signal: stop.signal })).rejects.toMatchObject({
    code: 'aborted'
  })
})

test('who may not write any more stops in the middle', async () => {
  const source = (async function* () {
    yield Buffer.alloc(100_000)
    fenced = 'the lease is too old'
    yield Buffer.alloc(100_000)
  })()
  await expect(host.uploadVolume('p', 'v', source, { size })).rejects.toMatchObject({ code: 'fenced' })
})

test('what the source throws is thrown on', async () => {
  const source = (async function* () {
    yield Buffer.alloc(100_000)
    throw new Error('the file is gone')
  })()
  await expect(host.uploadVolume('p', 'v', source, { size })).rejects.toThrow('the file is gone')
})

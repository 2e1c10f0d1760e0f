// Data streams: held back, ended, refused, aborted and lost, against a daemon that does what each test tells it.

import { pipeline } from 'node:stream/promises'
import { Readable } from 'node:stream'
import { expect, test } from 'vitest'
import { type DataStreamOptions, type DataStream, openDataStream } from '../../src/libvirt/data-stream.ts'
import type { OpenConnection } from '../../src/libvirt/connect.ts'
import { ErrorCode } from '../../src/libvirt/constants.gen.ts'
import { remoteErrorOf } from '../../src/libvirt/errors.ts'
import { encodeError } from '../../src/libvirt/payload.ts'
import { MessageStatus } from '../../src/libvirt/protocol.ts'
import { failure, fakeDaemonForEachTest, until } from './client.ts'
import type { FakeClient } from './fake-daemon.ts'

const fake = fakeDaemonForEachTest()
const vol = { pool: 'p', name: 'v', key: '/p/v' }
const args = { vol, offset: 0n, length: 0n, flags: 0 }
const { OK, ERROR, CONTINUE } = MessageStatus

/** A daemon whose downloads are what `send` sends. */
function downloads(send: (client: FakeClient, serial: number) => void): void {
  fake.daemon.on('STORAGE_VOL_DOWNLOAD', (_args, client, serial) => {
    client.onStreamFrame = (frame) => {
      if (frame.status === OK) client.stream('STORAGE_VOL_DOWNLOAD', serial, OK)
    }
    setImmediate(() => send(client, serial))
    return {}
  })
}

const open = (connection: OpenConnection, options?: DataStreamOptions): Promise<DataStream> =>
  openDataStream(connection, 'STORAGE_VOL_DOWNLOAD', args, options)

async function readAll(stream: AsyncIterable<Buffer>): Promise<string> {
  const chunks: Buffer[] = []
  for await (const chunk of stream) chunks.push(chunk)
  return Buffer.concat(chunks).toString()
}

test('a download is read to its end, and ends on both sides', async () => {
  downloads((client, serial) => {
    for (const part of ['a', 'bc', 'def', ''])
      client.stream('STORAGE_VOL_DOWNLOAD', serial, CONTINUE, Buffer.from(part))
  })
  const stream = await open(await fake.dial())
  expect(await readAll(stream)).toBe('abcdef')
  expect(fake.daemon.client.streamFrames.map(({ status }) => status)).toEqual([OK])
})

test('a stream has a connection of its own, on which the host does not ask for pings', async () => {
  downloads(() => {})
  const connection = await fake.dial()
  const stream = await open(connection)
  expect(fake.daemon.clients).toHaveLength(2)
  expect(fake.daemon.client.calls.map((call) => call.name)).toEqual([
    'AUTH_LIST',
    'CONNECT_OPEN',
    'STORAGE_VOL_DOWNLOAD'
  ])
  stream.abort()
})

test('a slow reader holds the host back with bounded memory, while calls on the other connection go on', async () => {
  const chunk = Buffer.alloc(65_536, 1)
  const total = 100
  let sent = 0
  let heldBack = false
  downloads((client, serial) => {
    const more = (): void => {
      while (sent < total) {
        sent++
        if (client.stream('STORAGE_VOL_DOWNLOAD', serial, CONTINUE, chunk)) continue
        heldBack = true
        client.socket.once('drain', more)
        return
      }
      client.stream('STORAGE_VOL_DOWNLOAD', serial, CONTINUE)
    }
    more()
  })
  const connection = await fake.dial()
  const stream = await open(connection, { highWaterBytes: 200_000 })
  await until(() => heldBack)
  // Turns enough for all of it to have come, were it not held back; what is neither read nor sent is in the kernel's socket buffers.
  for (let i = 0; i < 500; i++) await connection.call('CONNECT_GET_HOSTNAME', {})
  expect(sent).toBeLessThan(total / 2)
  let bytes = 0
  for await (const part of stream) bytes += part.length
  expect(bytes).toBe(total * chunk.length)
})

test('an error of the host in mid-stream reaches the reader after the data before it', async () => {
  downloads((client, serial) => {
    client.stream('STORAGE_VOL_DOWNLOAD', serial, CONTINUE, Buffer.from('some'))
    client.stream(
      'STORAGE_VOL_DOWNLOAD',
      serial,
      ERROR,
      encodeError(remoteErrorOf(ErrorCode.SYSTEM_ERROR, 'disk full'))
    )
  })
  const stream = await open(await fake.dial())
  const chunks: string[] = []
  const read = async (): Promise<void> => {
    for await (const chunk of stream) chunks.push(chunk.toString())
  }
  expect(await failure(read())).toMatchObject({ name: 'LibvirtError', codeName: 'SYSTEM_ERROR', text: 'disk full' })
  expect(chunks).toEqual(['some'])
})

test('a connection lost in mid-stream is an error, not an end', async () => {
  downloads((client, serial) => {
    client.stream('STORAGE_VOL_DOWNLOAD', serial, CONTINUE, Buffer.from('some'))
    client.socket.end()
  })
  const stream = await open(await fake.dial())
  expect(await failure(readAll(stream))).toMatchObject({ code: 'stream_failed', reason: 'closed_by_peer' })
})

test('leaving the loop, or the signal, aborts the stream at the host', async () => {
  downloads((client, serial) => void client.stream('STORAGE_VOL_DOWNLOAD', serial, CONTINUE, Buffer.from('some')))
  const connection = await fake.dial()
  for await (const chunk of await open(connection)) {
    expect(chunk.toString()).toBe('some')
    break
  }
  await until(() => fake.daemon.client.streamFrames.length === 1)
  expect(fake.daemon.client.streamFrames[0]).toMatchObject({ status: ERROR })

  const controller = new AbortController()
  const stream = await open(connection, { signal: controller.signal })
  const reading = failure(readAll(stream))
  controller.abort(new Error('cancelled'))
  expect(await reading).toMatchObject({ code: 'stream_failed', reason: 'aborted', cause: { message: 'cancelled' } })
  await until(() => fake.daemon.client.streamFrames.length === 1)
  expect(fake.daemon.client.streamFrames[0]).toMatchObject({ status: ERROR })
})

test('an upload is whole only when the host has said so', async () => {
  let finish = (): void => {}
  fake.daemon.on('STORAGE_VOL_UPLOAD', (_args, client, serial) => {
    client.onStreamFrame = (frame) => {
      if (frame.status === OK) finish = () => client.stream('STORAGE_VOL_UPLOAD', serial, OK)
    }
    return {}
  })
  const stream = await openDataStream(await fake.dial(), 'STORAGE_VOL_UPLOAD', args)
  const data = Buffer.alloc(600_000, 7)
  await stream.write(data)
  let done = false
  const finished = stream.finish().then(() => (done = true))
  await until(() => fake.daemon.client.streamFrames.at(-1)?.status === OK)
  expect(done).toBe(false)
  finish()
  await finished
  const parts = fake.daemon.client.streamFrames.slice(0, -1).map(({ payload }) => payload)
  expect(Math.max(...parts.map((part) => part.length))).toBeLessThanOrEqual(262_120)
  expect(Buffer.concat(parts).equals(data)).toBe(true)
})

test('an upload that the host ends early fails the pipeline that feeds it', async () => {
  fake.daemon.on('STORAGE_VOL_UPLOAD', (_args, client, serial) => {
    client.onStreamFrame = () => {
      client.onStreamFrame = undefined
      client.stream('STORAGE_VOL_UPLOAD', serial, ERROR, encodeError(remoteErrorOf(ErrorCode.SYSTEM_ERROR, 'no space')))
    }
    return {}
  })
  const stream = await openDataStream(await fake.dial(), 'STORAGE_VOL_UPLOAD', args)
  const endless = Readable.from(
    (async function* () {
      for (;;) {
        yield Buffer.alloc(10_000)
        await new Promise((resolve) => setImmediate(resolve))
      }
    })()
  )
  expect(await failure(pipeline(endless, stream.writable()))).toMatchObject({ name: 'LibvirtError', text: 'no space' })
})

test('a stream that is refused leaves no connection behind', async () => {
  fake.daemon.on('STORAGE_VOL_DOWNLOAD', (_args, client, serial) => {
    client.error('STORAGE_VOL_DOWNLOAD', serial, ErrorCode.NO_STORAGE_VOL, 'none')
    return new Promise(() => {})
  })
  const connection = await fake.dial()
  expect(await failure(open(connection))).toMatchObject({ codeName: 'NO_STORAGE_VOL' })
  await until(() => fake.daemon.client.socket.destroyed)
})

// A client once waited, in an event's consumer, for a stream whose data was to be handed on by that same consumer's task.
test('a stream that is opened and read by an event’s consumer does not wait for itself', async () => {
  downloads((client, serial) => {
    for (const part of ['x'.repeat(1000), ''])
      client.stream('STORAGE_VOL_DOWNLOAD', serial, CONTINUE, Buffer.from(part))
  })
  const connection = await fake.dial({ window: 1 })
  const lengths: number[] = []
  await connection.on('DOMAIN_EVENT_CALLBACK_REBOOT', async () => {
    lengths.push((await readAll(await open(connection))).length)
  })
  const dom = { name: 'vm1', uuid: '0de8b054-a966-4bd5-892c-5e1f07edcb37', id: 1 }
  const first = fake.daemon.client
  for (let i = 0; i < 5; i++) first.event('DOMAIN_EVENT_CALLBACK_REBOOT', { callbackID: 7, dom })
  await until(() => lengths.length === 5)
  expect(lengths).toEqual(Array(5).fill(1000))
})

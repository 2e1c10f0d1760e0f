// How messages are joined into writes, and where they must not be.

import { Duplex } from 'node:stream'
import { expect, test } from 'vitest'
import { FrameSplitter } from '../../src/libvirt/frame.ts'
import { Outgoing } from '../../src/libvirt/outgoing.ts'
import { KeepaliveProcedure, MessageStatus } from '../../src/libvirt/protocol.ts'
import { until } from './client.ts'

/** Takes writes as a socket does: all that wait are handed over at once. */
class Sink extends Duplex {
  readonly writes: Buffer[] = []
  release: (() => void) | undefined

  override _read(): void {}

  override _writev(chunks: { chunk: Buffer }[], callback: () => void): void {
    this.writes.push(Buffer.concat(chunks.map(({ chunk }) => chunk)))
    this.release = callback
  }
}

function framesOf(bytes: Buffer): number[] {
  const procedures: number[] = []
  new FrameSplitter().push(bytes, (frame) => procedures.push(frame.procedure))
  return procedures
}

test('calls made in one turn leave in one write', async () => {
  const stream = new Sink()
  const outgoing = new Outgoing({ stream, address: 'sink' })
  for (let serial = 1; serial <= 3; serial++) outgoing.call('CONNECT_GET_HOSTNAME', {}, serial)
  await until(() => stream.writes.length > 0)
  expect(stream.writes.map(framesOf)).toEqual([[59, 59, 59]])
})

test('over TLS no write has parts of two messages, however slowly they leave', async () => {
  const stream = new Sink()
  const outgoing = new Outgoing({ stream, address: 'sink', oneMessagePerWrite: true })
  outgoing.call('CONNECT_GET_HOSTNAME', {}, 1)
  outgoing.call('CONNECT_GET_URI', {}, 2)
  outgoing.keepalive(KeepaliveProcedure.PING)
  const more = outgoing.streamData('STORAGE_VOL_UPLOAD', 3, MessageStatus.CONTINUE, Buffer.from('data'))
  outgoing.streamData('STORAGE_VOL_UPLOAD', 3, MessageStatus.OK, new Uint8Array(0))
  expect(more).toBe(false)
  let drained = false
  void outgoing.drained().then(() => (drained = true))
  await until(() => {
    const release = stream.release
    stream.release = undefined
    release?.()
    return drained
  })
  expect(stream.writes).toHaveLength(6)
  expect(stream.writes.slice(0, 3).map(framesOf)).toEqual([[59], [110], [KeepaliveProcedure.PING]])
  expect(framesOf(Buffer.concat(stream.writes.slice(3, 5)))).toEqual([208])
  expect(framesOf(stream.writes[5]!)).toEqual([208])
})

test('whoever waits for room is let go when the connection has ended', async () => {
  for (const oneMessagePerWrite of [true, false]) {
    const stream = new Sink({ writableHighWaterMark: 1 })
    const outgoing = new Outgoing({ stream, address: 'sink', oneMessagePerWrite })
    expect(outgoing.streamData('STORAGE_VOL_UPLOAD', 3, MessageStatus.CONTINUE, Buffer.from('data'))).toBe(false)
    const waiting = outgoing.drained()
    outgoing.stop()
    stream.destroy()
    await waiting
  }
})

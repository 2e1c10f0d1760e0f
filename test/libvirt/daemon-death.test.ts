// A real daemon killed under calls, and another in its place.

import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { connect } from '../../src/libvirt/connect.ts'
import type { ConnectionError } from '../../src/libvirt/errors.ts'
import { failure } from './client.ts'
import { LibvirtDaemon, whyNoDaemon } from './daemon.ts'

const skip = whyNoDaemon()

describe.skipIf(skip !== undefined)(`a daemon that dies (${skip ?? 'libvirtd'})`, () => {
  let daemon: LibvirtDaemon
  beforeAll(async () => {
    daemon = await LibvirtDaemon.start()
  })
  afterAll(() => daemon.stop())

  test('every call is settled, each as answered, unknown or not sent, and its successor is connected to at once', async () => {
    const uri = daemon.uri('test:///default')
    for (let round = 0; round < 3; round++) {
      const connection = await connect(uri)
      let answered = 0
      const enough = Promise.withResolvers<void>()
      const call = async (): Promise<void> => {
        await connection.call('CONNECT_GET_CAPABILITIES', {})
        if (++answered === 50) enough.resolve()
      }
      const calls = Array.from({ length: 500 }, () => failure(call()))
      await enough.promise
      await daemon.kill('SIGKILL')
      const failures = (await Promise.all(calls)).filter((error) => error !== undefined) as ConnectionError[]
      const codes = failures.map((error) => error.code)
      expect(answered + failures.length).toBe(500)
      // At most what was on the wire is unknown; the order in which they were sent is kept.
      expect(codes.filter((code) => code === 'unknown_outcome').length).toBeLessThanOrEqual(4)
      expect(codes.toSorted((a, b) => (a === b ? 0 : a === 'unknown_outcome' ? -1 : 1))).toEqual(codes)
      expect(await connection.closed).toMatchObject({
        reason: expect.stringMatching(/closed_by_peer|socket_error/) as string
      })
      expect(await failure(connect(uri))).toMatchObject({ code: 'unreachable' })

      daemon = await LibvirtDaemon.startIn(daemon.folder)
      const again = await connect(uri)
      expect((await again.call('CONNECT_LIST_ALL_DOMAINS', { need_results: 1, flags: 0 })).ret).toBe(1)
      await again.close()
    }
  })
})

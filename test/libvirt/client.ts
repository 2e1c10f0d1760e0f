// What the client's tests share: a fake daemon and connections to it, cleaned up after each test.

import { afterEach, beforeEach } from 'vitest'
import { connect, type ConnectOptions, type OpenConnection } from '../../src/libvirt/connect.ts'
import { FakeDaemon, type FakeOptions } from './fake-daemon.ts'

export interface Client {
  readonly daemon: FakeDaemon
  readonly dial: (options?: ConnectOptions) => Promise<OpenConnection>
  /** Resolves when the daemon's newest client has made `count` calls in all. */
  readonly callsSeen: (count: number) => Promise<void>
}

/** A fresh daemon for each test of the file. */
export function fakeDaemonForEachTest(options: FakeOptions = {}): Client {
  const open: OpenConnection[] = []
  let daemon: FakeDaemon
  beforeEach(async () => {
    daemon = await FakeDaemon.start(options)
  })
  afterEach(async () => {
    for (const connection of open.splice(0)) connection.destroy()
    await daemon.stop()
  })
  return {
    get daemon() {
      return daemon
    },
    async dial(connectOptions = {}) {
      const connection = await connect(daemon.uri, { keepalive: false, ...connectOptions })
      open.push(connection)
      return connection
    },
    callsSeen: (count) => until(() => daemon.client.calls.length >= count)
  }
}

/** Waits, turn by turn of the event loop, until `condition` holds; the test's time limit bounds it. */
export async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setImmediate(resolve))
}

/** What the promise rejects with; undefined when it does not. */
export function failure(promise: Promise<unknown>): Promise<unknown> {
  return promise.then(
    () => undefined,
    (error: unknown) => error
  )
}

// What the fake daemon claims about libvirtd's limits, on the real one: its stock 5 requests a connection and 20 workers, and a QEMU that
// was stopped in its tracks, so that calls to its guest never end.

import { randomUUID } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { connect, type ConnectOptions, type OpenConnection } from '../../src/libvirt/connect.ts'
import { DomainState } from '../../src/libvirt/constants.gen.ts'
import type { Domain } from '../../src/libvirt/wire.gen.ts'
import { failure } from '../libvirt/client.ts'
import { LibvirtDaemon, whyNoDaemon } from '../libvirt/daemon.ts'

const skip = whyNoDaemon(['libvirtd', 'unshare', 'setpriv', 'qemu-system-x86_64'])

describe.skipIf(skip !== undefined)(`a frozen guest (${skip ?? 'with QEMU'})`, () => {
  let daemon: LibvirtDaemon
  let control: OpenConnection
  let frozen: Domain
  let qemuPid: number
  const open: OpenConnection[] = []

  const dial = async (options: ConnectOptions = {}): Promise<OpenConnection> => {
    const connection = await connect(daemon.uri('qemu:///session'), {
      keepalive: { intervalMs: 300, count: 3 },
      ...options
    })
    open.push(connection)
    return connection
  }
  const xml = (name: string): string =>
    `<domain type='qemu'><name>${name}</name><uuid>${randomUUID()}</uuid><memory unit='MiB'>32</memory><vcpu>1</vcpu>
      <os><type arch='x86_64'>hvm</type></os><devices><controller type='usb' model='none'/><memballoon model='none'/></devices></domain>`
  // Asks QEMU itself, so it waits as long as QEMU is stopped.
  const ask = (connection: OpenConnection): Promise<unknown> =>
    failure(connection.call('CONNECT_GET_ALL_DOMAIN_STATS', { doms: [frozen], stats: 0, flags: 0 }))

  beforeAll(async () => {
    daemon = await LibvirtDaemon.start()
    control = await dial()
    frozen = (await control.call('DOMAIN_CREATE_XML', { xml_desc: xml('frozen'), flags: 0 })).dom
    // The first such call has the daemon probe QEMU for some seconds, which is not what is looked at here.
    expect(await ask(control)).toBeUndefined()
    qemuPid = Number(readFileSync(join(daemon.folder, 'run/libvirt/qemu/run/frozen.pid'), 'utf8'))
    process.kill(qemuPid, 'SIGSTOP')
  }, 60_000)

  afterAll(async () => {
    process.kill(qemuPid, 'SIGCONT')
    await control.call('DOMAIN_DESTROY', { dom: frozen })
    for (const connection of open) connection.destroy()
    await daemon.stop()
  }, 60_000)

  test('4 hung calls and a fifth that waits leave connection, other connections and events as they are', async () => {
    const jobs = await dial()
    const events = await dial()
    const seen: string[] = []
    await events.on('DOMAIN_EVENT_CALLBACK_LIFECYCLE', ({ dom }) => seen.push(dom.name))
    const hung = Array.from({ length: 5 }, () => ask(jobs))
    expect([jobs.inFlight, jobs.queued]).toEqual([4, 1])

    const started = performance.now()
    expect(await control.call('DOMAIN_GET_STATE', { dom: frozen, flags: 0 })).toMatchObject({
      state: DomainState.RUNNING
    })
    expect(performance.now() - started).toBeLessThan(1000)
    const { dom } = await control.call('DOMAIN_DEFINE_XML_FLAGS', { xml: xml('other'), flags: 0 })
    await control.call('DOMAIN_UNDEFINE_FLAGS', { dom, flags: 0 })
    expect(performance.now() - started).toBeLessThan(1000)
    await expect.poll(() => seen.filter((name) => name === 'other').length).toBe(2)

    // Longer than all pings together: were the daemon deaf to this connection, it would be gone.
    const outcome = await Promise.race([jobs.closed, new Promise((resolve) => setTimeout(resolve, 2500, 'open'))])
    expect(outcome).toBe('open')
    jobs.destroy()
    const codes = (await Promise.all(hung)).map((error) => (error as { code: string }).code)
    expect(codes).toEqual(['unknown_outcome', 'unknown_outcome', 'unknown_outcome', 'unknown_outcome', 'not_sent'])
  })

  test('5 hung calls on one connection make the daemon deaf: it is given up, the outcomes are unknown, and the host tells the truth', async () => {
    const deaf = await dial({ window: 5 })
    const hung = Array.from({ length: 5 }, () => ask(deaf))
    expect(await deaf.closed).toMatchObject({ reason: 'keepalive_timeout' })
    for (const call of hung) expect(await call).toMatchObject({ code: 'unknown_outcome', reason: 'keepalive_timeout' })
    const again = await dial()
    expect(await again.call('DOMAIN_GET_STATE', { dom: frozen, flags: 0 })).toMatchObject({
      state: DomainState.RUNNING
    })
  })
})

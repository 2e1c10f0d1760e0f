// The daemon here behaves as libvirtd with its stock limit: with 5 unanswered calls it stops reading a connection, pings included.

import { expect, test } from 'vitest'
import { connect } from '../../src/libvirt/connect.ts'
import { failure, fakeDaemonForEachTest, until } from './client.ts'
import { FakeDaemon, hang } from './fake-daemon.ts'

const fake = fakeDaemonForEachTest({ maxClientRequests: 5 })
const dom = { name: 'frozen', uuid: '0de8b054-a966-4bd5-892c-5e1f07edcb37', id: 1 }
const patient = { intervalMs: 20, count: 3 }

test('with the window at 4, hung calls leave the connection alive: pings are answered and events flow', async () => {
  fake.daemon.on('DOMAIN_GET_XML_DESC', () => hang)
  const connection = await fake.dial({ keepalive: patient })
  let events = 0
  await connection.on('DOMAIN_EVENT_CALLBACK_REBOOT', () => events++)
  const calls = Array.from({ length: 10 }, () => failure(connection.call('DOMAIN_GET_XML_DESC', { dom, flags: 0 })))
  await until(() => fake.daemon.client.pings >= 6)
  fake.daemon.client.event('DOMAIN_EVENT_CALLBACK_REBOOT', { callbackID: 7, dom })
  await until(() => events === 1)
  expect(connection.isOpen).toBe(true)
  expect(fake.daemon.client.mostUnanswered).toBe(4)
  connection.destroy()
  const codes = (await Promise.all(calls)).map((error) => (error as { code: string }).code)
  expect(codes).toEqual([...Array<string>(4).fill('unknown_outcome'), ...Array<string>(6).fill('not_sent')])
})

test('with a window of 5 the daemon goes deaf, and keepalive ends the connection with unknown outcomes', async () => {
  fake.daemon.on('DOMAIN_GET_XML_DESC', () => hang)
  const connection = await fake.dial({ keepalive: patient, window: 5 })
  const calls = Array.from({ length: 5 }, () => failure(connection.call('DOMAIN_GET_XML_DESC', { dom, flags: 0 })))
  expect(await connection.closed).toMatchObject({ reason: 'keepalive_timeout' })
  for (const call of calls) expect(await call).toMatchObject({ code: 'unknown_outcome', reason: 'keepalive_timeout' })
})

test('5 hung calls on one connection delay no call on another to the same host, nor to another host', async () => {
  fake.daemon.on('DOMAIN_GET_XML_DESC', () => hang)
  const otherHost = await FakeDaemon.start()
  try {
    const jobs = await fake.dial({ window: 5 })
    const control = await jobs.sibling({ window: 4 })
    const other = await connect(otherHost.uri, { keepalive: false })
    for (let i = 0; i < 5; i++) void failure(jobs.call('DOMAIN_GET_XML_DESC', { dom, flags: 0 }))
    await until(() => fake.daemon.clients[0]!.unanswered === 5)
    for (const connection of [control, other]) {
      const started = performance.now()
      await connection.call('CONNECT_GET_HOSTNAME', {})
      expect(performance.now() - started).toBeLessThan(500)
      connection.destroy()
    }
  } finally {
    await otherHost.stop()
  }
})

test('the daemon’s ping is answered at once, with calls hanging', async () => {
  fake.daemon.on('DOMAIN_GET_XML_DESC', () => hang)
  const connection = await fake.dial()
  for (let i = 0; i < 4; i++) void failure(connection.call('DOMAIN_GET_XML_DESC', { dom, flags: 0 }))
  await until(() => fake.daemon.client.unanswered === 4)
  fake.daemon.client.ping()
  await until(() => fake.daemon.client.pongs === 1)
})

test('a silent peer is given up after the count of unanswered pings, and not before', async () => {
  const silent = await FakeDaemon.start({ answerPings: false })
  try {
    const connection = await connect(silent.uri, { keepalive: { intervalMs: 20, count: 4 } })
    expect(await connection.closed).toMatchObject({
      reason: 'keepalive_timeout',
      message: expect.stringContaining('0.1 s') as string
    })
    expect(silent.client.pings).toBe(4)
  } finally {
    await silent.stop()
  }
})

test('an event loop that was blocked longer than all pings together does not lose a living peer', async () => {
  const connection = await fake.dial({ keepalive: { intervalMs: 10, count: 1 } })
  for (let round = 0; round < 5; round++) {
    await until(() => fake.daemon.client.pings > round)
    const end = performance.now() + 60
    while (performance.now() < end);
  }
  expect(await connection.call('CONNECT_GET_HOSTNAME', {})).toEqual({ hostname: 'fake' })
})

test('traffic is a sign of life: a busy connection sends no pings', async () => {
  const connection = await fake.dial({ keepalive: { intervalMs: 50, count: 2 } })
  const end = performance.now() + 200
  while (performance.now() < end) await connection.call('CONNECT_GET_HOSTNAME', {})
  expect(fake.daemon.client.pings).toBe(0)
})

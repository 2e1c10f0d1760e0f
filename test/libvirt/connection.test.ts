// Calls, their answers and their failures, against a daemon that does what each test tells it.

import { expect, test } from 'vitest'
import { connect } from '../../src/libvirt/connect.ts'
import { ErrorCode } from '../../src/libvirt/constants.gen.ts'
import { type ConnectionError, LibvirtError } from '../../src/libvirt/errors.ts'
import { MessageStatus, MessageType } from '../../src/libvirt/protocol.ts'
import { failure, fakeDaemonForEachTest, until } from './client.ts'
import { hang } from './fake-daemon.ts'

const dom = { name: 'vm1', uuid: '0de8b054-a966-4bd5-892c-5e1f07edcb37', id: -1 }
const fake = fakeDaemonForEachTest()
const { callsSeen, dial } = fake

test('login comes first, then keepalive is asked for, then the driver is opened', async () => {
  await dial()
  expect(fake.daemon.client.calls).toEqual([
    { name: 'AUTH_LIST', args: {} },
    { name: 'CONNECT_SUPPORTS_FEATURE', args: { feature: 10 } },
    { name: 'CONNECT_OPEN', args: { name: 'test:///default', flags: 0 } }
  ])
})

test('a login that only SASL could satisfy is refused in words, and nothing else is asked', async () => {
  fake.daemon.on('AUTH_LIST', () => ({ types: [1] }))
  const error = await failure(dial())
  expect(error).toMatchObject({ name: 'ConnectionError', code: 'auth_unsupported' })
  expect(fake.daemon.client.calls.map((call) => call.name)).toEqual(['AUTH_LIST'])
})

test('replies find their calls in whatever order they come', async () => {
  const serials: number[] = []
  fake.daemon.on('DOMAIN_GET_STATE', (_args, _client, serial) => {
    serials.push(serial)
    return hang
  })
  const connection = await dial()
  const calls = [1, 2, 3, 4].map((flags) => connection.call('DOMAIN_GET_STATE', { dom, flags }))
  await callsSeen(7)
  for (const [i, serial] of [...serials.entries()].toReversed())
    fake.daemon.client.reply('DOMAIN_GET_STATE', serial, { state: i, reason: 0 })
  expect(await Promise.all(calls)).toEqual([0, 1, 2, 3].map((state) => ({ state, reason: 0 })))
})

test('a refusal keeps code, domain, level and strings', async () => {
  fake.daemon.on('DOMAIN_CREATE', (_args, client, serial) => {
    client.error('DOMAIN_CREATE', serial, ErrorCode.OPERATION_INVALID, 'domain is already running')
    return hang
  })
  const connection = await dial()
  const error = (await failure(connection.call('DOMAIN_CREATE', { dom }))) as LibvirtError
  expect(error).toBeInstanceOf(LibvirtError)
  expect(error).toMatchObject({
    procedure: 'DOMAIN_CREATE',
    code: 55,
    codeName: 'OPERATION_INVALID',
    domain: 7,
    domainName: 'RPC',
    level: 2,
    text: 'domain is already running',
    strings: ['domain is already running', null, null]
  })
  expect(error.message).toContain('DOMAIN_CREATE')
})

test('an error code of a later libvirt is kept as a number', async () => {
  fake.daemon.on('DOMAIN_CREATE', (_args, client, serial) => {
    client.error('DOMAIN_CREATE', serial, 4711, 'new')
    return hang
  })
  const connection = await dial()
  expect(await failure(connection.call('DOMAIN_CREATE', { dom }))).toMatchObject({ code: 4711, codeName: null })
})

test('no more calls are on the wire than the window allows, and the rest follow', async () => {
  const waiting: (() => void)[] = []
  fake.daemon.on(
    'DOMAIN_GET_STATE',
    () => new Promise((resolve) => waiting.push(() => resolve({ state: 1, reason: 1 })))
  )
  const connection = await dial()
  const calls = Array.from({ length: 20 }, () => connection.call('DOMAIN_GET_STATE', { dom, flags: 0 }))
  await callsSeen(3 + 4)
  expect(connection.inFlight).toBe(4)
  expect(connection.queued).toBe(16)
  await until(() => {
    waiting.shift()?.()
    return fake.daemon.client.calls.length === 3 + 20 && waiting.length === 0
  })
  await Promise.all(calls)
  expect(fake.daemon.client.mostUnanswered).toBe(4)
  expect(connection.inFlight).toBe(0)
})

test('the queue is bounded: a call too many is not sent, and says so', async () => {
  fake.daemon.on('DOMAIN_GET_STATE', () => hang)
  const connection = await dial({ maxQueued: 2 })
  const calls = Array.from({ length: 7 }, () => failure(connection.call('DOMAIN_GET_STATE', { dom, flags: 0 })))
  expect(await calls[6]).toMatchObject({ code: 'not_sent', reason: 'queue_full' })
})

test('a lost connection ends sent calls as unknown and queued calls as not sent', async () => {
  fake.daemon.on('DOMAIN_CREATE', () => hang)
  const connection = await dial()
  const calls = Array.from({ length: 6 }, () => failure(connection.call('DOMAIN_CREATE', { dom })))
  await callsSeen(3 + 4)
  fake.daemon.client.socket.destroy()
  const errors = (await Promise.all(calls)) as ConnectionError[]
  expect(errors.map((error) => error.code)).toEqual([
    ...Array<string>(4).fill('unknown_outcome'),
    'not_sent',
    'not_sent'
  ])
  expect(errors[0]!.message).toMatch(/DOMAIN_CREATE was sent and its outcome is unknown: .*closed the connection/)
  expect(await connection.closed).toMatchObject({ reason: 'closed_by_peer' })
  expect(await failure(connection.call('DOMAIN_CREATE', { dom }))).toMatchObject({ code: 'not_sent' })
})

test('calls are settled before anybody learns that the connection is gone', async () => {
  fake.daemon.on('DOMAIN_CREATE', () => hang)
  const connection = await dial()
  const order: string[] = []
  const call = failure(connection.call('DOMAIN_CREATE', { dom })).then(() => order.push('call'))
  const closed = connection.closed.then(() => order.push('closed'))
  await callsSeen(4)
  fake.daemon.client.socket.destroy()
  await Promise.all([call, closed])
  expect(order).toEqual(['call', 'closed'])
})

test('a timeout after sending is an unknown outcome and keeps its place until the host answers', async () => {
  const waiting: (() => void)[] = []
  fake.daemon.on('DOMAIN_CREATE', () => new Promise((resolve) => waiting.push(() => resolve({}))))
  const connection = await dial()
  const calls = Array.from({ length: 4 }, () => failure(connection.call('DOMAIN_CREATE', { dom }, { timeoutMs: 30 })))
  for (const call of calls) expect(await call).toMatchObject({ code: 'unknown_outcome', reason: 'timeout' })
  expect(connection.inFlight).toBe(4)
  expect(await failure(connection.call('CONNECT_GET_HOSTNAME', {}, { timeoutMs: 30 }))).toMatchObject({
    code: 'not_sent',
    reason: 'timeout'
  })
  const next = connection.call('CONNECT_GET_HOSTNAME', {})
  waiting[0]!()
  expect(await next).toEqual({ hostname: 'fake' })
})

test('an aborted call is unknown when sent, not sent when queued or aborted before', async () => {
  fake.daemon.on('DOMAIN_CREATE', () => hang)
  const connection = await dial({ window: 1 })
  const controller = new AbortController()
  const sent = failure(connection.call('DOMAIN_CREATE', { dom }, { signal: controller.signal }))
  const queued = failure(connection.call('DOMAIN_CREATE', { dom }, { signal: controller.signal }))
  await callsSeen(4)
  controller.abort(new Error('cancelled by the operator'))
  expect(await sent).toMatchObject({
    code: 'unknown_outcome',
    reason: 'aborted',
    cause: { message: 'cancelled by the operator' }
  })
  expect(await queued).toMatchObject({ code: 'not_sent', reason: 'aborted' })
  expect(await failure(connection.call('DOMAIN_CREATE', { dom }, { signal: controller.signal }))).toMatchObject({
    code: 'not_sent'
  })
  expect(fake.daemon.client.calls.length).toBe(4)
})

test('a call that was given up while it was queued is never sent', async () => {
  const waiting: (() => void)[] = []
  fake.daemon.on('DOMAIN_CREATE', () => new Promise((resolve) => waiting.push(() => resolve({}))))
  const connection = await dial({ window: 1 })
  const sent = connection.call('DOMAIN_CREATE', { dom })
  const controller = new AbortController()
  const queued = failure(connection.call('DOMAIN_DESTROY', { dom }, { signal: controller.signal }))
  const after = connection.call('CONNECT_GET_HOSTNAME', {})
  await callsSeen(4)
  controller.abort()
  expect(await queued).toMatchObject({ code: 'not_sent' })
  waiting[0]!()
  await sent
  await after
  expect(fake.daemon.client.calls.slice(3).map((call) => call.name)).toEqual(['DOMAIN_CREATE', 'CONNECT_GET_HOSTNAME'])
})

test('arguments that cannot be encoded are not sent, and the connection goes on', async () => {
  const connection = await dial()
  const bad = [
    connection.call('DOMAIN_LOOKUP_BY_UUID', { uuid: 'not a uuid' }),
    connection.call('DOMAIN_LOOKUP_BY_NAME', { name: 'a\0b' }),
    connection.call('DOMAIN_GET_STATE', { dom, flags: -1 }),
    connection.call('DOMAIN_LOOKUP_BY_NAME', { name: 'x'.repeat(4_194_305) })
  ]
  for (const call of bad) expect(await failure(call)).toMatchObject({ code: 'not_sent', reason: 'bad_arguments' })
  expect(await connection.call('CONNECT_GET_HOSTNAME', {})).toEqual({ hostname: 'fake' })
})

test('an answer that cannot be read is an unknown outcome, and the connection goes on', async () => {
  fake.daemon.on('DOMAIN_GET_STATE', (_args, client, serial) => {
    client.frame(212, MessageType.REPLY, serial, MessageStatus.OK, Buffer.from('00000001', 'hex'))
    return hang
  })
  const connection = await dial()
  expect(await failure(connection.call('DOMAIN_GET_STATE', { dom, flags: 0 }))).toMatchObject({
    code: 'unknown_outcome',
    reason: 'bad_reply'
  })
  expect(await connection.call('CONNECT_GET_HOSTNAME', {})).toEqual({ hostname: 'fake' })
})

test('a frame that claims more than the limit ends the connection before anything is allocated', async () => {
  fake.daemon.on('DOMAIN_CREATE', () => hang)
  const connection = await dial()
  const call = failure(connection.call('DOMAIN_CREATE', { dom }))
  await callsSeen(4)
  fake.daemon.client.socket.write(Buffer.from('ffffffff20008086', 'hex'))
  expect(await call).toMatchObject({ code: 'unknown_outcome', reason: 'protocol_error' })
  expect((await connection.closed).message).toContain('4294967295 bytes')
})

test('replies nobody waits for, unknown programs and unknown events are passed over', async () => {
  const connection = await dial()
  fake.daemon.client.reply('CONNECT_GET_HOSTNAME', 9999, { hostname: 'stray' })
  fake.daemon.client.frame(99_999, MessageType.MESSAGE, 0, MessageStatus.OK, Buffer.alloc(4))
  expect(await connection.call('CONNECT_GET_HOSTNAME', {})).toEqual({ hostname: 'fake' })
})

test('closing lets calls on the wire end, sends no queued ones, says goodbye, and may be done twice', async () => {
  let answer = (): void => {}
  fake.daemon.on('DOMAIN_CREATE', () => new Promise((resolve) => (answer = () => resolve({}))))
  const connection = await dial({ window: 1 })
  const sent = connection.call('DOMAIN_CREATE', { dom })
  const queued = failure(connection.call('DOMAIN_CREATE', { dom }))
  await callsSeen(4)
  const closed = [connection.close(), connection.close()]
  expect(await queued).toMatchObject({ code: 'not_sent', reason: 'closed' })
  expect(await failure(connection.call('CONNECT_GET_HOSTNAME', {}))).toMatchObject({
    code: 'not_sent',
    reason: 'closed'
  })
  answer()
  expect(await sent).toEqual({})
  expect(await Promise.all(closed)).toMatchObject([{ reason: 'closed' }, { reason: 'closed' }])
  expect(fake.daemon.client.calls.at(-1)?.name).toBe('CONNECT_CLOSE')
})

test('closing does not wait for a hung call beyond its time', async () => {
  fake.daemon.on('DOMAIN_CREATE', () => hang)
  const connection = await dial()
  const call = failure(connection.call('DOMAIN_CREATE', { dom }))
  await callsSeen(4)
  await connection.close(20)
  expect(await call).toMatchObject({ code: 'unknown_outcome', reason: 'closed' })
})

test('a daemon that accepts and never answers ends as unreachable within the time given', async () => {
  fake.daemon.on('AUTH_LIST', () => hang)
  const error = await failure(dial({ connectTimeoutMs: 50 }))
  expect(error).toMatchObject({ code: 'unreachable', reason: 'timeout' })
})

test('no daemon is unreachable, with the operating system’s reason', async () => {
  const error = (await failure(connect('test+unix:///default?socket=/nonexistent/sock'))) as ConnectionError
  expect(error).toMatchObject({ code: 'unreachable', cause: { code: 'ENOENT' } })
  expect(error.message).toContain('/nonexistent/sock')
})

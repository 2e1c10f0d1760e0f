// Events: their order, their consumers' failures, and what registers the host's sending of them.

import { expect, test } from 'vitest'
import { ErrorCode } from '../../src/libvirt/constants.gen.ts'
import type { Events } from '../../src/libvirt/wire.gen.ts'
import { failure, fakeDaemonForEachTest, until } from './client.ts'
import { hang } from './fake-daemon.ts'

const fake = fakeDaemonForEachTest()
const dom = { name: 'vm1', uuid: '0de8b054-a966-4bd5-892c-5e1f07edcb37', id: 1 }
type Lifecycle = Events['DOMAIN_EVENT_CALLBACK_LIFECYCLE']
const lifecycle = (detail: number): Lifecycle => ({ callbackID: 7, dom, event: 2, detail })
const send = (detail: number): void => fake.daemon.client.event('DOMAIN_EVENT_CALLBACK_LIFECYCLE', lifecycle(detail))
const names = (): string[] => fake.daemon.client.calls.map((call) => call.name)

test('events arrive in the order in which they were sent, whatever replies come between', async () => {
  fake.daemon.on('CONNECT_GET_HOSTNAME', () => {
    send(fake.daemon.client.calls.length)
    return { hostname: 'fake' }
  })
  const connection = await fake.dial()
  const seen: number[] = []
  await connection.on('DOMAIN_EVENT_CALLBACK_LIFECYCLE', ({ detail }) => seen.push(detail))
  await Promise.all(Array.from({ length: 50 }, () => connection.call('CONNECT_GET_HOSTNAME', {})))
  await until(() => seen.length === 50)
  expect(seen).toEqual(seen.toSorted((a, b) => a - b))
})

test('a consumer that throws or rejects hinders neither replies nor other consumers nor later events', async () => {
  const errors: unknown[] = []
  const connection = await fake.dial({ onEventError: (error, event) => errors.push([String(error), event]) })
  const seen: number[] = []
  await connection.on('DOMAIN_EVENT_CALLBACK_LIFECYCLE', () => {
    throw new Error('consumer')
  })
  const rejecting = (): Promise<void> => Promise.reject(new Error('async consumer'))
  await connection.on('DOMAIN_EVENT_CALLBACK_LIFECYCLE', () => rejecting())
  await connection.on('DOMAIN_EVENT_CALLBACK_LIFECYCLE', ({ detail }) => seen.push(detail))
  send(1)
  send(2)
  expect(await connection.call('CONNECT_GET_HOSTNAME', {})).toEqual({ hostname: 'fake' })
  await until(() => seen.length === 2 && errors.length === 4)
  expect(new Set(errors.map(String))).toEqual(
    new Set([
      'Error: consumer,DOMAIN_EVENT_CALLBACK_LIFECYCLE',
      'Error: async consumer,DOMAIN_EVENT_CALLBACK_LIFECYCLE'
    ])
  )
})

// A client once routed replies on the task that ran consumers: a consumer that called the host waited for itself.
test('a consumer may call the host and wait for the answer', async () => {
  const connection = await fake.dial({ window: 1 })
  const answers: string[] = []
  await connection.on('DOMAIN_EVENT_CALLBACK_LIFECYCLE', async () => {
    answers.push((await connection.call('CONNECT_GET_HOSTNAME', {})).hostname)
  })
  for (let i = 0; i < 10; i++) send(i)
  await until(() => answers.length === 10)
})

test('a consumer that never ends delays no reply', async () => {
  const connection = await fake.dial()
  let started = 0
  await connection.on('DOMAIN_EVENT_CALLBACK_LIFECYCLE', () => {
    started++
    return new Promise<void>(() => {})
  })
  send(1)
  send(2)
  expect(await connection.call('CONNECT_GET_HOSTNAME', {})).toEqual({ hostname: 'fake' })
  await until(() => started === 2)
})

test('a reply is handed on before the events that arrived in front of it', async () => {
  fake.daemon.on('CONNECT_GET_HOSTNAME', () => {
    send(1)
    return { hostname: 'fake' }
  })
  const connection = await fake.dial()
  const order: string[] = []
  await connection.on('DOMAIN_EVENT_CALLBACK_LIFECYCLE', () => order.push('event'))
  await connection.call('CONNECT_GET_HOSTNAME', {}).then(() => order.push('reply'))
  await until(() => order.length === 2)
  expect(order).toEqual(['reply', 'event'])
})

test('the host is told once a kind, however many listen, and again when the last has left', async () => {
  const connection = await fake.dial()
  const offs = [
    await connection.on('DOMAIN_EVENT_CALLBACK_LIFECYCLE', () => {}),
    await connection.on('DOMAIN_EVENT_CALLBACK_LIFECYCLE', () => {})
  ]
  await offs[0]!()
  expect(names().filter((name) => name.includes('EVENT'))).toEqual(['CONNECT_DOMAIN_EVENT_CALLBACK_REGISTER_ANY'])
  await offs[1]!()
  await offs[1]!()
  expect(fake.daemon.client.calls.at(-1)).toEqual({
    name: 'CONNECT_DOMAIN_EVENT_CALLBACK_DEREGISTER_ANY',
    args: { callbackID: 7 }
  })
  expect(names().filter((name) => name.includes('DEREGISTER'))).toHaveLength(1)
})

test('leaving and listening again in one breath ends up registered', async () => {
  const connection = await fake.dial()
  const off = await connection.on('DOMAIN_EVENT_CALLBACK_LIFECYCLE', () => {})
  const seen: number[] = []
  const leaving = off()
  await connection.on('DOMAIN_EVENT_CALLBACK_LIFECYCLE', ({ detail }) => seen.push(detail))
  await leaving
  send(5)
  await until(() => seen.length === 1)
  expect(names().at(-1)).not.toBe('CONNECT_DOMAIN_EVENT_CALLBACK_DEREGISTER_ANY')
})

test('two who begin to listen at once are one registration, and each event reaches each once', async () => {
  const connection = await fake.dial()
  const seen: string[] = []
  await Promise.all(['a', 'b'].map((who) => connection.on('DOMAIN_EVENT_CALLBACK_LIFECYCLE', () => seen.push(who))))
  send(1)
  await until(() => seen.length === 2)
  expect(seen).toEqual(['a', 'b'])
  expect(names().filter((name) => name.includes('REGISTER_ANY'))).toHaveLength(1)
})

test('a kind that the host does not have is refused, and may be tried again', async () => {
  fake.daemon.on('CONNECT_DOMAIN_EVENT_CALLBACK_REGISTER_ANY', (_args, client, serial) => {
    client.error('CONNECT_DOMAIN_EVENT_CALLBACK_REGISTER_ANY', serial, ErrorCode.INVALID_ARG, 'unknown event')
    fake.daemon.answered(client)
    return hang
  })
  const connection = await fake.dial()
  expect(await failure(connection.on('DOMAIN_EVENT_NIC_MAC_CHANGE', () => {}))).toMatchObject({
    code: ErrorCode.INVALID_ARG
  })
  fake.daemon.on('CONNECT_DOMAIN_EVENT_CALLBACK_REGISTER_ANY', () => ({ callbackID: 9 }))
  await connection.on('DOMAIN_EVENT_NIC_MAC_CHANGE', () => {})
})

test('events beyond the limit are dropped, and the consumer is told how many', async () => {
  const lost: number[] = []
  const connection = await fake.dial({ maxQueuedEvents: 10, onEventsLost: (count) => lost.push(count) })
  let seen = 0
  await connection.on('DOMAIN_EVENT_CALLBACK_LIFECYCLE', () => seen++)
  const burst = Array.from({ length: 25 }, (_, i) => i)
  fake.daemon.client.socket.cork()
  for (const i of burst) send(i)
  fake.daemon.client.socket.uncork()
  await until(() => seen + lost.reduce((sum, count) => sum + count, 0) === 25)
  expect(seen).toBeLessThan(25)
})

test('an event that cannot be read is reported and the next one delivered', async () => {
  const errors: string[] = []
  const connection = await fake.dial({ onEventError: (error) => errors.push(String(error)) })
  const seen: number[] = []
  await connection.on('DOMAIN_EVENT_CALLBACK_LIFECYCLE', ({ detail }) => seen.push(detail))
  fake.daemon.client.frame(318, 2, 0, 0, Buffer.from('00000001', 'hex'))
  send(3)
  await until(() => seen.length === 1)
  expect(errors).toHaveLength(1)
  expect(errors[0]).toContain('DOMAIN_EVENT_CALLBACK_LIFECYCLE')
})

// A reconnecting client once handed the old connection's late events and failures to the new one.
test('a new connection has nothing of the lost one: no consumers, no late events, no failures', async () => {
  const first = await fake.dial()
  const seen: string[] = []
  await first.on('DOMAIN_EVENT_CALLBACK_LIFECYCLE', () => seen.push('first'))
  const lostClient = fake.daemon.client
  send(1)
  lostClient.socket.end()
  await first.closed
  const before = [...seen]
  const second = await fake.dial()
  await second.on('DOMAIN_EVENT_CALLBACK_LIFECYCLE', () => seen.push('second'))
  send(2)
  await until(() => seen.includes('second'))
  expect(seen).toEqual([...before, 'second'])
  expect(await second.call('CONNECT_GET_HOSTNAME', {})).toEqual({ hostname: 'fake' })
  expect(await failure(first.call('CONNECT_GET_HOSTNAME', {}))).toMatchObject({ code: 'not_sent' })
})

// Bytes written down by hand from the protocol's definition, so that encoder and decoder cannot be wrong together.

import { expect, test } from 'vitest'
import { DomainState, ErrorCode } from '../../src/libvirt/constants.gen.ts'
import { encodeFrame, FrameSplitter } from '../../src/libvirt/frame.ts'
import {
  decodeArgs,
  decodeCall,
  decodeHostEvent,
  decodeReply,
  encodeArgs,
  encodeEvent,
  encodeReply
} from '../../src/libvirt/payload.ts'
import { MessageStatus, MessageType, remoteProgram, remoteVersion } from '../../src/libvirt/protocol.ts'

const hex = (text: string): Buffer => Buffer.from(text.replaceAll(/\s/g, ''), 'hex')

test('CONNECT_OPEN of test:///default is a name that is present, padded, and flags', () => {
  const bytes = hex('00000001 0000000f 746573743a2f2f2f64656661756c74 00 00000000')
  expect(encodeArgs('CONNECT_OPEN', { name: 'test:///default', flags: 0 })).toEqual(bytes)
  expect(decodeArgs('CONNECT_OPEN', bytes)).toEqual({ name: 'test:///default', flags: 0 })
  expect(encodeArgs('CONNECT_OPEN', { name: null, flags: 1 })).toEqual(hex('00000000 00000001'))
})

test('a domain is name, sixteen bytes of UUID and a signed id', () => {
  const dom = { name: 'vm1', uuid: '0de8b054-a966-4bd5-892c-5e1f07edcb37', id: -1 }
  const bytes = hex('00000003 766d3100 0de8b054a9664bd5892c5e1f07edcb37 ffffffff 00000000')
  expect(encodeArgs('DOMAIN_GET_STATE', { dom, flags: 0 })).toEqual(bytes)
  expect(decodeCall(212, bytes)).toEqual({ name: 'DOMAIN_GET_STATE', args: { dom, flags: 0 } })
})

test('characters take four bytes each: NODE_GET_INFO is 128 bytes of model, a hyper and six words', () => {
  const reply = { model: 'x86_64', memory: 24_689_532n, cpus: 2, mhz: 2500, nodes: 1, sockets: 1, cores: 2, threads: 1 }
  const bytes = encodeReply('NODE_GET_INFO', reply)
  expect(bytes.length).toBe(128 + 8 + 24)
  expect(bytes.subarray(0, 12)).toEqual(hex('00000078 00000038 00000036'))
  expect(decodeReply('NODE_GET_INFO', bytes)).toEqual(reply)
})

test('a lifecycle event carries its callback before the domain', () => {
  const message = {
    callbackID: 2,
    dom: { name: 'a', uuid: '0de8b054-a966-4bd5-892c-5e1f07edcb37', id: 7 },
    event: 4,
    detail: 0
  }
  const bytes = hex('00000002 00000001 61000000 0de8b054a9664bd5892c5e1f07edcb37 00000007 00000004 00000000')
  expect(encodeEvent('DOMAIN_EVENT_CALLBACK_LIFECYCLE', message)).toEqual(bytes)
  expect(decodeHostEvent(318, bytes)).toEqual({ name: 'DOMAIN_EVENT_CALLBACK_LIFECYCLE', message })
})

test('typed parameters carry name, type and value', () => {
  const params = [
    { field: 'bandwidth', value: { type: 4, value: 20n } },
    { field: 'migrate_uri', value: { type: 7, value: 'tcp' } }
  ] as const
  const bytes = encodeArgs('DOMAIN_SET_SCHEDULER_PARAMETERS_FLAGS', {
    dom: { name: '', uuid: '00000000-0000-0000-0000-000000000000', id: 0 },
    params: [...params],
    flags: 3
  })
  expect(bytes.subarray(24)).toEqual(
    hex(`00000002 00000009 62616e647769647468 000000 00000004 0000000000000014
         0000000b 6d6967726174655f757269 00 00000007 00000003 74637000 00000003`)
  )
})

test('a frame is its length, six header words and the payload, however the bytes arrive', () => {
  const header = {
    program: remoteProgram,
    version: remoteVersion,
    procedure: 66,
    type: MessageType.CALL,
    serial: 1,
    status: MessageStatus.OK
  }
  const bytes = hex('00000020 20008086 00000001 00000042 00000000 00000001 00000000 cafebabe')
  expect(encodeFrame(header, hex('cafebabe'))).toEqual(bytes)
  for (let size = 1; size <= bytes.length * 2; size++) {
    const seen: unknown[] = []
    const splitter = new FrameSplitter()
    const twice = Buffer.concat([bytes, bytes])
    for (let at = 0; at < twice.length; at += size)
      splitter.push(twice.subarray(at, at + size), (frame) =>
        seen.push({ ...frame, payload: frame.payload.toString('hex') })
      )
    expect(seen).toEqual([
      { ...header, payload: 'cafebabe' },
      { ...header, payload: 'cafebabe' }
    ])
    expect(splitter.pendingBytes).toBe(0)
  }
})

test('constants have libvirt’s numbers', () => {
  expect(DomainState.SHUTOFF).toBe(5)
  expect(ErrorCode.NO_DOMAIN).toBe(42)
  expect(ErrorCode.OPERATION_INVALID).toBe(55)
})

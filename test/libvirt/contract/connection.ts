// The contract, first part: what a host tells about itself, and several calls and connections at once.

import { expect, test } from 'vitest'
import { ConnectionError } from '../../../src/libvirt/errors.ts'
import type { Bench } from '../contract.ts'

export function connectionContract(bench: Bench): void {
  test('a host says who and what it is', async () => {
    const { connection } = bench
    const { hostname } = await connection.call('CONNECT_GET_HOSTNAME', {})
    expect(hostname).not.toBe('')
    const { lib_ver } = await connection.call('CONNECT_GET_LIB_VERSION', {})
    expect(lib_ver).toBeGreaterThanOrEqual(1_000_000n)
    const { capabilities } = await connection.call('CONNECT_GET_CAPABILITIES', {})
    expect(capabilities).toMatch(/^<capabilities>[^]*<host>[^]*<\/capabilities>\s*$/)
    const { type } = await connection.call('CONNECT_GET_TYPE', {})
    expect(type).toBe(bench.capabilities.qemu ? 'QEMU' : 'TEST')
  })

  test('a host tells its processors and memory', async () => {
    const node = await bench.connection.call('NODE_GET_INFO', {})
    expect(node.model).toMatch(/^[\w .()-]+$/)
    expect(node.cpus).toBeGreaterThan(0)
    expect(node.memory).toBeGreaterThan(0n)
    const { freeMem } = await bench.connection.call('NODE_GET_FREE_MEMORY', {})
    expect(freeMem).toBeGreaterThan(0n)
    const { nparams } = await bench.connection.call('NODE_GET_CPU_STATS', { cpuNum: -1, nparams: 0, flags: 0 })
    const { params } = await bench.connection.call('NODE_GET_CPU_STATS', { cpuNum: -1, nparams, flags: 0 })
    expect(params.map((param) => param.field)).toContain('idle')
  })

  test('two hundred calls at once are all answered, each with its own answer', async () => {
    const { connection } = bench
    const calls = Array.from({ length: 200 }, (_, i) =>
      i % 2 === 0 ? connection.call('CONNECT_GET_HOSTNAME', {}) : connection.call('CONNECT_GET_LIB_VERSION', {})
    )
    const answers = await Promise.all(calls)
    for (const [i, answer] of answers.entries())
      expect(Object.keys(answer)).toEqual([i % 2 === 0 ? 'hostname' : 'lib_ver'])
  })

  test('connections to one host are independent: closing one leaves the other', async () => {
    const first = await bench.target.connect()
    const second = await first.sibling()
    await first.close()
    await expect(first.call('CONNECT_GET_HOSTNAME', {})).rejects.toBeInstanceOf(ConnectionError)
    await second.call('CONNECT_GET_HOSTNAME', {})
    await second.close()
  })

  test('a host that was asked for keepalive sends pings that we answer, and answers ours', async () => {
    const connection = await bench.target.connect({ keepalive: { intervalMs: 20, count: 50 } })
    await expect(
      Promise.race([connection.closed, new Promise((resolve) => setTimeout(resolve, 200, 'alive'))])
    ).resolves.toBe('alive')
    await connection.close()
  })
}

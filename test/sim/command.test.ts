// The command that keeps simulated hosts up.

import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { connect } from '../../src/libvirt/connect.ts'
import { runSimHosts } from '../../src/sim/command.ts'

test('hosts come up with their guests, say where they are, and go when told to', async () => {
  const dir = mkdtempSync(join(tmpdir(), 'sim-command-'))
  const stop = new AbortController()
  const lines: string[] = []
  const up = Promise.withResolvers<void>()
  const print = (line: string): void => {
    lines.push(line)
    if (lines.length === 2) up.resolve()
  }
  const ended = runSimHosts({ dir, hosts: ['east', 'west'], vms: 5, running: true, print, signal: stop.signal })
  await up.promise
  const socket = join(dir, 'east.sock')
  expect(lines[0]).toBe(`east qemu+unix:///system?socket=${socket}`)
  const connection = await connect(`qemu+unix:///system?socket=${socket}`)
  const { domains } = await connection.call('CONNECT_LIST_ALL_DOMAINS', { need_results: 1, flags: 1 })
  expect(domains.map(({ name }) => name)).toEqual(['vm1', 'vm3', 'vm5'])
  stop.abort()
  await ended
  await connection.closed
  expect(existsSync(socket)).toBe(false)
  rmSync(dir, { recursive: true })
})

// What is asked of the source of a migration: flags and parameters, and the switch to post-copy.

import { expect, test } from 'vitest'
import { DomainMigrateFlags as flag } from '../../src/libvirt/constants.gen.ts'
import type { HostCalls } from '../../src/host/calls.ts'
import type { HostChange, MigrateOptions } from '../../src/host/host.ts'
import { migrateFlags, migrateVm } from '../../src/host/migration.ts'

const plain: MigrateOptions = {
  peerUri: 'qemu+tls://h2/system',
  migrationUri: null,
  live: true,
  persistent: true,
  tls: false,
  unsafe: false,
  autoConverge: false,
  postCopy: false,
  copyStorage: false,
  bandwidthMiBps: null
}

test('a definition goes along and leaves the source only if there is one; nothing unsafe is done unasked', () => {
  expect(migrateFlags(plain)).toBe(flag.PEER2PEER | flag.LIVE | flag.PERSIST_DEST | flag.UNDEFINE_SOURCE)
  expect(migrateFlags({ ...plain, persistent: false })).toBe(flag.PEER2PEER | flag.LIVE)
  const all = { ...plain, tls: true, unsafe: true, autoConverge: true, postCopy: true, copyStorage: true }
  expect(migrateFlags(all) & ~migrateFlags(plain)).toBe(
    flag.TLS | flag.UNSAFE | flag.AUTO_CONVERGE | flag.POSTCOPY | flag.NON_SHARED_DISK
  )
})

function fakeCalls(during: (tell: (iteration: number, uuid?: string) => void) => void) {
  const asked: { name: string; args: unknown }[] = []
  const hearers = new Set<(change: HostChange) => void>()
  const call = (name: string, args: unknown) => {
    asked.push({ name, args })
    if (name === 'DOMAIN_MIGRATE_PERFORM3_PARAMS')
      during((iteration, uuid = 'vm') => {
        const change = {
          kind: 'vm',
          uuid,
          name: 'web1',
          event: 'migration iteration',
          detail: String(iteration)
        } as const
        for (const hear of hearers) hear(change)
      })
    return Promise.resolve({})
  }
  const calls = {
    name: 'h1',
    long: call,
    ask: call,
    onChange(hear: (change: HostChange) => void) {
      hearers.add(hear)
      return () => hearers.delete(hear)
    }
  } as unknown as HostCalls
  return { calls, asked, hearers }
}

const dom = { name: 'web1', uuid: 'vm', id: -1 }

test('network and bandwidth are parameters', async () => {
  const { calls, asked } = fakeCalls(() => {})
  await migrateVm(calls, dom, { ...plain, migrationUri: 'tcp://10.0.0.2', bandwidthMiBps: 20 })
  expect(asked[0]?.args).toMatchObject({
    dconnuri: plain.peerUri,
    params: [
      { field: 'migrate_uri', value: { value: 'tcp://10.0.0.2' } },
      { field: 'bandwidth', value: { value: 20n } }
    ]
  })
})

test('post-copy is switched to once, after a whole pass, and only if asked for', async () => {
  const passes = (tell: (iteration: number, uuid?: string) => void) => {
    tell(1)
    tell(2, 'another')
    tell(2)
    tell(3)
  }
  const asked = fakeCalls(passes)
  await migrateVm(asked.calls, dom, { ...plain, postCopy: true })
  expect(asked.asked.map(({ name }) => name)).toEqual([
    'DOMAIN_MIGRATE_PERFORM3_PARAMS',
    'DOMAIN_MIGRATE_START_POST_COPY'
  ])
  expect(asked.hearers.size).toBe(0)
  const unasked = fakeCalls(passes)
  await migrateVm(unasked.calls, dom, plain)
  expect(unasked.asked).toHaveLength(1)
})

// Hosts: added, checked, closed, opened, refreshed, removed.
import { describe, expect, test } from 'vitest'
import { hostAdd, peerUriOf } from '../../src/actions/host-add.ts'
import { hostCheck } from '../../src/actions/host-check.ts'
import { hostCordon } from '../../src/actions/host-cordon.ts'
import { hostRefresh } from '../../src/actions/host-refresh.ts'
import { hostRemove } from '../../src/actions/host-remove.ts'
import { hostUncordon } from '../../src/actions/host-uncordon.ts'
import { poolCreate } from '../../src/actions/pool-create.ts'
import { vmCreate } from '../../src/actions/vm-create.ts'
import type { Verdict } from '../../src/actions/action.ts'
import { Fleet } from './fleet.ts'
import { errorIn, withStage } from './stage.ts'

const code = (verdict: Verdict): string => (verdict.verdict === 'impossible' ? verdict.code : verdict.verdict)

describe('a new host', () => {
  test('is known with all that it has, and can be used in the same plan', () =>
    withStage({}, async (stage) => {
      const controlUri = stage.fleet.uris['h2'] ?? ''
      await stage.done(hostRemove, { host: 'h2', forget: true })
      expect(stage.memory.facts('host/h2')).toBeNull()
      const add = stage.task(hostAdd, { host: 'h2', controlUri, peerUri: controlUri })
      expect((await add.run()).outcome).toMatchObject({
        outcome: 'complete',
        result: { host: 'h2', uuid: stage.fleet.host('h2').uuid }
      })
      expect((await add.run()).outcome.outcome).toBe('complete')
      expect(stage.memory.facts('host/h2')).toMatchObject({ peerUri: controlUri, arch: 'x86_64' })
      expect(stage.memory.facts('pool/h2/nfs1')).toMatchObject({ active: true })
      const planned = new Fleet()
      const state = planned.queued(
        ...hostAdd
          .effect({ host: 'h5', controlUri }, planned.queued())
          .map((effect) => ({ task: 1, title: '', ...effect }))
      )
      expect(code(poolCreate.check({ host: 'h5', pool: 'p', target: '/srv/p' }, state))).toBe('possible')
    }))

  test('that is one of ours under another name is refused', () =>
    withStage({}, async (stage) => {
      const error = errorIn(await stage.run(hostAdd, { host: 'h9', controlUri: stage.fleet.uris['h1'] ?? '' }))
      expect(error).toMatchObject({ code: 'host_exists', details: { uuid: stage.fleet.host('h1').uuid } })
      expect(stage.memory.facts('host/h9')).toBeNull()
    }))

  test('that cannot be reached is not added, and the address is named', () =>
    withStage({}, async (stage) => {
      const controlUri = 'qemu+unix:///system?socket=/nowhere/libvirt-sock'
      const error = errorIn(await stage.run(hostAdd, { host: 'h9', controlUri }))
      expect(error).toMatchObject({
        code: 'host_unreachable',
        step: 'connect',
        message: expect.stringContaining(controlUri)
      })
      expect(stage.memory.facts('host/h9')).toBeNull()
    }))

  test.each([
    ['qemu+tls://h1/system', 'qemu+tls://h1/system'],
    ['qemu+ssh://root@h1/system', 'qemu+ssh://root@h1/system'],
    ['qemu+unix:///system?socket=/run/a', null],
    ['qemu:///system', null],
    ['test:///default', null]
  ])('at %s is reached by its peers at %s', (controlUri, peerUri) => {
    expect(peerUriOf({ controlUri })).toBe(peerUri)
  })
})

test('a host is closed, opened, refreshed; twice is harmless', () =>
  withStage({}, async (stage) => {
    for (let round = 0; round < 2; round++) await stage.done(hostCordon, { host: 'h1', reason: 'new disks' })
    expect(stage.memory.facts('host/h1')).toMatchObject({ cordoned: true, cordonReason: 'new disks' })
    const verdict = vmCreate.check(
      { name: 'a', memoryMiB: 1, uuid: 'x', host: 'h1' },
      new Fleet().host('h1', { cordoned: true }).queued()
    )
    expect(code(verdict)).toBe('host_cordoned')
    for (let round = 0; round < 2; round++) await stage.done(hostUncordon, { host: 'h1' })
    expect(stage.memory.facts('host/h1')).toMatchObject({ cordoned: false })
    stage.memory.pools.clear()
    await stage.done(hostRefresh, { host: 'h1' })
    expect(stage.memory.facts('pool/h1/nfs1')).toMatchObject({ active: true })
    await stage.fleet.host('h1').server.stop()
    expect((await stage.run(hostRefresh, { host: 'h1' })).outcome).toMatchObject({ outcome: 'park', key: 'host/h1' })
  }))

test('a host with VMs is not removed unless they may be forgotten, and nothing on it is touched', () =>
  withStage({}, async (stage) => {
    const { uuid } = await stage.done(vmCreate, { name: 'web1', memoryMiB: 64, host: 'h1' })
    expect(errorIn(await stage.run(hostRemove, { host: 'h1' }))).toMatchObject({
      code: 'host_not_empty',
      message: expect.stringContaining('1 VMs')
    })
    const remove = stage.task(hostRemove, { host: 'h1', forget: true })
    expect((await remove.run()).outcome.outcome).toBe('complete')
    expect((await remove.run()).outcome.outcome).toBe('complete')
    expect([...stage.fleet.host('h1').domains.keys()]).toEqual([uuid])
  }))

test('claims: removing takes the host and its gate, closing only the gate, refreshing neither', () => {
  const state = new Fleet().host('h1').queued()
  const claimed = (claims: { resource: string; mode: string }[]) =>
    claims.map(({ resource, mode }) => `${mode} ${resource}`)
  expect(claimed(hostRemove.claims({ host: 'h1' }, state))).toEqual(['exclusive host/h1', 'exclusive host-gate/h1'])
  expect(claimed(hostCordon.claims({ host: 'h1', reason: 'x' }, state))).toEqual(['exclusive host-gate/h1'])
  expect(claimed(hostRefresh.claims({ host: 'h1' }, state))).toEqual(['exclusive host/h1/refresh'])
})

describe('host.check', () => {
  test('finds nothing fatal in a good host, and says what will matter', () =>
    withStage({}, async (stage) => {
      await stage.hosts.host('h1').stopPool('nfs1')
      const result = await stage.done(hostCheck, { host: 'h1', peer: 'h2' })
      expect(result).toMatchObject({ host: 'h1', uuid: stage.fleet.host('h1').uuid })
      expect(result['findings']).toEqual(
        expect.arrayContaining([expect.objectContaining({ level: 'warning', what: 'pool "nfs1" on h1 is not active' })])
      )
    }))

  test('says when a peer URI leads to another machine, or to none that can be seen from here', () =>
    withStage({}, async (stage) => {
      const known = (name: string) => stage.memory.hosts.get(name) ?? expect.fail(`no host ${name}`)
      stage.memory.hosts.set('h2', { ...known('h2'), peerUri: known('h1').controlUri })
      expect(errorIn(await stage.run(hostCheck, { host: 'h1', peer: 'h2' }))).toMatchObject({
        code: 'host_unfit',
        message: expect.stringMatching(/another machine \(.*\) answers at the peer URI of h2/)
      })
      stage.memory.hosts.set('h2', { ...known('h2'), peerUri: 'qemu+unix:///system?socket=/nowhere/libvirt-sock' })
      expect((await stage.done(hostCheck, { host: 'h1', peer: 'h2' }))['findings']).toEqual(
        expect.arrayContaining([
          expect.objectContaining({
            level: 'warning',
            what: expect.stringMatching(/peer URI of h2 .*cannot be reached/)
          })
        ])
      )
    }))

  test('says when another machine answers', () =>
    withStage({}, async (stage) => {
      const h1 = stage.memory.hosts.get('h1')
      if (h1) stage.memory.hosts.set('h1', { ...h1, uuid: 'another' })
      expect(errorIn(await stage.run(hostCheck, { host: 'h1' }))).toMatchObject({
        code: 'host_unfit',
        message: expect.stringContaining('another machine')
      })
    }))
})

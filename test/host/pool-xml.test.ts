// Pools of every type as XML: what each needs, and that equal sources read equal.
import { expect, test } from 'vitest'
import { poolProblem, poolXml, type PoolSpec } from '../../src/host/pool-xml.ts'
import { isSamePool } from '../../src/host/storage.ts'
import { readPoolXml } from '../../src/host/storage-xml.ts'

const spec = (type: PoolSpec['type'], more: Partial<PoolSpec> = {}): PoolSpec => ({
  name: 'p',
  type,
  target: null,
  ...more
})

test.each<[string, PoolSpec, string | undefined]>([
  ['a directory', spec('dir', { target: '/srv' }), undefined],
  ['a directory that is nowhere', spec('dir'), 'needs "target"'],
  ['a directory of a host', spec('dir', { target: '/srv', source: { hosts: ['nas'] } }), 'says nothing'],
  ['an export', spec('netfs', { target: '/mnt', source: { hosts: ['nas'], path: '/e' } }), undefined],
  ['an export of nobody', spec('netfs', { target: '/mnt', source: { path: '/e' } }), 'needs "source" with "hosts"'],
  ['an export of two', spec('netfs', { target: '/m', source: { hosts: ['a', 'b'], path: '/e' } }), 'has one of'],
  ['a volume group', spec('logical', { source: { name: 'vg0' } }), undefined],
  ['a volume group of nothing', spec('logical', { source: { name: 'vg0' }, build: true }), 'made of devices'],
  ['a cluster of two', spec('rbd', { source: { hosts: ['a', 'b'], name: 'vms' } }), undefined],
  ['a cluster that is built', spec('rbd', { source: { hosts: ['a'], name: 'vms' }, build: true }), 'nothing to build'],
  ['an iSCSI target', spec('iscsi', { source: { hosts: ['a'], devices: ['iqn.x'] } }), undefined]
])('%s', (_, given, problem) => {
  if (problem === undefined) expect(poolProblem(given)).toBeUndefined()
  else expect(poolProblem(given)).toContain(problem)
})

test('hosts with and without ports are written as libvirt has them', () => {
  const xml = poolXml(spec('rbd', { source: { hosts: ['mon1:6789', 'mon2', '[fd00::1]:6789'], name: 'a&b' } }))
  expect(xml).toContain('<host name="mon1" port="6789"/><host name="mon2"/><host name="fd00::1" port="6789"/>')
  expect(xml).toContain('<name>a&amp;b</name>')
})

test('two pools on one export are one store, whatever they are called and wherever they appear', () => {
  const source = { hosts: ['NAS'], path: '/export/' }
  const one = readPoolXml(poolXml({ name: 'a', type: 'netfs', target: '/mnt/a', source }))
  const two = readPoolXml(
    poolXml({ name: 'b', type: 'netfs', target: '/mnt/b', source: { hosts: ['nas'], path: '/export' } })
  )
  expect(one.source).toBe(two.source)
  expect(one.source).not.toBeNull()
})

test('a pool that is there is told from another one', () => {
  const asked = spec('netfs', { target: '/mnt', source: { hosts: ['nas'], path: '/e' } })
  const found = { ...readPoolXml(poolXml(asked)) }
  expect(isSamePool(found, asked)).toBe(true)
  expect(isSamePool(found, { ...asked, source: { hosts: ['nas2'], path: '/e' } })).toBe(false)
  expect(isSamePool(found, { ...asked, target: '/mnt2' })).toBe(false)
  expect(
    isSamePool(
      readPoolXml(poolXml(spec('logical', { source: { name: 'vg0' } }))),
      spec('logical', { source: { name: 'vg0' } })
    )
  ).toBe(true)
})

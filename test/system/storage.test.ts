// Storage and networks on real hosts: what libvirt accepts, what it does to bytes, and what a guest that virsh started behind our back
// on another host keeps from happening. What the command says is believed only where virsh on the hosts says so too.

import { createHash, randomBytes } from 'node:crypto'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { VolumeView } from '../../src/api/fleet.ts'
import { poolXml, type PoolSpec } from '../../src/host/pool-xml.ts'
import { describeWith } from '../harness/parts.ts'
import { bootImage } from './guest.ts'
import { startHosts, type Hosts } from './hosts.ts'
import { startTaskomatic, type Taskomatic } from './taskomatic.ts'

const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex')
const secret = '5d7a3c1e-0000-4000-8000-000000000001'

const specs: PoolSpec[] = [
  {
    name: 'nfs',
    type: 'netfs',
    target: '/mnt/nfs',
    source: { hosts: ['nas.example'], path: '/export/vms', format: 'nfs' }
  },
  { name: 'lvm', type: 'logical', target: null, source: { name: 'vg0', devices: ['/dev/sdx'] } },
  {
    name: 'san',
    type: 'iscsi',
    target: null,
    source: {
      hosts: ['san.example:3260'],
      devices: ['iqn.2013-06.example:vms'],
      auth: { username: 'tk', secret }
    }
  },
  {
    name: 'ceph',
    type: 'rbd',
    target: null,
    source: { hosts: ['mon1.example:6789', 'mon2.example'], name: 'vms', auth: { username: 'tk', secret } }
  },
  { name: 'disk', type: 'fs', target: '/mnt/disk', source: { devices: ['/dev/sdx1'], format: 'ext4' } }
]

describeWith('real hosts', 'storage and networks', () => {
  let hosts: Hosts
  let server: Taskomatic
  let data: string
  beforeAll(async () => {
    hosts = await startHosts({ count: 2 })
    server = await startTaskomatic()
    data = join(hosts.shared, 'data')
    for (const { name, uri } of hosts.all) await server.done('host', 'add', name, uri)
    await server.done('pool', 'create', 'data', '--host', 'h1,h2', '--target', data)
    await server.done('store', 'share', 'nfs1', 'data@h1', 'data@h2')
  }, 180_000)
  afterAll(async () => {
    await server?.stop()
    await hosts?.stop()
  }, 90_000)

  const volume = async (name: string): Promise<VolumeView | undefined> =>
    (await server.json<VolumeView[]>('volume', 'list', '--store', 'nfs1')).find((one) => one.name === name)

  test('a file becomes a volume, is read back, copied, and becomes the same file again', async () => {
    const bytes = Buffer.concat([randomBytes(3_000_001), Buffer.alloc(5_000_000), randomBytes(7)])
    const file = join(hosts.shared, 'up.img')
    await writeFile(file, bytes)
    await server.done('volume', 'upload', 'nfs1/up.img', file, '--verify')
    const kept = await readFile(join(data, 'up.img'))
    expect(sha256(kept.subarray(0, bytes.length))).toBe(sha256(bytes))
    expect(await hosts.virsh('h2', 'vol-list', 'data')).toContain('up.img')
    await server.done('volume', 'clone', 'nfs1/up.img', 'nfs1/copy.img')
    expect((await readFile(join(data, 'copy.img'))).equals(kept)).toBe(true)
    const down = join(hosts.shared, 'down.img')
    await fetched('nfs1/copy.img', down)
    expect((await readFile(down)).equals(kept)).toBe(true)
  })

  test('a qcow2 image is known as one, and what it is replaced by as well', async () => {
    const file = join(hosts.shared, 'made.qcow2')
    await server.done('volume', 'create', 'nfs1/made.qcow2', '--size', '64MiB')
    await fetched('nfs1/made.qcow2', file)
    await server.done('volume', 'upload', 'nfs1/sent.qcow2', file, '--verify')
    expect(await volume('sent.qcow2')).toMatchObject({ format: 'qcow2', capacityBytes: 64 * 1024 ** 2 })
    const boot = join(hosts.shared, 'boot.img')
    await writeFile(boot, bootImage())
    await server.done('volume', 'upload', 'nfs1/sent.qcow2', boot, '--replace')
    expect(await volume('sent.qcow2')).toMatchObject({ format: 'raw', capacityBytes: 1024 ** 2 })
  })

  test('what virsh started on another host keeps its disk, whatever is asked of this one', async () => {
    const boot = join(hosts.shared, 'guest.img')
    await writeFile(boot, bootImage())
    await server.done('volume', 'upload', 'nfs1/theirs.img', boot)
    const before = await readFile(join(data, 'theirs.img'))
    await server.done(
      'vm',
      'create',
      'theirs',
      '--memory',
      '64MiB',
      '--vcpus',
      '1',
      '--host',
      'h2',
      '--disk',
      'volume=nfs1/theirs.img,format=raw'
    )
    // Unknown to the queue, in the same moment or not: virsh has started it by the time that a task runs.
    await hosts.virsh('h2', 'start', 'theirs')
    for (const words of [
      ['volume', 'delete', 'nfs1/theirs.img', '--yes'],
      ['volume', 'resize', 'nfs1/theirs.img', '--size', '64MiB'],
      ['volume', 'upload', 'nfs1/theirs.img', boot, '--replace'],
      ['volume', 'clone', 'nfs1/theirs.img', 'nfs1/torn.img'],
      ['pool', 'stop', 'data@h1'],
      ['pool', 'delete', 'data@h1']
    ]) {
      const { exit, err } = await refused(...words)
      expect([3, 5], words.join(' ')).toContain(exit)
      expect(err, words.join(' ')).toContain('theirs')
    }
    expect(await hosts.virsh('h2', 'domstate', 'theirs')).toBe('running')
    expect(await hosts.virsh('h1', 'pool-info', 'data')).toMatch(/State:\s+running/)
    expect((await readFile(join(data, 'theirs.img'))).length).toBe(before.length)
    await hosts.virsh('h2', 'destroy', 'theirs')
  })

  test.each(specs)('a pool of type $type is what libvirt takes for one', async (spec) => {
    const file = join(hosts.shared, `${spec.name}.xml`)
    await writeFile(file, poolXml(spec))
    await hosts.virsh('h1', 'pool-define', '--validate', file)
    expect(await hosts.virsh('h1', 'pool-dumpxml', spec.name)).toContain(`<pool type='${spec.type}'>`)
    await hosts.virsh('h1', 'pool-undefine', spec.name)
  })

  test('a pool whose source is not there is refused, and not left defined', async () => {
    const words = ['--type', 'logical', '--source-name', 'no-such-group']
    const { exit, err } = await refused('pool', 'create', 'gone@h1', ...words)
    expect(exit, err).toBe(3)
    expect(await hosts.virsh('h1', 'pool-list', '--all', '--name')).not.toContain('gone')
  })

  test('a network on a bridge of the host is made, seen, stopped and deleted', async () => {
    await server.done('network', 'create', 'lan@h1', '--mode', 'bridge', '--bridge', 'br0')
    expect(await hosts.virsh('h1', 'net-list', '--all')).toMatch(/lan\s+active\s+yes\s+yes/)
    expect(await server.json('network', 'list')).toMatchObject([{ name: 'lan', host: 'h1', active: true }])
    await server.done('network', 'stop', 'lan@h1')
    expect(await hosts.virsh('h1', 'net-list', '--all')).toMatch(/lan\s+inactive/)
    await server.done('network', 'delete', 'lan@h1')
    expect(await hosts.virsh('h1', 'net-list', '--all', '--name')).not.toContain('lan')
  })

  async function fetched(name: string, file: string): Promise<void> {
    const { code, stderr } = await server.cli('volume', 'download', name, file)
    expect(code, stderr).toBe(0)
  }

  async function refused(...words: string[]): Promise<{ exit: number | null; err: string }> {
    const ending = await server.cli(...words, '--wait')
    return { exit: ending.code, err: ending.stderr + ending.stdout }
  }
})

// doctor and vm adopt: what is found in what the server shows, and what is asked of it.
import { expect, test } from 'vitest'
import type { HostView, PoolView, StoreView, VmView } from '../../src/api/fleet.ts'
import { adoptionReport, diagnose, type Fleet } from '../../src/cli/diagnose.ts'
import { fakeServer, run, type Asked } from './fake-server.ts'

const vmOf = (name: string, more: Partial<VmView> = {}): VmView => ({
  uuid: `uuid-of-${name}`,
  name,
  home: 'h1',
  activeOn: null,
  power: 'off',
  reason: 'shutdown',
  persistent: true,
  autostart: false,
  hasSavedImage: false,
  memoryMiB: 64,
  maxMemoryMiB: 64,
  vcpus: 1,
  disks: [disk('nfs1')],
  nics: [],
  snapshots: [],
  owner: 'plain',
  elsewhere: {},
  job: null,
  observedAt: null,
  ...more
})
const disk = (store: string | null): VmView['disks'][number] => ({
  target: 'vda', device: 'disk', kind: 'file', source: '/srv/a', format: 'raw', bus: 'virtio', readOnly: false,
  shareable: false, store, volume: 'a'
}) // prettier-ignore
const stores = [
  { name: 'nfs1', shared: true, type: 'dir', pools: {} },
  { name: 'h1/fast', shared: false, type: 'dir', pools: {} }
] as StoreView[]
const host = (name: string, more: Partial<HostView> = {}) =>
  ({
    name,
    connection: 'up',
    connectionReason: null,
    peerUri: 'x',
    cordoned: false,
    cordonReason: null,
    ...more
  }) as HostView
const pool = { host: 'h1', name: 'nfs1', active: true, capacityBytes: 100, availableBytes: 50 } as PoolView
const fleet = (more: Partial<Fleet>): Fleet => ({ hosts: [], vms: [], stores, pools: [], uncertain: [], ...more })
const found = (more: Partial<Fleet>) => diagnose(fleet(more)).map(({ level, about }) => `${level} ${about}`)

test('a sound fleet has no finding but what cannot be seen', () => {
  expect(found({ hosts: [host('h1')], vms: [vmOf('web1')], pools: [pool] })).toEqual(['note libvirt-guests'])
})

test.each<[string, Partial<Fleet>, string]>([
  ['autostart by the host of a VM on a shared disk', { vms: [vmOf('web1', { autostart: true })] }, 'error web1@h1'],
  ['a second active copy', { vms: [vmOf('web1', { elsewhere: { h2: 'active' } })] }, 'error web1@h1'],
  ['a UUID that is defined twice', { vms: [vmOf('web1', { elsewhere: { h2: 'defined' } })] }, 'warning web1@h1'],
  ['a stale saved image', { vms: [vmOf('web1', { hasSavedImage: true })] }, 'warning web1@h1'],
  ['a VM paused by a disk error', { vms: [vmOf('web1', { power: 'paused', reason: 'io error' })] }, 'warning web1@h1'],
  ['a name that two VMs have', { vms: [vmOf('web1'), vmOf('web1', { uuid: 'other', home: 'h2' })] }, 'note web1'],
  ['a host that is down', { hosts: [host('h1', { connection: 'down' })] }, 'warning h1'],
  ['a pool that is nearly full', { pools: [{ ...pool, availableBytes: 1 }] }, 'warning nfs1@h1'],
  ['VMs of another manager', { vms: [vmOf('web1', { owner: 'foreign' })] }, 'note 1 VMs']
])('finds %s', (_, more, finding) => {
  expect(found(more)).toContain(finding)
})

test('a saved image that fits and autostart of a VM on a local disk are sound', () => {
  const vms = [
    vmOf('web1', { hasSavedImage: true, restorable: true }),
    vmOf('db1', { autostart: true, disks: [disk('h1/fast')] })
  ]
  expect(found({ vms })).toEqual([])
})

test('the report of an adoption says what clashes and what cannot be', () => {
  const vms = [
    vmOf('web1', { autostart: true }),
    vmOf('web1', { uuid: 'other', home: 'h2' }),
    vmOf('twin', { elsewhere: { h2: 'defined' } }),
    vmOf('mine', { owner: 'ours' }),
    vmOf('far', { disks: [disk(null)] })
  ]
  expect(adoptionReport(vms, { vms, stores }).map(({ vm, obstacle, remarks }) => [vm.name, obstacle, remarks])).toEqual(
    [
      [
        'web1',
        null,
        [
          'its name is that of web1@h2 too',
          'its host starts it at boot although its disk is shared: `--clear-autostart`'
        ]
      ],
      ['web1', null, ['its name is that of web1@h1 too']],
      ['twin', 'its UUID is defined on h2 too', []],
      ['mine', 'ours already', []],
      ['far', null, ['disk vda (/srv/a) is in no pool']]
    ]
  )
})

async function asking(words: string[], vms: VmView[]) {
  const server = await fakeServer(({ path, method }: Asked) => {
    if (method === 'POST') return { status: 201, body: { plan: 3, tasks: [] } }
    const items = path === '/vms' ? vms : path === '/stores' ? stores : path === '/hosts' ? [host('h1')] : []
    return { body: { items, next: null } }
  })
  try {
    const ran = await run(words, { url: server.url })
    return { ...ran, bodies: server.asked.filter(({ method }) => method === 'POST').map(({ body }) => body) }
  } finally {
    await server.stop()
  }
}

const mixed = [
  vmOf('web1', { owner: 'foreign', autostart: true }),
  vmOf('mine', { owner: 'ours' }),
  vmOf('twin', { elsewhere: { h2: 'defined' } })
]

test('vm adopt --dry-run reports and asks for nothing', async () => {
  const { code, out, bodies } = await asking(['vm', 'adopt', '--all', '--dry-run'], mixed)
  expect({ code, bodies }).toEqual({ code: 0, bodies: [] })
  expect(out).toMatch(/web1.*yes.*--clear-autostart/)
  expect(out).toMatch(/twin.*no: its UUID is defined on h2 too/)
  expect(out).not.toContain('mine')
})

test('vm adopt --all adopts what can be, and says what cannot', async () => {
  const { err, bodies } = await asking(['vm', 'adopt', '--all', '--host', 'h1', '--clear-autostart'], mixed)
  expect(bodies).toMatchObject([
    { onFailure: 'continue', tasks: [{ action: 'vm.adopt', args: { vm: 'uuid-of-web1', clearAutostart: true } }] }
  ])
  expect(err).toContain('twin: not adopted, its UUID is defined on h2 too')
})

test('vm adopt wants to know what', async () => {
  expect(await asking(['vm', 'adopt'], mixed)).toMatchObject({ code: 2, bodies: [] })
})

test('doctor ends with 1 when something can cost data, and lists the worst first', async () => {
  const { code, out } = await asking(['doctor'], mixed)
  expect(code).toBe(1)
  expect(out.indexOf('error')).toBeLessThan(out.indexOf('warning'))
  expect((await asking(['doctor'], [vmOf('web1')])).code).toBe(0)
})

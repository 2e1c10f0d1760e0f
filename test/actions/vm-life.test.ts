// Creating, starting, stopping and deleting VMs: what is possible, what is claimed, what will be true.
import { describe, expect, test } from 'vitest'
import type { Verdict } from '../../src/actions/action.ts'
import { vmCreate } from '../../src/actions/vm-create.ts'
import { vmDelete } from '../../src/actions/vm-delete.ts'
import { vmStart } from '../../src/actions/vm-start.ts'
import { vmStop } from '../../src/actions/vm-stop.ts'
import type { VmFacts } from '../../src/inventory/facts.ts'
import type { Effect } from '../../src/queue/task.ts'
import { disk, Fleet, running, uuidOf } from './fleet.ts'

const code = (verdict: Verdict): string => (verdict.verdict === 'impossible' ? verdict.code : verdict.verdict)
const overlays = (effects: Effect[]) => effects.map((effect) => ({ task: 7, title: 'Task 7', ...effect }))
const web1 = { vm: uuidOf(1) }

describe('vm.start', () => {
  test.each<[string, Partial<VmFacts>, string]>([
    ['starts when off', {}, 'possible'],
    ['starts after a crash', { power: 'crashed' }, 'possible'],
    ['has nothing to do when running', running, 'nothing_to_do'],
    ['is refused when paused', { ...running, power: 'paused' }, 'vm_paused'],
    ['is refused while it shuts down', { ...running, power: 'stopping' }, 'vm_stopping'],
    ['is refused for another manager', { owner: 'foreign' }, 'vm_foreign'],
    ['is refused while a copy is active elsewhere', { elsewhere: { h2: 'active' } }, 'vm_active_elsewhere'],
    [
      'is not refused for a host that is merely silent: the run waits for it',
      { elsewhere: { h2: 'unknown' } },
      'possible'
    ],
    ['is refused with a saved image of unknown age', { hasSavedImage: true }, 'vm_has_saved_image'],
    ['is refused without a definition', { persistent: false }, 'vm_transient']
  ])('a VM %s', (_, facts, verdict) => {
    expect(code(vmStart.check(web1, new Fleet().host('h1').vm(1, facts).queued()))).toBe(verdict)
  })

  test('a saved image is thrown away when asked', () => {
    const state = new Fleet().host('h1').vm(1, { hasSavedImage: true }).queued()
    expect(code(vmStart.check({ ...web1, discardSaved: true }, state))).toBe('possible')
  })

  test('a cordoned host refuses new starts of what is tied to it, and lets queued ones wait', () => {
    const fleet = new Fleet()
      .host('h1', { cordoned: true, cordonReason: 'new disks' })
      .pool('h1', 'default')
      .vm(1, { disks: [disk('h1/default', 'web1.qcow2')] })
    expect(vmStart.check(web1, fleet.queued())).toMatchObject({
      code: 'host_cordoned',
      message: expect.stringContaining('new disks')
    })
    expect(code(vmStart.check(web1, fleet.starting('h1')))).toBe('possible')
  })

  test('claims the VM alone when queued, but the host and its pools only once it is bound; its stores and volumes both times', () => {
    const fleet = new Fleet()
      .host('h1')
      .pool('h1', 'images', { store: 'nfs1' })
      .vm(1, { disks: [disk('nfs1', 'web1.qcow2'), { ...disk('nfs1', 'x'), store: null, volume: null }] })
    const queued = [
      { resource: `vm/${uuidOf(1)}`, mode: 'exclusive' },
      { resource: 'store/nfs1', mode: 'shared' },
      { resource: 'volume/nfs1/web1.qcow2', mode: 'shared' }
    ]
    expect(vmStart.claims(web1, fleet.queued())).toEqual(queued)
    const starting = vmStart.claims(web1, fleet.starting('h1'))
    const bound = ['host/h1', 'pool/h1/images'].map((name) => ({ resource: name, mode: 'shared' }))
    expect(starting).toHaveLength(5)
    expect(starting).toEqual(expect.arrayContaining([...queued, ...bound]))
  })

  test('makes a later stop possible, and a second start nothing to do', () => {
    const fleet = new Fleet().host('h1').vm(1)
    const after = fleet.queued(...overlays(vmStart.effect(web1, fleet.queued())))
    expect(code(vmStart.check(web1, after))).toBe('nothing_to_do')
    expect(code(vmStop.check(web1, after))).toBe('possible')
    expect(after.vm(uuidOf(1))).toMatchObject({ power: 'running', activeOn: 'h1' })
  })

  test('runs where the VM is defined', () => {
    expect(vmStart.bindTo?.(web1, new Fleet().vm(1, { home: 'h3' }).starting(null))).toMatchObject({ host: 'h3' })
    expect(vmStart.bindTo?.(web1, new Fleet().starting(null))).toBeNull()
  })
})

describe('vm.stop', () => {
  test('has nothing to do when off, and goes to the host that it is active on', () => {
    expect(code(vmStop.check(web1, new Fleet().vm(1).queued()))).toBe('nothing_to_do')
    const fleet = new Fleet().vm(1, { ...running, activeOn: 'h2' })
    expect(code(vmStop.check(web1, fleet.queued()))).toBe('possible')
    expect(vmStop.bindTo?.(web1, fleet.starting(null))).toEqual({ host: 'h2' })
  })

  test('ends a VM without a definition altogether', () => {
    const fleet = new Fleet().vm(1, { ...running, persistent: false })
    expect(fleet.queued(...overlays(vmStop.effect(web1, fleet.queued()))).vm(uuidOf(1))).toBeUndefined()
  })
})

describe('vm.create', () => {
  const small = { name: 'web9', memoryMiB: 1024, uuid: uuidOf(9) }
  const fleet = () =>
    new Fleet().host('h1').host('h2').pool('h1', 'nfs1', { store: 'nfs1' }).pool('h1', 'default').vm(1)
  const blank = { store: 'nfs1', sizeMiB: 1024 }

  test('gets its UUID and MAC addresses once, at submission', () => {
    const mine = '52:54:00:00:00:09'
    const asked = { name: 'web9', memoryMiB: 64, nics: [{ network: 'lan' }, { network: 'lan', mac: mine }] }
    expect(vmCreate.freshMacs?.(asked)).toBe(1)
    const once = vmCreate.prepare?.(asked, { macs: ['52:54:00:00:00:01'] })
    expect(once?.uuid).toMatch(/^[0-9a-f-]{36}$/)
    expect(once?.nics?.map(({ mac }) => mac)).toEqual(['52:54:00:00:00:01', mine])
    expect(once && vmCreate.prepare?.(once, { macs: [] })).toEqual(once)
  })

  test('claims its name, its volumes exclusively and its stores, not yet a host', () => {
    const claims = vmCreate.claims(
      { ...small, disks: [blank, { ...blank, from: 'h1/default/debian.qcow2' }] },
      fleet().queued()
    )
    expect(claims).toEqual([
      { resource: `vm/${uuidOf(9)}`, mode: 'exclusive' },
      { resource: 'vm-name/web9', mode: 'exclusive' },
      { resource: 'store/h1/default', mode: 'shared' },
      { resource: 'store/nfs1', mode: 'shared' },
      { resource: 'volume/nfs1/web9.qcow2', mode: 'exclusive' },
      { resource: 'volume/nfs1/web9-1.qcow2', mode: 'exclusive' },
      { resource: 'volume/h1/default/debian.qcow2', mode: 'shared' }
    ])
  })

  test('is placed by size, stores and networks unless a host is named; an attempt that made it decided the host', () => {
    const args = { ...small, disks: [blank], nics: [{ network: 'lan' }, { bridge: 'br0' }] }
    expect(vmCreate.bindTo?.(args, fleet().starting(null))).toEqual({
      place: { vm: uuidOf(9), memoryMiB: 1024, vcpus: 1, stores: ['nfs1'], networks: ['lan'] }
    })
    expect(vmCreate.bindTo?.({ ...args, host: 'h2' }, fleet().starting(null))).toEqual({ host: 'h2' })
    expect(vmCreate.bindTo?.(args, fleet().vm(9, { home: 'h1' }).starting(null))).toEqual({ host: 'h1' })
  })

  test('what it will make can be started, stopped and deleted before it exists', () => {
    const args = { ...small, disks: [blank] }
    const effects = vmCreate.effect(args, fleet().queued())
    const after = fleet().queued(...overlays(effects))
    expect(after.vmsNamed('web9').map((vm) => vm.uuid)).toEqual([uuidOf(9)])
    expect(after.volume('nfs1', 'web9.qcow2')?.usedBy).toEqual([uuidOf(9)])
    expect(code(vmStart.check({ vm: uuidOf(9) }, after))).toBe('possible')
    expect(code(vmDelete.check({ vm: uuidOf(9), volumes: true }, after))).toBe('possible')
    const gone = fleet().queued(
      ...overlays(effects),
      ...overlays(vmDelete.effect({ vm: uuidOf(9), volumes: true }, after))
    )
    expect(gone.vm(uuidOf(9))).toBeUndefined()
    expect(gone.vmsNamed('web9')).toEqual([])
    expect(gone.volume('nfs1', 'web9.qcow2')).toBeUndefined()
  })

  const given = '<domain type="kvm"><name>x</name></domain>'
  test.each<[string, object, string]>([
    ['a name that is taken', { name: 'web1' }, 'name_taken'],
    ['a UUID that is taken', { uuid: uuidOf(1) }, 'uuid_taken'],
    ['neither memory nor XML', { memoryMiB: undefined }, 'missing_field'],
    ['a cordoned host', { host: 'h3' }, 'host_cordoned'],
    ['an unknown host', { host: 'h9' }, 'host_not_found'],
    ['more memory than the host has', { host: 'h1', memoryMiB: 99_999 }, 'does_not_fit'],
    ['an unknown store', { disks: [{ ...blank, store: 'nfs9' }] }, 'store_not_found'],
    ['a store that the host has not', { host: 'h2', disks: [blank] }, 'store_not_on_host'],
    ['a volume that exists', { disks: [{ ...blank, name: 'old.qcow2' }] }, 'volume_exists'],
    [
      'the same new volume twice',
      {
        disks: [
          { ...blank, name: 'a' },
          { ...blank, name: 'a' }
        ]
      },
      'volume_twice'
    ],
    ['a disk without a size', { disks: [{ store: 'nfs1' }] }, 'bad_disk'],
    ['a disk both new and existing', { disks: [{ ...blank, volume: 'nfs1/old.qcow2' }] }, 'bad_disk'],
    ['a drive without a volume', { disks: [{ cdrom: true }] }, 'bad_disk'],
    ["another VM's disk", { disks: [{ volume: 'nfs1/busy.qcow2' }] }, 'volume_in_use'],
    ['a copy of a disk that is written to', { disks: [{ store: 'nfs1', from: 'nfs1/live.qcow2' }] }, 'volume_in_use'],
    ['a copy smaller than its source', { disks: [{ store: 'nfs1', from: 'nfs1/old.qcow2', sizeMiB: 1 }] }, 'too_small'],
    ['a copy of nothing', { disks: [{ store: 'nfs1', from: 'nfs1/none.qcow2' }] }, 'volume_not_found'],
    ['a card on nothing', { nics: [{}] }, 'bad_nic'],
    ['a network that the host has not', { host: 'h1', nics: [{ network: 'lan' }] }, 'network_not_found'],
    ['XML and fields', { xml: given, host: 'h1' }, 'xml_and_fields'],
    ['XML without a host', { xml: given, memoryMiB: undefined }, 'xml_needs_host'],
    [
      'XML with a DOCTYPE',
      { xml: `<!DOCTYPE x [<!ENTITY a "b">]>${given}`, memoryMiB: undefined, host: 'h1' },
      'bad_xml'
    ],
    ['XML that is no VM', { xml: '<pool/>', memoryMiB: undefined, host: 'h1' }, 'bad_xml'],
    ['XML that is not well-formed', { xml: '<domain><a><b></a></domain>', memoryMiB: undefined, host: 'h1' }, 'bad_xml']
  ])('refuses %s', (_, more, verdict) => {
    const state = fleet()
      .host('h3', { cordoned: true, cordonReason: 'new disks' })
      .volume('nfs1', 'old.qcow2')
      .volume('nfs1', 'busy.qcow2', { usedBy: [uuidOf(1)] })
      .volume('nfs1', 'live.qcow2', { usedBy: [uuidOf(2)] })
      .vm(2, { ...running, disks: [disk('nfs1', 'live.qcow2')] })
      .queued()
    const args = Object.fromEntries(Object.entries({ ...small, ...more }).filter(([, value]) => value !== undefined))
    expect(code(vmCreate.check(args as typeof small, state))).toBe(verdict)
  })

  test('accepts a blank disk, a copy, an existing disk and a drive together', () => {
    const disks = [
      blank,
      { store: 'nfs1', from: 'nfs1/old.qcow2' },
      { volume: 'nfs1/free.qcow2' },
      { volume: 'nfs1/cd.iso', cdrom: true }
    ]
    const state = fleet()
      .volume('nfs1', 'old.qcow2')
      .volume('nfs1', 'free.qcow2')
      .volume('nfs1', 'cd.iso', { usedBy: [uuidOf(1)] })
    expect(code(vmCreate.check({ ...small, disks }, state.queued()))).toBe('possible')
    expect(code(vmCreate.check({ ...small, disks }, state.starting('h1')))).toBe('possible')
  })

  test('given XML says what the VM will be', () => {
    const xml = `<domain type="kvm"><memory unit="GiB">2</memory><vcpu>3</vcpu><devices>
      <disk type="file"><source file="/srv/a"/><target dev="vda"/></disk></devices></domain>`
    const [vm] = vmCreate.effect({ name: 'web9', uuid: uuidOf(9), host: 'h1', xml }, fleet().queued())
    expect(vm?.facts).toMatchObject({
      memoryMiB: 2048,
      vcpus: 3,
      home: 'h1',
      disks: [{ target: 'vda', source: '/srv/a' }]
    })
  })

  test('another attempt is not refused for what the first one made', () => {
    const state = fleet().vm(9, { name: 'web9' }).volume('nfs1', 'web9.qcow2').starting('h1')
    expect(code(vmCreate.check({ ...small, disks: [blank] }, state))).toBe('possible')
  })
})

describe('vm.delete', () => {
  const disks = [disk('nfs1', 'web1.qcow2'), disk('nfs1', 'cd.iso', { device: 'cdrom', readOnly: true })]

  test('refuses a running VM unless forced', () => {
    const state = new Fleet().vm(1, running).queued()
    expect(code(vmDelete.check(web1, state))).toBe('vm_running')
    expect(code(vmDelete.check({ ...web1, force: true }, state))).toBe('possible')
  })

  test('never deletes a disk that another VM has, nor an image in a drive', () => {
    const fleet = new Fleet()
      .vm(1, { disks })
      .vm(2)
      .volume('nfs1', 'web1.qcow2', { usedBy: [uuidOf(1), uuidOf(2)] })
    expect(code(vmDelete.check({ ...web1, volumes: true }, fleet.queued()))).toBe('volume_in_use')
    expect(code(vmDelete.check(web1, fleet.queued()))).toBe('possible')
    expect(vmDelete.claims({ ...web1, volumes: true }, fleet.queued()).map((claim) => claim.resource)).not.toContain(
      'volume/nfs1/cd.iso'
    )
  })

  test('without its volumes leaves them to nobody', () => {
    const fleet = new Fleet().vm(1, { disks }).volume('nfs1', 'web1.qcow2', { usedBy: [uuidOf(1)] })
    const after = fleet.queued(...overlays(vmDelete.effect(web1, fleet.queued())))
    expect(after.volume('nfs1', 'web1.qcow2')?.usedBy).toEqual([])
    expect(after.vm(uuidOf(1))).toBeUndefined()
  })

  test('claims every host that has it, once it starts', () => {
    const fleet = new Fleet().vm(1, { elsewhere: { h2: 'defined' } })
    const hosts = vmDelete
      .claims(web1, fleet.starting('h1'))
      .flatMap(({ resource }) => (resource.startsWith('host/') ? [resource] : []))
    expect(hosts).toEqual(['host/h1', 'host/h2'])
  })

  test('is done when another attempt finds nothing left', () => {
    expect(code(vmDelete.check(web1, new Fleet().starting('h1')))).toBe('nothing_to_do')
    expect(code(vmDelete.check(web1, new Fleet().queued()))).toBe('vm_not_found')
  })
})

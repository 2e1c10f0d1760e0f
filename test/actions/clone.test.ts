// Clones on simulated hosts: whole copies and linked ones, once however often the task runs, and never half of one.
import { expect, test } from 'vitest'
import { cloneXml } from '../../src/host/clone-xml.ts'
import { vmClone } from '../../src/actions/vm-clone.ts'
import { vmCreate } from '../../src/actions/vm-create.ts'
import { vmDelete } from '../../src/actions/vm-delete.ts'
import { vmDiskAdd } from '../../src/actions/vm-disk-add.ts'
import { vmSnapshotRevert } from '../../src/actions/vm-snapshot-revert.ts'
import { vmStart } from '../../src/actions/vm-start.ts'
import type { ProcedureName } from '../../src/libvirt/wire.gen.ts'
import { disk, Fleet, running, uuidOf } from './fleet.ts'
import { errorIn, textOf, withStage, type Stage } from './stage.ts'

async function golden(stage: Stage): Promise<string> {
  const disks = [
    { store: 'nfs1', sizeMiB: 8 },
    { store: 'nfs1', sizeMiB: 4, format: 'raw' }
  ]
  const nics = [{ bridge: 'br0' }, { bridge: 'br0' }]
  return textOf((await stage.done(vmCreate, { name: 'golden', memoryMiB: 64, host: 'h1', disks, nics }))['uuid'])
}

const volumes = async (stage: Stage) =>
  ((await stage.hosts.host('h1').pool('nfs1'))?.volumes ?? []).map(({ name }) => name).toSorted()

test('a whole clone has its own disks, addresses, UUID and name, and runs beside what it was made of', () =>
  withStage({}, async (stage) => {
    const vm = await golden(stage)
    const task = stage.task(vmClone, { vm, name: 'web1' })
    const { outcome } = await task.run()
    expect(outcome, JSON.stringify(outcome)).toMatchObject({
      outcome: 'complete',
      result: { name: 'web1', host: 'h1', volumes: ['nfs1/web1.qcow2', 'nfs1/web1-1.raw'] }
    })
    const made = await stage.hosts.host('h1').vmByName('web1')
    const original = await stage.hosts.host('h1').vm(vm)
    expect(made?.uuid).not.toBe(vm)
    expect(made?.disks.map(({ source }) => source)).toEqual(['/shared/web1.qcow2', '/shared/web1-1.raw'])
    const macs = [...(made?.nics ?? []), ...(original?.nics ?? [])].map(({ mac }) => mac)
    expect(new Set(macs).size).toBe(4)
    expect(made?.mark).toMatchObject({ task: task.id })
    expect(await volumes(stage)).toEqual(['golden-1.raw', 'golden.qcow2', 'web1-1.raw', 'web1.qcow2'])
    // Once, however often it runs.
    expect((await task.run()).outcome).toMatchObject({ outcome: 'complete' })
    expect(await task.probe()).toMatchObject({ happened: 'yes' })
    await stage.done(vmStart, { vm })
    await stage.done(vmStart, { vm: made?.uuid ?? '' })
    expect(stage.fleet.journal.twoWriters).toBe(0)
  }))

test('undone, a clone goes with its own disks, and what it was given since stays', () =>
  withStage({}, async (stage) => {
    const vm = await golden(stage)
    const task = stage.task(vmClone, { vm, name: 'web1' })
    const undo = vmClone.undo?.(task.args as never, stage.observed('h1'))
    const { outcome } = await task.run()
    expect(outcome.outcome).toBe('complete')
    const { uuid } = (await stage.hosts.host('h1').vmByName('web1'))!
    await stage.done(vmDiskAdd, { vm: uuid, store: 'nfs1', sizeMiB: 1, name: 'data.qcow2' })
    if (!undo || 'impossible' in undo) throw new Error('a clone can be undone')
    await stage.done(vmDelete, undo.args)
    expect(stage.memory.facts(`vm/${uuid}`)).toBeNull()
    expect(await volumes(stage)).toEqual(['data.qcow2', 'golden-1.raw', 'golden.qcow2'])
    expect(stage.memory.facts('volume/nfs1/data.qcow2')).toMatchObject({ usedBy: [] })
  }))

test('a linked clone lies over the VM, which is no longer written to, deleted or brought back by any task', () =>
  withStage({}, async (stage) => {
    const vm = await golden(stage)
    const { uuid } = await stage.done(vmClone, { vm, name: 'web1', linked: true })
    expect(await stage.hosts.host('h1').volume('nfs1', 'web1.qcow2')).toMatchObject({ backing: '/shared/golden.qcow2' })
    expect(await stage.hosts.host('h1').volume('nfs1', 'web1-1.qcow2')).toMatchObject({
      format: 'qcow2',
      backing: '/shared/golden-1.raw'
    })
    expect(errorIn(await stage.run(vmStart, { vm })).code).toBe('disk_is_base')
    expect(errorIn(await stage.run(vmDelete, { vm, volumes: true })).code).toBe('volume_in_use')
    await stage.done(vmStart, { vm: textOf(uuid) })
    expect(stage.fleet.journal.twoWriters).toBe(0)
    // Undone, what lies below is free again.
    await stage.done(vmDelete, { vm: textOf(uuid), volumes: true, force: true })
    expect(await volumes(stage)).toEqual(['golden-1.raw', 'golden.qcow2'])
    await stage.done(vmStart, { vm })
  }))

test.each<[ProcedureName, 'drop_after' | 'half_copy']>([
  ['STORAGE_VOL_CREATE_XML_FROM', 'half_copy'],
  ['STORAGE_VOL_CREATE_XML_FROM', 'drop_after'],
  ['DOMAIN_DEFINE_XML_FLAGS', 'drop_after']
])('%s that ends as %s is made anew or found, and no half copy is left', (on, kind) =>
  withStage({}, async (stage) => {
    const vm = await golden(stage)
    stage.fleet.host('h1').faults.add({ on, fault: { kind }, times: 1 })
    const task = stage.task(vmClone, { vm, name: 'web1' })
    let { outcome } = await task.run()
    for (let tries = 0; outcome.outcome === 'retry' && tries < 3; tries++) {
      await stage.reachable('h1')
      await stage.relist()
      ;({ outcome } = await task.run())
    }
    expect(outcome, JSON.stringify(outcome)).toMatchObject({ outcome: 'complete' })
    expect(await volumes(stage)).toEqual(['golden-1.raw', 'golden.qcow2', 'web1-1.raw', 'web1.qcow2'])
    const size = async (name: string) => (await stage.hosts.host('h1').volume('nfs1', name))?.allocationBytes
    expect(await size('web1.qcow2')).toBe(await size('golden.qcow2'))
  })
)

test('a refusal leaves nothing, and says why', () =>
  withStage({}, async (stage) => {
    const vm = await golden(stage)
    const fault = { kind: 'error', code: 'XML_ERROR', domain: 'DOMAIN', message: 'not like that' } as const
    stage.fleet.host('h1').faults.add({ on: 'DOMAIN_DEFINE_XML_FLAGS', fault, times: 1 })
    const error = errorIn(await stage.run(vmClone, { vm, name: 'web1' }))
    expect(error).toMatchObject({ step: 'define the clone', message: expect.stringContaining('not like that') })
    expect(await volumes(stage)).toEqual(['golden-1.raw', 'golden.qcow2'])
    // A volume of that name that somebody else made is not touched.
    await stage.hosts.host('h1').createVolume('nfs1', { name: 'web1-1.raw', format: 'raw', capacityBytes: 512 })
    expect(errorIn(await stage.run(vmClone, { vm, name: 'web1' })).code).toBe('volume_exists')
    expect(await volumes(stage)).toEqual(['golden-1.raw', 'golden.qcow2', 'web1-1.raw'])
  }))

test('whoever starts it behind our back while it is copied gets no torn clone', () =>
  withStage({}, async (stage) => {
    const vm = await golden(stage)
    const copy = { on: 'STORAGE_VOL_CREATE_XML_FROM', fault: { kind: 'delay', ms: 300 }, times: 1 } as const
    stage.fleet.host('h1').faults.add(copy)
    const ran = stage.run(vmClone, { vm, name: 'web1' })
    await expect.poll(() => volumes(stage)).toContainEqual(expect.stringContaining('web1.qcow2.task-'))
    await stage.hosts.host('h1').startVm(vm, { freshBoot: true, paused: false })
    expect(errorIn(await ran)).toMatchObject({ code: 'vm_running' })
    expect(await volumes(stage)).toEqual(['golden-1.raw', 'golden.qcow2'])
  }))

test('what is impossible is refused when it is asked for, and effects fold', () => {
  const fleet = (more: object = {}) =>
    new Fleet()
      .host('h1')
      .pool('h1', 'nfs1', { store: 'nfs1' })
      .volume('nfs1', 'a.qcow2')
      .vm(1, { disks: [disk('nfs1', 'a.qcow2')], ...more })
      .vm(2)
  const args = { vm: uuidOf(1), name: 'web9', uuid: uuidOf(9), macs: [] as string[] }
  const code = (verdict: object) => ('code' in verdict ? verdict.code : 'possible')
  const check = (more: object, given: object = {}) => code(vmClone.check({ ...args, ...given }, fleet(more).queued()))
  expect(check({})).toBe('possible')
  expect(check({ ...running })).toBe('vm_running')
  expect(check({ hasSavedImage: true })).toBe('vm_has_saved_image')
  expect(check({ owner: 'foreign' })).toBe('vm_foreign')
  expect(check({}, { name: 'web2' })).toBe('name_taken')
  expect(check({}, { uuid: uuidOf(2) })).toBe('uuid_taken')
  expect(check({}, { store: 'none' })).toBe('store_not_found')
  expect(check({ disks: [disk('nfs1', 'a.qcow2', { store: null, volume: null })] })).toBe('disk_in_no_pool')
  expect(check({ elsewhere: { h2: 'active' } })).toBe('vm_active_elsewhere')
  // After a linked clone that is only queued, the VM is refused a start already, and so is going back.
  const linked = { ...args, linked: true }
  const effects = vmClone.effect(linked, fleet().queued()).map((effect) => ({ task: 1, title: '', ...effect }))
  const after = fleet().queued(...effects)
  expect(code(vmStart.check({ vm: uuidOf(1) }, after))).toBe('disk_is_base')
  expect(code(vmStart.check({ vm: uuidOf(9) }, after))).toBe('possible')
  expect(after.vm(uuidOf(9))).toMatchObject({ name: 'web9', disks: [{ volume: 'web9.qcow2', store: 'nfs1' }] })
  expect(after.volume('nfs1', 'a.qcow2')?.usedBy).toContain(uuidOf(9))
  expect(code(vmSnapshotRevert.check({ vm: uuidOf(1), snapshot: 'x', before: 'y' }, after))).toBe('snapshot_not_found')
})

test('the definition of a clone keeps what it has and changes what it is', () => {
  const xml = `<domain type="kvm"><name>golden</name><uuid>u1</uuid><genid>g</genid>
    <os><type>hvm</type><nvram template="/t">/a/golden_VARS.fd</nvram></os>
    <sysinfo type="smbios"><system><entry name="uuid">u1</entry><entry name="serial">s</entry></system></sysinfo>
    <devices>
      <disk type="block" device="disk"><driver name="qemu" type="raw" cache="none"/><source dev="/dev/a"/>
        <backingStore/><target dev="vda" bus="virtio"/><serial>keep</serial></disk>
      <disk type="file" device="cdrom"><source file="/iso"/><target dev="sda"/></disk>
      <interface type="bridge"><mac address="52:54:00:00:00:01"/><source bridge="br0"/></interface>
    </devices></domain>`
  const cloned = cloneXml(xml, {
    uuid: 'u2',
    name: 'web & 1',
    disks: { vda: { path: '/b/web.qcow2', format: 'qcow2' } },
    macs: ['52:54:00:00:00:02'],
    variables: '/b/web_VARS.fd'
  })
  expect(cloned).toContain('<uuid>u2</uuid>')
  expect(cloned).toContain('<name>web &amp; 1</name>')
  expect(cloned).toContain('<entry name="uuid">u2</entry>')
  expect(cloned).toContain('<nvram template="/t">/b/web_VARS.fd</nvram>')
  expect(cloned).toContain('<driver name="qemu" type="qcow2" cache="none"/>')
  expect(cloned).toContain('<source file="/b/web.qcow2"/>')
  expect(cloned).toContain('<serial>keep</serial>')
  expect(cloned).toContain('<source file="/iso"/>')
  expect(cloned).toContain('52:54:00:00:00:02')
  for (const gone of ['/dev/a', 'backingStore', '52:54:00:00:00:01', '>g<']) expect(cloned).not.toContain(gone)
})

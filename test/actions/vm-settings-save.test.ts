// Saved images and starts elsewhere, on simulated hosts: a stale image is never restored, and a VM is never defined nowhere or twice.
import { describe, expect, test, vi } from 'vitest'
import { poolCreate } from '../../src/actions/pool-create.ts'
import { vmCreate } from '../../src/actions/vm-create.ts'
import { vmSave } from '../../src/actions/vm-save.ts'
import { vmSnapshotCreate } from '../../src/actions/vm-snapshot-create.ts'
import { vmSnapshotRevert } from '../../src/actions/vm-snapshot-revert.ts'
import { vmStart } from '../../src/actions/vm-start.ts'
import { vmStop } from '../../src/actions/vm-stop.ts'
import type { Overlay } from '../../src/inventory/fleet-state.ts'
import type { Effect } from '../../src/queue/task.ts'
import { disk, Fleet, uuidOf } from './fleet.ts'
import { errorIn, textOf, withStage, type Stage } from './stage.ts'

const onShared = { disks: [{ store: 'nfs1', sizeMiB: 8 }] }
const made = async (stage: Stage, name: string, more: object = onShared): Promise<string> =>
  textOf((await stage.done(vmCreate, { name, memoryMiB: 64, host: 'h1', ...more }))['uuid'])
const kinds = (stage: Stage, uuid: string) => stage.fleet.journal.entries({ subject: uuid }).map(({ kind }) => kind)
const homes = async (stage: Stage, uuid: string) => {
  const look = async (host: string) =>
    [
      host,
      await stage.hosts
        .host(host)
        .vm(uuid)
        .catch(() => undefined)
    ] as const
  const seen = await Promise.all([...stage.memory.hosts.keys()].map(look))
  return seen.flatMap(([host, vm]) => (vm ? [`${host}: ${vm.power}`] : []))
}

const overlays = (effects: readonly Effect[]): Overlay[] =>
  effects.map((effect) => ({ task: 7, title: 'a task', ...effect }))

describe('vm.save', () => {
  test('ends a VM with its memory kept, and the next start goes on from there', () =>
    withStage({}, async (stage) => {
      const uuid = await made(stage, 'web1')
      await stage.done(vmStart, { vm: uuid })
      const save = stage.task(vmSave, { vm: uuid })
      expect((await save.run()).outcome).toEqual({ outcome: 'complete', result: { host: 'h1' } })
      expect((await save.run()).outcome).toEqual({ outcome: 'complete', result: { host: 'h1' } })
      expect(stage.memory.facts(`vm/${uuid}`)).toMatchObject({ power: 'off', reason: 'saved', restorable: true })
      expect(await stage.done(vmStart, { vm: uuid })).toMatchObject({ power: 'running', restored: true })
      expect(kinds(stage, uuid).filter((kind) => kind === 'saved' || kind === 'restored')).toEqual([
        'saved',
        'restored'
      ])
      expect(stage.memory.facts(`vm/${uuid}`)).toMatchObject({
        power: 'running',
        reason: 'restored',
        restorable: false
      })
    }))

  test('whose reply is lost is recorded once the image is seen', () =>
    withStage({}, async (stage) => {
      const uuid = await made(stage, 'web1')
      await stage.done(vmStart, { vm: uuid })
      stage.fleet.host('h1').faults.add({ on: 'DOMAIN_MANAGED_SAVE', fault: { kind: 'drop_after' }, times: 1 })
      expect((await stage.run(vmSave, { vm: uuid })).outcome.outcome).toBe('complete')
      expect(await stage.done(vmStart, { vm: uuid })).toMatchObject({ restored: true })
    }))

  test('that is cancelled when the memory is written already is complete, and so is a start when the VM runs', () =>
    withStage({}, async (stage) => {
      const uuid = await made(stage, 'web1')
      const start = stage.task(vmStart, { vm: uuid })
      const started = await start.run({ onStep: (step) => step === 'wait until it runs' && start.cancel() })
      expect(started.outcome).toMatchObject({ outcome: 'complete', result: { power: 'running' } })
      const save = stage.task(vmSave, { vm: uuid })
      const { outcome } = await save.run({ onStep: (step) => step === 'wait until it is off' && save.cancel() })
      expect(outcome).toEqual({ outcome: 'complete', result: { host: 'h1' } })
      expect(stage.memory.facts(`vm/${uuid}`)).toMatchObject({ power: 'off', restorable: true })
    }))

  test('that stands behind a job of its VM is waited for before it is said that it did not happen', () =>
    withStage({}, async (stage) => {
      const uuid = await made(stage, 'web1')
      await stage.done(vmStart, { vm: uuid })
      const host = stage.hosts.host('h1')
      // What was sent comes to its turn before the next call does.
      vi.spyOn(host, 'settleVm').mockImplementationOnce((vm) => host.saveVm(vm))
      expect(await stage.task(vmSave, { vm: uuid }).probe()).toMatchObject({ happened: 'yes' })
      expect(await stage.done(vmStart, { vm: uuid })).toMatchObject({ restored: true })
    }))

  test('is undone by a start, and a start that restored by a save', () => {
    const saved = new Fleet().host('h1').vm(1, { hasSavedImage: true, restorable: true })
    expect(vmSave.undo?.({ vm: uuidOf(1) }, saved.queued())).toEqual({ action: 'vm.start', args: { vm: uuidOf(1) } })
    expect(vmStart.undo?.({ vm: uuidOf(1) }, saved.queued())).toMatchObject({ action: 'vm.save' })
    expect(vmStart.undo?.({ vm: uuidOf(1), discardSaved: true }, saved.queued())).toMatchObject({ action: 'vm.stop' })
  })
})

describe('a stale saved image', () => {
  test('of a VM that has run elsewhere since is not restored', () =>
    withStage({}, async (stage) => {
      const uuid = await made(stage, 'web1')
      await stage.done(vmStart, { vm: uuid })
      await stage.done(vmSave, { vm: uuid })
      // Behind our back: a second definition on h2, which runs and writes to the disk.
      const xml = await stage.hosts.host('h1').vmXml(uuid, { inactive: true, secure: true })
      await stage.hosts.host('h2').defineVm(xml)
      await stage.hosts.host('h2').startVm(uuid, { freshBoot: true, paused: false })
      await stage.observer.vm('h2', uuid)
      await stage.hosts.host('h2').powerOffVm(uuid)
      await stage.hosts.host('h2').undefineVm(uuid, { savedImage: false, snapshots: false, firmwareState: false })
      await stage.observer.vm('h2', uuid)
      expect((await stage.hosts.host('h1').vm(uuid))?.hasSavedImage).toBe(true)
      const refused = errorIn(await stage.run(vmStart, { vm: uuid }))
      expect(refused).toMatchObject({ code: 'vm_has_saved_image', next: expect.stringContaining('--discard-saved') })
      expect(await homes(stage, uuid)).toEqual(['h1: off'])
      expect(await stage.done(vmStart, { vm: uuid, discardSaved: true })).not.toHaveProperty('restored')
      expect(kinds(stage, uuid)).not.toContain('restored')
      expect((await stage.hosts.host('h1').vm(uuid))?.hasSavedImage).toBe(false)
    }))

  test('of a VM whose disks went back to a snapshot is not restored', () =>
    withStage({}, async (stage) => {
      const uuid = await made(stage, 'web1')
      await stage.done(vmSnapshotCreate, { vm: uuid, name: 'clean' })
      await stage.done(vmStart, { vm: uuid })
      await stage.done(vmSave, { vm: uuid })
      await stage.done(vmSnapshotRevert, { vm: uuid, snapshot: 'clean' })
      expect(stage.memory.facts(`vm/${uuid}`)).toMatchObject({ power: 'off', restorable: false })
    }))

  test('that appeared after the facts were loaded is found as the start runs', () =>
    withStage({}, async (stage) => {
      const uuid = await made(stage, 'web1')
      await stage.hosts.host('h1').startVm(uuid, { freshBoot: true, paused: false })
      await stage.hosts.host('h1').saveVm(uuid)
      expect(errorIn(await stage.run(vmStart, { vm: uuid }))).toMatchObject({
        code: 'vm_has_saved_image',
        step: 'look where the VM is'
      })
      expect((await stage.hosts.host('h1').vm(uuid))?.hasSavedImage).toBe(true)
    }))
})

describe('vm.start on another host', () => {
  test('moves the home: defined there, undefined here, once', () =>
    withStage({ hosts: 3 }, async (stage) => {
      const uuid = await made(stage, 'web1')
      const start = stage.task(vmStart, { vm: uuid, host: 'h2' })
      expect((await start.run()).outcome).toMatchObject({
        outcome: 'complete',
        result: { host: 'h2', movedFrom: 'h1' }
      })
      expect((await start.run()).outcome).toMatchObject({ result: { host: 'h2', alreadyRunning: true } })
      expect(await homes(stage, uuid)).toEqual(['h2: running'])
      expect(stage.memory.facts(`vm/${uuid}`)).toMatchObject({ home: 'h2', activeOn: 'h2', owner: 'ours' })
      await stage.done(vmStop, { vm: uuid, force: true, timeoutSeconds: 0 })
      await stage.done(vmStart, { vm: uuid })
      expect(await homes(stage, uuid)).toEqual(['h2: running'])
    }))

  test.each<[string, string, 'DOMAIN_DEFINE_XML_FLAGS' | 'DOMAIN_UNDEFINE_FLAGS' | 'DOMAIN_CREATE_WITH_FLAGS']>([
    ['its definition there', 'h2', 'DOMAIN_DEFINE_XML_FLAGS'],
    ['that it was undefined here', 'h1', 'DOMAIN_UNDEFINE_FLAGS'],
    ['its start', 'h2', 'DOMAIN_CREATE_WITH_FLAGS']
  ])('ends well although the answer to %s is lost, and never with two homes', (_, host, on) =>
    withStage({}, async (stage) => {
      const uuid = await made(stage, 'web1')
      stage.fleet.host(host).faults.add({ on, fault: { kind: 'drop_after' }, times: 1 })
      const start = stage.task(vmStart, { vm: uuid, host: 'h2' })
      let { outcome } = await start.run()
      for (let tries = 0; outcome.outcome === 'retry' && tries < 5; tries++) ({ outcome } = await start.run())
      expect(outcome.outcome).toBe('complete')
      expect(await homes(stage, uuid)).toEqual(['h2: running'])
    })
  )

  test('waits while its home is silent, and goes on once an operator says that it is off', () =>
    withStage({}, async (stage) => {
      const uuid = await made(stage, 'web1')
      const xml = await stage.hosts.host('h1').vmXml(uuid, { inactive: true, secure: true })
      await stage.fleet.host('h1').server.stop()
      expect((await stage.run(vmStart, { vm: uuid, host: 'h2' })).outcome).toMatchObject({
        outcome: 'park',
        key: 'host/h1'
      })
      stage.memory.confirmedOff.set('h1', 'its power supply burnt')
      expect(errorIn(await stage.run(vmStart, { vm: uuid, host: 'h2' }))).toMatchObject({ code: 'no_definition' })
      await stage.observer.keepDefinition(uuid, 'h1', xml)
      expect((await stage.run(vmStart, { vm: uuid, host: 'h2' })).outcome).toMatchObject({ outcome: 'complete' })
      expect(await homes(stage, uuid)).toEqual(['h2: running'])
    }))

  test('is refused when the disk is not there, although the pool is', () =>
    withStage({}, async (stage) => {
      const uuid = await made(stage, 'web1')
      stage.fleet.stores.get('nfs')?.files.clear()
      expect(errorIn(await stage.run(vmStart, { vm: uuid, host: 'h2' }))).toMatchObject({
        code: 'disk_not_there',
        message: expect.stringContaining('/shared/web1.qcow2')
      })
      expect(await homes(stage, uuid)).toEqual(['h1: off'])
    }))

  test('is refused for a disk that is on its home alone', () =>
    withStage({}, async (stage) => {
      await stage.done(poolCreate, { host: 'h1', pool: 'fast', target: '/fast' })
      const uuid = await made(stage, 'web1', { disks: [{ store: 'h1/fast', sizeMiB: 8 }] })
      expect(errorIn(await stage.run(vmStart, { vm: uuid, host: 'h2' }))).toMatchObject({
        code: 'disk_is_local',
        message: expect.stringContaining('on h1 alone')
      })
    }))

  const shared = { disks: [disk('nfs1', 'web1.qcow2')] }
  const fleet = (vm: object = {}) =>
    new Fleet()
      .host('h1')
      .host('h2')
      .pool('h1', 'nfs1', { store: 'nfs1' })
      .pool('h2', 'nfs1', { store: 'nfs1' })
      .vm(1, { ...shared, ...vm })
  const there = { vm: uuidOf(1), host: 'h2' }

  test.each<[string, object, string | undefined]>([
    ['nothing', {}, undefined],
    ['a saved image', { hasSavedImage: true, restorable: true }, 'vm_has_saved_image'],
    ['snapshots', { snapshots: [{ name: 'a', parent: null, current: true }] }, 'has_snapshots'],
    ['a device of the host', { pins: [{ kind: 'device', what: 'host pci device' }] }, 'vm_pinned'],
    ['the state of its TPM', { pins: [{ kind: 'tpm', what: 'the state of its TPM' }] }, 'vm_pinned'],
    ['firmware variables elsewhere', { pins: [{ kind: 'firmware', what: '/var/lib/x_VARS.fd' }] }, 'vm_pinned'],
    ['a definition there', { elsewhere: { h2: 'defined' } }, 'defined_on_target'],
    [
      'a card on a network that it lacks',
      { nics: [{ mac: '', kind: 'network', source: 'lan', model: null }] },
      'network_not_on_target'
    ]
  ])('a VM tied to its home by %s is refused with the reason', (_, vm, code) => {
    const verdict = vmStart.check(there, fleet(vm).queued())
    expect('code' in verdict ? verdict.code : undefined).toBe(code)
  })

  test('firmware variables beside a shared disk do not tie it', () => {
    const { source } = disk('nfs1', 'web1.qcow2')
    const what = `${source?.slice(0, source.lastIndexOf('/'))}/web1_VARS.fd`
    expect(vmStart.check(there, fleet({ pins: [{ kind: 'firmware', what }] }).queued()).verdict).toBe('possible')
  })

  test('a VM whose home is closed is placed, unless it is tied there', () => {
    const closed = fleet().host('h1', { cordoned: true, cordonReason: 'new disks' })
    expect(vmStart.check({ vm: uuidOf(1) }, closed.queued()).verdict).toBe('possible')
    expect(vmStart.bindTo?.({ vm: uuidOf(1) }, closed.starting(null))).toMatchObject({ place: { stores: ['nfs1'] } })
    const after = closed.queued(...overlays(vmStart.effect({ vm: uuidOf(1) }, closed.queued())))
    expect(after.vm(uuidOf(1))).toMatchObject({ power: 'running', home: '' })
    const tied = fleet({ snapshots: [{ name: 'a', parent: null, current: true }] }).host('h1', { cordoned: true })
    expect(vmStart.check({ vm: uuidOf(1) }, tied.queued())).toMatchObject({
      code: 'host_cordoned',
      message: expect.stringContaining('snapshots')
    })
    expect(vmStart.bindTo?.({ vm: uuidOf(1) }, tied.starting(null))).toMatchObject({ host: 'h1' })
  })

  test('while it runs elsewhere it is refused, naming the migration', () => {
    const running = fleet({ power: 'running', activeOn: 'h1' })
    expect(vmStart.check(there, running.queued())).toMatchObject({
      code: 'vm_active_elsewhere',
      next: expect.stringContaining('vm migrate --to h2')
    })
  })

  test('what is queued behind it finds it at its new home', () => {
    const state = fleet().queued()
    const after = fleet().queued(...overlays(vmStart.effect(there, state)))
    expect(after.vm(uuidOf(1))).toMatchObject({ home: 'h2', activeOn: 'h2' })
  })
})

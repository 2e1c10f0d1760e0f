// VMs on simulated hosts: each action does what it says, twice is harmless, and what cannot be known is not claimed.
import { describe, expect, test, vi } from 'vitest'
import { poolCreate } from '../../src/actions/pool-create.ts'
import { vmCreate } from '../../src/actions/vm-create.ts'
import { vmDelete } from '../../src/actions/vm-delete.ts'
import { vmPause } from '../../src/actions/vm-pause.ts'
import { vmReboot } from '../../src/actions/vm-reboot.ts'
import { vmResume } from '../../src/actions/vm-resume.ts'
import { vmStart } from '../../src/actions/vm-start.ts'
import { vmStop } from '../../src/actions/vm-stop.ts'
import { errorIn, textOf, withStage, type Stage } from './stage.ts'

const small = { memoryMiB: 64, disks: [{ store: 'nfs1', sizeMiB: 8 }] }

async function made(stage: Stage, name: string, more: object = {}): Promise<string> {
  const { uuid } = await stage.done(vmCreate, { name, ...small, ...more })
  return textOf(uuid)
}

const power = async (stage: Stage, host: string, uuid: string) => (await stage.hosts.host(host).vm(uuid))?.power
const files = (stage: Stage) => [...(stage.fleet.stores.get('nfs')?.files.keys() ?? [])].toSorted()

test('a VM is made, started, paused, resumed, rebooted, stopped and deleted with its disk', () =>
  withStage({}, async (stage) => {
    const uuid = await made(stage, 'web1')
    expect(files(stage)).toEqual(['/web1.qcow2'])
    expect(stage.memory.facts(`vm/${uuid}`)).toMatchObject({ name: 'web1', home: 'h1', owner: 'ours', power: 'off' })
    expect(await stage.done(vmStart, { vm: uuid })).toEqual({ host: 'h1', power: 'running', alreadyRunning: false })
    await stage.done(vmPause, { vm: uuid })
    expect(stage.memory.facts(`vm/${uuid}`)).toMatchObject({ power: 'paused', activeOn: 'h1' })
    await stage.done(vmResume, { vm: uuid })
    await stage.done(vmReboot, { vm: uuid })
    expect(stage.fleet.journal.entries({ kind: 'rebooted', subject: uuid })).toHaveLength(1)
    expect(await stage.done(vmStop, { vm: uuid })).toEqual({ host: 'h1', by: 'guest' })
    expect(await stage.done(vmDelete, { vm: uuid, volumes: true })).toMatchObject({ volumes: ['nfs1/web1.qcow2'] })
    expect(files(stage)).toEqual([])
    expect(stage.memory.kept).toMatchObject([{ uuid, host: 'h1', xml: expect.stringContaining('web1') }])
    expect(stage.memory.facts(`vm/${uuid}`)).toBeNull()
  }))

test('every step that is already done is not done again', () =>
  withStage({}, async (stage) => {
    const create = stage.task(vmCreate, { name: 'web1', ...small })
    const first = await create.run()
    expect((await create.run()).outcome).toEqual(first.outcome)
    const uuid = (create.args as { uuid: string }).uuid
    for (const of of [vmStart, vmPause, vmResume, vmStop, vmDelete]) {
      const task = stage.task(of, { vm: uuid })
      expect((await task.run()).outcome.outcome).toBe('complete')
      expect((await task.run()).outcome.outcome).toBe('complete')
    }
    const kinds = stage.fleet.journal.entries({ subject: uuid }).map(({ kind }) => kind)
    for (const kind of ['defined', 'started', 'undefined'] as const)
      expect(kinds.filter((each) => each === kind)).toHaveLength(1)
  }))

describe('vm.start', () => {
  test('with a missing disk fails with what libvirt said, the step and what to do', () =>
    withStage({}, async (stage) => {
      const uuid = await made(stage, 'web1')
      stage.fleet.stores.get('nfs')?.files.clear()
      const error = errorIn(await stage.run(vmStart, { vm: uuid }))
      expect(error).toMatchObject({
        code: 'libvirt_system_error',
        step: 'start',
        message: expect.stringContaining('/shared/web1.qcow2'),
        next: expect.stringContaining('paths'),
        details: { host: 'h1', libvirt: { code: 38 } }
      })
    }))

  test('whose reply is lost is complete once the host is seen to run it', () =>
    withStage({}, async (stage) => {
      const uuid = await made(stage, 'web1')
      stage.fleet.host('h1').faults.add({ on: 'DOMAIN_CREATE_WITH_FLAGS', fault: { kind: 'drop_after' }, times: 1 })
      const { outcome } = await stage.run(vmStart, { vm: uuid })
      expect(outcome).toMatchObject({ outcome: 'complete', result: { host: 'h1' } })
      expect(stage.fleet.journal.entries({ kind: 'started', subject: uuid })).toHaveLength(1)
    }))

  test('that was never done is tried again', () =>
    withStage({}, async (stage) => {
      const uuid = await made(stage, 'web1')
      stage.fleet.host('h1').faults.add({ on: 'DOMAIN_CREATE_WITH_FLAGS', fault: { kind: 'drop_before' }, times: 1 })
      const start = stage.task(vmStart, { vm: uuid })
      expect((await start.run()).outcome).toMatchObject({
        outcome: 'retry',
        error: { code: 'host_unknown_outcome', step: 'start' }
      })
      expect((await start.run()).outcome.outcome).toBe('complete')
    }))

  test('whose host goes silent while it is probed is not known: what was sent may still be done', () =>
    withStage({}, async (stage) => {
      const uuid = await made(stage, 'web1')
      const start = stage.task(vmStart, { vm: uuid })
      expect(await start.probe()).toMatchObject({ happened: 'no' })
      const host = stage.hosts.host('h1')
      vi.spyOn(host, 'settleVm').mockImplementationOnce(() => stage.fleet.host('h1').server.stop())
      expect(await start.probe()).toMatchObject({ happened: 'unknown', why: expect.stringContaining('h1') })
    }))

  test('waits while another host that may run the VM is silent, and never starts a second copy', () =>
    withStage({}, async (stage) => {
      const uuid = await made(stage, 'web1')
      await stage.observer.bindWhereabouts(uuid, 'h2')
      await stage.fleet.host('h2').server.stop()
      const { outcome } = await stage.run(vmStart, { vm: uuid })
      expect(outcome).toMatchObject({
        outcome: 'park',
        key: 'host/h2',
        reason: expect.stringContaining('web1 runs on h2')
      })
      expect(await power(stage, 'h1', uuid)).toBe('off')
      await stage.fleet.host('h2').server.start()
      await expect.poll(async () => (await stage.run(vmStart, { vm: uuid })).outcome.outcome).toBe('complete')
    }))

  test('does not mind a silent host that is known not to have it', () =>
    withStage({}, async (stage) => {
      const uuid = await made(stage, 'web1')
      await stage.observer.vm('h2', uuid)
      await stage.fleet.host('h2').server.stop()
      expect((await stage.run(vmStart, { vm: uuid })).outcome.outcome).toBe('complete')
    }))

  test('is refused while the VM runs elsewhere behind our back', () =>
    withStage({}, async (stage) => {
      const uuid = await made(stage, 'web1', { disks: [] })
      const xml = await stage.hosts.host('h1').vmXml(uuid, { inactive: true, secure: true })
      await stage.hosts.host('h2').defineVm(xml)
      await stage.hosts.host('h2').startVm(uuid, { freshBoot: true, paused: false })
      await stage.observer.bindWhereabouts(uuid, 'h2')
      expect(errorIn(await stage.run(vmStart, { vm: uuid }))).toMatchObject({
        code: 'vm_active_elsewhere',
        details: { activeOn: 'h2' }
      })
      expect(await power(stage, 'h1', uuid)).toBe('off')
    }))

  test('waits for a host that is down, and for one that was closed', () =>
    withStage({}, async (stage) => {
      await stage.done(poolCreate, { host: 'h1', pool: 'fast', target: '/fast' })
      const uuid = await made(stage, 'web1', { disks: [{ store: 'h1/fast', sizeMiB: 8 }] })
      stage.memory.cordons.set('h1', 'new disks')
      expect((await stage.run(vmStart, { vm: uuid })).outcome).toMatchObject({ outcome: 'park', key: 'host-gate/h1' })
      stage.memory.cordons.clear()
      await stage.fleet.host('h1').server.stop()
      expect((await stage.run(vmStart, { vm: uuid })).outcome).toMatchObject({ outcome: 'park', key: 'host/h1' })
    }))
})

describe('vm.stop', () => {
  const stubborn = (stage: Stage, uuid: string) => {
    const domain = stage.fleet.host('h1').domains.get(uuid)
    if (domain) domain.guest.obeysShutdown = false
  }

  test('a guest that does not listen fails in time, and goes by force where asked', () =>
    withStage({}, async (stage) => {
      const uuid = await made(stage, 'web1')
      await stage.done(vmStart, { vm: uuid })
      stubborn(stage, uuid)
      expect(errorIn(await stage.run(vmStop, { vm: uuid, timeoutSeconds: 1 }))).toMatchObject({
        code: 'vm_still_running',
        next: expect.stringContaining('--force')
      })
      expect(await power(stage, 'h1', uuid)).toBe('running')
      expect(await stage.done(vmStop, { vm: uuid, timeoutSeconds: 1, force: true })).toEqual({
        host: 'h1',
        by: 'force'
      })
      expect(await power(stage, 'h1', uuid)).toBe('off')
    }))

  test('a paused guest is resumed to hear it', () =>
    withStage({}, async (stage) => {
      const uuid = await made(stage, 'web1')
      await stage.done(vmStart, { vm: uuid })
      await stage.done(vmPause, { vm: uuid })
      expect(await stage.done(vmStop, { vm: uuid })).toEqual({ host: 'h1', by: 'guest' })
    }))

  test('cancelled while it waits leaves the guest as it is, and says so', () =>
    withStage({}, async (stage) => {
      const uuid = await made(stage, 'web1')
      await stage.done(vmStart, { vm: uuid })
      stubborn(stage, uuid)
      const stop = stage.task(vmStop, { vm: uuid, timeoutSeconds: 60 })
      const ran = stop.run()
      setTimeout(() => stop.cancel(), 50)
      expect((await ran).outcome).toMatchObject({ outcome: 'cancelled', error: { code: 'cancelled' } })
    }))

  test('whose reply is lost is told by a look', () =>
    withStage({}, async (stage) => {
      const uuid = await made(stage, 'web1')
      await stage.done(vmStart, { vm: uuid })
      stage.fleet.host('h1').faults.add({ on: 'DOMAIN_DESTROY_FLAGS', fault: { kind: 'drop_after' }, times: 1 })
      expect((await stage.run(vmStop, { vm: uuid, timeoutSeconds: 0, force: true })).outcome.outcome).toBe('complete')
    }))
})

describe('vm.create', () => {
  test('a copy whose reply was lost is not trusted: it is deleted and made again', () =>
    withStage({}, async (stage) => {
      stage.fleet.stores.get('nfs')?.create('/image.qcow2', { format: 'qcow2', capacityBytes: 8n * 1024n ** 2n })
      await stage.hosts.host('h1').refreshPool('nfs1')
      await stage.relist()
      stage.fleet.host('h1').faults.add({ on: 'STORAGE_VOL_CREATE_XML_FROM', fault: { kind: 'half_copy' }, times: 1 })
      const create = stage.task(vmCreate, {
        name: 'web1',
        memoryMiB: 64,
        host: 'h1',
        disks: [{ store: 'nfs1', from: 'nfs1/image.qcow2' }]
      })
      expect((await create.run()).outcome).toMatchObject({ outcome: 'retry' })
      expect(stage.fleet.stores.get('nfs')?.files.get('/web1.qcow2')?.partial).toBe(true)
      await stage.relist()
      expect((await create.run()).outcome.outcome).toBe('complete')
      expect(stage.fleet.stores.get('nfs')?.files.get('/web1.qcow2')?.partial).toBe(false)
      expect(files(stage)).toEqual(['/image.qcow2', '/web1.qcow2'])
    }))

  test("somebody else's volume of that name is left alone", () =>
    withStage({}, async (stage) => {
      stage.fleet.stores.get('nfs')?.create('/web1.qcow2', { format: 'qcow2', capacityBytes: 5n })
      expect(errorIn(await stage.run(vmCreate, { name: 'web1', host: 'h1', ...small })).code).toMatch(
        /volume_exists|libvirt_storage_vol_exist/
      )
      expect(stage.fleet.stores.get('nfs')?.files.get('/web1.qcow2')?.capacityBytes).toBe(5n)
    }))

  test('a definition that the host refuses leaves nothing behind', () =>
    withStage({}, async (stage) => {
      stage.fleet.host('h1').faults.add({
        on: 'DOMAIN_DEFINE_XML_FLAGS',
        fault: { kind: 'error', code: 'XML_INVALID_SCHEMA', domain: 'XML', message: 'no' },
        times: 1
      })
      expect(errorIn(await stage.run(vmCreate, { name: 'web1', host: 'h1', ...small }))).toMatchObject({
        code: 'libvirt_xml_invalid_schema',
        step: 'define the VM'
      })
      expect(files(stage)).toEqual([])
      expect(stage.memory.facts('volume/nfs1/web1.qcow2')).toBeNull()
    }))

  test('an attempt that was cut off anywhere is carried on by the next one, with one VM and its volumes in the end', () =>
    withStage({}, async (stage) => {
      for (const [at, on] of (
        ['STORAGE_VOL_CREATE_XML', 'DOMAIN_DEFINE_XML_FLAGS', 'STORAGE_VOL_DELETE'] as const
      ).entries()) {
        for (const kind of ['drop_before', 'drop_after'] as const) {
          const name = `web${at}-${kind === 'drop_after' ? 'after' : 'before'}`
          stage.fleet.host('h1').faults.add({ on, fault: { kind }, times: 1 })
          const create = stage.task(vmCreate, { name, host: 'h1', ...small })
          await create.run()
          await stage.reachable('h1')
          await stage.relist()
          const { outcome } = await create.run()
          expect(outcome, `${kind} ${on}`).toMatchObject({ outcome: 'complete', result: { host: 'h1' } })
          expect(files(stage).filter((file) => file.startsWith(`/${name}`))).toEqual([`/${name}.qcow2`])
          expect(stage.fleet.journal.entries({ kind: 'defined', name }).length).toBeLessThanOrEqual(2)
        }
      }
    }))

  test('from given XML carries our mark and the name that was asked for', () =>
    withStage({}, async (stage) => {
      const xml = `<domain type='qemu'><name>other</name><memory unit='MiB'>64</memory><os><type arch='x86_64'>hvm</type></os></domain>`
      const { uuid } = await stage.done(vmCreate, { name: 'web1', host: 'h2', xml })
      expect(await stage.hosts.host('h2').vm(textOf(uuid))).toMatchObject({
        name: 'web1',
        memoryMiB: 64,
        mark: { instance: expect.any(String) }
      })
    }))

  test('a name that the host has is refused there, too', () =>
    withStage({}, async (stage) => {
      await made(stage, 'web1')
      stage.memory.whereabouts.clear()
      expect(errorIn(await stage.run(vmCreate, { name: 'web1', host: 'h1', memoryMiB: 64 }))).toMatchObject({
        code: 'name_taken'
      })
    }))
})

describe('vm.delete', () => {
  test('removes it from every host that has it, and waits for one that is silent', () =>
    withStage({}, async (stage) => {
      const uuid = await made(stage, 'web1')
      const xml = await stage.hosts.host('h1').vmXml(uuid, { inactive: true, secure: true })
      await stage.hosts.host('h2').defineVm(xml)
      await stage.relist()
      await stage.fleet.host('h2').server.stop()
      const remove = stage.task(vmDelete, { vm: uuid, volumes: true })
      expect((await remove.run()).outcome).toMatchObject({ outcome: 'park', key: 'host/h2' })
      expect(files(stage)).toEqual(['/web1.qcow2'])
      await stage.fleet.host('h2').server.start()
      await expect.poll(async () => (await remove.run()).outcome.outcome).toBe('complete')
      expect(await stage.hosts.host('h1').vm(uuid)).toBeUndefined()
      expect(await stage.hosts.host('h2').vm(uuid)).toBeUndefined()
      expect(files(stage)).toEqual([])
    }))

  test('a running one goes by force only, and its lost reply is told by a look', () =>
    withStage({}, async (stage) => {
      const uuid = await made(stage, 'web1')
      await stage.done(vmStart, { vm: uuid })
      expect(errorIn(await stage.run(vmDelete, { vm: uuid }))).toMatchObject({ code: 'vm_running' })
      stage.fleet.host('h1').faults.add({ on: 'DOMAIN_UNDEFINE_FLAGS', fault: { kind: 'drop_after' }, times: 1 })
      const remove = stage.task(vmDelete, { vm: uuid, force: true, volumes: true })
      expect((await remove.run()).outcome.outcome).toBe('complete')
      expect(files(stage)).toEqual([])
    }))

  test('keeps an image that its disk lies over', () =>
    withStage({}, async (stage) => {
      const store = stage.fleet.stores.get('nfs')
      store?.create('/image.qcow2', { format: 'qcow2', capacityBytes: 8n })
      store?.create('/web1.qcow2', {
        format: 'qcow2',
        capacityBytes: 8n,
        backing: { path: '/shared/image.qcow2', format: 'qcow2' }
      })
      await stage.hosts.host('h1').refreshPool('nfs1')
      await stage.relist()
      const uuid = await made(stage, 'web1', { disks: [{ volume: 'nfs1/web1.qcow2' }], host: 'h1' })
      expect(await stage.done(vmDelete, { vm: uuid, volumes: true })).toMatchObject({
        volumes: ['nfs1/web1.qcow2'],
        kept: ['/shared/image.qcow2']
      })
      expect(files(stage)).toEqual(['/image.qcow2'])
    }))
})

describe('vm.reboot', () => {
  test('that is not seen in time fails, and one whose reply is lost is uncertain: it is not sent twice', () =>
    withStage({}, async (stage) => {
      const uuid = await made(stage, 'web1')
      await stage.done(vmStart, { vm: uuid })
      stage.fleet.host('h1').faults.add({ on: 'DOMAIN_REBOOT', fault: { kind: 'drop_after' }, times: 1 })
      expect((await stage.run(vmReboot, { vm: uuid })).outcome).toMatchObject({ outcome: 'uncertain' })
      stage.fleet.host('h1').faults.loseEvents(1, 'DOMAIN_EVENT_CALLBACK_REBOOT')
      expect(errorIn(await stage.run(vmReboot, { vm: uuid, timeoutSeconds: 1 }))).toMatchObject({
        code: 'reboot_not_seen'
      })
    }))
})

// Adoption on simulated hosts: our mark beside the other manager's metadata, once, and taken away again.
import { expect, test } from 'vitest'
import { vmAdopt } from '../../src/actions/vm-adopt.ts'
import { vmStart } from '../../src/actions/vm-start.ts'
import { Fleet, uuidOf } from './fleet.ts'
import { errorIn, withStage, type Stage } from './stage.ts'

const foreign = `<domain type='qemu'><name>theirs</name><metadata><o:vm xmlns:o="http://other.example/1"/></metadata>
  <memory unit='MiB'>64</memory><vcpu>1</vcpu><os><type arch='x86_64'>hvm</type></os></domain>`

async function theirs(stage: Stage): Promise<string> {
  const { uuid } = await stage.hosts.host('h1').defineVm(foreign)
  await stage.relist()
  return uuid
}

test("another manager's VM is read-only until it is adopted, and again once it is released", () =>
  withStage({}, async (stage) => {
    const uuid = await theirs(stage)
    expect(errorIn(await stage.run(vmStart, { vm: uuid }))).toMatchObject({ code: 'vm_foreign' })
    const adopt = stage.task(vmAdopt, { vm: uuid })
    expect((await adopt.run()).outcome.outcome).toBe('complete')
    expect((await adopt.run()).outcome.outcome).toBe('complete')
    const seen = await stage.hosts.host('h1').vm(uuid)
    expect(seen).toMatchObject({ mark: { task: adopt.id }, foreignMetadata: ['http://other.example/1'] })
    await stage.done(vmStart, { vm: uuid })
    await stage.done(vmAdopt, { vm: uuid, release: true })
    expect(await stage.hosts.host('h1').vm(uuid)).toMatchObject({
      mark: null,
      foreignMetadata: ['http://other.example/1']
    })
    expect(errorIn(await stage.run(vmStart, { vm: uuid }))).toMatchObject({ code: 'vm_foreign' })
  }))

test("the host's own autostart is taken away only where that was agreed", () =>
  withStage({}, async (stage) => {
    const uuid = await theirs(stage)
    await stage.hosts.host('h1').setAutostart(uuid, true)
    await stage.observer.vm('h1', uuid)
    await stage.done(vmAdopt, { vm: uuid })
    expect(await stage.hosts.host('h1').vm(uuid)).toMatchObject({ autostart: true })
    await stage.done(vmAdopt, { vm: uuid, clearAutostart: true })
    expect(await stage.hosts.host('h1').vm(uuid)).toMatchObject({ autostart: false })
  }))

test('an adoption whose answer is lost is complete once the mark is seen', () =>
  withStage({}, async (stage) => {
    const uuid = await theirs(stage)
    stage.fleet.host('h1').faults.add({ on: 'DOMAIN_SET_METADATA', fault: { kind: 'drop_after' }, times: 1 })
    expect((await stage.run(vmAdopt, { vm: uuid })).outcome.outcome).toBe('complete')
  }))

test('a VM that is defined twice is not adopted, and what is queued behind an adoption may use it', () => {
  const args = { vm: uuidOf(1) }
  const twice = new Fleet().host('h1').vm(1, { owner: 'foreign', elsewhere: { h2: 'defined' } })
  expect(vmAdopt.check(args, twice.queued())).toMatchObject({ code: 'defined_twice' })
  const fleet = new Fleet().host('h1').vm(1, { owner: 'foreign' })
  const effects = vmAdopt.effect(args, fleet.queued()).map((effect) => ({ task: 7, title: 'x', ...effect }))
  expect(vmStart.check(args, fleet.queued(...effects)).verdict).toBe('possible')
  expect(vmAdopt.undo?.(args, fleet.queued())).toEqual({ action: 'vm.adopt', args: { ...args, release: true } })
  const ours = new Fleet().host('h1').vm(1, { autostart: true }).queued()
  expect(vmAdopt.undo?.({ ...args, clearAutostart: true }, ours)).toEqual({ impossible: 'it was ours before' })
  expect(vmAdopt.undo?.({ ...args, release: true }, ours)).toEqual({
    action: 'vm.adopt',
    args: { ...args, release: false }
  })
})

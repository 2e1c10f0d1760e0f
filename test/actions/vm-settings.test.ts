// What is set on a VM, on simulated hosts: done, seen on the host, harmless when repeated, undone by its inverse.
import { describe, expect, test } from 'vitest'
import type { Action } from '../../src/actions/action.ts'
import { vmCreate } from '../../src/actions/vm-create.ts'
import { vmRename } from '../../src/actions/vm-rename.ts'
import { vmReset } from '../../src/actions/vm-reset.ts'
import { vmSet } from '../../src/actions/vm-set.ts'
import { vmStart } from '../../src/actions/vm-start.ts'
import { Fleet, uuidOf } from './fleet.ts'
import { errorIn, textOf, withStage, type Stage } from './stage.ts'

const made = async (stage: Stage, name: string, more: object = {}): Promise<string> =>
  textOf((await stage.done(vmCreate, { name, memoryMiB: 64, host: 'h1', ...more }))['uuid'])

/** The inverse as it would be written down before the task runs. */
const undoOf = (stage: Stage, action: Action, args: object) => {
  const undo = action.undo?.(args as never, stage.observed(null))
  if (!undo || 'impossible' in undo) throw new Error(`there is no undo: ${JSON.stringify(undo)}`)
  return undo
}

describe('vm.reset', () => {
  test('is complete once the host tells of the reboot', () =>
    withStage({}, async (stage) => {
      const uuid = await made(stage, 'web1')
      await stage.done(vmStart, { vm: uuid })
      expect(await stage.done(vmReset, { vm: uuid })).toEqual({ host: 'h1' })
      expect(stage.fleet.journal.entries({ kind: 'rebooted', subject: uuid })).toHaveLength(1)
    }))

  test('whose reply is lost is not sent again: nobody knows', () =>
    withStage({}, async (stage) => {
      const uuid = await made(stage, 'web1')
      await stage.done(vmStart, { vm: uuid })
      stage.fleet.host('h1').faults.add({ on: 'DOMAIN_RESET', fault: { kind: 'drop_after' }, times: 1 })
      const { outcome } = await stage.run(vmReset, { vm: uuid })
      expect(outcome).toMatchObject({ outcome: 'uncertain', error: { code: 'host_unknown_outcome', step: 'reset' } })
      expect(stage.fleet.journal.entries({ kind: 'rebooted', subject: uuid })).toHaveLength(1)
    }))

  test('of a VM that is off is refused', () =>
    withStage({}, async (stage) => {
      const uuid = await made(stage, 'web1')
      expect(errorIn(await stage.run(vmReset, { vm: uuid }))).toMatchObject({ code: 'vm_not_running' })
    }))
})

describe('vm.rename', () => {
  test('gives a VM another name, once, and its undo the old one', () =>
    withStage({}, async (stage) => {
      const uuid = await made(stage, 'web1')
      const args = { vm: uuid, name: 'web2' }
      const undo = undoOf(stage, vmRename, args)
      const task = stage.task(vmRename, args)
      expect((await task.run()).outcome).toEqual({ outcome: 'complete', result: { host: 'h1', name: 'web2' } })
      expect((await task.run()).outcome.outcome).toBe('complete')
      expect((await stage.hosts.host('h1').vm(uuid))?.name).toBe('web2')
      expect(stage.memory.facts('vm-name/web1')).toBeNull()
      await stage.done(vmRename, undo.args)
      expect((await stage.hosts.host('h1').vm(uuid))?.name).toBe('web1')
      const renamed = stage.fleet.journal.entries({ subject: uuid }).filter(({ detail }) => detail === 'renamed')
      expect(renamed).toHaveLength(2)
    }))

  test('whose reply is lost is complete once the host shows the name', () =>
    withStage({}, async (stage) => {
      const uuid = await made(stage, 'web1')
      stage.fleet.host('h1').faults.add({ on: 'DOMAIN_RENAME', fault: { kind: 'drop_after' }, times: 1 })
      expect((await stage.run(vmRename, { vm: uuid, name: 'web2' })).outcome.outcome).toBe('complete')
    }))

  test('is refused while it runs, when the name is taken, and for a name that the host has behind our back', () =>
    withStage({}, async (stage) => {
      const uuid = await made(stage, 'web1')
      const other = await made(stage, 'web2')
      expect(errorIn(await stage.run(vmRename, { vm: uuid, name: 'web2' }))).toMatchObject({
        code: 'name_taken',
        message: expect.stringContaining(other)
      })
      stage.memory.whereabouts.delete(other)
      expect(errorIn(await stage.run(vmRename, { vm: uuid, name: 'web2' }))).toMatchObject({
        code: 'name_taken',
        step: 'look at the VM'
      })
      await stage.done(vmStart, { vm: uuid })
      expect(errorIn(await stage.run(vmRename, { vm: uuid, name: 'web3' }))).toMatchObject({ code: 'vm_running' })
    }))

  test('claims both names, and what is queued behind it sees the new one', () => {
    const fleet = new Fleet().host('h1').vm(1)
    const args = { vm: uuidOf(1), name: 'db1' }
    expect(vmRename.claims(args, fleet.queued()).map(({ resource }) => resource)).toEqual([
      `vm/${uuidOf(1)}`,
      'vm-name/db1',
      'vm-name/web1'
    ])
    const effects = vmRename.effect(args, fleet.queued())
    const after = fleet.queued(...effects.map((effect) => ({ task: 7, title: 'x', ...effect })))
    expect(after.vmsNamed('db1').map(({ uuid }) => uuid)).toEqual([uuidOf(1)])
    expect(after.vmsNamed('web1')).toEqual([])
  })
})

describe('vm.set', () => {
  const sizes = (stage: Stage, uuid: string) => stage.hosts.host('h1').vmSizes(uuid)
  const four = { vcpus: 4, maxVcpus: 4, memoryMiB: 64, maxMemoryMiB: 64 }

  test('of a VM that is off sets its next boot, and a maximum follows what the guest has all of', () =>
    withStage({}, async (stage) => {
      const uuid = await made(stage, 'web1')
      const args = { vm: uuid, vcpus: 4, memoryMiB: 128 }
      const undo = undoOf(stage, vmSet, args)
      const after = { vcpus: 4, maxVcpus: 4, memoryMiB: 128, maxMemoryMiB: 128 }
      expect(await stage.done(vmSet, args)).toMatchObject({ host: 'h1', running: null, definition: after })
      expect(stage.memory.facts(`vm/${uuid}`)).toMatchObject({ vcpus: 4, memoryMiB: 128, maxMemoryMiB: 128 })
      await stage.done(vmSet, undo.args)
      expect(await sizes(stage, uuid)).toMatchObject({
        definition: { vcpus: 1, maxVcpus: 1, memoryMiB: 64, maxMemoryMiB: 64 }
      })
    }))

  test('of a running VM sets the guest, its next boot, or both, and only what differs', () =>
    withStage({}, async (stage) => {
      const uuid = await made(stage, 'web1', { vcpus: 1 })
      await stage.done(vmSet, { vm: uuid, maxVcpus: 4, maxMemoryMiB: 256 })
      await stage.done(vmStart, { vm: uuid })
      await stage.done(vmSet, { vm: uuid, vcpus: 2, live: true })
      expect(await sizes(stage, uuid)).toMatchObject({ running: { vcpus: 2 }, definition: { vcpus: 1, maxVcpus: 4 } })
      await stage.done(vmSet, { vm: uuid, vcpus: 3, nextBoot: true })
      expect(await sizes(stage, uuid)).toMatchObject({ running: { vcpus: 2 }, definition: { vcpus: 3, maxVcpus: 4 } })
      const task = stage.task(vmSet, { vm: uuid, vcpus: 4, memoryMiB: 128 })
      expect((await task.run()).outcome.outcome).toBe('complete')
      const resized = stage.fleet.journal.entries({ kind: 'resized', subject: uuid }).length
      expect((await task.run()).outcome.outcome).toBe('complete')
      expect(stage.fleet.journal.entries({ kind: 'resized', subject: uuid })).toHaveLength(resized)
      expect(await sizes(stage, uuid)).toEqual({
        running: { vcpus: 4, maxVcpus: 4, memoryMiB: 128, maxMemoryMiB: 256 },
        definition: { vcpus: 4, maxVcpus: 4, memoryMiB: 128, maxMemoryMiB: 256 }
      })
    }))

  test('raises a maximum before what it bounds, and lowers it after', () =>
    withStage({}, async (stage) => {
      const uuid = await made(stage, 'web1', { vcpus: 2 })
      await stage.done(vmSet, { vm: uuid, vcpus: 4 })
      expect(await sizes(stage, uuid)).toMatchObject({ definition: four })
      await stage.done(vmSet, { vm: uuid, vcpus: 1, maxVcpus: 2 })
      expect(await sizes(stage, uuid)).toMatchObject({ definition: { vcpus: 1, maxVcpus: 2 } })
    }))

  test('whose answer is lost is done, or done again, and never half of it', () =>
    withStage({}, async (stage) => {
      const uuid = await made(stage, 'web1')
      stage.fleet.host('h1').faults.add({ on: 'DOMAIN_SET_VCPUS_FLAGS', fault: { kind: 'drop_after' }, times: 1 })
      const task = stage.task(vmSet, { vm: uuid, vcpus: 4, memoryMiB: 128 })
      expect((await task.run()).outcome.outcome).toBe('retry')
      expect((await task.run()).outcome).toMatchObject({
        outcome: 'complete',
        result: { definition: { vcpus: 4, memoryMiB: 128 } }
      })
    }))

  test('asked of a running guest beyond its maximum is refused before anything is set', () =>
    withStage({}, async (stage) => {
      const uuid = await made(stage, 'web1', { vcpus: 1 })
      await stage.done(vmStart, { vm: uuid })
      const before = await sizes(stage, uuid)
      for (const args of [{ vcpus: 4 }, { memoryMiB: 128 }])
        expect(errorIn(await stage.run(vmSet, { vm: uuid, ...args }))).toMatchObject({
          code: 'above_maximum',
          next: expect.stringContaining('--next-boot')
        })
      expect(await sizes(stage, uuid)).toEqual(before)
    }))

  test("keeps whether, in which order and how it starts with its host, and takes the host's own autostart away", () =>
    withStage({}, async (stage) => {
      const uuid = await made(stage, 'web1')
      await stage.hosts.host('h1').setAutostart(uuid, true)
      await stage.observer.vm('h1', uuid)
      const args = { vm: uuid, autostart: true, order: 5 }
      const undo = undoOf(stage, vmSet, args)
      await stage.done(vmSet, args)
      expect(stage.memory.facts(`vm/${uuid}`)).toMatchObject({
        autostart: false,
        startsWithHost: { order: 5, delaySeconds: 0 }
      })
      await stage.done(vmSet, { vm: uuid, delaySeconds: 30 })
      expect(stage.memory.facts(`vm/${uuid}`)).toMatchObject({ startsWithHost: { order: 5, delaySeconds: 30 } })
      await stage.done(vmSet, undo.args)
      expect(stage.memory.facts(`vm/${uuid}`)).toMatchObject({ startsWithHost: null })
      expect(errorIn(await stage.run(vmSet, { vm: uuid, delaySeconds: 30 }))).toMatchObject({ code: 'no_autostart' })
    }))

  test.each<[string, object, object, string]>([
    ['nothing', {}, {}, 'nothing_given'],
    ['more processors than there can be', { vcpus: 4, maxVcpus: 2 }, {}, 'above_maximum'],
    ['more memory than the host has', { memoryMiB: 999_999 }, {}, 'does_not_fit'],
    ['the running guest of a VM that is off', { vcpus: 2, live: true }, {}, 'vm_not_running'],
    [
      "a running guest's maximum",
      { maxVcpus: 2, live: true },
      { power: 'running', activeOn: 'h1' },
      'maximum_is_fixed'
    ],
    ['the next boot of a VM without a definition', { vcpus: 2 }, { persistent: false }, 'vm_transient'],
    ["another manager's VM", { vcpus: 2 }, { owner: 'foreign' }, 'vm_foreign']
  ])('refuses %s', (_, given, vm, code) => {
    const verdict = vmSet.check({ vm: uuidOf(1), ...given }, new Fleet().host('h1').vm(1, vm).queued())
    expect('code' in verdict ? verdict.code : verdict.verdict).toBe(code)
  })
})

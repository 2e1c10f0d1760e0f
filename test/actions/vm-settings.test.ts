// What is set on a VM, on simulated hosts: done, seen on the host, harmless when repeated, undone by its inverse.
import { describe, expect, test } from 'vitest'
import type { Action } from '../../src/actions/action.ts'
import { vmCreate } from '../../src/actions/vm-create.ts'
import { vmRename } from '../../src/actions/vm-rename.ts'
import { vmReset } from '../../src/actions/vm-reset.ts'
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

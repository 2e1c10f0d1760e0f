// What predicted state makes of a submission: what is possible thanks to whom, and what is refused because of whom.
import { Type } from 'typebox'
import { describe, expect, test } from 'vitest'
import { action, impossible, possible, type Action } from '../../src/actions/action.ts'
import { evaluatePlan, type Asked, type Evaluation, type Loaded } from '../../src/actions/evaluate.ts'
import { VmRef, newName } from '../../src/actions/refs.ts'
import type { JsonObject } from '../../src/db/json.ts'
import type { Overlay } from '../../src/inventory/fleet-state.ts'
import { resource } from '../../src/model/resource.ts'

const never = () => Promise.reject(new Error('not run in this test'))
const uuid = '11111111-2222-4333-8444-555555555555'

const create = action({
  name: 'vm.create',
  summary: '',
  args: Type.Object({ name: newName('vm', ''), uuid: Type.String() }),
  title: (args) => `Create ${args.name}`,
  claims: (args) => [
    { resource: resource.vm(args.uuid), mode: 'exclusive' },
    { resource: resource.vmName(args.name), mode: 'exclusive' }
  ],
  check: (args, state) =>
    state.vmsNamed(args.name).length > 0
      ? impossible('exists', `${args.name} exists`, 'choose another name')
      : possible,
  effect: (args) => [
    { subject: resource.vm(args.uuid), facts: { uuid: args.uuid, name: args.name, home: 'h1', power: 'off' } },
    { subject: resource.vmName(args.name), facts: { [args.uuid]: 'h1' } }
  ],
  run: never,
  probe: never
})

const onVm = (name: string, from: readonly string[], facts: (uuid: string) => JsonObject | null) =>
  action({
    name,
    summary: '',
    args: Type.Object({ vm: VmRef }),
    title: (_, state) => `${name} of ${state.vm(uuid)?.name ?? '?'}`,
    claims: (args) => [{ resource: resource.vm(args.vm), mode: 'exclusive' }],
    check(args, state) {
      const vm = state.vm(args.vm)
      return vm && from.includes(vm.power) ? possible : impossible('wrong_power', `web1 is ${vm?.power}`, 'wait')
    },
    effect: (args) => [
      { subject: resource.vm(args.vm), facts: facts(args.vm) },
      ...(facts(args.vm) === null ? [{ subject: resource.vmName('web1'), facts: { [args.vm]: null } }] : [])
    ],
    run: never,
    probe: never
  })

const start = onVm('vm.start', ['off', 'running'], () => ({ power: 'running' }))
const pause = onVm('vm.pause', ['running'], () => ({ power: 'paused' }))
const stop = onVm('vm.stop', ['running', 'paused', 'off'], () => ({ power: 'off' }))
const remove = onVm('vm.delete', ['off'], () => null)

const asked = (of: Action, args: JsonObject): Asked => ({ action: of, args })
const created = asked(create, { name: 'web1', uuid })
const web1 = (of: unknown): Asked => asked(of as Action, { vm: 'web1' })

/** Evaluates as submission does: what is missing is loaded from `base`, everything else does not exist. */
function evaluate(
  plan: Asked[],
  base: Record<string, JsonObject> = {},
  overlays: Overlay[] = []
): Extract<Evaluation, { missing: null }> {
  const loaded: { base: Map<string, JsonObject | null>; overlays: Map<string, Overlay[]> } = {
    base: new Map(),
    overlays: new Map()
  }
  for (let round = 0; round < 8; round++) {
    const evaluation = evaluatePlan(plan, loaded satisfies Loaded)
    if (evaluation.missing === null) return evaluation
    for (const subject of evaluation.missing) {
      loaded.base.set(subject, base[subject] ?? null)
      loaded.overlays.set(
        subject,
        overlays.filter((overlay) => overlay.subject === subject)
      )
    }
  }
  throw new Error('still missing facts')
}

const running = {
  [resource.vm(uuid)]: { uuid, name: 'web1', home: 'h1', power: 'running', elsewhere: {} },
  [resource.vmName('web1')]: { [uuid]: 'h1' }
}

describe('predicted state', () => {
  test('a VM may be started in the plan that creates it, and only once it is there', () => {
    const { tasks, refusals } = evaluate([created, web1(start)])
    expect(refusals).toEqual([])
    expect(tasks[1]?.args).toEqual({ vm: uuid })
    expect(tasks[1]?.thanksTo).toEqual([{ index: 0 }])
  })

  test('what is possible without the task before needs no more than its end', () => {
    const { tasks } = evaluate([web1(start), web1(stop)], running)
    expect(tasks.map((task) => task.thanksTo)).toEqual([[], []])
  })

  test('a task depends on every task that brings about what it needs, not only the nearest', () => {
    const { tasks } = evaluate([created, web1(start), web1(pause), web1(stop), web1(remove)])
    expect(tasks[2]?.thanksTo).toEqual([{ index: 0 }, { index: 1 }])
    expect(tasks[4]?.thanksTo).toEqual([{ index: 0 }, { index: 3 }])
  })

  test('an unknown VM is refused with its name and the way out', () => {
    const { refusals } = evaluate([web1(start)])
    expect(refusals[0]?.error).toMatchObject({ code: 'not_found', status: 'not_found', pointer: '/vm' })
    expect(refusals[0]?.error.message).toContain('"web1"')
  })

  test('a request that an open task makes impossible names that task', () => {
    const deletes = { task: 41, title: 'Delete web1' }
    const off = { ...running, [resource.vm(uuid)]: { ...running[resource.vm(uuid)], power: 'off' } }
    const { refusals } = evaluate([web1(start)], off, [
      { ...deletes, subject: resource.vm(uuid), facts: null },
      { ...deletes, subject: resource.vmName('web1'), facts: { [uuid]: null } }
    ])
    expect(refusals[0]?.error.task).toEqual({ id: 41, title: 'Delete web1' })
    expect(refusals[0]?.error.message).toContain('task 41')
    expect(refusals[0]?.error.next).toContain('task cancel 41')
  })

  test('a name that two VMs have is refused with the candidates', () => {
    const other = uuid.replace('1', '9')
    const { refusals } = evaluate([web1(start)], {
      ...running,
      [resource.vm(other)]: { uuid: other, name: 'web1', home: 'h2', power: 'off', elsewhere: {} },
      [resource.vmName('web1')]: { [uuid]: 'h1', [other]: 'h2' }
    })
    expect(refusals[0]?.error).toMatchObject({ code: 'ambiguous', candidates: ['web1@h1', 'web1@h2'] })
  })
})

// What a request needs of open tasks follows from predicted state, for every action: what is about to go cannot be used, and the
// refusal names the task that takes it away; what is only about to come can, and its task must be complete first.
// Requests are sought among random ones until one is possible without the open task: a new action takes part by being registered.
import { describe, expect, test } from 'vitest'
import type { Action } from '../../src/actions/action.ts'
import { checkArgs } from '../../src/actions/check-args.ts'
import { evaluatePlan, type Asked, type Evaluation } from '../../src/actions/evaluate.ts'
import { registry } from '../../src/actions/registry.ts'
import { RequestError } from '../../src/actions/request-error.ts'
import type { JsonObject } from '../../src/db/json.ts'
import { NotLoaded, type Overlay } from '../../src/inventory/fleet-state.ts'
import { Dice } from '../queue/dice.ts'
import { disk, Fleet, uuidOf } from './fleet.ts'
import { randomArgs, type Names } from './random-requests.ts'

type Done = Extract<Evaluation, { missing: null }>
type Shape = { 'x-ref'?: string; properties?: Record<string, Shape>; required?: string[]; items?: Shape }

const TRIES = 400

const small = { capacityBytes: 2 ** 20 }

/** Two hosts with a local and a shared pool; web1 in the power that is asked for, with a disk, a snapshot and a NIC. */
function fleet(power: 'off' | 'running' | 'paused', more: JsonObject = {}): Fleet {
  const made = new Fleet()
  for (const host of ['h1', 'h2']) {
    made.host(host, {
      ...(more['down'] === true && host === 'h2' ? { connection: 'down' as const, connectionReason: 'silent' } : {}),
      cordoned: more['cordoned'] === true,
      activeVms: power === 'off' ? 0 : 1
    })
    made
      .pool(host, 'default')
      .pool(host, 'shared', { store: 'shared' })
      .network(host, 'default', { active: more['networkOff'] !== true })
  }
  for (const store of ['h1/default', 'shared']) made.volume(store, 'a.img', small).volume(store, 'b.img', small)
  made.volume('shared', 'web1.qcow2', { ...small, usedBy: [uuidOf(1)] })
  const on = power !== 'off'
  return made.vm(1, {
    power,
    activeOn: on ? 'h1' : null,
    reason: power === 'paused' ? 'user' : 'booted',
    disks: [
      disk('shared', 'web1.qcow2'),
      disk('h1/default', 'b.img', { target: 'sda', device: 'cdrom', bus: 'sata', readOnly: true })
    ],
    nics: [{ mac: '52:54:00:00:00:01', kind: 'network', source: 'default', model: 'virtio' }],
    ...more
  })
}

const fleets: readonly Fleet[] = [
  fleet('off'),
  fleet('running'),
  fleet('paused'),
  fleet('off', { cordoned: true }),
  fleet('off', { owner: 'plain' }),
  fleet('off', { down: true }),
  fleet('off', { networkOff: true }),
  fleet('off', {
    snapshots: [
      {
        name: 's1',
        createdAt: '',
        current: true,
        description: '',
        external: false,
        mark: null,
        parent: null,
        state: 'off'
      }
    ]
  })
]

const names: Names = {
  vms: ['web1'],
  hosts: ['h1', 'h2'],
  stores: ['h1/default', 'shared'],
  pools: ['default', 'shared'],
  volumes: ['a.img', 'b.img', 'web1.qcow2', 'new.img']
}

/** Asks with everything loaded: what the fleet does not have does not exist. */
function evaluate(of: Fleet, plan: readonly Asked[], overlays: readonly Overlay[] = []): Done {
  const loaded = {
    base: new Map<string, JsonObject | null>(),
    overlays: Map.groupBy(overlays, ({ subject }) => subject)
  }
  const state = of.queued()
  for (let round = 0; round < 100; round++) {
    const evaluation = evaluatePlan(plan, loaded)
    if (evaluation.missing === null) return evaluation
    for (const subject of evaluation.missing) loaded.base.set(subject, state.facts(subject) ?? null)
  }
  throw new Error('facts led to further facts without end')
}

const fresh = { macs: Array.from({ length: 32 }, (_, at) => `52:54:00:00:01:${at.toString(16).padStart(2, '0')}`) }

function asked(name: string, args: JsonObject): Asked {
  const action = registry.get(name)
  if (!action) throw new Error(`there is no action ${name}`)
  const checked = checkArgs(action, args)
  return { action, args: action.prepare ? (action.prepare(checked, fresh) as JsonObject) : checked }
}

/** What this request, stored as task `id`, will bring about. */
function opened(of: Fleet, id: number, request: Asked, before: readonly Overlay[] = []): Overlay[] {
  const [task] = accepted(evaluate(of, [request], before)) ?? []
  if (!task) throw new Error(`${request.action.name} is refused`)
  return task.effects.map(({ subject, facts }) => ({ task: id, title: task.title, subject, facts }))
}

const accepted = ({ tasks, refusals }: Done) => (refusals.length === 0 ? tasks : undefined)

/** A request of this action that is possible and has what is wanted; undefined when none is found. */
function possibleRequest(
  action: Action,
  having: (args: JsonObject) => boolean,
  of: Fleet,
  overlays: readonly Overlay[] = [],
  among = names
): Asked | undefined {
  const dice = new Dice(11)
  for (let tries = 0; tries < TRIES; tries++) {
    const args = randomArgs(action, among, dice)
    if (!having(args)) continue
    try {
      const request = asked(action.name, args)
      if (accepted(evaluate(of, [request], overlays))) return request
    } catch (error) {
      if (!(error instanceof RequestError) && !(error instanceof NotLoaded)) throw error
    }
  }
  return undefined
}

/** The places in an action's arguments that refer to such a thing, on the first level. */
const refersTo = (action: Action, kind: string): string[] =>
  Object.entries((action.args as Shape).properties ?? {}).flatMap(([key, shape]) =>
    shape['x-ref'] === kind ? [key] : []
  )
const requires = (action: Action, kind: string): boolean =>
  refersTo(action, kind).some((key) => (action.args as Shape).required?.includes(key))

const actions = [...registry.values()]
const onVm = actions.filter((action) => requires(action, 'vm'))
const onHost = actions.filter((action) => requires(action, 'host'))
const onVolume = actions.filter((action) => requires(action, 'volume'))

/** Of these no random request is possible; each has tests of its own. */
const sought = new Map<string, string>()
const tried = new Set<string>()

function refusedBecause(request: Asked, of: Fleet, overlays: readonly Overlay[], task: number): void {
  const { refusals } = evaluate(of, [request], overlays)
  const error = refusals[0]?.error
  const told = `${request.action.name} ${JSON.stringify(request.args)}`
  expect(error, `${told} was accepted`).toBeInstanceOf(RequestError)
  expect(error?.task?.id, `${told}: ${error?.message}`).toBe(task)
  expect(error?.next, told).toContain(`task cancel ${task}`)
}

describe('what an open task takes away is refused, and the task is named', () => {
  test.each(onVm.map((action) => [action.name, action] as const))(
    '%s of a VM that is being deleted',
    (name, action) => {
      for (const of of fleets) {
        const request = possibleRequest(
          action,
          (args) => args['vm'] === 'web1' || refersTo(action, 'vm').some((key) => args[key] === 'web1'),
          of
        )
        if (!request) continue
        const remove = possibleRequest(
          registry.get('vm.delete')!,
          (args) => args['vm'] === 'web1' && args['force'] === true,
          of
        )
        if (!remove) continue
        refusedBecause(request, of, opened(of, 41, remove), 41)
        tried.add(name)
        return
      }
      sought.set(name, 'VM')
    }
  )

  test.each(onHost.map((action) => [action.name, action] as const))(
    '%s on a host that is being removed',
    (name, action) => {
      for (const of of fleets) {
        const keys = refersTo(action, 'host').filter((key) => (action.args as Shape).required?.includes(key))
        const request = possibleRequest(action, (args) => keys.some((key) => args[key] === 'h2'), of)
        if (!request) continue
        refusedBecause(request, of, opened(of, 42, asked('host.remove', { host: 'h2', forget: true })), 42)
        tried.add(name)
        return
      }
      sought.set(name, 'host')
    }
  )

  test.each(onVolume.map((action) => [action.name, action] as const))(
    '%s of a volume that is being deleted',
    (name, action) => {
      for (const of of fleets) {
        const key = refersTo(action, 'volume')[0] ?? ''
        const request = possibleRequest(action, (args) => args[key] === 'h1/default/a.img', of)
        if (!request) continue
        refusedBecause(request, of, opened(of, 43, asked('volume.delete', { volume: 'h1/default/a.img' })), 43)
        tried.add(name)
        return
      }
      sought.set(name, 'volume')
    }
  )
})

describe('what an open task brings about may be used, and it must be complete first', () => {
  const create = asked('vm.create', { name: 'web9', memoryMiB: 64, vcpus: 1, host: 'h1' })
  const base = fleet('off')
  const created = opened(base, 51, create)
  const started = [...created, ...opened(base, 52, asked('vm.start', { vm: 'web9' }), created)]
  const among = { ...names, vms: ['web9'] }

  test.each(onVm.map((action) => [action.name, action] as const))('%s of a VM that is being made', (name, action) => {
    const having = (args: JsonObject) => refersTo(action, 'vm').some((key) => args[key] === 'web9')
    for (const overlays of [created, started]) {
      const request = possibleRequest(action, having, base, overlays, among)
      if (!request) continue
      const [task] = accepted(evaluate(base, [request], overlays)) ?? []
      expect(task?.thanksTo, `${name} ${JSON.stringify(request.args)}`).toContain(51)
      tried.add(name)
      return
    }
    sought.set(name, 'VM that is being made')
  })

  test('what is possible anyway needs only its end', () => {
    const pending = opened(base, 53, asked('vm.start', { vm: 'web1' }))
    const [stop] = accepted(evaluate(base, [asked('vm.stop', { vm: 'web1' })], pending)) ?? []
    expect(stop?.thanksTo).toEqual([])
  })
})

test('every action on a VM, a host or a volume was tried', () => {
  const never = [...sought].filter(([name]) => !tried.has(name)).map(([name]) => name)
  expect(never.toSorted()).toEqual([])
})

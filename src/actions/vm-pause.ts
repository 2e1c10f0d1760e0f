// Stops a VM's CPUs; its memory stays.
import { Type, type Static } from 'typebox'
import { resource } from '../model/resource.ts'
import {
  action,
  complete,
  failed,
  nothingToDo,
  possible,
  type ActionContext,
  type Outcome,
  type Probe
} from './action.ts'
import { attempt, type Step } from './attempt.ts'
import { ownError } from './error.ts'
import { VmRef } from './refs.ts'
import { bindToVm, boundVm, vmClaims, vmTitle } from './vm-place.ts'
import { named, notRunning, ownVm } from './vm-refusal.ts'

const pauseMs = 30_000

const args = Type.Object({ vm: VmRef }, { additionalProperties: false })
type Args = Static<typeof args>

export const vmPause = action({
  name: 'vm.pause',
  summary: 'Pause a running VM',
  args,
  title: ({ vm }, state) => vmTitle('Pause', vm, state),
  claims: ({ vm }, state) => vmClaims(vm, state),
  check(given, state) {
    const { vm, refusal } = ownVm(given.vm, state)
    if (refusal) return refusal
    if (vm.power === 'paused') return nothingToDo(`${named(vm)} is paused already (${vm.reason})`)
    return vm.power === 'running' ? possible : notRunning(vm, 'running')
  },
  effect: ({ vm }) => [{ subject: resource.vm(vm), facts: { power: 'paused', reason: 'user' } }],
  bindTo: ({ vm }, state) => bindToVm(vm, state),
  run: (ctx, given) => attempt(ctx, (step) => pause(ctx, given, step), { probe: () => probe(ctx, given) }),
  probe,
  undo: ({ vm }) => ({ action: 'vm.resume', args: { vm } })
})

async function pause(ctx: ActionContext, given: Args, step: Step): Promise<Outcome> {
  step('look at the VM')
  const { host, vm } = await boundVm(ctx, given.vm)
  if (vm?.power !== 'paused') {
    if (vm?.power !== 'running') return failed(notPausable(vm?.name ?? given.vm, host.name, vm?.power))
    step('pause')
    await host.pauseVm(given.vm)
    step('wait until it is paused')
    await host.untilVm(given.vm, (now) => now?.power === 'paused', { timeoutMs: pauseMs, signal: ctx.signal })
  }
  await ctx.observe.vm(host.name, given.vm)
  return complete({ host: host.name })
}

async function probe(ctx: ActionContext, given: Args): Promise<Probe> {
  const { host, vm } = await boundVm(ctx, given.vm)
  const evidence = vm ? { host: host.name, power: vm.power, reason: vm.reason } : { host: host.name }
  if (vm?.power !== 'paused') return { happened: 'no', evidence }
  await ctx.observe.vm(host.name, given.vm)
  return { happened: 'yes', evidence, result: { host: host.name } }
}

const notPausable = (name: string, host: string, power: string | undefined) =>
  ownError(
    'vm_not_running',
    `${name} is ${power ?? 'not there'} on ${host}: only a running VM is paused`,
    'look at the VM',
    'look at it: `taskomatic vm show`',
    { host }
  )

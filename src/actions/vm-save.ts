// Writes a running guest's memory to its host and ends it; its next start goes on from there. The image is only good while the disks
// are as the guest left them: it is recorded here, and the record goes as soon as the VM is seen to run anywhere.
import { Type, type Static } from 'typebox'
import { resource } from '../model/resource.ts'
import { isActive, type ObservedVm } from '../model/vm.ts'
import {
  action,
  complete,
  failed,
  impossible,
  nothingToDo,
  possible,
  type ActionContext,
  type Outcome,
  type Probe
} from './action.ts'
import { attempt, type Step } from './attempt.ts'
import { ownError } from './error.ts'
import { VmRef } from './refs.ts'
import {
  activeSightings,
  bindToVm,
  boundVm,
  evidenceOf,
  lookEverywhere,
  storageClaims,
  vmClaims,
  vmTitle
} from './vm-place.ts'
import { mayResume } from './vm-resume.ts'
import { named, notRunning, ownVm, refuseActiveElsewhere } from './vm-refusal.ts'

const savedMs = 600_000

const args = Type.Object({ vm: VmRef }, { additionalProperties: false })
type Args = Static<typeof args>

export const vmSave = action({
  name: 'vm.save',
  summary: "Save a running VM's memory to its host and end it; its next start goes on from there",
  args,
  title: ({ vm }, state) => vmTitle('Save', vm, state),
  claims: ({ vm }, state) => [...vmClaims(vm, state), ...storageClaims(state.vm(vm))],
  check(given, state) {
    const { vm, refusal } = ownVm(given.vm, state)
    if (refusal) return refusal
    if (!isActive(vm.power) && vm.restorable) return nothingToDo(`${named(vm)} is saved already`)
    if (vm.power !== 'running' && vm.power !== 'paused') return notRunning(vm, 'running or paused')
    if (vm.power === 'paused' && !mayResume(vm.reason)) {
      return impossible(
        'vm_busy',
        `${named(vm)} is paused (${vm.reason}): its memory is not saved now`,
        'let the task that moves it end, or look at it: `taskomatic vm show`'
      )
    }
    if (!vm.persistent) {
      return impossible(
        'vm_transient',
        `${named(vm)} has no definition to go on from: it would be gone`,
        'stop it, or let it run'
      )
    }
    return refuseActiveElsewhere(vm) ?? possible
  },
  effect: ({ vm }) => [
    {
      subject: resource.vm(vm),
      facts: { power: 'off', reason: 'saved', activeOn: null, hasSavedImage: true, restorable: true }
    }
  ],
  bindTo: ({ vm }, state) => bindToVm(vm, state),
  run: (ctx, given) => attempt(ctx, (step) => save(ctx, given, step), { probe: () => probe(ctx, given) }),
  probe,
  undo: ({ vm }) => ({ action: 'vm.start', args: { vm } })
})

async function save(ctx: ActionContext, given: Args, step: Step): Promise<Outcome> {
  step('look at the VM')
  const { host, vm } = await boundVm(ctx, given.vm)
  // An earlier attempt of this task saved it: whoever else could have claims the VM.
  if (vm && isSaved(vm)) return saved(ctx, host.name, given)
  if (vm?.power !== 'running' && vm?.power !== 'paused')
    return failed(notSavable(vm?.name ?? given.vm, host.name, vm?.power))
  step('save the memory')
  await host.saveVm(given.vm)
  step('wait until it is off')
  const after = await host.untilVm(given.vm, (now) => !now || !isActive(now.power), {
    timeoutMs: savedMs,
    signal: ctx.signal
  })
  if (!after || !isSaved(after)) return failed(noImage(vm.name, host.name))
  return saved(ctx, host.name, given)
}

const isSaved = (vm: ObservedVm): boolean => !isActive(vm.power) && vm.reason === 'saved' && vm.hasSavedImage

async function saved(ctx: ActionContext, host: string, { vm }: Args): Promise<Outcome> {
  await ctx.observe.vm(host, vm)
  await ctx.observe.noteSaved(vm, host, ctx.task.id)
  return complete({ host })
}

async function probe(ctx: ActionContext, given: Args): Promise<Probe> {
  const first = await lookEverywhere(ctx, given.vm, ctx.boundHost === null ? [] : [ctx.boundHost])
  const runs = activeSightings(first).filter(({ vm }) => vm.reason !== 'saving')
  // What was sent may still stand behind the VM's running job: "did not" is known only after that.
  for (const { host, vm } of runs) await ctx.host(host).settleVm(given.vm, vm.mark)
  const sightings =
    runs.length === 0 ? first : await lookEverywhere(ctx, given.vm, ctx.boundHost === null ? [] : [ctx.boundHost])
  const evidence = evidenceOf(sightings)
  const [silent] = sightings.unknown
  if (silent) return { happened: 'unknown', evidence, why: `${silent.host} cannot be asked: ${silent.reason}` }
  const [active] = activeSightings(sightings)
  if (active?.vm.reason === 'saving')
    return { happened: 'unknown', evidence, why: `${active.host} is still writing its memory` }
  const done = sightings.seen.find(({ host, vm }) => host === ctx.boundHost && isSaved(vm))
  if (active || !done) return { happened: 'no', evidence }
  await ctx.observe.vm(done.host, given.vm)
  await ctx.observe.noteSaved(given.vm, done.host, ctx.task.id)
  return { happened: 'yes', evidence, result: { host: done.host } }
}

const notSavable = (name: string, host: string, power: string | undefined) =>
  ownError(
    'vm_not_running',
    `${named({ name })} is ${power ?? 'not there'} on ${host}: only a running or paused VM is saved`,
    'look at the VM',
    'look at it: `taskomatic vm show`',
    { host }
  )

const noImage = (name: string, host: string) =>
  ownError(
    'no_saved_image',
    `${named({ name })} ended on ${host} and there is no saved image of it`,
    'wait until it is off',
    'look at the log of the VM on the host (/var/log/libvirt/qemu), then start it afresh',
    { host }
  )

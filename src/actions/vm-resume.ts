// Lets a paused VM go on, except where that could make a second writer: paused by a migration, it may run elsewhere.
import { Type, type Static } from 'typebox'
import { resource } from '../model/resource.ts'
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
import { activeSightings, bindToVm, evidenceOf, lookEverywhere, parkForSilent, vmClaims, vmTitle } from './vm-place.ts'
import { named, notRunning, ownVm, refuseActiveElsewhere } from './vm-refusal.ts'

const resumeMs = 30_000

/** Reasons in which the VM's fate is decided on another host, or libvirt itself is in the middle of something. */
const unsafeReasons: ReadonlySet<string> = new Set([
  'migrating',
  'post-copy',
  'post-copy failed',
  'starting up',
  'shutting down'
])

/** May a paused VM be resumed without asking another host first? */
export const mayResume = (reason: string): boolean => !unsafeReasons.has(reason)

const args = Type.Object({ vm: VmRef }, { additionalProperties: false })
type Args = Static<typeof args>

export const vmResume = action({
  name: 'vm.resume',
  summary: 'Let a paused VM go on',
  args,
  title: ({ vm }, state) => vmTitle('Resume', vm, state),
  claims: ({ vm }, state) => vmClaims(vm, state),
  check(given, state) {
    const { vm, refusal } = ownVm(given.vm, state)
    if (refusal) return refusal
    if (vm.power === 'running') return nothingToDo(`${named(vm)} runs already`)
    if (vm.power !== 'paused') return notRunning(vm, 'paused')
    if (!mayResume(vm.reason)) {
      return impossible(
        'resume_unsafe',
        `${named(vm)} is paused (${vm.reason}): resuming it could make a second writer on its disk`,
        'let the task that moves it end, or look at both hosts: `taskomatic vm show`'
      )
    }
    return refuseActiveElsewhere(vm) ?? possible
  },
  effect: ({ vm }) => [{ subject: resource.vm(vm), facts: { power: 'running', reason: 'unpaused' } }],
  bindTo: ({ vm }, state) => bindToVm(vm, state),
  run: (ctx, given) => attempt(ctx, (step) => resume(ctx, given, step), { probe: () => probe(ctx, given) }),
  probe,
  undo: ({ vm }) => ({ action: 'vm.pause', args: { vm } })
})

async function resume(ctx: ActionContext, given: Args, step: Step): Promise<Outcome> {
  const host = ctx.boundHost
  if (host === null) throw new Error('vm.resume runs on a host')
  step('look where the VM is')
  const sightings = await lookEverywhere(ctx, given.vm, [host])
  const vm = sightings.seen.find((sighting) => sighting.host === host)?.vm
  const name = vm?.name ?? given.vm
  if (vm?.power === 'running') return running(ctx, host, given)
  if (vm?.power !== 'paused' || !mayResume(vm.reason))
    return failed(notResumable(name, host, vm && `${vm.power} (${vm.reason})`))
  const other = activeSightings(sightings).find((sighting) => sighting.host !== host)
  if (other) return failed(secondWriter(name, host, other.host))
  const silent = parkForSilent(name, sightings)
  if (silent) return silent
  step('resume')
  await ctx.host(host).resumeVm(given.vm)
  step('wait until it runs')
  await ctx.host(host).untilVm(given.vm, (now) => now?.power === 'running', { timeoutMs: resumeMs, signal: ctx.signal })
  return running(ctx, host, given)
}

async function running(ctx: ActionContext, host: string, { vm }: Args): Promise<Outcome> {
  await ctx.observe.vm(host, vm)
  return complete({ host })
}

async function probe(ctx: ActionContext, given: Args): Promise<Probe> {
  const host = ctx.boundHost
  const sightings = await lookEverywhere(ctx, given.vm, host === null ? [] : [host])
  const evidence = evidenceOf(sightings)
  const [silent] = sightings.unknown
  if (silent) return { happened: 'unknown', evidence, why: `${silent.host} cannot be asked: ${silent.reason}` }
  const runs = sightings.seen.find(({ vm }) => vm.power === 'running')
  if (!runs) return { happened: 'no', evidence }
  await ctx.observe.vm(runs.host, given.vm)
  return { happened: 'yes', evidence, result: { host: runs.host } }
}

const notResumable = (name: string, host: string, is: string | undefined) =>
  ownError(
    'vm_not_resumable',
    `${name} is ${is ?? 'not there'} on ${host}: it cannot be resumed`,
    'look where the VM is',
    'look at it: `taskomatic vm show`',
    { host }
  )

const secondWriter = (name: string, host: string, other: string) =>
  ownError(
    'vm_active_elsewhere',
    `${name} is active on ${other} too: resuming it on ${host} would make a second writer on its disk`,
    'look where the VM is',
    `stop or delete one of the copies`,
    { host, activeOn: other }
  )

// Takes the medium out of a VM's drive, running or not; the drive stays. A guest that has locked it is asked, and may say no.
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
import { changeMedium, driveArg, driveNamed, forceArg, mediaIn, refuseNoDrive } from './vm-cdrom-medium.ts'
import { changeableVm, lookAtDevices } from './vm-devices.ts'
import { bindToVm, shared, vmClaims, vmTitle } from './vm-place.ts'
import { named } from './vm-refusal.ts'

const args = Type.Object(
  { vm: VmRef, drive: Type.Optional(driveArg), force: Type.Optional(forceArg) },
  { additionalProperties: false }
)

type Args = Static<typeof args>

export const vmCdromEject = action({
  name: 'vm.cdrom.eject',
  summary: "Take the medium out of a VM's drive",
  args,
  fillIn(given, state) {
    const drive = driveNamed(state.vm(given.vm), given.drive, 'full')?.target
    return drive === undefined ? given : { ...given, drive }
  },
  title: ({ vm, drive }, state) => `${vmTitle('Eject from', vm, state)}${drive === undefined ? '' : `:${drive}`}`,
  claims(given, state) {
    const drive = driveNamed(state.vm(given.vm), given.drive, 'full')
    const volume =
      drive && drive.store !== null && drive.volume !== null ? [shared(resource.volume(drive.store, drive.volume))] : []
    return [...vmClaims(given.vm, state), ...volume]
  },
  check(given, state) {
    const { vm, refusal } = changeableVm(given.vm, state)
    if (refusal) return refusal
    const drive = driveNamed(vm, given.drive, 'full')
    if (!drive) return refuseNoDrive(vm, given.drive, 'there is nothing to eject')
    return drive.source === null ? nothingToDo(`drive ${drive.target} of ${named(vm)} is empty`) : possible
  },
  effect(given, state) {
    const vm = state.vm(given.vm)
    const drive = driveNamed(vm, given.drive, 'full')
    if (!vm || !drive) return []
    const empty = { ...drive, kind: 'none', source: null, store: null, volume: null }
    const disks = vm.disks.map((disk) => (disk === drive ? empty : disk))
    const effects = [{ subject: resource.vm(vm.uuid), facts: { disks } }]
    if (drive.store === null || drive.volume === null) return effects
    const others = vm.disks.some((disk) => disk !== drive && disk.store === drive.store && disk.volume === drive.volume)
    const usedBy = state.volume(drive.store, drive.volume)?.usedBy ?? []
    const left = others ? usedBy : usedBy.filter((user) => user !== vm.uuid)
    return [...effects, { subject: resource.volume(drive.store, drive.volume), facts: { usedBy: left } }]
  },
  bindTo: ({ vm }, state) => bindToVm(vm, state),
  run: (ctx, given) => attempt(ctx, (step) => eject(ctx, given, step), { probe: () => probe(ctx, given) }),
  probe: (ctx, given) => probe(ctx, given),
  undoesHalf: true,
  undo(given, state) {
    const drive = driveNamed(state.vm(given.vm), given.drive, 'full')
    if (!drive || drive.store === null || drive.volume === null)
      return { impossible: 'what was in the drive is no volume of a known store' }
    const volume = `${drive.store}/${drive.volume}`
    return { action: 'vm.cdrom.insert', args: { vm: given.vm, drive: drive.target, volume } }
  }
})

async function eject(ctx: ActionContext, given: Args, step: Step): Promise<Outcome> {
  const target = given.drive ?? ''
  step('look at the drive')
  const { host, name, devices } = await lookAtDevices(ctx, given.vm)
  await changeMedium(host, given.vm, target, devices, null, { force: given.force ?? false }, step)
  step('look what is in the drive')
  const after = await host.vmDevices(given.vm)
  await ctx.observe.vm(host.name, given.vm)
  const [left] = after ? mediaIn(after, target).filter((medium) => medium !== null) : []
  if (left === undefined) return complete({ host: host.name, drive: target })
  return failed(
    ownError(
      'medium_still_in',
      `${host.name} accepted the ejection and still shows ${left} in drive ${target} of ${name}`,
      'look what is in the drive',
      'eject it with `--force`',
      { host: host.name, drive: target }
    )
  )
}

async function probe(ctx: ActionContext, given: Args): Promise<Probe> {
  const { host, devices } = await lookAtDevices(ctx, given.vm)
  const media = mediaIn(devices, given.drive ?? '')
  const evidence = { host: host.name, media }
  if (media.some((medium) => medium !== null)) return { happened: 'no', evidence }
  await ctx.observe.vm(host.name, given.vm)
  return { happened: 'yes', evidence, result: { host: host.name, drive: given.drive ?? '' } }
}

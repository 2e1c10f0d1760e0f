// A host that answers again after somebody said that it is off: VMs that were started elsewhere meanwhile may still be defined there,
// and would be started from what is left. Such leftovers are kept in the database and removed; a VM that runs twice is nobody's to decide.
import { HostError } from '../host/error.ts'
import type { VmFacts } from '../inventory/facts.ts'
import { isActive, type ObservedVm } from '../model/vm.ts'
import { failed, park, type ActionContext, type Outcome } from './action.ts'
import { hostKey, type Step } from './attempt.ts'
import { ownError } from './error.ts'

/** Undefined once nothing is left there that lives elsewhere; else why the host cannot be opened. @throws HostError */
export async function reconcile(ctx: ActionContext, host: string, step: Step): Promise<Outcome | undefined> {
  const facts = ctx.state.host(host)
  if (facts?.confirmedOff != null) {
    return park(
      `${host} was confirmed off, and has not answered since: it is opened once it was looked at`,
      hostKey(host)
    )
  }
  if (!facts?.unreconciled) return undefined
  step('look what it has')
  await ctx.observe.host(host)
  const { vms } = await ctx.host(host).list()
  const twice: string[] = []
  for (const { uuid } of vms) {
    const others = (await ctx.observe.whereabouts(uuid)).filter(
      (place) => place.host !== host && (place.state === 'active' || place.state === 'defined')
    )
    const vm = others.length === 0 ? undefined : await ctx.host(host).vm(uuid)
    if (!vm) continue
    const known = await ctx.observe.vmFacts(uuid)
    const where = others.map((place) => place.host).join(', ')
    const runsElsewhere = others.some(({ state }) => state === 'active')
    if (isActive(vm.power) && (runsElsewhere || known?.home !== host)) {
      twice.push(`${vm.name} runs here and is ${runsElsewhere ? 'active' : 'defined'} on ${where}`)
      continue
    }
    const why = await whyKept(ctx, host, vm, known)
    if (why === undefined) await removeLeftover(ctx, host, vm, step)
    else ctx.log('warn', `${vm.name} is defined here and on ${where}: it is left here, since ${why}`)
  }
  if (twice.length === 0) return undefined
  return failed(
    ownError(
      'two_copies_run',
      `${host} was said to be off, and was not: ${twice.join('; ')}`,
      'look what it has',
      'check those disks, then stop or delete one copy of each, and open the host again',
      { host, twice }
    )
  )
}

/** Only what is known to be a leftover goes; undefined for that. Another definition may be kept on purpose, and which is right is said by nobody. */
async function whyKept(
  ctx: ActionContext,
  host: string,
  vm: ObservedVm,
  facts: VmFacts | undefined
): Promise<string | undefined> {
  if (isActive(vm.power)) return 'it runs here'
  if (!facts || facts.home === host) return 'this is its home'
  if (facts.owner === 'foreign' || (vm.mark !== null && vm.mark.instance !== ctx.instance))
    return 'another manager has it'
  // Their data, or what tells of it, is nowhere else.
  if (vm.snapshots.length > 0) return `it has ${vm.snapshots.length} snapshots here`
  if (vm.hasSavedImage) return 'it has a saved image here'
  try {
    return (await ctx.host(facts.home).vm(vm.uuid))?.persistent ? undefined : `${facts.home} does not show it`
  } catch (error) {
    if (!(error instanceof HostError) || error.code === 'fenced') throw error
    return `${facts.home} cannot be asked: ${error.message}`
  }
}

async function removeLeftover(ctx: ActionContext, host: string, { uuid, name }: ObservedVm, step: Step): Promise<void> {
  step(`remove what is left of ${name}`)
  const handle = ctx.host(host)
  await ctx.observe.keepDefinition(uuid, host, await handle.vmXml(uuid, { inactive: true, secure: true }))
  // Firmware state stays: beside a shared disk it is what the VM runs with elsewhere. With an image or snapshots libvirt refuses.
  await handle.undefineVm(uuid, { savedImage: false, snapshots: false, firmwareState: false })
  await ctx.observe.vm(host, uuid)
  ctx.log('info', `${name} lives elsewhere: its old definition was removed here`)
}

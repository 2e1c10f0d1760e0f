// A host that answers again after somebody said that it is off: VMs that were started elsewhere meanwhile may still be defined there,
// and would be started from what is left. Such leftovers are kept in the database and removed; a VM that runs twice is nobody's to decide.
import { isActive } from '../model/vm.ts'
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
  for (const vm of vms) {
    const others = (await ctx.observe.whereabouts(vm.uuid)).filter(
      (place) => place.host !== host && (place.state === 'active' || place.state === 'defined')
    )
    if (others.length === 0) continue
    const runsElsewhere = others.find(({ state }) => state === 'active')
    if (isActive(vm.power)) {
      twice.push(
        `${vm.name} runs here and is ${runsElsewhere ? 'active' : 'defined'} on ${others.map((place) => place.host).join(', ')}`
      )
      continue
    }
    step(`remove what is left of ${vm.name}`)
    const handle = ctx.host(host)
    await ctx.observe.keepDefinition(vm.uuid, host, await handle.vmXml(vm.uuid, { inactive: true, secure: true }))
    // Firmware state stays: beside a shared disk it is what the VM runs with elsewhere. A saved image is older than its disk now.
    await handle.undefineVm(vm.uuid, { savedImage: true, snapshots: true, firmwareState: false })
    await ctx.observe.vm(host, vm.uuid)
    ctx.log(
      'info',
      `${vm.name} lives on ${others.map((place) => place.host).join(', ')}: its old definition was removed here`
    )
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

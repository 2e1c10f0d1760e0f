// Takes a card away from a VM, running or not. As with a disk, it is done when the guest has let go.
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
import {
  changeableVm,
  keeps,
  lookAtDevices,
  placesOf,
  releaseSeconds,
  releaseTimeout,
  untilReleased,
  type Devices
} from './vm-devices.ts'
import { bindToVm, exclusive, vmClaims, vmTitle } from './vm-place.ts'
import { named } from './vm-refusal.ts'

const args = Type.Object(
  {
    vm: VmRef,
    mac: Type.String({
      description: 'MAC address of the card',
      maxLength: 17,
      pattern: '^[0-9a-f]{2}(:[0-9a-f]{2}){5}$',
      'x-rule': 'a MAC address, like 52:54:00:12:34:56, in lower case'
    }),
    timeoutSeconds: releaseTimeout
  },
  { additionalProperties: false }
)

type Args = Static<typeof args>

export const vmNicRemove = action({
  name: 'vm.nic.remove',
  summary: 'Take a card away from a VM',
  args,
  title: ({ vm, mac }, state) => `${vmTitle('Remove card', vm, state)}: ${mac}`,
  claims: (given, state) => [...vmClaims(given.vm, state), exclusive(resource.mac(given.mac))],
  check(given, state) {
    const { vm, refusal } = changeableVm(given.vm, state)
    if (refusal) return refusal
    if (vm.nics.some(({ mac }) => mac.toLowerCase() === given.mac)) return possible
    if (state.phase === 'starting') return nothingToDo('it is gone already')
    const known = vm.nics.map(({ mac }) => mac).join(', ')
    const next = known === '' ? 'it has no cards' : `one of ${known}`
    return impossible('nic_not_found', `${named(vm)} has no card ${given.mac}`, next)
  },
  effect(given, state) {
    const vm = state.vm(given.vm)
    if (!vm) return []
    return [
      { subject: resource.vm(vm.uuid), facts: { nics: vm.nics.filter(({ mac }) => mac.toLowerCase() !== given.mac) } },
      { subject: resource.mac(given.mac), facts: { [vm.uuid]: null } }
    ]
  },
  bindTo: ({ vm }, state) => bindToVm(vm, state),
  run: (ctx, given) => attempt(ctx, (step) => remove(ctx, given, step), { probe: () => probe(ctx, given) }),
  probe: (ctx, given) => probe(ctx, given),
  undoesHalf: true,
  undo(given, state) {
    const nic = state.vm(given.vm)?.nics.find(({ mac }) => mac.toLowerCase() === given.mac)
    const where =
      nic?.source && (nic.kind === 'network' || nic.kind === 'bridge') ? { [nic.kind]: nic.source } : undefined
    if (!nic || !where) return { impossible: 'what the card was attached to is not known' }
    const model = nic.model === null ? {} : { model: nic.model }
    return { action: 'vm.nic.add', args: { vm: given.vm, mac: given.mac, ...where, ...model } }
  }
})

const isCard = (mac: string) => (nic: { mac: string }) => nic.mac.toLowerCase() === mac

const placesWith = (devices: Devices, mac: string) =>
  placesOf(devices).filter((place) => devices[place]?.nics.some(isCard(mac)))

async function remove(ctx: ActionContext, given: Args, step: Step): Promise<Outcome> {
  const { mac } = given
  step('look at the cards')
  const { host, name, devices } = await lookAtDevices(ctx, given.vm)
  if (placesWith(devices, mac).includes('running')) {
    const seconds = given.timeoutSeconds ?? releaseSeconds
    step('ask the guest to let go of the card')
    await host.removeNic(given.vm, mac, 'running')
    step('wait until the guest lets go of the card')
    const released = await untilReleased(ctx, host, given.vm, (vm) => vm.nics.some(isCard(mac)), seconds * 1000)
    if (!released) return failed(keeps(name, host.name, mac, seconds))
  }
  if (devices.definition) {
    step('remove the card from the definition')
    await host.removeNic(given.vm, mac, 'definition')
  }
  step('look whether it is gone')
  const after = await host.vmDevices(given.vm)
  await ctx.observe.vm(host.name, given.vm)
  if (!after || placesWith(after, mac).length === 0) return complete({ host: host.name, mac })
  return failed(
    ownError(
      'nic_still_there',
      `${host.name} accepted that ${name} loses card ${mac} and still shows it`,
      'look whether it is gone',
      'look at the VM on its host, then retry the task',
      { host: host.name, mac }
    )
  )
}

async function probe(ctx: ActionContext, given: Args): Promise<Probe> {
  const { host, devices } = await lookAtDevices(ctx, given.vm)
  const evidence = { host: host.name, in: placesWith(devices, given.mac) }
  if (evidence.in.length > 0) return { happened: 'no', evidence }
  await ctx.observe.vm(host.name, given.vm)
  return { happened: 'yes', evidence, result: { host: host.name, mac: given.mac } }
}

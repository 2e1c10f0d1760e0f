// Gives a VM another card, running or not, on a network or a bridge of its host. Its definition changes with it.
import { Type, type Static } from 'typebox'
import { HostError } from '../host/error.ts'
import type { FleetState } from '../inventory/fleet-state.ts'
import { resource } from '../model/resource.ts'
import {
  action,
  complete,
  impossible,
  possible,
  type ActionContext,
  type Outcome,
  type Probe,
  type Verdict
} from './action.ts'
import { attempt, type Step } from './attempt.ts'
import { VmRef } from './refs.ts'
import { nicFields } from './vm-create-args.ts'
import { refuseNic } from './vm-create-check.ts'
import { changeableVm, lookAtDevices, placesOf, type Devices } from './vm-devices.ts'
import { refuseMac } from './vm-nic-mac.ts'
import { bindToVm, exclusive, shared, vmClaims, vmTitle } from './vm-place.ts'
import { named } from './vm-refusal.ts'

const appearsMs = 30_000
const maxNics = 16

const args = Type.Object({ vm: VmRef, ...nicFields }, { additionalProperties: false })

type Args = Static<typeof args>

export const vmNicAdd = action({
  name: 'vm.nic.add',
  summary: 'Give a VM another card on a network or a bridge',
  args,
  freshMacs: ({ mac }) => (mac === undefined ? 1 : 0),
  prepare: (given, { macs: [fresh] }) => (given.mac !== undefined || !fresh ? given : { ...given, mac: fresh }),
  title: ({ vm, network, bridge }, state) => `${vmTitle('Add card', vm, state)}: ${network ?? bridge ?? ''}`,
  claims(given, state) {
    const host = hostOf(given, state)
    return [
      ...vmClaims(given.vm, state),
      exclusive(resource.mac(macOf(given))),
      ...(given.network === undefined || host === undefined ? [] : [shared(resource.network(host, given.network))])
    ]
  },
  check: (given, state) => check(given, state),
  effect(given, state) {
    const vm = state.vm(given.vm)
    if (!vm) return []
    const mac = macOf(given)
    const nic = {
      mac,
      kind: given.network === undefined ? 'bridge' : 'network',
      source: given.network ?? given.bridge ?? null,
      model: given.model ?? 'virtio'
    }
    return [
      { subject: resource.vm(vm.uuid), facts: { nics: [...vm.nics.filter((other) => other.mac !== mac), nic] } },
      { subject: resource.mac(mac), facts: { [vm.uuid]: vm.name } }
    ]
  },
  bindTo: ({ vm }, state) => bindToVm(vm, state),
  run: (ctx, given) => attempt(ctx, (step) => add(ctx, given, step), { probe: () => probe(ctx, given) }),
  probe: (ctx, given) => probe(ctx, given),
  undoesHalf: true,
  undo: (given) => ({ action: 'vm.nic.remove', args: { vm: given.vm, mac: macOf(given) } })
})

/** @throws Error before `prepare` */
function macOf({ mac }: Args): string {
  if (mac === undefined) throw new Error('vm.nic.add is prepared before it is asked anything')
  return mac
}

const hostOf = (given: Args, state: FleetState): string | undefined => {
  const vm = state.vm(given.vm)
  return state.boundHost ?? (vm?.activeOn || vm?.home || undefined)
}

function check(given: Args, state: FleetState): Verdict {
  const { vm, refusal } = changeableVm(given.vm, state)
  if (refusal) return refusal
  const full = vm.nics.length >= maxNics && !vm.nics.some(({ mac }) => mac === given.mac)
  if (full) return impossible('too_many_nics', `${named(vm)} has ${vm.nics.length} cards`, 'remove one of them first')
  return refuseNic(given, hostOf(given, state), state) ?? refuseMac(macOf(given), vm.uuid, state) ?? possible
}

const has = (devices: Devices, place: 'running' | 'definition', mac: string): boolean =>
  devices[place]?.nics.some((nic) => nic.mac.toLowerCase() === mac) ?? false

async function add(ctx: ActionContext, given: Args, step: Step): Promise<Outcome> {
  const mac = macOf(given)
  step('look at the cards')
  const { host, devices } = await lookAtDevices(ctx, given.vm)
  const { network, bridge, model } = given
  const nic = {
    mac,
    model: model ?? 'virtio',
    ...(network === undefined ? {} : { network }),
    ...(bridge === undefined ? {} : { bridge })
  }
  try {
    for (const place of placesOf(devices)) {
      if (has(devices, place, mac)) continue
      step(place === 'running' ? 'plug the card in' : 'add the card to the definition')
      await host.addNic(given.vm, nic, place)
    }
  } catch (error) {
    // A refusal leaves nothing: what was defined for a guest that did not get the card is taken back.
    if (error instanceof HostError && error.code === 'refused' && devices.running) {
      await host.removeNic(given.vm, mac, 'definition')
    }
    throw error
  }
  step('look whether it is there')
  await host.untilVm(given.vm, (vm) => vm === undefined || vm.nics.some((seen) => seen.mac.toLowerCase() === mac), {
    timeoutMs: appearsMs,
    signal: ctx.signal
  })
  await ctx.observe.vm(host.name, given.vm)
  return complete({ host: host.name, mac })
}

async function probe(ctx: ActionContext, given: Args): Promise<Probe> {
  const mac = macOf(given)
  const { host, devices } = await lookAtDevices(ctx, given.vm)
  const places = placesOf(devices)
  const evidence = { host: host.name, mac, in: places.filter((place) => has(devices, place, mac)) }
  if (places.length === 0 || evidence.in.length < places.length) return { happened: 'no', evidence }
  await ctx.observe.vm(host.name, given.vm)
  return { happened: 'yes', evidence, result: { host: host.name, mac } }
}

// Cards' addresses: one that two cards of one network have breaks both. Given ones are checked against the fleet.
import type { FleetState } from '../inventory/fleet-state.ts'
import { quote } from '../model/name.ts'
import { impossible, type Verdict } from './action.ts'
import type { VmCreateArgs } from './vm-create-args.ts'
import { readGivenXml } from './vm-create-xml.ts'

/** Addresses of the cards that a new VM will have, as far as they are known, in lower case. */
export function macsOf(args: Pick<VmCreateArgs, 'nics' | 'xml'>): string[] {
  const given = args.xml === undefined ? undefined : readGivenXml(args.xml).vm?.nics
  const macs = (given ?? args.nics ?? []).flatMap(({ mac }) => (mac ? [mac.toLowerCase()] : []))
  return [...new Set(macs)]
}

/** @param vm the VM that may have it: an earlier attempt may have given it the card */
export function refuseMac(mac: string, vm: string | undefined, state: FleetState): Verdict | undefined {
  const [user] = [...state.vmsWithMac(mac)].filter(([uuid]) => uuid !== vm)
  if (user === undefined) return undefined
  return impossible(
    'mac_taken',
    `MAC address ${mac} is that of a card of ${quote(user[1])} already: one network has room for one`,
    'leave the address out to get a new one'
  )
}

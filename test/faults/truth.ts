// What simulated hosts have at a moment, as plain values that can be sent and compared: the truth beside the journal.
import type { SimFleet } from '../../src/sim/fleet.ts'

export type TrueVm = {
  host: string
  uuid: string
  name: string
  active: boolean
  persistent: boolean
  snapshots: string[]
}
export type TrueFile = { store: string; path: string; partial: boolean }
export type TruePool = { host: string; name: string; active: boolean }
export type Truth = { vms: TrueVm[]; files: TrueFile[]; pools: TruePool[]; poweredOff: string[] }

export function truthOf(fleet: SimFleet): Truth {
  const stores = [...fleet.stores.values(), ...fleet.hosts.map(({ localStore }) => localStore)]
  return {
    vms: fleet.hosts.flatMap((host) =>
      [...host.domains.values()].map((domain) => ({
        host: host.name,
        uuid: domain.uuid,
        name: domain.name,
        active: domain.active,
        persistent: domain.persistent !== null,
        snapshots: [...domain.snapshots.keys()]
      }))
    ),
    files: stores.flatMap((store) =>
      [...store.files.values()].map(({ path, partial }) => ({ store: store.name, path, partial }))
    ),
    pools: fleet.hosts.flatMap((host) =>
      [...host.pools.values()].map(({ name, active }) => ({ host: host.name, name, active }))
    ),
    poweredOff: fleet.hosts.filter(({ powered }) => !powered).map(({ name }) => name)
  }
}

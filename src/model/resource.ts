// Names of what a task can touch. The queue treats them as opaque text; only this file knows how they are spelt.

export const resource = {
  vm: (uuid: string) => `vm/${uuid}`,
  /** Guards a VM's name across the fleet: creating, adopting and renaming claim it. */
  vmName: (name: string) => `vm-name/${name}`,
  host: (host: string) => `host/${host}`,
  /** What lets work onto a host: cordon, clear and remove claim the gate, so that they need not claim the host. */
  hostGate: (host: string) => `host-gate/${host}`,
  /** The statement that a host is off: what cannot end without it has the host. */
  hostOff: (host: string) => `host/${host}/off`,
  hostRefresh: (host: string) => `host/${host}/refresh`,
  pool: (host: string, pool: string) => `pool/${host}/${pool}`,
  poolRefresh: (host: string, pool: string) => `pool/${host}/${pool}/refresh`,
  /** A store's name may hold one slash: `h1/default` is local to h1, `nfs1` is shared. */
  store: (store: string) => `store/${store}`,
  /** What the store's settings are; those who use it need not wait for a change. */
  storeSettings: (store: string) => `store-settings/${store}`,
  volume: (store: string, volume: string) => `volume/${store}/${volume}`,
  /** The cap of a limited key. */
  limit: (key: string) => `limit/${key}`,
  hostLabels: (host: string) => `host/${host}/labels`,
  network: (host: string, network: string) => `network/${host}/${network}`,
  /** Guards a card's address across the fleet, in lower case. */
  mac: (mac: string) => `mac/${mac}`,
  image: (image: string) => `image/${image}`
} as const

export type ResourceKind =
  | 'vm'
  | 'vm-name'
  | 'host'
  | 'host-gate'
  | 'pool'
  | 'store'
  | 'volume'
  | 'network'
  | 'mac'
  | 'image'

/** Splits a resource's name into its kind and the parts behind it; undefined for a kind that is not ours. */
export function parseResource(name: string): { kind: ResourceKind; parts: string[] } | undefined {
  const [kind, ...parts] = name.split('/')
  switch (kind) {
    case 'vm':
    case 'vm-name':
    case 'host':
    case 'host-gate':
    case 'pool':
    case 'network':
    case 'mac':
    case 'image':
      return { kind, parts }
    case 'store':
      return { kind, parts: [parts.join('/')] }
    case 'volume':
      return { kind, parts: [parts.slice(0, -1).join('/'), parts.at(-1) ?? ''] }
    default:
      return undefined
  }
}
